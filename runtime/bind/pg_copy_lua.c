/* pg_copy_lua.c -- COPY as stream handles (bind/stream_lua.h).
 *
 *   conn:copy_out(sql, options) -> stream    inside the fence: BEGIN … READ ONLY; SELECT 1; COPY; at close the tripwire and ROLLBACK
 *   conn:copy_in(sql) -> stream              BEGIN; its id; intent; COPY; at close COMMIT, or ROLLBACK when the scope ended badly
 *
 * So nothing of a copy into a table is visible before the stream was closed well, and bytes that are missing (`broken`) are never
 * committed. The intent of copy_in stays open until then; a lost answer to its COMMIT is asked about as in pg_write.c. The connection
 * belongs to the stream while it is open.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_write.h"
#include "bind/stream_lua.h"

enum { STAGE_TURN, STAGE_BEGIN, STAGE_COPY };
enum { SELF = 2, HANDLE = 3 };                     /* where the op and the stream's handle are on the stack while opening */

typedef struct copying {
    neap_stream_handle handle;    /* first */
    pg_handle *h;
    pg_turn   *turn;
    pg_op     *opener;            /* whose gate gets the outcome; kept by the user value, as the connection and the turn */
    char      *xid;               /* of copy_in; NULL for copy_out */
    bool       in;
} copying;

typedef struct copy_op {
    pg_op    base;
    pg_turn *turn;
    char    *copy, *xid;          /* the COPY as it is sent */
    neap_stream *stream;
    bool     in;
} copy_op;

/* ---- opening ---- */

static void on_ready(void *arg, neap_stream *stream, const neap_err *err) {
    copy_op *k = arg;
    if (err) neap_pg_op_error(&k->base, err);
    if (stream && k->base.cancelled) neap_stream_free(stream);
    else k->stream = stream;
    neap_op_finish(&k->base.gate.op);
}

static void start_copy(copy_op *k) {
    k->base.stage = STAGE_COPY;
    neap_pg_copy(k->base.h->pg, k->copy, on_ready, k);
}

static void on_fenced(void *arg, PGresult *r, const neap_err *err) {
    copy_op *k = arg;
    (void)r;
    if (err) neap_pg_op_error(&k->base, err);
    if (++k->base.answers < 3) return;
    if (k->base.err.code) neap_op_finish(&k->base.gate.op);
    else start_copy(k);
}

static void fence(pg_op *op) {
    neap_pg_query queries[3] = {neap_pg_plain(neap_pg_fence_begin, false), neap_pg_plain(neap_pg_fence_freeze(op->h), false),
                                neap_pg_plain("SET LOCAL statement_timeout = 0", true)};
    void *args[3] = {op, op, op};
    ((copy_op *)op)->turn->open = true;
    neap_pg_flight(op->h->pg, queries, 3, on_fenced, args);
}

static int out_start(lua_State *L, neap_gate *g) {
    copy_op *k = (copy_op *)g;
    if (!neap_pg_op_alive(&k->base)) return neap_pg_op_fail(L, &k->base);
    if (!neap_list_is_empty(&k->base.h->turns)) {
        neap_err_set(&k->base.err, NEAP_E_BUSY, "rows are being streamed over this connection");
        return neap_pg_op_fail(L, &k->base);
    }
    k->turn = neap_pg_turn_new(L, 1, k->base.h, true);
    k->base.stage = STAGE_BEGIN;
    neap_pg_fence_functions(&k->base, fence);
    return neap_await(L, &g->op);
}

static void on_begun(void *arg, PGresult *r, const neap_err *err) {
    copy_op *k = arg;
    if (err) neap_pg_op_error(&k->base, err);
    if (k->base.answers++ == 0) return;
    if (!err) k->xid = neap_strdup(PQgetvalue(r, 0, 0));
    neap_op_finish(&k->base.gate.op);
}

static int in_begin(lua_State *L, copy_op *k) {
    if (!neap_pg_op_alive(&k->base)) return neap_pg_op_fail(L, &k->base);
    neap_pg_query queries[2] = {neap_pg_plain("BEGIN", false), neap_pg_plain("SELECT pg_current_xact_id()", true)};
    void *args[2] = {k, k};
    k->base.stage = STAGE_BEGIN;
    k->turn->open = true;
    neap_op_rearm(&k->base.gate.op);
    neap_pg_flight(k->base.h->pg, queries, 2, on_begun, args);
    return neap_await(L, &k->base.gate.op);
}

static int in_prepare(lua_State *L, neap_gate *g) {
    copy_op *k = (copy_op *)g;
    k->turn = neap_pg_turn_new(L, 1, k->base.h, true);
    if (neap_pg_turn_has(k->turn)) return in_begin(L, k);
    k->base.stage = STAGE_TURN;
    neap_pg_turn_wait(k->turn, &g->op);
    return neap_await(L, &g->op);
}

static int in_start(lua_State *L, neap_gate *g) {
    copy_op *k = (copy_op *)g;
    if (!neap_pg_op_alive(&k->base)) {
        neap_gate_outcome(L, g, "failed", NULL, &k->base.err);
        return neap_pg_op_fail(L, &k->base);
    }
    neap_op_rearm(&g->op);
    start_copy(k);
    return neap_await(L, &g->op);
}

/* [-0, +1, m] hand everything over to the handle, which was made before anything began. */
static int opened(lua_State *L, copy_op *k) {
    copying *c = lua_touserdata(L, HANDLE);
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, 1), lua_rawseti(L, -2, 1);
    lua_pushvalue(L, SELF), lua_rawseti(L, -2, 2);
    c->turn = neap_pg_turn_move(L, 1, k->turn);
    lua_rawseti(L, -2, 3);
    lua_setiuservalue(L, HANDLE, 1);
    c->h = k->base.h;
    c->opener = &k->base;
    c->in = k->in;
    c->xid = k->xid;
    c->handle.stream = k->stream;
    k->xid = NULL;
    k->stream = NULL;
    lua_pushvalue(L, HANDLE);
    return 1;
}

static int copy_deliver(lua_State *L, neap_op *o) {
    copy_op *k = (copy_op *)o;
    if (k->base.stage == STAGE_TURN) return in_begin(L, k);
    if (k->base.err.code) {
        neap_gate_outcome(L, &k->base.gate, "failed", NULL, &k->base.err);
        return neap_pg_op_fail(L, &k->base);
    }
    if (k->base.stage == STAGE_COPY) return opened(L, k);
    if (!neap_pg_op_alive(&k->base)) return neap_pg_op_fail(L, &k->base);
    neap_pg_add_evidence(&k->base.gate.evidence, k->base.h, k->xid);
    return neap_gate_intend(L, &k->base.gate);
}

static void copy_cancel(neap_op *o, bool force) {
    copy_op *k = (copy_op *)o;
    if (k->base.stage == STAGE_TURN) {
        neap_pg_turn_wait(k->turn, NULL);
        neap_op_finish(o);
        return;
    }
    neap_pg_op_cancel(o, force);
    if (!force && k->base.stage == STAGE_COPY) neap_pg_cancel(k->base.h->pg, NULL, PG_GRACE_MS);
}

/* No row was sent yet, and the turn rolls back. */
static void copy_on_stop(lua_State *L, neap_op *o) {
    copy_op *k = (copy_op *)o;
    neap_stream_free(k->stream);
    k->stream = NULL;
    neap_gate_outcome(L, &k->base.gate, "failed", "\"message\":\"stopped; rolled back\"", NULL);
}

static void copy_drop(neap_op *o) {
    copy_op *k = (copy_op *)o;
    neap_stream_free(k->stream);
    free(k->copy);
    free(k->xid);
    neap_pg_op_drop(o);
}

static const neap_op_class copy_class = {"a COPY", copy_cancel, copy_deliver, copy_drop};

/* ---- closing ---- */

typedef struct close_op {
    pg_op    base;
    copying *c;
    neap_stream *stream;          /* being shut */
    bool     committed, asking;
    neap_pg_inquiry *inquiry;
    neap_pg_fate fate;
} close_op;

static void forget(copying *c) {
    if (c->turn && c->h) neap_pg_turn_end(c->turn);
    c->turn = NULL;
    free(c->xid);
    c->xid = NULL;
}

static void on_out_closed(void *arg, PGresult *r, const neap_err *err) {
    close_op *k = arg;
    bool tripwire = k->base.answers++ == 0;
    if (err) neap_pg_op_error(&k->base, err);
    if (tripwire && !err) neap_pg_check_tripwire(&k->base, r);
    if (tripwire) return;
    k->c->turn->open = false;
    neap_op_finish(&k->base.gate.op);
}

static void on_committed(void *arg, PGresult *r, const neap_err *err) {
    close_op *k = arg;
    if (err) neap_pg_op_error(&k->base, err);
    else k->committed = strcmp(PQcmdStatus(r), "COMMIT") == 0;
    neap_op_finish(&k->base.gate.op);
}

/* The server has confirmed the copy, or says what is wrong with it. */
static void on_shut(void *arg, const neap_err *err) {
    close_op *k = arg;
    pg_handle *h = k->c->h;
    neap_pg_query commit = neap_pg_plain("COMMIT", true);
    neap_stream *stream = k->stream;
    long long rows = h->pg ? neap_pg_copied(h->pg) : 0;
    k->stream = NULL;
    if (err) neap_pg_op_error(&k->base, err);
    else if (h->max_rows > 0 && rows > h->max_rows) neap_pg_too_many(&k->base, rows);
    neap_stream_free(stream);
    if (k->base.err.code || k->base.cancelled) neap_op_finish(&k->base.gate.op);
    else neap_pg_send(h->pg, &commit, on_committed, k);
}

static void on_fate(void *arg, neap_pg_fate fate, const char *reason) {
    close_op *k = arg;
    k->committed = fate == NEAP_PG_COMMITTED;
    neap_err_close(&k->base.err);
    if (fate == NEAP_PG_ABORTED) neap_err_set(&k->base.err, NEAP_E_CLOSED, "the connection was lost; the server says the copy was rolled back");
    else if (!k->committed) neap_err_set(&k->base.err, NEAP_E_UNKNOWN, "the connection was lost, and nobody can say whether the copy was committed: %s", reason);
    neap_op_finish(&k->base.gate.op);
}

static int close_deliver(lua_State *L, neap_op *o) {
    close_op *k = (close_op *)o;
    copying *c = k->c;
    char members[64];
    bool lost = k->base.err.code == NEAP_E_CLOSED || (k->base.err.code && !neap_pg_is_alive(c->h->pg));
    if (c->in && lost && !k->asking) {
        k->asking = true;
        c->turn->open = false;
        neap_op_rearm(o);
        neap_pg_ask_fate(c->h, c->xid, &k->inquiry, on_fate, k);
        return neap_await(L, o);
    }
    if (c->in && k->committed) c->turn->open = false;
    if (c->in && !k->committed && !k->base.err.code) neap_err_set(&k->base.err, NEAP_E_REMOTE, "the server rolled the copy back instead of committing it");
    forget(c);
    if (k->base.err.code) {
        neap_gate_outcome(L, &c->opener->gate, k->base.err.code == NEAP_E_UNKNOWN ? "unknown" : "failed", NULL, &k->base.err);
        return neap_fail(L, &k->base.err);
    }
    snprintf(members, sizeof members, "\"rows\":%lld", c->h->pg ? (long long)neap_pg_copied(c->h->pg) : 0LL);
    neap_gate_outcome(L, &c->opener->gate, "ok", members, NULL);
    lua_pushboolean(L, 1);
    return 1;
}

static void close_cancel(neap_op *o, bool force) {
    close_op *k = (close_op *)o;
    k->base.cancelled = true;
    if (k->asking) {
        neap_pg_inquiry_free(k->inquiry);
        k->inquiry = NULL;
        neap_op_finish(o);
    } else if (force && k->c->h->pg) {
        neap_pg_kill(k->c->h->pg, NEAP_E_CLOSED, "the connection was given up because the server did not answer");
        neap_op_finish(o);
    } else if (k->stream && k->c->h->pg) {
        neap_pg_cancel(k->c->h->pg, NULL, PG_GRACE_MS);
    }
}

static void close_on_stop(lua_State *L, neap_op *o) {
    close_op *k = (close_op *)o;
    bool lost = k->asking || !neap_pg_is_alive(k->c->h->pg);
    if (k->committed) k->c->turn->open = false;
    neap_gate_outcome(L, &k->c->opener->gate, k->committed ? "ok" : lost ? "unknown" : "failed", "\"message\":\"stopped while it ended\"", NULL);
    forget(k->c);
}

static void close_drop(neap_op *o) {
    close_op *k = (close_op *)o;
    neap_pg_inquiry_free(k->inquiry);
    neap_pg_op_drop(o);
}

static const neap_op_class close_class = {"the end of a COPY", close_cancel, close_deliver, close_drop};

static int give_up(lua_State *L, copying *c) {
    neap_stream_handle_close(&c->handle);
    neap_gate_outcome(L, &c->opener->gate, "failed", "\"message\":\"given up; rolled back\"", NULL);
    forget(c);
    lua_pushboolean(L, 1);
    return 1;
}

static int handle_close(lua_State *L, neap_stream_handle *base, bool good) {
    copying *c = (copying *)base;
    bool alive = neap_pg_is_alive(c->h->pg);
    if (c->in ? !good || base->broken || !c->h->pg : !alive) return give_up(L, c);
    close_op *k = (close_op *)neap_pg_op_new(L, sizeof *k, &close_class, c->h, NEAP_P_PG_COPY_IN, "", 0);
    k->c = c;
    k->base.gate.op.on_stop = close_on_stop;
    if (c->in) {
        k->stream = base->stream;
        base->stream = NULL;
        neap_stream_handle_close(base);
        neap_stream_shut(k->stream, on_shut, k);
        return neap_await(L, &k->base.gate.op);
    }
    neap_stream_handle_close(base);
    neap_pg_query queries[2] = {neap_pg_plain(neap_pg_tripwire(c->h), true), neap_pg_plain("ROLLBACK", true)};
    void *args[2] = {k, k};
    neap_pg_flight(c->h->pg, queries, 2, on_out_closed, args);
    return neap_await(L, &k->base.gate.op);
}

static void handle_drop(neap_stream_handle *base) { forget((copying *)base); }

/* ---- the verbs ---- */

static const char *const formats[] = {"text", "csv", "binary", NULL};

/* The COPY around a SELECT; one that is a COPY already goes as it is. */
static char *wrap(const pg_op *op, const char *format, bool header) {
    neap_buf text = NEAP_BUF_INIT;
    if (op->parsed.copy_out) {
        neap_buf_adds(&text, op->sql);
    } else {
        size_t len = strlen(op->sql);
        while (len && strchr("; \t\r\n", op->sql[len - 1])) len--;
        neap_buf_adds(&text, "COPY (\n");
        neap_buf_add(&text, op->sql, len);
        neap_buf_addf(&text, "\n) TO STDOUT (FORMAT %s%s)", format, header ? ", HEADER true" : "");
    }
    return neap_buf_take(&text);
}

/* What is sent must itself be a COPY TO STDOUT that only reads, whatever was wrapped. */
static bool check_out(copy_op *k, const char *format, bool header) {
    neap_sql whole;
    if (!neap_sql_read(&k->base.parsed, k->base.sql, &k->base.err)) return false;
    if (!k->base.parsed.copy_out && !neap_sql_check_read(&k->base.parsed, &k->base.err)) return false;
    k->copy = wrap(&k->base, format, header);
    if (!neap_sql_read(&whole, k->copy, &k->base.err)) return false;
    bool good = whole.statements == 1 && whole.copy_reads;
    neap_sql_close(&whole);
    return good || neap_err_set(&k->base.err, NEAP_E_REFUSED, "this is no COPY to the caller that only reads");
}

static copy_op *new_copy(lua_State *L, pg_handle *h, neap_primitive primitive, const char *sql) {
    copy_op *k = (copy_op *)neap_pg_op_new(L, sizeof *k, &copy_class, h, primitive, sql, 0);
    k->base.gate.op.on_stop = copy_on_stop;
    lua_replace(L, SELF);
    lua_settop(L, SELF);
    copying *c = (copying *)neap_stream_new_handle(L, sizeof *c);
    c->handle.close = handle_close;
    c->handle.drop = handle_drop;
    return k;
}

/* conn:copy_out(sql, {format="text", header=false}) -> stream | nil, err. Effect: read. */
static int copy_out(lua_State *L) {
    pg_handle *h = neap_pg_check_fenced(L, 1);
    const char *sql = luaL_checkstring(L, 2), *format = "text";
    bool header = false;
    lua_settop(L, 3);
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "header");
        header = lua_toboolean(L, -1);
        lua_getfield(L, 3, "format");
        format = formats[luaL_checkoption(L, -1, "text", formats)];
    }
    copy_op *k = new_copy(L, h, NEAP_P_PG_COPY_OUT, sql);
    if (!check_out(k, format, header)) return neap_pg_op_fail(L, &k->base);
    k->base.gate.start = out_start;
    k->base.gate.declared = h->superuser || h->pooled;
    return neap_gate_enter(L, &k->base.gate);
}

/* conn:copy_in(sql) -> stream | nil, err: COPY … FROM STDIN; committed when it is closed well. Effect: write. */
static int copy_in(lua_State *L) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    const char *sql = luaL_checkstring(L, 2);
    lua_settop(L, 2);
    copy_op *k = new_copy(L, h, NEAP_P_PG_COPY_IN, sql);
    k->in = true;
    k->copy = neap_strdup(k->base.sql);
    if (!neap_sql_read(&k->base.parsed, k->base.sql, &k->base.err)) return neap_pg_op_fail(L, &k->base);
    if (k->base.parsed.statements != 1 || !k->base.parsed.copy_in) {
        neap_err_set(&k->base.err, NEAP_E_USAGE, "copy_in takes one COPY … FROM STDIN");
        return neap_pg_op_fail(L, &k->base);
    }
    k->base.gate.prepare = in_prepare;
    k->base.gate.start = in_start;
    return neap_gate_enter(L, &k->base.gate);
}

const luaL_Reg neap_pg_copy_methods[] = {{"copy_out", copy_out}, {"copy_in", copy_in}, {NULL, NULL}};
