/* redis_write.c -- what changes something: write, remove, transaction.
 *
 *   run       gate ─► ROLE (a replica is refused) ─► intent with run_id, db and role, durable ─► the command ─► outcome
 *   preview   ACL DRYRUN, where the server has it and the user may ask ─► gate: shown, with the permission
 *
 * A command is never sent twice. Redis remembers nothing one could ask by afterwards: when the answer is lost the outcome is
 * unknown, unless the server refused it first. What destroys is refused through `write`, so that a reader sees it in the verb. A transaction
 * is MULTI … EXEC: all of it at once, or, when a word was wrong, nothing; the commands of it that fail alone are answers. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/redis_private.h"

enum { STAGE_PERMIT, STAGE_ROLE = REDIS_STAGE_ROLE, STAGE_RUN, MOST_ASKED = 16, MOST_WORDS_ASKED = 64 };

/* ---- the preview ---- */

static int enter(lua_State *L, redis_op *op) {
    if (op->plan.len) op->gate.plan = op->plan.data;
    return neap_gate_enter(L, &op->gate);
}

static int ask_permission(lua_State *L, redis_op *op) {
    const redis_command *c = &op->commands[op->asked];
    const char *words[MOST_WORDS_ASKED + 3] = {"ACL", "DRYRUN", op->h->acting};
    size_t lens[MOST_WORDS_ASKED + 3] = {3, 6, strlen(op->h->acting)};
    int count = c->argc < MOST_WORDS_ASKED ? c->argc : MOST_WORDS_ASKED;
    for (int i = 0; i < count; i++) words[i + 3] = c->argv[i], lens[i + 3] = c->lens[i];
    return neap_redis_op_aside(L, op, count + 3, words, lens, STAGE_PERMIT);
}

/* "OK", or in words why not; an error when the server has no DRYRUN or the user may not ask. */
static int permitted(lua_State *L, redis_op *op) {
    bool ok = neap_redis_is(op->side, "OK"), denied = !op->err.code && !ok && op->side && op->side->type == NEAP_REDIS_STRING;
    neap_err_close(&op->err);
    if (denied) neap_buf_addf(&op->plan, "permission denied: %s", op->side->text);
    if (ok && ++op->asked < op->count && op->asked < MOST_ASKED && neap_redis_is_alive(op->h->redis)) return ask_permission(L, op);
    if (ok) neap_buf_addf(&op->plan, "permission ok for \"%s\"", op->h->acting);
    return enter(L, op);
}

static bool may_ask(lua_State *L, const redis_op *op) {
    neap_task *task = neap_task_of(L);
    return neap_redis_is_preview(L) && task && neap_task_scope(task)->phase == NEAP_PHASE_ACT && op->h->acting && neap_redis_is_alive(op->h->redis);
}

/* ---- the run ---- */

static void add_evidence(redis_op *op) {
    neap_buf *out = &op->gate.evidence;
    const neap_redis_identity *who = neap_redis_who(op->h->redis);
    const neap_redis_value *role = neap_redis_item(op->side, 0);
    neap_buf_addf(out, "\"db\":%d", op->h->db);
    neap_json_member(out, "run_id", who->run_id);
    if (role && role->type == NEAP_REDIS_STRING) neap_json_member(out, "role", role->text);
}

int neap_redis_write_prepare(lua_State *L, neap_gate *g) {
    static const char *const words[] = {"ROLE"};
    static const size_t lens[] = {4};
    redis_op *op = (redis_op *)g;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    return neap_redis_op_aside(L, op, 1, words, lens, STAGE_ROLE);
}

/* A user who may not ask for the role is not stopped: the server refuses what a replica does not take. */
int neap_redis_write_intend(lua_State *L, redis_op *op) {
    if (op->err.code || !neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    if (neap_redis_is(neap_redis_item(op->side, 0), "slave")) {
        neap_err_set(&op->err, NEAP_E_REFUSED, "\"%s\" is a replica", op->h->role);
        neap_err_hint(&op->err, "What is written to a replica is lost; name the master in the inventory.");
        return neap_fail(L, &op->err);
    }
    add_evidence(op);
    return neap_gate_intend(L, &op->gate);
}

void neap_redis_write_lost(redis_op *op) {
    char *before = op->err.message ? neap_strdup(op->err.message) : neap_strdup("the answer was lost");
    neap_err_close(&op->err);
    neap_err_set(&op->err, NEAP_E_UNKNOWN, "%s, and nobody can say whether it was done", before);
    neap_err_hint(&op->err, "Look at the keys it names before it is done again.");
    free(before);
}

static int write_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!neap_redis_op_alive(op)) {
        neap_gate_outcome(L, g, "failed", NULL, &op->err);
        return neap_fail(L, &op->err);
    }
    op->stage = STAGE_RUN;
    neap_redis_op_send(op);
    return neap_await(L, &g->op);
}

/* Did the server say that it did not do it? Then the error is kept. */
static bool is_refused(redis_op *op) {
    const neap_redis_value *last = op->atomic ? op->side : op->values[0];
    return neap_redis_refusal(&op->err, last);
}

static void settle(lua_State *L, redis_op *op) {
    if (op->err.code) {
        neap_redis_write_lost(op);
        neap_gate_outcome(L, &op->gate, "unknown", NULL, &op->err);
    } else if (is_refused(op)) {
        neap_gate_outcome(L, &op->gate, "failed", NULL, &op->err);
    } else {
        neap_gate_outcome(L, &op->gate, "ok", NULL, NULL);
    }
}

static int write_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    if (op->stage == STAGE_PERMIT) return permitted(L, op);
    if (op->stage == STAGE_ROLE) return neap_redis_write_intend(L, op);
    settle(L, op);
    return op->err.code ? neap_fail(L, &op->err) : neap_redis_op_push(L, op);
}

/* Stopped: mostly the server answered while we waited for it. */
static void write_on_stop(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    if (op->stage == STAGE_RUN) settle(L, op);
}

static void write_cancel(neap_op *o, bool force) {
    redis_op *op = (redis_op *)o;
    if (op->stage == STAGE_RUN) neap_redis_op_cancel_write(o, force);
    else neap_redis_op_cancel(o, force);
}

static const neap_op_class write_class = {"a command in Redis", write_cancel, write_deliver, neap_redis_op_drop};

static redis_op *new_write(lua_State *L, neap_primitive primitive) {
    redis_handle *h = neap_redis_is_preview(L) ? neap_redis_to_handle(L, 1) : neap_redis_check_handle(L, 1);
    redis_op *op = neap_redis_op_new(L, sizeof *op, &write_class, h, primitive);
    op->gate.prepare = neap_redis_write_prepare;
    op->gate.start = write_start;
    op->gate.op.on_stop = write_on_stop;
    return op;
}

/* What reaches beyond the database is about the whole server: in a preview its other databases are withheld too. */
static void widen(redis_op *op) {
    const char *slash = op->h->subject ? strrchr(op->h->subject, '/') : NULL;
    if (op->subject || !slash) return;
    op->subject = neap_strndup(op->h->subject, (size_t)(slash - op->h->subject));
    op->gate.act.subject = op->subject;
}

static int begin(lua_State *L, redis_op *op) {
    neap_redis_op_spell(L, op);
    for (int i = 0; i < op->count; i++) {
        neap_redis_words words = neap_redis_words_of(&op->commands[i]);
        if (neap_redis_is_server_wide(&words)) widen(op);
        if (!neap_redis_check_act(&words, &op->err)) return neap_fail(L, &op->err);
    }
    return may_ask(L, op) ? ask_permission(L, op) : enter(L, op);
}

static bool destroys(const redis_op *op, int i) {
    neap_redis_words words = neap_redis_words_of(&op->commands[i]);
    return neap_redis_destroys(&words);
}

/* conn:write(word, …) -> the answer | nil, err. Effect: write. */
static int conn_write(lua_State *L) {
    redis_op *op = new_write(L, NEAP_P_REDIS_WRITE);
    neap_redis_op_words(L, op, 2);
    if (destroys(op, 0)) {
        neap_err_set(&op->err, NEAP_E_REFUSED, "\"%s\" takes data away, or may", op->commands[0].argv[0]);
        neap_err_hint(&op->err, "Say so: remove(…) in place of write(…).");
        return neap_fail(L, &op->err);
    }
    return begin(L, op);
}

/* conn:remove(word, …) -> the answer | nil, err. Effect: destroy. */
static int conn_remove(lua_State *L) {
    redis_op *op = new_write(L, NEAP_P_REDIS_REMOVE);
    neap_redis_op_words(L, op, 2);
    if (!destroys(op, 0)) {
        neap_err_set(&op->err, NEAP_E_USAGE, "\"%s\" takes nothing away", op->commands[0].argv[0]);
        neap_err_hint(&op->err, "Use write(…).");
        return neap_fail(L, &op->err);
    }
    return begin(L, op);
}

/* conn:transaction{ {word, …}, … } -> list of answers | nil, err. Effect: destroy when one of the commands is, else write. */
static int conn_transaction(lua_State *L) {
    lua_settop(L, 2);
    redis_op *op = new_write(L, NEAP_P_REDIS_WRITE);
    neap_redis_op_list(L, op, 2);
    op->atomic = true;
    for (int i = 0; i < op->count; i++)
        if (destroys(op, i)) op->gate.act.primitive = NEAP_P_REDIS_REMOVE;
    return begin(L, op);
}

const luaL_Reg neap_redis_write_methods[] = {{"write", conn_write}, {"remove", conn_remove}, {"transaction", conn_transaction}, {NULL, NULL}};
