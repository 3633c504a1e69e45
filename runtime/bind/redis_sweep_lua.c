/* redis_sweep_lua.c -- conn:remove_matching: every key that matches, unlinked page by page (drive/redis_sweep.h).
 *
 *   run       gate ─► ROLE ─► [count: more than max_keys? refused] ─► intent ─► sweep ─► count what matches now ─► outcome
 *   preview   count ─► gate: shown with the number
 *   count_matching   gate ─► count
 *
 * What matches after the sweep came while it went on, because SCAN sees everything that was there before: it is reported and left alone.
 * A sweep that was broken off has done some of it; its outcome is unknown, and doing it again does no harm. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/redis_private.h"

enum { STAGE_SHOW, STAGE_ROLE = REDIS_STAGE_ROLE, STAGE_COUNT, STAGE_SWEEP, STAGE_AFTER, STAGE_TELL };

typedef struct sweep_op {
    redis_op base;
    char   *match, *spare[2];
    int64_t count, pause_ms, most;
    neap_sweep *sweep;
    neap_sweep_tally tally, done; /* of the pass under way; of the one that removed */
} sweep_op;

static void sweep_drop(neap_op *o) {
    sweep_op *op = (sweep_op *)o;
    neap_sweep_free(op->sweep);
    free(op->match);
    free(op->spare[0]);
    free(op->spare[1]);
    neap_redis_op_drop(o);
}

static void on_swept(void *arg, const neap_err *err) {
    sweep_op *op = arg;
    if (err) neap_redis_op_error(&op->base, err);
    neap_op_finish(&op->base.gate.op);
}

static int pass(lua_State *L, sweep_op *op, int stage) {
    redis_handle *h = op->base.h;
    neap_sweep_order order = {op->match, op->count, op->pause_ms, op->most, h->within_ms, stage == STAGE_SWEEP, {op->spare[0], op->spare[1]}};
    neap_sweep_free(op->sweep);
    op->base.stage = stage;
    op->tally = (neap_sweep_tally){0};
    if (stage == STAGE_SWEEP) h->sweeping = &op->done;
    neap_op_rearm(&op->base.gate.op);
    op->sweep = neap_sweep_start(h->loop, h->redis, &order, stage == STAGE_SWEEP ? &op->done : &op->tally, on_swept, op);
    return neap_await(L, &op->base.gate.op);
}

static bool is_above(sweep_op *op) {
    if (!op->most || op->tally.seen <= op->most) return false;
    neap_err_set(&op->base.err, NEAP_E_REFUSED, "%" PRId64 " keys match \"%s\", more than the %" PRId64 " that may be removed", op->tally.seen, op->match, op->most);
    neap_err_hint(&op->base.err, "Narrow the pattern, or raise max_keys.");
    return true;
}

/* ---- the preview ---- */

static int shown(lua_State *L, sweep_op *op) {
    if (!op->base.err.code && is_above(op)) return neap_fail(L, &op->base.err);
    if (op->base.err.code) neap_buf_addf(&op->base.plan, "the keys that match could not be counted: %s", op->base.err.message);
    else neap_buf_addf(&op->base.plan, "%" PRId64 " key%s now", op->tally.seen, op->tally.seen == 1 ? " matches" : "s match");
    neap_err_close(&op->base.err);
    op->base.gate.plan = op->base.plan.data;
    return neap_gate_enter(L, &op->base.gate);
}

static bool may_count(lua_State *L, const sweep_op *op) {
    neap_task *task = neap_task_of(L);
    if (!neap_redis_is_preview(L) || !task || neap_task_scope(task)->phase != NEAP_PHASE_ACT) return false;
    return neap_redis_is_alive(op->base.h->redis) && !neap_guard_withheld(neap_host_of(L)->guard, op->base.h->subject);
}

/* ---- the run ---- */

static int sweep_start(lua_State *L, neap_gate *g) {
    sweep_op *op = (sweep_op *)g;
    if (neap_redis_op_alive(&op->base)) return pass(L, op, STAGE_SWEEP);
    neap_gate_outcome(L, g, "failed", NULL, &op->base.err);
    return neap_fail(L, &op->base.err);
}

static void record(lua_State *L, sweep_op *op, const char *status) {
    neap_buf members = NEAP_BUF_INIT;
    neap_buf_addf(&members, "\"removed\":%" PRId64 ",\"seen\":%" PRId64, op->done.removed, op->done.seen);
    neap_gate_outcome(L, &op->base.gate, status, members.data, op->base.err.code ? &op->base.err : NULL);
    neap_buf_close(&members);
}

static int push_tally(lua_State *L, sweep_op *op);

static int swept(lua_State *L, sweep_op *op) {
    op->base.h->sweeping = NULL;
    if (op->base.err.code) {
        if (op->done.sent && op->base.err.code != NEAP_E_REFUSED) neap_redis_write_lost(&op->base);
        record(L, op, op->done.sent ? "unknown" : "failed");
        return neap_fail(L, &op->base.err);
    }
    record(L, op, "ok");
    return neap_redis_is_alive(op->base.h->redis) ? pass(L, op, STAGE_AFTER) : push_tally(L, op);
}

static void set_number(lua_State *L, const char *name, int64_t value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static int push_tally(lua_State *L, sweep_op *op) {
    lua_createtable(L, 0, 3);
    set_number(L, "removed", op->done.removed);
    set_number(L, "seen", op->done.seen);
    if (op->base.stage == STAGE_AFTER && !op->base.err.code) set_number(L, "arrived", op->tally.seen);
    neap_err_close(&op->base.err);
    return 1;
}

static int told(lua_State *L, sweep_op *op) {
    if (op->base.err.code) return neap_fail(L, &op->base.err);
    lua_pushinteger(L, op->tally.seen);
    return 1;
}

static int sweep_deliver(lua_State *L, neap_op *o) {
    sweep_op *op = (sweep_op *)o;
    switch (op->base.stage) {
    case STAGE_SHOW: return shown(L, op);
    case STAGE_ROLE:
        if (!op->most || op->base.err.code) return neap_redis_write_intend(L, &op->base);
        return neap_redis_op_alive(&op->base) ? pass(L, op, STAGE_COUNT) : neap_fail(L, &op->base.err);
    case STAGE_COUNT:
        if (op->base.err.code || is_above(op)) return neap_fail(L, &op->base.err);
        op->base.h->to_sweep = op->tally.seen;
        return neap_redis_write_intend(L, &op->base);
    case STAGE_SWEEP: return swept(L, op);
    case STAGE_TELL: return told(L, op);
    default: return push_tally(L, op);
    }
}

static void sweep_cancel(neap_op *o, bool force) {
    sweep_op *op = (sweep_op *)o;
    if (op->base.stage != STAGE_ROLE && !force) neap_sweep_stop(op->sweep);
    else neap_redis_op_cancel(o, force);
}

static void sweep_on_stop(lua_State *L, neap_op *o) {
    sweep_op *op = (sweep_op *)o;
    op->base.h->sweeping = NULL;
    if (op->base.stage == STAGE_SWEEP) record(L, op, op->done.sent ? "unknown" : "failed");
}

static const neap_op_class sweep_class = {"the removal of keys in Redis", sweep_cancel, sweep_deliver, sweep_drop};

/* ---- the method ---- */

static lua_Integer number_field(lua_State *L, const char *name, lua_Integer least, lua_Integer otherwise) {
    lua_getfield(L, 2, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    if (value < least) neap_raisef(L, NEAP_E_USAGE, "%s must be at least %lld", name, (long long)least);
    lua_pop(L, 1);
    return value;
}

static void read_options(lua_State *L, sweep_op *op) {
    size_t len;
    lua_getfield(L, 2, "match");
    const char *match = luaL_checklstring(L, -1, &len);
    if (!len || strlen(match) != len) neap_raisef(L, NEAP_E_USAGE, "match is a pattern without a NUL; \"*\" is every key");
    op->match = neap_strdup(match);
    op->base.h->to_sweep = 0;
    lua_pop(L, 1);
    op->count = number_field(L, "count", 1, 1000);
    op->pause_ms = number_field(L, "pause_ms", 0, 0);
    op->most = number_field(L, "max_keys", 0, 0);
    lua_getfield(L, 2, "spare");
    for (int i = 0; i < 2 && lua_istable(L, -1); i++) {
        lua_rawgeti(L, -1, i + 1);
        if (lua_isstring(L, -1)) op->spare[i] = neap_strdup(lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* conn:remove_matching{match=, count=1000, max_keys=, pause_ms=, spare={key, key}} -> {removed=, seen=, arrived=} | nil, err.
 * Effect: destroy. */
static int conn_remove_matching(lua_State *L) {
    lua_settop(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    redis_handle *h = neap_redis_is_preview(L) ? neap_redis_to_handle(L, 1) : neap_redis_check_handle(L, 1);
    sweep_op *op = (sweep_op *)neap_redis_op_new(L, sizeof *op, &sweep_class, h, NEAP_P_REDIS_REMOVE);
    read_options(L, op);
    op->base.text = neap_asprintf("UNLINK every key that matches %s", op->match);
    op->base.gate.act.text = op->base.text;
    neap_buf_adds(&op->base.gate.evidence, "\"match\":");
    neap_json_string(&op->base.gate.evidence, op->match, strlen(op->match));
    neap_buf_addc(&op->base.gate.evidence, ',');
    op->base.gate.prepare = neap_redis_write_prepare;
    op->base.gate.start = sweep_start;
    op->base.gate.op.on_stop = sweep_on_stop;
    return may_count(L, op) ? pass(L, op, STAGE_SHOW) : neap_gate_enter(L, &op->base.gate);
}

static int tell_start(lua_State *L, neap_gate *g) {
    sweep_op *op = (sweep_op *)g;
    return neap_redis_op_alive(&op->base) ? pass(L, op, STAGE_TELL) : neap_fail(L, &op->base.err);
}

/* conn:count_matching{match=, count=1000, pause_ms=, spare=} -> how many keys match | nil, err. Effect: read. */
static int conn_count_matching(lua_State *L) {
    lua_settop(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    redis_handle *h = neap_redis_check_handle(L, 1);
    sweep_op *op = (sweep_op *)neap_redis_op_new(L, sizeof *op, &sweep_class, h, NEAP_P_REDIS_READ);
    read_options(L, op);
    op->base.gate.act.text = "SCAN";
    op->base.gate.declared = !h->enforced;
    op->base.gate.start = tell_start;
    return neap_gate_enter(L, &op->base.gate);
}

/* conn:removed() -> keys removed so far by the remove_matching of this connection, how many there were | nil. Effect: pure. */
static int conn_removed(lua_State *L) {
    redis_handle *h = neap_redis_to_handle(L, 1);
    lua_pushinteger(L, h->sweeping ? h->sweeping->removed : 0);
    if (h->to_sweep > 0) lua_pushinteger(L, h->to_sweep);
    else lua_pushnil(L);
    return 2;
}

const luaL_Reg neap_redis_sweep_methods[] = {{"remove_matching", conn_remove_matching}, {"count_matching", conn_count_matching},
                                             {"removed", conn_removed}, {NULL, NULL}};
