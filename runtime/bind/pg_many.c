/* pg_many.c -- one statement many times: tx:exec_many(sql, { { 1, "a" }, { 2, "b" } }).
 *
 * Sent ahead in pipeline mode, so that many small writes cost one round trip for every SLICE of them instead of one each: a fifth
 * of the time and less on a local socket, and a hundredth across a network. One intent stands for all of them, since they
 * share the transaction that makes them all or none; a statement that fails ends it, and what was sent behind is not run.
 *
 * Every parameter is read before anything is sent: a wrong one in the last row must not be found when the first is done.
 *
 * Rejected: one INSERT with a thousand rows of parameters, which is faster still, because only an INSERT can be written that way
 * and what the server then says of a wrong row names none. */
#include <limits.h>
#include <stdlib.h>

#include "bind/pg_tx.h"
#include "bind/pg_write.h"

enum { SLICE = 250 };

typedef struct many_op {
    pg_op base;
    pg_tx *tx;                    /* NULL in a preview */
    pg_params *list;
    int count, sent, answered;
    long long changed;
} many_op;

static void on_one(void *arg, PGresult *r, const neap_err *err) {
    many_op *m = arg;
    pg_op *op = &m->base;
    bool first = err && !op->err.code;
    if (err) neap_pg_op_error(op, err);
    else m->changed += neap_pg_count(r);
    m->answered++;
    if (first) neap_err_hint(&op->err, "%s%sIt was row %d of %d.", err->hint ? err->hint : "", err->hint ? " " : "", m->answered, m->count);
    if (m->answered == m->sent) neap_op_finish(&op->gate.op);
}

static int send_slice(lua_State *L, many_op *m) {
    pg_op *op = &m->base;
    neap_pg_query queries[SLICE];
    void *args[SLICE];
    int n = m->count - m->sent < SLICE ? m->count - m->sent : SLICE;
    for (int i = 0; i < n; i++) {
        const pg_params *p = &m->list[m->sent + i];
        queries[i] = (neap_pg_query){op->sql, p->count, (const char *const *)p->values, p->lengths, p->formats, false};
        args[i] = m;
    }
    m->sent += n;
    neap_op_rearm(&op->gate.op);
    neap_pg_flight(op->h->pg, queries, n, on_one, args);
    return neap_await(L, &op->gate.op);
}

static int many_start(lua_State *L, neap_gate *g) {
    many_op *m = (many_op *)g;
    if (m->count > 0 && neap_pg_op_alive(&m->base)) return send_slice(L, m);
    neap_op_finish(&g->op);
    return neap_await(L, &g->op);
}

static int many_fail(lua_State *L, many_op *m) {
    m->tx->failed = true;
    neap_gate_outcome(L, &m->base.gate, "failed", NULL, &m->base.err);
    return neap_pg_op_fail(L, &m->base);
}

static int many_deliver(lua_State *L, neap_op *o) {
    many_op *m = (many_op *)o;
    pg_op *op = &m->base;
    char members[48];
    long long changed = m->tx->changed + m->changed;
    if (!op->err.code && op->h->max_rows > 0 && neap_pg_changes_rows(op) && changed > op->h->max_rows) neap_pg_too_many(op, changed);
    if (op->err.code || !neap_pg_op_alive(op)) return many_fail(L, m);
    if (m->sent < m->count) return send_slice(L, m);
    m->tx->changed = changed;
    snprintf(members, sizeof members, "\"rows\":%lld", m->changed);
    neap_gate_outcome(L, &op->gate, "ok", members, NULL);
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, m->changed);
    lua_setfield(L, -2, "count");
    return 1;
}

/* Stopped: whatever was done goes with the transaction, which can only be rolled back now. */
static void many_on_stop(lua_State *L, neap_op *o) {
    many_op *m = (many_op *)o;
    m->tx->failed = true;
    neap_gate_outcome(L, &m->base.gate, "failed", "\"message\":\"stopped\"", NULL);
}

static void many_drop(neap_op *o) {
    many_op *m = (many_op *)o;
    for (int i = 0; i < m->count; i++) neap_pg_params_close(&m->list[i]);
    free(m->list);
    neap_pg_op_drop(o);
}

static const neap_op_class many_class = {"statements in PostgreSQL", neap_pg_op_cancel, many_deliver, many_drop};

/* [-0, +0, e] how many parameters: those of table.pack say it themselves, for the sake of a nil at the end. */
static lua_Integer width_of(lua_State *L, int index) {
    lua_Integer n = lua_getfield(L, index, "n") == LUA_TNUMBER ? lua_tointeger(L, -1) : luaL_len(L, index);
    lua_pop(L, 1);
    luaL_argcheck(L, n >= 0 && n <= 65535, 3, "more parameters than PostgreSQL takes");
    return n;
}

/* [-0, +0, e] the list at index 3, each a list of parameters. */
static void read_list(lua_State *L, many_op *m) {
    lua_Integer rows = luaL_len(L, 3);
    luaL_argcheck(L, rows <= INT_MAX / 2, 3, "too many rows");
    m->list = rows ? neap_zalloc(sizeof *m->list * (size_t)rows) : NULL;
    for (int row = 0; row < rows; row++) {
        int below = lua_gettop(L);
        if (lua_geti(L, 3, row + 1) != LUA_TTABLE) neap_raisef(L, NEAP_E_USAGE, "row %d is a %s, not a list of parameters", row + 1, luaL_typename(L, -1));
        int columns = (int)width_of(L, below + 1);
        luaL_checkstack(L, columns + 4, "parameters");
        for (int i = 1; i <= columns; i++) lua_geti(L, below + 1, i);
        pg_params *p = &m->list[m->count++];           /* the op's before it is read: a value that is none raises in the middle */
        neap_pg_check_params(L, below + 2, lua_gettop(L), p);
        m->base.params.secret |= p->secret;
        if (row == 0) neap_buf_adds(&m->base.params.shown, p->shown.data ? p->shown.data : "");
        neap_buf_close(&p->shown);
        lua_settop(L, below);
    }
}

static void write_text(many_op *m) {
    neap_buf text = NEAP_BUF_INIT;
    neap_buf_addf(&text, "%s  -- %d time%s", m->base.sql, m->count, m->count == 1 ? "" : "s");
    if (m->base.params.shown.len) neap_buf_addf(&text, ", first with %s", m->base.params.shown.data);
    free(m->base.text);
    m->base.text = neap_buf_take(&text);
    m->base.gate.act.text = m->base.text;
}

/* tx:exec_many(sql, list) -> {count=} | nil, err. On a connection it is only shown (a preview has no transaction). Effect: write. */
int neap_pg_exec_many(lua_State *L) {
    bool preview = neap_guard_get_mode(neap_host_of(L)->guard) == NEAP_MODE_PLAN;
    pg_tx *tx = preview ? NULL : neap_pg_check_tx(L);
    pg_handle *h = preview ? neap_pg_check_acting(L, 1) : tx->h;
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    many_op *m = (many_op *)neap_pg_op_new(L, sizeof *m, &many_class, h, NEAP_P_PG_EXEC, luaL_checkstring(L, 2), 0);
    m->tx = tx;
    read_list(L, m);
    if (!preview) tx->secret |= m->base.params.secret;
    write_text(m);
    if (!neap_pg_check_write(&m->base)) return neap_pg_op_fail(L, &m->base);
    if (m->base.parsed.alone) {
        neap_err_set(&m->base.err, NEAP_E_USAGE, "\"%s\" cannot be part of a transaction", m->base.parsed.kind);
        return neap_pg_op_fail(L, &m->base);
    }
    m->base.gate.start = many_start;
    m->base.gate.op.on_stop = many_on_stop;
    if (!preview) neap_pg_add_evidence(&m->base.gate.evidence, h, tx->xid);
    return neap_gate_enter(L, &m->base.gate);
}
