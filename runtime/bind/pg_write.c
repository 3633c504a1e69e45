/* pg_write.c -- conn:exec: one statement, done once, and known to be done.
 *
 *   [turn] -> BEGIN; SELECT pg_current_xact_id()  (changes nothing)  -> intent with the id, durable
 *          -> statement; COMMIT  in one flight -> outcome
 *
 * The statement is never sent twice. When the answer is lost the server is asked by the transaction's id (drive/pg_fate.h): ok,
 * failed, or, when nobody can say, {code="unknown"}. With a bound on rows the COMMIT waits for the count: one more round trip.
 * A statement that must be alone (VACUUM, CREATE INDEX CONCURRENTLY) has no transaction of ours: its evidence is the
 * backend's pid and start, and a lost answer is unknown.
 */
#include "bind/pg_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { STAGE_TURN, STAGE_XID, STAGE_RUN, STAGE_COMMIT, STAGE_FATE };

typedef struct exec_op {
    pg_op    base;
    pg_turn *turn;
    char    *xid, *subject;       /* subject: of a database other than the connection's, or NULL */
    bool     alone, bounded, committed;
    neap_pg_inquiry *inquiry;
    neap_pg_fate fate;
} exec_op;

/* ---- shared with transactions ---- */

void neap_pg_add_evidence(neap_buf *out, const pg_handle *h, const char *xid) {
    if (xid) neap_buf_addf(out, "\"xid\":%s,", xid);
    neap_buf_addf(out, "\"pid\":%d", neap_pg_backend(h->pg));
    if (h->backend_start) neap_buf_addf(out, ",\"backend_start\":\"%s\"", h->backend_start);
    if (h->system) neap_buf_addf(out, ",\"system\":\"%s\"", h->system);
    if (h->timeline) neap_buf_addf(out, ",\"timeline\":%d", h->timeline);
    neap_buf_adds(out, ",\"database\":");
    neap_json_string(out, h->database, strlen(h->database));
}

void neap_pg_ask_fate(pg_handle *h, const char *xid, neap_pg_inquiry **q, neap_pg_fate_fn done, void *arg) {
    neap_pg_evidence evidence = {xid, h->system, h->backend_start, h->timeline, neap_pg_backend(h->pg), false};
    *q = neap_pg_inquire(h->loop, &h->where, h->application, &evidence, PG_FATE_MS, done, arg);
}

long long neap_pg_count(const PGresult *result) {
    const char *tuples = result ? PQcmdTuples((PGresult *)(size_t)result) : "";
    return atoll(tuples);
}

void neap_pg_push_done(lua_State *L, const PGresult *result) {
    lua_createtable(L, 0, 3);
    if (!result) return;
    lua_pushinteger(L, neap_pg_count(result));
    lua_setfield(L, -2, "count");
    neap_pg_push_rows(L, result);
    lua_setfield(L, -2, "rows");
    lua_pushstring(L, PQcmdStatus((PGresult *)(size_t)result));
    lua_setfield(L, -2, "tag");
}

bool neap_pg_check_write(pg_op *op) {
    if (!neap_sql_read(&op->parsed, op->sql, &op->err)) return false;
    if (op->parsed.statements != 1) {
        neap_err_set(&op->err, NEAP_E_USAGE, "exec takes one statement, not %d", op->parsed.statements);
        return neap_err_hint(&op->err, "Call it once for each, or within one transaction().");
    }
    if (op->parsed.transaction) {
        neap_err_set(&op->err, NEAP_E_USAGE, "\"%s\" would end the transaction neap keeps count of", op->parsed.kind);
        return neap_err_hint(&op->err, "Use transaction(function(tx) … end): it commits at its end and rolls back on an error.");
    }
    if (op->parsed.hides && op->h->max_rows > 0 && op->gate.act.primitive != NEAP_P_PG_RENAME) {
        neap_err_set(&op->err, NEAP_E_REFUSED, "this environment allows %lld rows a statement, and nobody counts those that a part of \"%s\" changes",
                     (long long)op->h->max_rows, op->parsed.kind);
        return neap_err_hint(&op->err, "Send what changes rows as a statement of its own, or raise max_rows in the inventory.");
    }
    if (op->parsed.copy_in || op->parsed.copy_out) {
        neap_err_set(&op->err, NEAP_E_USAGE, "COPY moves data to or from the caller, which exec cannot");
        return neap_err_hint(&op->err, "Use copy_in or copy_out.");
    }
    return true;
}

bool neap_pg_changes_rows(const pg_op *op) {
    static const char *const kinds[] = {"update", "delete", "insert", "merge", NULL};
    for (const char *const *k = kinds; *k; k++)
        if (strcmp(op->parsed.kind, *k) == 0) return true;
    return strcmp(op->parsed.kind, "select") == 0 || strncmp(op->parsed.kind, "with", 4) == 0;
}

void neap_pg_too_many(pg_op *op, long long count) {
    neap_err_set(&op->err, NEAP_E_REFUSED, "the statement changed %lld rows, more than the %lld this environment allows; it was rolled back",
                 count, (long long)op->h->max_rows);
    neap_err_hint(&op->err, "Narrow it, or raise max_rows in the inventory.");
}

/* ---- answers ---- */

static void on_xid(void *arg, PGresult *r, const neap_err *err) {
    exec_op *x = arg;
    if (err) neap_pg_op_error(&x->base, err);
    if (x->base.answers++ == 0) return;            /* BEGIN */
    if (!err) x->xid = neap_strdup(PQgetvalue(r, 0, 0));
    neap_op_finish(&x->base.gate.op);
}

static void on_commit(exec_op *x, PGresult *r, const neap_err *err) {
    if (err) return;
    x->committed = strcmp(PQcmdStatus(r), "COMMIT") == 0;
    x->turn->open = false;
    if (x->committed || x->base.err.code) return;
    neap_err_set(&x->base.err, NEAP_E_REMOTE, "the server rolled the transaction back instead of committing it");
}

static void on_run(void *arg, PGresult *r, const neap_err *err) {
    exec_op *x = arg;
    int answer = x->base.answers++, last = x->alone || x->bounded ? 0 : 1;
    if (err) neap_pg_op_error(&x->base, err);
    if (answer == 0 && !err) x->base.result = neap_pg_keep(x->base.h->pg);
    if (answer == 1) on_commit(x, r, err);
    if (answer == last) neap_op_finish(&x->base.gate.op);
}

static void on_late_commit(void *arg, PGresult *r, const neap_err *err) {
    exec_op *x = arg;
    if (err) neap_pg_op_error(&x->base, err);
    on_commit(x, r, err);
    neap_op_finish(&x->base.gate.op);
}

static void on_fate(void *arg, neap_pg_fate fate, const char *reason) {
    exec_op *x = arg;
    x->fate = fate;
    if (fate != NEAP_PG_COMMITTED) {
        char *before = x->base.err.message ? neap_strdup(x->base.err.message) : neap_strdup("the answer was lost");
        neap_err_close(&x->base.err);
        if (fate == NEAP_PG_ABORTED) neap_err_set(&x->base.err, NEAP_E_CLOSED, "%s; the server says the transaction was rolled back", before);
        else neap_err_set(&x->base.err, NEAP_E_UNKNOWN, "%s, and nobody can say whether the statement was done%s%s", before,
                          *reason ? ": " : "", reason);
        free(before);
    }
    neap_op_finish(&x->base.gate.op);
}

/* ---- stages ---- */

static int begin_xid(lua_State *L, exec_op *x) {
    pg_op *op = &x->base;
    if (!neap_pg_op_alive(op)) return neap_pg_op_fail(L, op);
    if (x->alone) {
        neap_pg_add_evidence(&op->gate.evidence, op->h, NULL);
        return neap_gate_intend(L, &op->gate);
    }
    neap_pg_query queries[2] = {neap_pg_plain("BEGIN", false), neap_pg_plain("SELECT pg_current_xact_id()", true)};
    void *args[2] = {x, x};
    op->stage = STAGE_XID;
    op->answers = 0;
    x->turn->open = true;
    neap_op_rearm(&op->gate.op);
    neap_pg_flight(op->h->pg, queries, 2, on_xid, args);
    return neap_await(L, &op->gate.op);
}

static int exec_prepare(lua_State *L, neap_gate *g) {
    exec_op *x = (exec_op *)g;
    x->turn = neap_pg_turn_new(L, 1, x->base.h, true);
    if (neap_pg_turn_has(x->turn)) return begin_xid(L, x);
    x->base.stage = STAGE_TURN;
    neap_pg_turn_wait(x->turn, &g->op);
    return neap_await(L, &g->op);
}

static int exec_start(lua_State *L, neap_gate *g) {
    exec_op *x = (exec_op *)g;
    pg_op *op = &x->base;
    const pg_params *p = &op->params;
    if (!neap_pg_op_alive(op)) {
        neap_gate_outcome(L, g, "failed", NULL, &op->err);
        return neap_pg_op_fail(L, op);
    }
    neap_pg_query queries[2] = {{op->sql, p->count, (const char *const *)p->values, p->lengths, p->formats, false},
                                neap_pg_plain("COMMIT", true)};
    void *args[2] = {x, x};
    op->stage = STAGE_RUN;
    op->answers = 0;
    neap_op_rearm(&g->op);
    neap_pg_flight(op->h->pg, queries, x->alone || x->bounded ? 1 : 2, on_run, args);
    return neap_await(L, &g->op);
}

static int commit(lua_State *L, exec_op *x) {
    neap_pg_query q = neap_pg_plain("COMMIT", true);
    x->base.stage = STAGE_COMMIT;
    neap_op_rearm(&x->base.gate.op);
    neap_pg_send(x->base.h->pg, &q, on_late_commit, x);
    return neap_await(L, &x->base.gate.op);
}

static int ask_fate(lua_State *L, exec_op *x) {
    x->base.stage = STAGE_FATE;
    x->turn->open = false;
    neap_op_rearm(&x->base.gate.op);
    neap_pg_ask_fate(x->base.h, x->xid, &x->inquiry, on_fate, x);
    return neap_await(L, &x->base.gate.op);
}

static int end(lua_State *L, exec_op *x) {
    pg_op *op = &x->base;
    char members[64];
    if (op->err.code && !(op->stage == STAGE_FATE && x->fate == NEAP_PG_COMMITTED)) {
        neap_gate_outcome(L, &op->gate, op->err.code == NEAP_E_UNKNOWN ? "unknown" : "failed", NULL, &op->err);
        return neap_pg_op_fail(L, op);
    }
    snprintf(members, sizeof members, "\"rows\":%lld%s", neap_pg_count(op->result), op->stage == STAGE_FATE ? ",\"asked\":true" : "");
    neap_gate_outcome(L, &op->gate, "ok", members, NULL);
    neap_pg_push_done(L, op->result);
    return 1;
}

/* The statement's answer is here, or the connection is gone. */
static int ran(lua_State *L, exec_op *x) {
    pg_op *op = &x->base;
    bool lost = op->err.code && !neap_pg_is_alive(op->h->pg);
    if (lost && x->alone) {                        /* nothing to ask by: no transaction of ours */
        neap_err_close(&op->err);
        neap_err_set(&op->err, NEAP_E_UNKNOWN, "the connection was lost, and nobody can say whether the statement was done");
    } else if (lost) {
        return ask_fate(L, x);
    } else if (!op->err.code && x->bounded && op->stage == STAGE_RUN) {
        long long count = neap_pg_count(op->result);
        if (count <= op->h->max_rows) return neap_pg_op_alive(op) ? commit(L, x) : ask_fate(L, x);
        neap_pg_too_many(op, count);               /* the turn rolls it back */
    }
    return end(L, x);
}

static int exec_deliver(lua_State *L, neap_op *o) {
    exec_op *x = (exec_op *)o;
    pg_op *op = &x->base;
    switch (op->stage) {
    case STAGE_TURN: return begin_xid(L, x);
    case STAGE_XID:
        if (op->err.code || !neap_pg_op_alive(op)) return neap_pg_op_fail(L, op);
        neap_pg_add_evidence(&op->gate.evidence, op->h, x->xid);
        return neap_gate_intend(L, &op->gate);
    case STAGE_FATE:
        neap_pg_inquiry_free(x->inquiry);          /* with its session */
        x->inquiry = NULL;
        return end(L, x);
    default: return ran(L, x);
    }
}

/* Stopped while it ran: mostly the server said how it ended, since stopping waits for its answer. */
static void exec_on_stop(lua_State *L, neap_op *o) {
    exec_op *x = (exec_op *)o;
    pg_op *op = &x->base;
    bool heard = op->stage == STAGE_RUN || op->stage == STAGE_COMMIT;
    bool done = x->committed || (x->alone && op->result);
    bool lost = !neap_pg_is_alive(op->h->pg);
    if (heard && done) neap_gate_outcome(L, &op->gate, "ok", NULL, NULL);
    else if (heard && !lost) neap_gate_outcome(L, &op->gate, "failed", "\"message\":\"stopped; rolled back\"", NULL);
    else neap_gate_outcome(L, &op->gate, "unknown", "\"message\":\"stopped before its end was known\"", NULL);
}

static void exec_cancel(neap_op *o, bool force) {
    exec_op *x = (exec_op *)o;
    if (x->base.stage == STAGE_TURN || x->base.stage == STAGE_FATE) {
        neap_pg_inquiry_free(x->inquiry);
        x->inquiry = NULL;
        if (x->base.stage == STAGE_TURN) neap_pg_turn_wait(x->turn, NULL);
        neap_op_finish(o);
    } else {
        neap_pg_op_cancel(o, force);
    }
}

static void exec_drop(neap_op *o) {
    exec_op *x = (exec_op *)o;
    neap_pg_inquiry_free(x->inquiry);
    free(x->xid);
    free(x->subject);
    neap_pg_op_drop(o);
}

static const neap_op_class exec_class = {"a statement in PostgreSQL", exec_cancel, exec_deliver, exec_drop};

static int enter(lua_State *L, exec_op *x, const char *subject) {
    pg_handle *h = x->base.h;
    neap_primitive primitive = x->base.gate.act.primitive;
    if (!neap_pg_check_write(&x->base)) return neap_pg_op_fail(L, &x->base);
    if (subject) x->base.gate.act.subject = x->subject = neap_strdup(subject);
    x->alone = x->base.parsed.alone;
    x->bounded = h->max_rows > 0 && primitive == NEAP_P_PG_EXEC && !x->alone && neap_pg_changes_rows(&x->base);
    x->base.gate.prepare = exec_prepare;
    x->base.gate.start = exec_start;
    x->base.gate.op.on_stop = exec_on_stop;
    return neap_gate_enter(L, &x->base.gate);
}

int neap_pg_exec(lua_State *L, pg_handle *h, neap_primitive primitive, const char *sql, int first, const char *subject) {
    return enter(L, (exec_op *)neap_pg_op_new(L, sizeof(exec_op), &exec_class, h, primitive, sql, first), subject);
}

int neap_pg_exec_masked(lua_State *L, pg_handle *h, neap_primitive primitive, const char *sql, const char *shown) {
    exec_op *x = (exec_op *)neap_pg_op_new(L, sizeof *x, &exec_class, h, primitive, sql, 0);
    free(x->base.text);
    x->base.gate.act.text = x->base.text = neap_strdup(shown);
    x->base.masked = x->base.params.secret = true;
    return enter(L, x, NULL);
}

/* conn:exec(sql, ...) -> {count=, rows=, tag=} | nil, err. Effect: write. */
static int conn_exec(lua_State *L) {
    return neap_pg_exec(L, neap_pg_check_acting(L, 1), NEAP_P_PG_EXEC, luaL_checkstring(L, 2), 3, NULL);
}

const luaL_Reg neap_pg_write_methods[] = {{"exec", conn_exec}, {NULL, NULL}};
