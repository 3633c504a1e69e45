/* pg_read.c -- the read verbs: the shape is said in the call, and the wrong shape is an error that shows the SQL.
 *
 *   value  one row, one column     row  exactly one row     rows  any number     has  is there any row (or, for a
 *   single boolean, is it true)
 */
#include <string.h>

#include "bind/pg_private.h"

enum { SHAPE_VALUE, SHAPE_ROW, SHAPE_ROWS, SHAPE_HAS };

static const char *const expected[] = {"one row with one column", "exactly one row", "rows", "rows"};

static int wrong_shape(lua_State *L, pg_op *op) {
    neap_err_set(&op->err, NEAP_E_INVALID, "expected %s, got %d row%s with %d column%s", expected[op->shape], PQntuples(op->result),
                 PQntuples(op->result) == 1 ? "" : "s", PQnfields(op->result), PQnfields(op->result) == 1 ? "" : "s");
    return neap_pg_op_fail(L, op);
}

/* [-0, +n, m] the answer in the shape asked for. Also for transactions. */
int neap_pg_push_shape(lua_State *L, pg_op *op) {
    const PGresult *r = op->result;
    int rows = PQntuples(r), columns = PQnfields(r);
    switch (op->shape) {
    case SHAPE_VALUE:
        if (rows != 1 || columns != 1) return wrong_shape(L, op);
        neap_pg_push_value(L, r, 0, 0);
        return 1;
    case SHAPE_ROW: {
        if (rows != 1) return wrong_shape(L, op);
        const pg_column *list = neap_pg_push_columns(L, r);
        neap_pg_push_row(L, r, 0, list, lua_gettop(L));
        return 1;
    }
    case SHAPE_HAS:
        if (rows == 1 && columns == 1 && PQftype(r, 0) == 16) lua_pushboolean(L, PQgetvalue(r, 0, 0)[0] == 't');
        else lua_pushboolean(L, rows > 0);
        return 1;
    default: neap_pg_push_rows(L, r); return 1;
    }
}

static int read_deliver(lua_State *L, neap_op *o) {
    pg_op *op = (pg_op *)o;
    if (op->err.code) return neap_pg_op_fail(L, op);
    int results = neap_pg_push_shape(L, op);
    neap_pg_op_done(op);
    return results;
}

static const neap_op_class read_class = {"an answer from PostgreSQL", neap_pg_op_cancel, read_deliver, neap_pg_op_drop};

static int read_start(lua_State *L, neap_gate *g) {
    pg_op *op = (pg_op *)g;
    if (!neap_pg_op_alive(op)) return neap_pg_op_fail(L, op);
    if (!neap_list_is_empty(&op->h->turns)) {      /* inside a cursor's transaction a read would end it */
        neap_err_set(&op->err, NEAP_E_BUSY, "rows are being streamed over this connection");
        return neap_pg_op_fail(L, op);
    }
    neap_pg_fence_start(op);
    return neap_await(L, &g->op);
}

int neap_pg_shape(const char *verb) { return verb[0] == 'v' ? SHAPE_VALUE : verb[0] == 'h' ? SHAPE_HAS : verb[3] ? SHAPE_ROWS : SHAPE_ROW; }

static int read_begin(lua_State *L, int shape) {
    pg_handle *h = neap_pg_check_fenced(L, 1);
    pg_op *op = neap_pg_op_new(L, sizeof *op, &read_class, h, NEAP_P_PG_READ, luaL_checkstring(L, 2), 3);
    op->shape = shape;
    op->gate.start = read_start;
    op->gate.declared = h->superuser || h->pooled;
    if (!neap_pg_fence_parse(op)) return neap_pg_op_fail(L, op);
    return neap_gate_enter(L, &op->gate);
}

/* conn:value(sql, ...) -> the one value | nil, err. Effect: read. */
static int conn_value(lua_State *L) { return read_begin(L, SHAPE_VALUE); }
/* conn:row(sql, ...) -> {column = value} | nil, err. Effect: read. */
static int conn_row(lua_State *L) { return read_begin(L, SHAPE_ROW); }
/* conn:rows(sql, ...) -> list of rows | nil, err. Effect: read. */
static int conn_rows(lua_State *L) { return read_begin(L, SHAPE_ROWS); }
/* conn:has(sql, ...) -> boolean | nil, err. Effect: read. */
static int conn_has(lua_State *L) { return read_begin(L, SHAPE_HAS); }

const luaL_Reg neap_pg_read_methods[] = {{"value", conn_value}, {"row", conn_row}, {"rows", conn_rows}, {"has", conn_has}, {NULL, NULL}};
