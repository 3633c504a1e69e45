/* pg_tx.c -- a transaction that several statements share.
 *
 *   conn:begin() -> tx     intent pg.begin with the transaction's id, durable; its outcome is written at the end
 *   tx:exec value row rows has                    each exec an intent of its own, checked against policy
 *   tx:commit()  tx:rollback()  <close>           the outcome: ok, failed (rolled back), unknown
 *
 * The intent of `begin` stays open as long as the transaction does: a run that dies inside it left an intent without an outcome
 * whose probe is pg_xact_status. Reads inside have no transaction of their own (they must see what the transaction did): the
 * statement and the functions it calls are judged as for any read, and they only work while the task acts. A lost answer to COMMIT is asked about, as in pg_write.c.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_tx.h"
#include "bind/pg_write.h"
#include "script/function.h"

#define TX_META "neap.pg.tx"

/* ---- begin ---- */

enum { STAGE_TURN, STAGE_XID };

typedef struct begin_op { pg_op base; pg_turn *turn; char *xid; } begin_op;

static void on_begun(void *arg, PGresult *r, const neap_err *err) {
    begin_op *b = arg;
    if (err) neap_pg_op_error(&b->base, err);
    if (b->base.answers++ == 0) return;
    if (!err) b->xid = neap_strdup(PQgetvalue(r, 0, 0));
    neap_op_finish(&b->base.gate.op);
}

static int ask_xid(lua_State *L, begin_op *b) {
    pg_op *op = &b->base;
    if (!neap_pg_op_alive(op)) return neap_pg_op_fail(L, op);
    neap_pg_query queries[2] = {neap_pg_plain("BEGIN", false), neap_pg_plain("SELECT pg_current_xact_id()", true)};
    void *args[2] = {b, b};
    op->stage = STAGE_XID;
    b->turn->open = true;
    neap_op_rearm(&op->gate.op);
    neap_pg_flight(op->h->pg, queries, 2, on_begun, args);
    return neap_await(L, &op->gate.op);
}

static int begin_prepare(lua_State *L, neap_gate *g) {
    begin_op *b = (begin_op *)g;
    b->turn = neap_pg_turn_new(L, 1, b->base.h, true);
    if (neap_pg_turn_has(b->turn)) return ask_xid(L, b);
    b->base.stage = STAGE_TURN;
    neap_pg_turn_wait(b->turn, &g->op);
    return neap_await(L, &g->op);
}

/* The op is at index 2, behind the connection: conn_begin put it there. */
static int begin_start(lua_State *L, neap_gate *g) {
    begin_op *b = (begin_op *)g;
    pg_tx *tx = lua_newuserdatauv(L, sizeof *tx, 3);
    memset(tx, 0, sizeof *tx);
    luaL_setmetatable(L, TX_META);
    lua_pushvalue(L, 1), lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, 2), lua_setiuservalue(L, -2, 2);
    tx->turn = neap_pg_turn_move(L, 1, b->turn);
    lua_setiuservalue(L, -2, 3);
    tx->begin = &b->base;
    tx->xid = b->xid;
    b->xid = NULL;
    tx->h = b->base.h;
    return 1;
}

static int begin_deliver(lua_State *L, neap_op *o) {
    begin_op *b = (begin_op *)o;
    if (b->base.stage == STAGE_TURN) return ask_xid(L, b);
    if (b->base.err.code || !neap_pg_op_alive(&b->base)) return neap_pg_op_fail(L, &b->base);
    neap_pg_add_evidence(&b->base.gate.evidence, b->base.h, b->xid);
    return neap_gate_intend(L, &b->base.gate);
}

static void begin_cancel(neap_op *o, bool force) {
    begin_op *b = (begin_op *)o;
    if (b->base.stage != STAGE_TURN) {
        neap_pg_op_cancel(o, force);
        return;
    }
    neap_pg_turn_wait(b->turn, NULL);
    neap_op_finish(o);
}

static void begin_drop(neap_op *o) {
    free(((begin_op *)o)->xid);
    neap_pg_op_drop(o);
}

static const neap_op_class begin_class = {"a transaction in PostgreSQL", begin_cancel, begin_deliver, begin_drop};

/* conn:begin() -> tx | nil, err. Effect: write. */
static int conn_begin(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    lua_settop(L, 1);
    begin_op *b = (begin_op *)neap_pg_op_new(L, sizeof *b, &begin_class, h, NEAP_P_PG_BEGIN, "BEGIN", 0);
    b->base.gate.prepare = begin_prepare;
    b->base.gate.start = begin_start;
    return neap_gate_enter(L, &b->base.gate);
}

/* ---- the end of a transaction ---- */

static void settle(lua_State *L, pg_tx *tx, const char *status, const char *members, const neap_err *err) {
    neap_gate_outcome(L, &tx->begin->gate, status, members, err);
    neap_pg_turn_end(tx->turn);
    tx->h = NULL;
}

pg_tx *neap_pg_check_tx(lua_State *L) {
    pg_tx *tx = luaL_checkudata(L, 1, TX_META);
    if (!tx->h) neap_raisef(L, NEAP_E_USAGE, "the transaction is over");
    neap_task *task = neap_task_of(L);
    if (!task || neap_task_scope(task)->phase != NEAP_PHASE_ACT)
        neap_raisef(L, NEAP_E_REFUSED, "a transaction is used only by the clause that acts");
    return tx;
}

typedef struct end_op {
    pg_op  base;
    pg_tx *tx;
    bool   committed, asking;
    neap_pg_inquiry *inquiry;
    neap_pg_fate fate;
} end_op;

static void on_end(void *arg, PGresult *r, const neap_err *err) {
    end_op *e = arg;
    if (err) neap_pg_op_error(&e->base, err);
    else e->committed = strcmp(PQcmdStatus(r), "COMMIT") == 0;
    neap_op_finish(&e->base.gate.op);
}

static void on_fate(void *arg, neap_pg_fate fate, const char *reason) {
    end_op *e = arg;
    e->fate = fate;
    e->committed = fate == NEAP_PG_COMMITTED;
    neap_err_close(&e->base.err);
    if (fate == NEAP_PG_ABORTED) neap_err_set(&e->base.err, NEAP_E_CLOSED, "the connection was lost; the server says the transaction was rolled back");
    else if (fate != NEAP_PG_COMMITTED)
        neap_err_set(&e->base.err, NEAP_E_UNKNOWN, "the answer to COMMIT was lost, and nobody can say whether it was done: %s", reason);
    neap_op_finish(&e->base.gate.op);
}

static int commit_deliver(lua_State *L, neap_op *o) {
    end_op *e = (end_op *)o;
    bool lost = e->base.err.code == NEAP_E_CLOSED || (e->base.err.code && !neap_pg_is_alive(e->base.h->pg));
    if (lost && !e->asking) {
        e->asking = true;
        neap_op_rearm(o);
        neap_pg_ask_fate(e->base.h, e->tx->xid, &e->inquiry, on_fate, e);
        return neap_await(L, o);
    }
    neap_pg_inquiry_free(e->inquiry);              /* with its session */
    e->inquiry = NULL;
    e->tx->turn->open = false;
    if (e->committed) {
        settle(L, e->tx, "ok", e->asking ? "\"asked\":true" : NULL, NULL);
        lua_pushboolean(L, 1);
        return 1;
    }
    if (!e->base.err.code) neap_err_set(&e->base.err, NEAP_E_REMOTE, "the server rolled the transaction back instead of committing it");
    settle(L, e->tx, e->base.err.code == NEAP_E_UNKNOWN ? "unknown" : "failed", NULL, &e->base.err);
    return neap_fail(L, &e->base.err);
}

/* Stopped: when the answer came all the same, it counts; otherwise nobody knows. */
static void commit_on_stop(lua_State *L, neap_op *o) {
    end_op *e = (end_op *)o;
    bool lost = e->asking || !neap_pg_is_alive(e->base.h->pg);
    e->tx->turn->open = !e->committed && !lost;
    settle(L, e->tx, e->committed ? "ok" : lost ? "unknown" : "failed", "\"message\":\"stopped during COMMIT\"", NULL);
}

static void end_cancel(neap_op *o, bool force) {
    end_op *e = (end_op *)o;
    if (e->asking) {
        neap_pg_inquiry_free(e->inquiry);
        e->inquiry = NULL;
        neap_op_finish(o);
    } else {
        neap_pg_op_cancel(o, force);
    }
}

static void end_drop(neap_op *o) {
    neap_pg_inquiry_free(((end_op *)o)->inquiry);
    neap_pg_op_drop(o);
}

static const neap_op_class commit_class = {"a COMMIT in PostgreSQL", end_cancel, commit_deliver, end_drop};

/* tx:commit() -> true | nil, err. Effect: write. */
static int tx_commit(lua_State *L) {
    pg_tx *tx = neap_pg_check_tx(L);
    neap_err err = NEAP_ERR_INIT;
    if (tx->failed) {
        neap_err_set(&err, NEAP_E_REMOTE, "the transaction cannot be committed, because a statement in it failed");
        settle(L, tx, "failed", NULL, &err);
        return neap_fail(L, &err);
    }
    lua_settop(L, 1);
    end_op *e = (end_op *)neap_pg_op_new(L, sizeof *e, &commit_class, tx->h, NEAP_P_PG_BEGIN, "COMMIT", 0);
    e->tx = tx;
    e->base.params.secret = tx->secret;
    e->base.gate.op.on_stop = commit_on_stop;
    if (!neap_pg_op_alive(&e->base)) {             /* COMMIT was never sent */
        settle(L, tx, "failed", NULL, &e->base.err);
        return neap_fail(L, &e->base.err);
    }
    neap_pg_query q = neap_pg_plain("COMMIT", true);
    neap_pg_send(tx->h->pg, &q, on_end, e);
    return neap_await(L, &e->base.gate.op);
}

/* tx:rollback(); also <close>. The ROLLBACK is on its way when it returns; whoever comes next on the connection is behind it.
 * Effect: write. */
static int tx_rollback(lua_State *L) {
    pg_tx *tx = luaL_checkudata(L, 1, TX_META);
    if (!tx->h) return 0;
    if (neap_task_of(L)) settle(L, tx, "failed", "\"message\":\"rolled back\"", NULL);
    return 0;
}

/* Collected without having been closed: the state may be closing, so nothing is recorded, and the intent stays open. */
static int tx_gc(lua_State *L) {
    pg_tx *tx = luaL_checkudata(L, 1, TX_META);
    if (tx->h) neap_pg_turn_end(tx->turn);
    tx->h = NULL;
    free(tx->xid);
    tx->xid = NULL;
    return 0;
}

/* ---- statements inside ---- */

typedef struct tx_op { pg_op base; pg_tx *tx; } tx_op;

static void on_statement(void *arg, PGresult *r, const neap_err *err) {
    tx_op *s = arg;
    (void)r;
    if (err) neap_pg_op_error(&s->base, err);
    else s->base.result = neap_pg_keep(s->base.h->pg);
    neap_op_finish(&s->base.gate.op);
}

static int statement_start(lua_State *L, neap_gate *g) {
    pg_op *op = (pg_op *)g;
    const pg_params *p = &op->params;
    if (!neap_pg_op_alive(op)) {
        neap_gate_outcome(L, g, "failed", NULL, &op->err);
        return neap_pg_op_fail(L, op);
    }
    neap_pg_query q = {op->sql, p->count, (const char *const *)p->values, p->lengths, p->formats, true};
    neap_op_rearm(&g->op);
    neap_pg_send(op->h->pg, &q, on_statement, op);
    return neap_await(L, &g->op);
}

/* Every function it calls is known to be harmless. */
static void send_read(pg_op *op) {
    const pg_params *p = &op->params;
    neap_pg_query q = {op->sql, p->count, (const char *const *)p->values, p->lengths, p->formats, true};
    neap_pg_send(op->h->pg, &q, on_statement, op);
}

static int read_start(lua_State *L, neap_gate *g) {
    pg_op *op = (pg_op *)g;
    if (!neap_pg_op_alive(op)) return neap_pg_op_fail(L, op);
    neap_pg_fence_functions(op, send_read);
    return neap_await(L, &g->op);
}

static int exec_deliver(lua_State *L, neap_op *o) {
    tx_op *s = (tx_op *)o;
    pg_op *op = &s->base;
    char members[48];
    if (!op->err.code && op->h->max_rows > 0 && neap_pg_changes_rows(op)) {
        s->tx->changed += neap_pg_count(op->result);
        if (s->tx->changed > op->h->max_rows) neap_pg_too_many(op, s->tx->changed);
    }
    if (op->err.code) {
        s->tx->failed = true;
        neap_gate_outcome(L, &op->gate, "failed", NULL, &op->err);
        return neap_pg_op_fail(L, op);
    }
    snprintf(members, sizeof members, "\"rows\":%lld", neap_pg_count(op->result));
    neap_gate_outcome(L, &op->gate, "ok", members, NULL);
    neap_pg_push_done(L, op->result);
    neap_pg_op_done(op);
    return 1;
}

static int read_deliver(lua_State *L, neap_op *o) {
    tx_op *s = (tx_op *)o;
    if (!s->base.err.code) {
        int results = neap_pg_push_shape(L, &s->base);
        neap_pg_op_done(&s->base);
        return results;
    }
    if (s->base.err.code != NEAP_E_REFUSED) s->tx->failed = true;      /* refused: it was not sent */
    return neap_pg_op_fail(L, &s->base);
}

/* Stopped: whatever the statement did goes with the transaction, which can only be rolled back now. */
static void statement_on_stop(lua_State *L, neap_op *o) {
    tx_op *s = (tx_op *)o;
    s->tx->failed = true;
    neap_gate_outcome(L, &s->base.gate, "failed", "\"message\":\"stopped\"", NULL);
}

static const neap_op_class exec_class = {"a statement in PostgreSQL", neap_pg_op_cancel, exec_deliver, neap_pg_op_drop};
static const neap_op_class read_class = {"an answer from PostgreSQL", neap_pg_op_cancel, read_deliver, neap_pg_op_drop};

/* tx:exec(sql, ...) -> {count=, rows=, tag=} | nil, err. Effect: write. */
static int tx_exec(lua_State *L) {
    pg_tx *tx = neap_pg_check_tx(L);
    tx_op *s = (tx_op *)neap_pg_op_new(L, sizeof *s, &exec_class, tx->h, NEAP_P_PG_EXEC, luaL_checkstring(L, 2), 3);
    s->tx = tx;
    tx->secret |= s->base.params.secret;
    if (!neap_pg_check_write(&s->base)) return neap_pg_op_fail(L, &s->base);
    if (s->base.parsed.alone) {
        neap_err_set(&s->base.err, NEAP_E_USAGE, "\"%s\" cannot be part of a transaction", s->base.parsed.kind);
        return neap_pg_op_fail(L, &s->base);
    }
    s->base.gate.start = statement_start;
    s->base.gate.op.on_stop = statement_on_stop;
    neap_pg_add_evidence(&s->base.gate.evidence, tx->h, tx->xid);
    return neap_gate_enter(L, &s->base.gate);
}

static int tx_read(lua_State *L, const char *verb) {
    pg_tx *tx = neap_pg_check_tx(L);
    tx_op *s = (tx_op *)neap_pg_op_new(L, sizeof *s, &read_class, tx->h, NEAP_P_PG_READ, luaL_checkstring(L, 2), 3);
    s->tx = tx;
    s->base.shape = neap_pg_shape(verb);
    s->base.gate.start = read_start;
    s->base.gate.op.on_stop = statement_on_stop;
    if (!neap_pg_fence_parse(&s->base)) return neap_pg_op_fail(L, &s->base);
    return neap_gate_enter(L, &s->base.gate);
}

/* tx:value(sql, ...), row, rows, has: as of a connection, seeing what the transaction did. Effect: read. */
static int tx_value(lua_State *L) { return tx_read(L, "value"); }
static int tx_row(lua_State *L) { return tx_read(L, "row"); }
static int tx_rows(lua_State *L) { return tx_read(L, "rows"); }
static int tx_has(lua_State *L) { return tx_read(L, "has"); }

static const luaL_Reg tx_methods[] = {{"exec", tx_exec}, {"value", tx_value}, {"row", tx_row}, {"rows", tx_rows}, {"has", tx_has}, {"exec_many", neap_pg_exec_many},
                                      {"commit", tx_commit}, {"rollback", tx_rollback}, {NULL, NULL}};

const luaL_Reg neap_pg_tx_methods[] = {{"begin", conn_begin}, {"exec_many", neap_pg_exec_many}, {NULL, NULL}};

void neap_pg_open_tx(lua_State *L) {
    static const luaL_Reg meta[] = {{"__gc", tx_gc}, {"__close", tx_rollback}, {NULL, NULL}};
    luaL_newmetatable(L, TX_META);
    neap_function_set(L, "pg.tx:", meta, 0);
    neap_function_table(L, "pg.tx:", tx_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
