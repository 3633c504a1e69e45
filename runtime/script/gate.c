/* gate.c -- see gate.h.
 *
 * Predictions and reads are Lua lists in the registry rather than C structures: they are only ever read by the
 * planner. Bodies of records are built as JSON text here, because an intent must be on disk even when Lua has
 * no memory left for a table.
 */
#include "script/gate.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define PREDICTIONS "neap.predictions"
#define READS "neap.reads"
#define WITHHELD_META "neap.withheld"

/* ---- withheld values ---- */

static int withheld_close(lua_State *L) { (void)L; return 0; }   /* `local tx <close> = …` unwinds in a preview too */

static int withheld_use(lua_State *L) {
    const char **step = NULL;
    for (int i = 1; i <= 2 && !step; i++) step = (const char **)luaL_testudata(L, i, WITHHELD_META);
    return neap_raisef(L, NEAP_E_WITHHELD, "%s", step ? (const char *)step : "");
}

void neap_gate_push_withheld(lua_State *L, const char *step) {
    static const char *const events[] = {"__index", "__newindex", "__call", "__concat", "__len", "__eq", "__lt", "__le", "__add", "__sub",
        "__mul", "__div", "__mod", "__pow", "__unm", "__idiv", "__band", "__bor", "__bxor", "__shl", "__shr", "__bnot", "__tostring",
        "__pairs", NULL};
    char *copy = lua_newuserdatauv(L, strlen(step) + 1, 0);
    strcpy(copy, step);
    if (luaL_newmetatable(L, WITHHELD_META)) {
        for (const char *const *e = events; *e; e++) neap_function_push(L, "withheld:use", withheld_use, 0), lua_setfield(L, -2, *e);
        neap_function_push(L, "withheld:__close", withheld_close, 0);
        lua_setfield(L, -2, "__close");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
}

/* ---- what the planner is told ---- */

static void set_text(lua_State *L, const char *field, const char *text) {
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, field);
}

/* What the next check is worth: a read that was declared makes it declared. */
static const char *label_of(const neap_gate *g) {
    return g->declared || g->act.primitive == NEAP_P_PROCESS_READ ? "declared" : "enforced";
}

/* [-0, +0, m] append {primitive, target, …} to the list in the registry. */
static void tell(lua_State *L, const char *list, const neap_gate *g) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, list);
    lua_createtable(L, 0, 7);
    set_text(L, "primitive", neap_primitive_name(g->act.primitive));
    set_text(L, "effect", neap_effect_name(neap_primitive_effect(g->act.primitive)));
    set_text(L, "target", g->act.target);
    set_text(L, "subject", g->act.subject);
    set_text(L, "text", g->act.text);
    set_text(L, "plan", g->plan);
    set_text(L, "step", neap_task_scope(neap_task_of(L))->step);
    set_text(L, "label", label_of(g));
    lua_seti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* [-0, +0, m] the first read of each label since the list was taken: a loop of a million reads must not fill the memory. */
static void tell_read(lua_State *L, const neap_gate *g) {
    const char *label = label_of(g);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, READS);
    bool told = lua_getfield(L, -1, label) != LUA_TNIL;
    if (!told) lua_pushboolean(L, 1), lua_setfield(L, -3, label);
    lua_pop(L, 2);
    if (!told) tell(L, READS, g);
}

static void push_list(lua_State *L, const char *list) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, list);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, list);
}

void neap_gate_push_predictions(lua_State *L) { push_list(L, PREDICTIONS); }
void neap_gate_push_reads(lua_State *L) { push_list(L, READS); }

/* ---- flushing ---- */

typedef struct flush_op flush_op;

/* What the recorder holds: it outlives the op when the wait was a misuse and the op is collected first. */
typedef struct ticket { flush_op *op; } ticket;

struct flush_op {
    neap_op op;
    int (*next)(lua_State *L, void *arg);
    void *arg;
    neap_err err;
    ticket *ticket;              /* NULL once the recorder has answered */
};

static void on_durable(void *arg, const neap_err *err) {
    ticket *t = arg;
    flush_op *f = t->op;
    free(t);
    if (!f) return;
    f->ticket = NULL;
    if (err) neap_err_copy(&f->err, err);
    neap_op_finish(&f->op);
}

/* A commit takes milliseconds: stopping simply waits for it, so that what is durable is known. */
static void flush_cancel(neap_op *op, bool force) {
    if (force) neap_op_finish(op);
}

static int flush_deliver(lua_State *L, neap_op *op) {
    flush_op *f = (flush_op *)op;
    if (f->err.code) return neap_raise(L, &f->err);
    return f->next(L, f->arg);
}

static void flush_drop(neap_op *op) {
    flush_op *f = (flush_op *)op;
    if (f->ticket) f->ticket->op = NULL;
    neap_err_close(&f->err);
}

static const neap_op_class flush_class = {"the journal", flush_cancel, flush_deliver, flush_drop};

/* [-0, +n, e] wait until everything appended so far is durable, then `next(L, arg)`. */
static int flush(lua_State *L, int (*next)(lua_State *L, void *arg), void *arg, void (*on_stop)(lua_State *L, neap_op *op)) {
    neap_host *host = neap_host_of(L);
    if (!host->recorder.append) return next(L, arg);
    flush_op *f = (flush_op *)neap_op_new(L, sizeof *f, &flush_class);
    f->op.on_stop = on_stop;
    f->next = next;
    f->arg = arg;
    f->err = (neap_err)NEAP_ERR_INIT;
    f->ticket = neap_alloc(sizeof *f->ticket);
    f->ticket->op = f;
    host->recorder.flush(host->recorder.self, on_durable, f->ticket);
    return neap_await(L, &f->op);
}

/* ---- intents and outcomes ---- */

/* For the task that waits for the op, as long as it does; else for the one that runs. */
static int64_t record(lua_State *L, const neap_gate *g, const char *kind, neap_buf *body) {
    neap_host *host = neap_host_of(L);
    neap_task *task = g->op.task ? g->op.task : neap_task_of(L);
    int64_t seq = 0;
    neap_buf_addc(body, '}');
    if (host->recorder.append) seq = host->recorder.append(host->recorder.self, kind, neap_task_scope(task)->step, body->data);
    neap_buf_close(body);
    return seq;
}

static void add_members(neap_buf *body, const char *members) {
    if (!members || !*members) return;
    if (body->data[body->len - 1] != '{') neap_buf_addc(body, ',');
    neap_buf_adds(body, members);
}

void neap_gate_record(lua_State *L, neap_gate *g, const char *kind, const char *members) {
    neap_buf body = NEAP_BUF_INIT;
    neap_buf_addc(&body, '{');
    neap_json_member_int(&body, "intent", g->intent);
    add_members(&body, members);
    record(L, g, kind, &body);
}

void neap_gate_outcome(lua_State *L, neap_gate *g, const char *status, const char *members, const neap_err *err) {
    neap_buf body = NEAP_BUF_INIT;
    if (!g->intended || g->settled) return;
    g->settled = true;
    neap_buf_addc(&body, '{');
    neap_json_member_int(&body, "intent", g->intent);
    neap_json_member(&body, "status", status);
    if (err && err->code) {
        neap_json_member(&body, "code", neap_code_name(err->code));
        neap_json_member(&body, "message", err->message);
        if (*err->sqlstate) neap_json_member(&body, "sqlstate", err->sqlstate);
    }
    add_members(&body, members);
    record(L, g, "outcome", &body);
}

static void on_stop(lua_State *L, neap_op *op) {
    neap_gate_outcome(L, (neap_gate *)op, "unknown", "\"message\":\"stopped before its answer\"", NULL);
}

/* Stopped while the intent was being made durable: nothing was started, and that is known. */
static void not_begun(lua_State *L, neap_op *op) {
    neap_gate_outcome(L, ((flush_op *)op)->arg, "failed", "\"message\":\"stopped before it began\"", NULL);
}

static int start(lua_State *L, void *arg) {
    neap_gate *g = arg;
    return g->start(L, g);
}

int neap_gate_intend(lua_State *L, neap_gate *g) {
    neap_buf body = NEAP_BUF_INIT;
    neap_buf_addc(&body, '{');
    neap_json_member(&body, "primitive", neap_primitive_name(g->act.primitive));
    neap_json_member(&body, "target", g->act.target);
    neap_json_member(&body, "subject", g->act.subject);
    neap_json_member(&body, "text", g->act.text);
    if (neap_task_scope(neap_task_of(L))->act) neap_json_member_int(&body, "act", neap_task_scope(neap_task_of(L))->act);
    add_members(&body, g->evidence.data);
    g->intended = true;
    g->intent = record(L, g, "intent", &body);
    if (!g->op.on_stop) g->op.on_stop = on_stop;
    return flush(L, start, g, not_begun);
}

bool neap_gate_is_act(lua_State *L) {
    neap_task *task = neap_task_of(L);
    return task && neap_task_scope(task)->phase == NEAP_PHASE_ACT;
}

void neap_gate_check_act(lua_State *L, const char *what) {
    neap_err err = NEAP_ERR_INIT;
    neap_task *task = neap_task_of(L);
    neap_phase phase = task ? neap_task_scope(task)->phase : NEAP_PHASE_ENGINE;
    if (phase == NEAP_PHASE_ACT || phase == NEAP_PHASE_ENGINE) return;
    neap_err_set(&err, NEAP_E_REFUSED, "%s was opened by an act, and only act, undo and after may go on with it", what);
    neap_err_hint(&err, "needs, each, done and verify ask; what they need they open themselves, to read.");
    neap_raise(L, &err);
}

/* [-0, +0, e] the function that is being called may bring what its row in functions.def says, or less. */
static void check_caller(lua_State *L, const neap_gate *g) {
    lua_Debug ar;
    neap_primitive row = NEAP_P_PURE;
    const char *name = NULL;
    if (lua_getstack(L, 0, &ar)) {
        lua_getinfo(L, "f", &ar);
        name = neap_function_row(L, -1, &row);
        lua_pop(L, 1);
    }
    if (name && neap_primitive_effect(row) >= neap_primitive_effect(g->act.primitive)) return;
    neap_raisef(L, NEAP_E_BUG, "\"%s\" comes to the gate with %s; its row in functions.def does not allow that", name ? name : "a function without a row",
                neap_primitive_name(g->act.primitive));
}

int neap_gate_enter(lua_State *L, neap_gate *g) {
    neap_err err = NEAP_ERR_INIT;
    neap_task *task = neap_task_of(L);
    if (!task) return neap_raisef(L, NEAP_E_USAGE, "%s outside every task", neap_primitive_name(g->act.primitive));
    check_caller(L, g);
    bool writes = neap_primitive_effect(g->act.primitive) >= NEAP_EFFECT_WRITE;
    switch (neap_guard_ask(neap_host_of(L)->guard, neap_task_scope(task), &g->act, &err)) {
    case NEAP_ANSWER_PREDICT:
        tell(L, PREDICTIONS, g);
        neap_gate_push_withheld(L, neap_task_scope(task)->step);
        return 1;
    case NEAP_ANSWER_ALLOW:
        if (!writes) tell_read(L, g);
        if (!writes) return g->start(L, g);
        return g->prepare ? g->prepare(L, g) : neap_gate_intend(L, g);
    case NEAP_ANSWER_WITHHELD:
    case NEAP_ANSWER_REFUSE: break;
    }
    return neap_raise(L, &err);
}
