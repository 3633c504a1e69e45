/* pg_handle.c -- the handle and the op that every request of it is made from.
 *
 * A handle is userdata that owns a driver connection; it stays valid, closed, when the connection is lost. An op (pg_op) is one
 * request of one task: it owns the statement, its parameters, the answer and the error, all freed by its finalizer, so
 * nothing is leaked when Lua raises. While it waits the driver holds pointers to it; cancelling ends with the driver having let go.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_handle.h"

#define HANDLE_META "neap.pg"

static void on_notice(void *arg, const char *severity, const char *message) {
    pg_handle *h = arg;
    if (h->notice_count == PG_NOTICES) return;     /* a chatty function must not fill the memory; the first ones tell, and each by its beginning */
    size_t len = strlen(message), most = len;
    if (len > PG_NOTICE_BYTES)
        for (most = PG_NOTICE_BYTES; most > 0 && ((unsigned char)message[most] & 0xc0) == 0x80; most--) {}
    neap_buf text = NEAP_BUF_INIT;
    neap_buf_add(&text, message, most);
    if (most < len) neap_buf_addf(&text, " … (%zu bytes in all)", len);
    h->notices[h->notice_count].severity = neap_strdup(severity);
    h->notices[h->notice_count++].message = neap_buf_take(&text);
}

pg_handle *neap_pg_handle_new(lua_State *L) {
    pg_handle *h = lua_newuserdatauv(L, sizeof *h, 1);
    memset(h, 0, sizeof *h);
    h->loop = neap_host_of(L)->loop;
    neap_list_init(&h->turns);
    luaL_setmetatable(L, HANDLE_META);
    return h;
}

void neap_pg_handle_renew(pg_handle *h) {
    neap_pg_free(h->pg);
    h->pg = neap_pg_new(h->loop);
    neap_pg_on_notice(h->pg, on_notice, h);
}

void neap_pg_forget_identity(pg_handle *h) {
    char **const texts[] = {&h->system, &h->database, &h->user, &h->version, &h->backend_start, &h->address};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(*texts[i]), *texts[i] = NULL;
    for (int i = 0; i < h->function_count; i++) free(h->functions[i]);
    free(h->functions);
    h->functions = NULL;
    h->function_count = 0;
}

void neap_pg_clear_notices(pg_handle *h) {
    for (int i = 0; i < h->notice_count; i++) free(h->notices[i].severity), free(h->notices[i].message);
    h->notice_count = 0;
}

/* Whoever still waits is told by the driver; who the server was, and where, they still need: that goes with the handle. */
int neap_pg_handle_close(lua_State *L) {
    pg_handle *h = luaL_checkudata(L, 1, HANDLE_META);
    neap_pg *pg = h->pg;
    h->pg = NULL;
    neap_pg_free(pg);
    return 0;
}

int neap_pg_handle_gc(lua_State *L) {
    pg_handle *h = luaL_checkudata(L, 1, HANDLE_META);
    neap_pg_handle_close(L);
    neap_pg_clear_notices(h);
    neap_pg_forget_identity(h);
    neap_pgurl_close(&h->where);
    memset(&h->where, 0, sizeof h->where);
    char **const texts[] = {&h->role, &h->application, &h->host, &h->subject, &h->snapshot, &h->given_options};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(*texts[i]), *texts[i] = NULL;
    return 0;
}

pg_handle *neap_pg_to_handle(lua_State *L, int index) { return luaL_checkudata(L, index, HANDLE_META); }

pg_handle *neap_pg_check_handle(lua_State *L, int index) {
    pg_handle *h = luaL_checkudata(L, index, HANDLE_META);
    if (!h->pg) neap_raisef(L, NEAP_E_USAGE, "the connection is closed");
    return h;
}

pg_handle *neap_pg_check_fenced(lua_State *L, int index) {
    pg_handle *h = neap_pg_check_handle(L, index);
    if (!h->fenced) neap_raisef(L, NEAP_E_USAGE, "this connection is for writes; reads go over a fenced one");
    return h;
}

/* In a preview an acting connection need not be open: nothing is sent, only shown. */
pg_handle *neap_pg_check_acting(lua_State *L, int index) {
    bool preview = neap_guard_get_mode(neap_host_of(L)->guard) == NEAP_MODE_PLAN;
    pg_handle *h = preview ? neap_pg_to_handle(L, index) : neap_pg_check_handle(L, index);
    if (h->fenced) neap_raisef(L, NEAP_E_USAGE, "this connection is fenced: it only reads");
    return h;
}

/* ---- ops ---- */

neap_pg_query neap_pg_plain(const char *sql, bool sync) { return (neap_pg_query){sql, 0, NULL, NULL, NULL, sync}; }

pg_op *neap_pg_op_new(lua_State *L, size_t size, const neap_op_class *class, pg_handle *h, neap_primitive primitive,
                      const char *sql, int first) {
    int last = lua_gettop(L);
    pg_op *op = (pg_op *)neap_op_new(L, size, class);
    op->h = h;
    op->err = (neap_err)NEAP_ERR_INIT;
    op->sql = neap_strdup(sql);
    if (first > 0) neap_pg_check_params(L, first, last, &op->params);
    neap_buf text = NEAP_BUF_INIT;
    neap_buf_adds(&text, sql);
    if (op->params.count) neap_buf_addf(&text, "  -- %s", op->params.shown.data);
    op->text = neap_buf_take(&text);
    op->gate.act = (neap_act){primitive, h->role, h->host, h->subject, op->text, NULL};
    return op;
}

void neap_pg_op_done(pg_op *op) {
    PQclear(op->result);
    op->result = NULL;
}

void neap_pg_op_drop(neap_op *o) {
    pg_op *op = (pg_op *)o;
    free(op->sql);
    free(op->text);
    neap_pg_params_close(&op->params);
    neap_sql_close(&op->parsed);
    if (op->result) PQclear(op->result);           /* (libpq need not be loaded for nothing) */
    neap_err_close(&op->err);
    neap_buf_close(&op->gate.evidence);
}

void neap_pg_op_cancel(neap_op *o, bool force) {
    pg_op *op = (pg_op *)o;
    op->cancelled = true;
    if (!op->h->pg) neap_op_finish(o);
    else if (force) neap_pg_kill(op->h->pg, NEAP_E_CLOSED, "the connection was given up because the server did not stop the statement");
    else neap_pg_cancel(op->h->pg, op, PG_GRACE_MS);
    if (force) neap_op_finish(o);
}

/* The server quotes values: in the detail behind the first ": " ("Key (token)=(…)"), and for class 22 in the message itself. */
static void leave_values_out(neap_err *kept, const neap_err *err) {
    bool quotes = strncmp(err->sqlstate, "22", 2) == 0;
    free(kept->message);
    kept->message = quotes ? neap_strdup("the server refused a value; its words are kept back, because they may quote a parameter that is a secret")
                           : neap_strndup(err->message, strcspn(err->message, ":"));
}

void neap_pg_op_error(pg_op *op, const neap_err *err) {
    if (op->err.code || !err) return;
    neap_err_copy(&op->err, err);
    if (op->params.secret && *err->sqlstate && err->message) leave_values_out(&op->err, err);
}

bool neap_pg_op_alive(pg_op *op) {
    if (neap_pg_is_alive(op->h->pg)) return true;
    if (!op->err.code) neap_err_set(&op->err, NEAP_E_CLOSED, "the connection to \"%s\" was lost", op->h->role);
    op->err.retry = true;
    return false;
}

int neap_pg_op_fail(lua_State *L, pg_op *op) {
    neap_buf hint = NEAP_BUF_INIT;
    const char *sql = op->masked ? op->text : op->sql;
    if (sql && *sql && strlen(sql) < 2000) {
        if (op->err.hint) neap_buf_addf(&hint, "%s ", op->err.hint);
        neap_buf_addf(&hint, "The statement was: %s", sql);
        free(op->err.hint);
        op->err.hint = neap_buf_take(&hint);
    }
    return neap_fail(L, &op->err);
}
