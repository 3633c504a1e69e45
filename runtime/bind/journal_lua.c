/* journal_lua.c -- native.journal: the evidence of a run and the list of runs.
 *
 * An open journal is the host's recorder until it is closed, so the gate writes into it beneath Lua; hence there is
 * one at a time. Waiting is `flush` and `seal` only; creating, resuming, reading and the index are local file work of a few milliseconds.
 *
 * After a commit has failed every flush raises {code="journal"}, which a runbook cannot catch; appending raises once
 * nothing can be recorded any more. On a full disk the reserve still takes the last records, so appending goes on.
 *
 * The listener gets a flat body as the very table that was appended, which is the journal's from then on, and so it gets one that was given away
 * whole; all others, in which there may be tables of a runbook's, are read again from their JSON, as they are when a secret was in them. Reading
 * each again cost a fifth of a step (measured), and a copy half of that; a thousand steps in the first record cost a twelfth of their run.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/records.h"
#include "guard/writer.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"
#include "script/value.h"

#define JOURNAL_META "neap.journal"
#define LIST_META "neap.journal.list"

static const char LISTENER = 0, BODIES = 0;                /* their addresses are the registry keys */

/* ---- the open journal ---- */

typedef struct journal {
    neap_writer  *writer;         /* NULL: closed */
    neap_host    *host;
    neap_recorder before;         /* the host's recorder until this one was opened: none, or a test's */
    lua_State    *main;
    neap_records  news;           /* durable records that the listener has not been told of */
} journal;

static journal *check_journal(lua_State *L) {
    journal *j = luaL_checkudata(L, 1, JOURNAL_META);
    if (!j->writer) neap_raisef(L, NEAP_E_JOURNAL, "the journal is closed");
    return j;
}

/* [-1, +0, e] runs protected: tell the listener. It may close the journal. */
static int tell(lua_State *L) {
    journal *j = lua_touserdata(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &LISTENER) != LUA_TFUNCTION) return 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &BODIES);
    neap_records_push(L, &j->news, 3);
    lua_remove(L, 3);
    neap_records_clear(&j->news);
    lua_call(L, 1, 0);
    return 0;
}

/* A view that fails must not change the run: its error is a warning. */
static void tell_news(journal *j, lua_State *L) {
    if (j->host->rest_arg == j) j->host->at_rest = NULL;
    if (j->news.count && lua_checkstack(L, 4)) {
        neap_function_push(L, "journal:listener", tell, 0);
        lua_pushlightuserdata(L, j);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
            lua_warning(L, "a view of the journal failed: ", 1);
            lua_warning(L, luaL_tolstring(L, -1, NULL), 0);
            lua_pop(L, 2);
        }
    }
    neap_records_clear(&j->news);
}

static void at_rest(void *arg) {
    journal *j = arg;
    tell_news(j, j->main);
}

/* Who waited for the commit goes on first: what the views do with it is then done while the next commit, or the write it was for, is
 * under way. */
static void on_durable(void *arg, neap_record *r) {
    journal *j = arg;
    if (r) {
        neap_records_take(&j->news, r);
    } else if (j->news.count) {
        j->host->at_rest = at_rest;
        j->host->rest_arg = j;
    }
}

static int close_journal(lua_State *L) {
    journal *j = luaL_checkudata(L, 1, JOURNAL_META);
    neap_writer *w = j->writer;
    if (!w) return 0;
    j->writer = NULL;
    if (j->host->recorder.self == w) j->host->recorder = j->before;
    neap_writer_free(w);
    tell_news(j, L);
    return 0;
}

typedef neap_journal *(*opener)(const char *state, const char *run, neap_err *err);

static int open_journal(lua_State *L, opener open) {
    const char *state = luaL_checkstring(L, 1), *run = luaL_checkstring(L, 2);
    neap_err err = NEAP_ERR_INIT;
    neap_host *host = neap_host_of(L);
    if (neap_writer_is_recorder(&host->recorder)) neap_raisef(L, NEAP_E_USAGE, "another journal is open; close it first");
    journal *j = lua_newuserdatauv(L, sizeof *j, 0);
    memset(j, 0, sizeof *j);
    luaL_setmetatable(L, JOURNAL_META);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    j->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    neap_journal *evidence = open(state, run, &err);
    if (!evidence) return neap_fail(L, &err);
    j->host = host;
    j->before = host->recorder;
    j->writer = neap_writer_new(host->loop, evidence, on_durable, j);
    host->recorder = neap_writer_recorder(j->writer);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &BODIES);
    return 1;
}

/* create(state, run) -> journal | nil, err. Effect: write (our own evidence only, as everything here). */
static int create(lua_State *L) { return open_journal(L, neap_journal_create); }
/* resume(state, run) -> journal | nil, err (busy: another process writes it; invalid: the evidence is not whole). */
static int resume(lua_State *L) { return open_journal(L, neap_journal_resume); }

/* [-0, +0, m] the body at 4, for the listener. */
static void keep_body(lua_State *L, int64_t seq) {
    if (!lua_istable(L, 4) || !(lua_toboolean(L, 5) || neap_value_is_flat(L, 4))) return;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &BODIES);
    lua_pushvalue(L, 4);
    lua_rawseti(L, -2, seq);
}

/* journal:append(kind, step, body, whole) -> seq. The body is the journal's; with `whole`, the tables in it are too. */
static int append(lua_State *L) {
    journal *j = check_journal(L);
    const char *kind = luaL_checkstring(L, 2), *step = luaL_optstring(L, 3, "");
    neap_buf body = NEAP_BUF_INIT;
    neap_err err = NEAP_ERR_INIT;
    lua_settop(L, 5);
    if (!lua_isnoneornil(L, 4) && lua_type(L, 4) != LUA_TTABLE) luaL_typeerror(L, 4, "table");
    if (lua_isnoneornil(L, 4)) neap_buf_adds(&body, "{}");
    else if (!neap_value_encode(L, 4, &body, &err)) {
        neap_buf_close(&body);
        return neap_raise(L, &err);
    }
    int64_t seq = neap_writer_append(j->writer, kind, step, body.data);
    neap_buf_close(&body);
    if (!seq) return neap_raisef(L, NEAP_E_JOURNAL, "the journal can no longer be written");
    keep_body(L, seq);
    lua_pushinteger(L, seq);
    return 1;
}

/* ---- waiting ---- */

typedef struct wait_op wait_op;
typedef struct ticket { wait_op *op; } ticket;             /* outlives an op that was let go */

struct wait_op {
    neap_op  op;
    ticket  *ticket;              /* NULL once called back */
    neap_err err;
};

static void on_done(void *arg, const neap_err *err) {
    ticket *t = arg;
    wait_op *o = t->op;
    free(t);
    if (!o) return;
    o->ticket = NULL;
    if (err) neap_err_copy(&o->err, err);
    neap_op_finish(&o->op);
}

static void let_go(neap_op *op) {
    wait_op *o = (wait_op *)op;
    if (o->ticket) o->ticket->op = NULL;
    o->ticket = NULL;
}

/* A commit takes milliseconds: being asked to stop waits for it, being forced does not. */
static void wait_cancel(neap_op *op, bool force) {
    if (!force) return;
    let_go(op);
    neap_op_finish(op);
}

static void wait_drop(neap_op *op) {
    let_go(op);
    neap_err_close(&((wait_op *)op)->err);
}

static int flush_deliver(lua_State *L, neap_op *op) {
    wait_op *o = (wait_op *)op;
    return o->err.code ? neap_raise(L, &o->err) : 0;
}

static int seal_deliver(lua_State *L, neap_op *op) {
    wait_op *o = (wait_op *)op;
    if (o->err.code) return neap_fail(L, &o->err);
    lua_pushboolean(L, 1);
    return 1;
}

static const neap_op_class flush_class = {"the journal", wait_cancel, flush_deliver, wait_drop};
static const neap_op_class seal_class = {"the journal to be sealed", wait_cancel, seal_deliver, wait_drop};

/* [-0, +1, m] */
static wait_op *new_wait(lua_State *L, const neap_op_class *class) {
    wait_op *o = (wait_op *)neap_op_new(L, sizeof *o, class);
    o->err = (neap_err)NEAP_ERR_INIT;
    o->ticket = neap_alloc(sizeof *o->ticket);
    o->ticket->op = o;
    return o;
}

/* journal:flush(): everything appended so far is durable; raises {code="journal"} when it never will be. */
static int flush(lua_State *L) {
    journal *j = check_journal(L);
    wait_op *o = new_wait(L, &flush_class);
    neap_writer_flush(j->writer, on_done, o->ticket);
    return neap_await(L, &o->op);
}

/* journal:seal(status) -> true | nil, err. Only close may follow. */
static int seal(lua_State *L) {
    static const char *const STATUS[] = {"ok", "failed", "held", "unknown", "cancelled", "undone", "abandoned", NULL};
    journal *j = check_journal(L);
    const char *status = STATUS[luaL_checkoption(L, 2, NULL, STATUS)];
    wait_op *o = new_wait(L, &seal_class);
    neap_writer_seal(j->writer, status, on_done, o->ticket);
    return neap_await(L, &o->op);
}

/* journal:tell(): the listener is told of all that is durable, which it otherwise is as soon as every task waits. */
static int tell_now(lua_State *L) {
    tell_news(check_journal(L), L);
    return 0;
}

/* ---- reading ---- */

/* read(state, run, after) -> records with a greater seq | nil, err; also while the run is written. Effect: read. */
static int read_records(lua_State *L) {
    const char *state = luaL_checkstring(L, 1), *run = luaL_checkstring(L, 2);
    int64_t after = luaL_optinteger(L, 3, 0);
    neap_err err = NEAP_ERR_INIT;
    neap_records *l = neap_records_new(L);
    if (!neap_journal_read(state, run, after, neap_records_keep, l, &err)) return neap_fail(L, &err);
    neap_records_push(L, l, 0);
    neap_records_clear(l);
    return 1;
}

/* verify(state, run) -> {head=, records=} | nil, err naming the first bad record. Effect: read. */
static int verify(lua_State *L) {
    char head[65];
    int64_t records;
    neap_err err = NEAP_ERR_INIT;
    if (!neap_journal_verify(luaL_checkstring(L, 1), luaL_checkstring(L, 2), head, &records, &err)) return neap_fail(L, &err);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, head);
    lua_setfield(L, -2, "head");
    lua_pushinteger(L, records);
    lua_setfield(L, -2, "records");
    return 1;
}

/* is_written(state, run) -> is a process writing this run now? Effect: read. */
static int is_written(lua_State *L) {
    lua_pushboolean(L, neap_journal_is_written(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
    return 1;
}

/* on_durable(fn | nil): fn(records), for views, is called when they are durable and every task waits. It may not wait. */
static int listen(lua_State *L) {
    if (!lua_isnoneornil(L, 1)) luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &LISTENER);
    return 0;
}

/* ---- the index ---- */

static int finish(lua_State *L, bool ok, neap_err *err) {
    if (!ok) return neap_fail(L, err);
    lua_pushboolean(L, 1);
    return 1;
}

/* [-0, +1, e] a text field of the row at 2; what it points to is kept by the stack. */
static const char *take_text(lua_State *L, const char *field) {
    int type = lua_getfield(L, 2, field);
    if (type == LUA_TNIL) return "";
    if (type != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "\"%s\" of a row must be a string", field);
    return lua_tostring(L, -1);
}

static int64_t take_integer(lua_State *L, const char *field) {
    int ok = 1;
    int64_t n = lua_getfield(L, 2, field) == LUA_TNIL ? 0 : lua_tointegerx(L, -1, &ok);
    if (!ok) neap_raisef(L, NEAP_E_USAGE, "\"%s\" of a row must be an integer", field);
    lua_pop(L, 1);
    return n;
}

/* [-0, +1, e] the list of lock keys as JSON; an empty one is a list too. */
static const char *take_targets(lua_State *L) {
    neap_buf json = NEAP_BUF_INIT;
    neap_err err = NEAP_ERR_INIT;
    if (lua_getfield(L, 2, "targets") == LUA_TNIL || (lua_istable(L, -1) && lua_rawlen(L, -1) == 0)) return "[]";
    luaL_checktype(L, -1, LUA_TTABLE);
    if (!neap_value_encode(L, -1, &json, &err)) {
        neap_buf_close(&json);
        neap_raise(L, &err);
    }
    lua_pushlstring(L, json.data, json.len);
    neap_buf_close(&json);
    return lua_tostring(L, -1);
}

/* index.put(state, row) -> true | nil, err. Row: run, runbook, environment, user, host, status, targets (list of lock keys),
 * started_ms, ended_ms, hash, head, records; what is missing is "" or 0. */
static int index_put(lua_State *L) {
    const char *state = luaL_checkstring(L, 1);
    neap_err err = NEAP_ERR_INIT;
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checkstack(L, 16, "a row of the index");
    neap_index_row row = {.started_ms = take_integer(L, "started_ms")};
    row.ended_ms = take_integer(L, "ended_ms");
    row.records = take_integer(L, "records");
    row.run = take_text(L, "run");
    row.runbook = take_text(L, "runbook");
    row.environment = take_text(L, "environment");
    row.user = take_text(L, "user");
    row.host = take_text(L, "host");
    row.status = take_text(L, "status");
    row.hash = take_text(L, "hash");
    row.head = take_text(L, "head");
    row.targets = take_targets(L);
    return finish(L, neap_index_put(state, &row, &err), &err);
}

/* index.list(state, {unfinished=, limit=}) -> rows, newest first | nil, err. */
static int index_list(lua_State *L) {
    const char *state = luaL_checkstring(L, 1);
    bool unfinished = false;
    int limit = 0;
    neap_err err = NEAP_ERR_INIT;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "unfinished");
        unfinished = lua_toboolean(L, -1);
        limit = (int)take_integer(L, "limit");
    }
    neap_records *l = neap_records_new(L);
    if (!neap_index_each(state, unfinished, limit, neap_records_keep_row, l, &err)) return neap_fail(L, &err);
    neap_records_push_rows(L, l);
    neap_records_clear(l);
    return 1;
}

/* index.find(state, prefix) -> rows whose run id begins so | nil, err. */
static int index_find(lua_State *L) {
    const char *state = luaL_checkstring(L, 1), *prefix = luaL_checkstring(L, 2);
    neap_err err = NEAP_ERR_INIT;
    neap_records *l = neap_records_new(L);
    if (!neap_index_find(state, prefix, neap_records_keep_row, l, &err)) return neap_fail(L, &err);
    neap_records_push_rows(L, l);
    neap_records_clear(l);
    return 1;
}

/* index.remove(state, run) -> true | nil, err. The evidence stays. */
static int index_remove(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    return finish(L, neap_index_remove(luaL_checkstring(L, 1), luaL_checkstring(L, 2), &err), &err);
}

/* index.rebuild(state) -> number of runs | nil, err. */
static int index_rebuild(lua_State *L) {
    int runs;
    neap_err err = NEAP_ERR_INIT;
    if (!neap_index_rebuild(luaL_checkstring(L, 1), &runs, &err)) return neap_fail(L, &err);
    lua_pushinteger(L, runs);
    return 1;
}

/* ---- contents ---- */

static const luaL_Reg module[] = {
    {"create", create}, {"resume", resume}, {"read", read_records}, {"verify", verify}, {"is_written", is_written}, {"on_durable", listen}, {NULL, NULL}};
static const luaL_Reg index_functions[] = {
    {"put", index_put}, {"list", index_list}, {"find", index_find}, {"remove", index_remove}, {"rebuild", index_rebuild}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"append", append}, {"flush", flush}, {"seal", seal}, {"tell", tell_now}, {"close", close_journal}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__gc", close_journal}, {"__close", close_journal}, {NULL, NULL}};

int neap_open_journal(lua_State *L) {
    if (luaL_newmetatable(L, JOURNAL_META)) {
        neap_function_set(L, "journal:", meta, 0);
        neap_function_table(L, "journal:", methods);
        lua_setfield(L, -2, "__index");
        lua_pushliteral(L, "journal");
        lua_setfield(L, -2, "__name");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    neap_function_table(L, "native.journal.", module);
    neap_function_table(L, "native.journal.index.", index_functions);
    lua_setfield(L, -2, "index");
    return 1;
}
