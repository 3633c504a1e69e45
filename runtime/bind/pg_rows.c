/* pg_rows.c -- conn:each: rows of any number in constant memory.
 *
 *   fence: BEGIN; SELECT 1; DECLARE c CURSOR; FETCH 1000      one flight
 *   then, as soon as a chunk is handed to Lua, the next FETCH is already on its way
 *   a short chunk is the last: tripwire and ROLLBACK follow it, and the end is reported only when both are answered
 *   on a connection that `keeps`, the transaction stays until the rows are closed: an exported snapshot is to be used meanwhile
 *
 * Chunks beat single rows once Lua consumes them: the server fills the next one meanwhile. The cursor
 * lives in C memory of its own, because the FETCH under way may outlive the userdata; the last of the two frees it.
 * The connection belongs to the stream until it is closed: it holds the connection's turn.
 *
 * What a loop calls for each row is a C function with the rows and their columns' names at hand (rows:iterator): a Lua function
 * around it, and looking both up again for each row, was a quarter of the time of reading rows (measured). It raises, because a
 * loop looks at no second result.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_private.h"
#include "script/function.h"

#define ROWS_META "neap.pg.rows"

/* Two of them are in memory; larger ones are no faster. */
enum { CHUNK = 1000 };
static const char fetch_sql[] = "FETCH 1000 FROM neap_each";

typedef struct cursor {
    pg_handle *h;                 /* NULL once Lua has let go */
    neap_op   *waiter;
    pg_turn   *turn;
    PGresult  *chunk, *next;      /* being consumed; arrived */
    int        row, rows;
    const pg_column *columns;     /* kept by the rows' userdata */
    int        outstanding, answers;
    bool       last, ended;       /* the chunk that came was short; the tail is answered */
    bool       raises;            /* an error is raised: its reader is a loop */
    neap_err   err;
} cursor;

/* User values of the rows' userdata. */
enum { HANDLE_VALUE = 1, TURN_VALUE, NAMES_VALUE, COLUMNS_VALUE };

typedef struct pg_rows { cursor *c; } pg_rows;

static void wake(cursor *c) {
    neap_op *waiter = c->waiter;
    c->waiter = NULL;
    if (waiter) neap_op_finish(waiter);
}

static void cursor_free(cursor *c) {
    PQclear(c->chunk);
    PQclear(c->next);
    neap_err_close(&c->err);
    free(c);
}

/* One answer less to come. True when Lua has let go: the last answer frees. */
static bool settle(cursor *c) {
    c->outstanding--;
    if (c->h) return false;
    if (c->outstanding == 0) cursor_free(c);
    return true;
}

/* Lua lets go: stop what is fetched, roll back, leave the connection to others. Does not wait. */
static void let_go(pg_rows *rows) {
    cursor *c = rows->c;
    rows->c = NULL;
    if (!c) return;
    if (c->outstanding > 0 && c->h->pg) neap_pg_cancel(c->h->pg, c, PG_GRACE_MS);
    if (c->turn) neap_pg_turn_end(c->turn);
    c->h = NULL;
    c->waiter = NULL;
    if (c->outstanding == 0) cursor_free(c);
}

static void on_tail(void *arg, PGresult *r, const neap_err *err) {
    cursor *c = arg;
    bool tripwire = c->answers++ == 0;
    bool cared = c->h != NULL;
    if (cared) neap_err_keep(&c->err, err);
    if (cared && tripwire && !err && !PQgetisnull(r, 0, 0) && !c->err.code)
        neap_err_set(&c->err, NEAP_E_REFUSED, "the statement was no read: it took a transaction id, and was rolled back");
    if (settle(c) || tripwire) return;
    c->ended = true;
    c->turn->open = false;
    wake(c);
}

static void send_tail(cursor *c) {
    neap_pg_query queries[2] = {neap_pg_plain(neap_pg_tripwire(c->h), true), neap_pg_plain("ROLLBACK", true)};
    void *args[2] = {c, c};
    c->outstanding += 2;
    c->answers = 0;
    neap_pg_flight(c->h->pg, queries, 2, on_tail, args);
}

/* A chunk, or why there is none. */
static void on_chunk(void *arg, PGresult *r, const neap_err *err) {
    cursor *c = arg;
    if (c->h && err) neap_err_keep(&c->err, err);
    if (c->h && !err) c->next = neap_pg_keep(c->h->pg), c->last = PQntuples(r) < CHUNK;
    if (settle(c)) return;
    if (c->last && !c->err.code && c->h->keeps) c->ended = true;
    else if ((c->last || c->err.code) && neap_pg_is_alive(c->h->pg)) send_tail(c);
    else if (c->err.code) c->ended = true;
    if (c->next || c->ended) wake(c);
}

static void fetch(cursor *c) {
    neap_pg_query q = neap_pg_plain(fetch_sql, true);
    c->outstanding++;
    neap_pg_send(c->h->pg, &q, on_chunk, c);
}

/* ---- opening ---- */

typedef struct each_op { pg_op base; pg_rows *rows; } each_op;

static void on_open(void *arg, PGresult *r, const neap_err *err) {
    cursor *c = arg;
    int answer = c->answers++;
    if (answer == 3) {                             /* the first FETCH */
        on_chunk(c, r, err);
        return;
    }
    if (c->h) neap_err_keep(&c->err, err);
    settle(c);
}

static void fly(pg_op *op) {
    each_op *e = (each_op *)op;
    cursor *c = e->rows->c;
    const pg_params *p = &op->params;
    neap_buf declare = NEAP_BUF_INIT;
    neap_buf_addf(&declare, "DECLARE neap_each NO SCROLL CURSOR FOR\n%s", op->sql);
    neap_pg_query queries[4] = {
        neap_pg_plain(neap_pg_fence_begin, false), neap_pg_plain(neap_pg_fence_freeze(op->h), false),
        {declare.data, p->count, (const char *const *)p->values, p->lengths, p->formats, false}, neap_pg_plain(fetch_sql, true)};
    void *args[4] = {c, c, c, c};
    c->outstanding = 4;
    c->turn->open = true;
    c->waiter = &op->gate.op;
    neap_pg_flight(op->h->pg, queries, 4, on_open, args);
    neap_buf_close(&declare);
}

static void each_cancel(neap_op *o, bool force) {
    each_op *e = (each_op *)o;
    if (e->rows->c->outstanding == 0) {
        neap_pg_op_cancel(o, force);               /* still looking functions up */
    } else if (force) {
        neap_pg_kill(e->base.h->pg, NEAP_E_CLOSED, "the connection was given up because the server did not stop the statement");
        neap_op_finish(o);
    } else {
        neap_pg_cancel(e->base.h->pg, e->rows->c, PG_GRACE_MS);
    }
}

/* The rows' userdata is below the op: conn_each put it there. */
static int each_deliver(lua_State *L, neap_op *o) {
    each_op *e = (each_op *)o;
    cursor *c = e->rows->c;
    if (c->err.code && !e->base.err.code) neap_err_move(&e->base.err, &c->err);
    if (!e->base.err.code) {
        lua_settop(L, lua_gettop(L) - 1);
        return 1;
    }
    let_go(e->rows);
    return neap_pg_op_fail(L, &e->base);
}

static const neap_op_class each_class = {"rows from PostgreSQL", each_cancel, each_deliver, neap_pg_op_drop};

static void each_on_stop(lua_State *L, neap_op *o) {
    (void)L;
    let_go(((each_op *)o)->rows);
}

static int each_start(lua_State *L, neap_gate *g) {
    each_op *e = (each_op *)g;
    if (!neap_pg_op_alive(&e->base)) return neap_pg_op_fail(L, &e->base);
    e->rows->c->turn = neap_pg_turn_new(L, 1, e->base.h, false);
    lua_setiuservalue(L, -3, TURN_VALUE);
    neap_pg_fence_functions(&e->base, fly);
    return neap_await(L, &g->op);
}

static bool check_cursor(pg_op *op) {
    static const char *const kinds[] = {"select", "values", "table", NULL};
    if (!neap_pg_fence_parse(op)) return false;
    for (const char *const *k = kinds; *k; k++)
        if (strncmp(op->parsed.kind, *k, strlen(*k)) == 0) return true;
    return neap_err_set(&op->err, NEAP_E_USAGE, "each streams a SELECT, not \"%s\"", op->parsed.kind);
}

/* conn:each(sql, ...) -> rows (call it for the next one; <close>) | nil, err. Effect: read. */
static int conn_each(lua_State *L) {
    pg_handle *h = neap_pg_check_fenced(L, 1);
    const char *sql = luaL_checkstring(L, 2);
    if (!neap_list_is_empty(&h->turns)) neap_raisef(L, NEAP_E_BUSY, "rows are being streamed over this connection");
    each_op *e = (each_op *)neap_pg_op_new(L, sizeof *e, &each_class, h, NEAP_P_PG_READ, sql, 3);
    if (!check_cursor(&e->base)) return neap_pg_op_fail(L, &e->base);
    pg_rows *rows = lua_newuserdatauv(L, sizeof *rows, COLUMNS_VALUE);
    rows->c = neap_zalloc(sizeof *rows->c);
    luaL_setmetatable(L, ROWS_META);
    rows->c->h = h;
    rows->c->err = (neap_err)NEAP_ERR_INIT;
    lua_pushvalue(L, 1), lua_setiuservalue(L, -2, HANDLE_VALUE);
    lua_insert(L, -2);                             /* rows, op */
    e->rows = rows;
    e->base.gate.op.on_stop = each_on_stop;
    e->base.gate.start = each_start;
    e->base.gate.declared = h->superuser || h->pooled;
    return neap_gate_enter(L, &e->base.gate);
}

/* ---- consuming ---- */

/* [-0, +0, m] keep what is known of the columns in the userdata, so that rows share the names' strings. */
static void keep_columns(lua_State *L, int index, cursor *c) {
    c->columns = neap_pg_push_columns(L, c->chunk);
    lua_setiuservalue(L, index, NAMES_VALUE);
    lua_setiuservalue(L, index, COLUMNS_VALUE);
}

typedef struct next_op { neap_op op; cursor *c; } next_op;

static int next_row(lua_State *L, cursor *c);

static int next_deliver(lua_State *L, neap_op *o) { return next_row(L, ((next_op *)o)->c); }

static void next_cancel(neap_op *o, bool force) {
    cursor *c = ((next_op *)o)->c;
    if (force) neap_pg_kill(c->h->pg, NEAP_E_CLOSED, "the connection was given up because the server did not stop the statement");
    else neap_pg_cancel(c->h->pg, c, PG_GRACE_MS);
    if (force || !neap_pg_is_alive(c->h->pg)) neap_op_finish(o);
}

static const neap_op_class next_class = {"rows from PostgreSQL", next_cancel, next_deliver, NULL};

static int finish_rows(lua_State *L, cursor *c) {
    neap_pg_turn_end(c->turn);
    if (c->err.code) return c->raises ? neap_raise(L, &c->err) : neap_fail(L, &c->err);
    lua_pushnil(L);
    return 1;
}

/* [-0, +1, m] the rows are at index 1, the names of the columns at `names`. */
static int push_next(lua_State *L, cursor *c, int names) {
    neap_pg_push_row(L, c->chunk, c->row++, c->columns, names);
    return 1;
}

static int next_row(lua_State *L, cursor *c) {
    if (!c->next && c->row >= c->rows) {
        if (!c->ended && !c->outstanding) {        /* the connection went while nothing was asked: nobody would wake us */
            c->ended = true;
            neap_err_set(&c->err, NEAP_E_CLOSED, "the connection to \"%s\" was lost before the last row", c->h->role);
            c->err.retry = true;
        }
        if (c->ended) return finish_rows(L, c);
        next_op *n = (next_op *)neap_op_new(L, sizeof *n, &next_class);
        n->c = c;
        c->waiter = &n->op;
        return neap_await(L, &n->op);
    }
    if (c->row >= c->rows) {
        bool first = !c->chunk;
        PQclear(c->chunk);
        c->chunk = c->next;
        c->next = NULL;
        c->row = 0;
        c->rows = PQntuples(c->chunk);
        if (first) keep_columns(L, 1, c);
        if (!c->last && neap_pg_is_alive(c->h->pg)) fetch(c);
        if (c->rows == 0) return next_row(L, c);
    }
    lua_getiuservalue(L, 1, NAMES_VALUE);
    return push_next(L, c, lua_gettop(L));
}

static cursor *check_idle(lua_State *L, pg_rows *rows) {
    if (rows->c && rows->c->waiter) neap_raisef(L, NEAP_E_USAGE, "another task waits for the next row");
    return rows->c;
}

/* rows() -> the next row | nil at the end | nil, err. Effect: read. */
static int rows_call(lua_State *L) {
    pg_rows *rows = luaL_checkudata(L, 1, ROWS_META);
    lua_settop(L, 1);
    return check_idle(L, rows) ? next_row(L, rows->c) : 0;
}

/* The usual row is at hand; all else is next_row's. */
static int iterate(lua_State *L) {
    pg_rows *rows = lua_touserdata(L, lua_upvalueindex(1));
    cursor *c = rows->c;
    if (c && !c->waiter && c->row > 0 && c->row < c->rows) {
        lua_settop(L, 0);
        lua_getiuservalue(L, lua_upvalueindex(1), NAMES_VALUE);
        return push_next(L, c, 1);
    }
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    return check_idle(L, rows) ? next_row(L, c) : 0;
}

/* rows:iterator() -> function for a loop: the next row, nil at the end; raises. Effect: read. */
static int rows_iterator(lua_State *L) {
    pg_rows *rows = luaL_checkudata(L, 1, ROWS_META);
    if (rows->c) rows->c->raises = true;
    lua_settop(L, 1);
    neap_function_push(L, "pg.rows.next", iterate, 1);
    return 1;
}

/* rows:close(), __close, __gc. Effect: pure. */
static int rows_close(lua_State *L) {
    pg_rows *rows = luaL_checkudata(L, 1, ROWS_META);
    check_idle(L, rows);
    let_go(rows);
    return 0;
}

static const luaL_Reg methods[] = {{"close", rows_close}, {"iterator", rows_iterator}, {NULL, NULL}};
const luaL_Reg neap_pg_rows_methods[] = {{"each", conn_each}, {NULL, NULL}};

void neap_pg_open_rows(lua_State *L) {
    static const luaL_Reg meta[] = {{"__gc", rows_close}, {"__close", rows_close}, {"__call", rows_call}, {NULL, NULL}};
    luaL_newmetatable(L, ROWS_META);
    neap_function_set(L, "pg.rows:", meta, 0);
    neap_function_table(L, "pg.rows:", methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
