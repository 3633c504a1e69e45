/* pg_open.c -- opening a connection and learning who answers.
 *
 * Directly behind the connect goes one flight that asks for the identity: system identifier, database, role, version, timeline, whether it is
 * in recovery. Each question has its own Sync, because an older or restricted server may refuse one of them. A pooler is
 * recognised by two backend pids that differ: the one of the handshake and the one that answers.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_handle.h"

static const char identity[] =
    "SELECT current_database(), current_user, current_setting('server_version'), pg_is_in_recovery(),"
    " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), pg_backend_pid(),"
    " (SELECT to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_stat_activity"
    "   WHERE pid = pg_backend_pid()),"
    " host(inet_server_addr()) || ':' || inet_server_port(),"
    " CASE WHEN NOT pg_is_in_recovery() THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END";

static char *text_of(const PGresult *r, int column) {
    return PQgetisnull(r, 0, column) ? NULL : neap_strdup(PQgetvalue(r, 0, column));
}

static void learn(pg_handle *h, const PGresult *r) {
    h->database = text_of(r, 0);
    h->user = text_of(r, 1);
    h->version = text_of(r, 2);
    h->recovery = PQgetvalue(r, 0, 3)[0] == 't';
    h->superuser = PQgetvalue(r, 0, 4)[0] == 't';
    h->pooled = h->where.pooled || atoi(PQgetvalue(r, 0, 5)) != neap_pg_backend(h->pg);
    h->backend_start = text_of(r, 6);
    h->address = text_of(r, 7);
    h->timeline = PQgetisnull(r, 0, 8) ? 0 : atoi(PQgetvalue(r, 0, 8));
}

static void set_subject(pg_handle *h) {
    PGconn *conn = neap_pg_conn(h->pg);
    neap_buf text = NEAP_BUF_INIT;
    if (h->system) neap_buf_addf(&text, "pg:%s/%s", h->system, h->database);
    else neap_buf_addf(&text, "pg:%s:%s/%s", PQhost(conn), PQport(conn), h->database);
    free(h->subject);
    h->subject = neap_buf_take(&text);
    if (h->tunnelled) return;
    free(h->host);
    const char *place = neap_pgurl_get(&h->where, "hostaddr");    /* a name beside an address is only a name */
    if (!place) place = PQhost(conn);
    h->host = place && place[0] != '/' ? neap_strdup(place) : NULL;
}

/* Answers: 0 the check interval (may be refused), 1 the identity, 2 the system identifier (may be refused). */
static void on_answer(void *arg, PGresult *r, const neap_err *err) {
    pg_op *op = arg;
    pg_handle *h = op->h;
    int answer = op->answers++;
    if (answer == 1 && err) neap_pg_op_error(op, err);
    if (answer == 1 && !err) learn(h, r);
    if (answer == 2 && !err) h->system = text_of(r, 0);
    if (answer < 2) return;
    if (err && err->code == NEAP_E_CLOSED) neap_pg_op_error(op, err);
    if (!op->err.code && h->database && neap_pg_is_alive(h->pg)) set_subject(h);
    if (!op->err.code && h->tunnelled) neap_pg_watch_far(h->pg, &h->where, h->application, h->pooled ? NULL : h->backend_start);
    neap_op_finish(&op->gate.op);
}

static void on_connected(void *arg, const neap_err *err) {
    pg_op *op = arg;
    if (err) {
        neap_pg_op_error(op, err);
        neap_op_finish(&op->gate.op);
        return;
    }
    bool notices_death = PQserverVersion(neap_pg_conn(op->h->pg)) >= 140000;
    neap_pg_query queries[3] = {
        neap_pg_plain(notices_death ? "SELECT set_config('client_connection_check_interval', '2s', false)" : "SELECT 1", true),
        neap_pg_plain(identity, true), neap_pg_plain("SELECT system_identifier::text FROM pg_control_system()", true)};
    void *args[3] = {op, op, op};
    neap_pg_flight(op->h->pg, queries, 3, on_answer, args);
}

static int open_start(lua_State *L, neap_gate *g) {
    pg_op *op = (pg_op *)g;
    pg_handle *h = op->h;
    neap_pg_forget_identity(h);
    neap_pg_handle_renew(h);
    neap_pg_connect(h->pg, &h->where, h->application, h->within_ms, on_connected, op);
    return neap_await(L, &g->op);
}

static void open_cancel(neap_op *o, bool force) {
    pg_op *op = (pg_op *)o;
    (void)force;
    neap_pg_kill(op->h->pg, NEAP_E_CANCELLED, "cancelled while connecting");
    neap_op_finish(o);
}

static int open_deliver(lua_State *L, neap_op *o) {
    pg_op *op = (pg_op *)o;
    if (op->err.code) {
        neap_pg *dead = op->h->pg;
        op->h->pg = NULL;
        neap_pg_free(dead);
        return neap_fail(L, &op->err);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static const neap_op_class open_class = {"a connection to PostgreSQL", open_cancel, open_deliver, neap_pg_op_drop};

int neap_pg_open(lua_State *L) {
    pg_handle *h = neap_pg_to_handle(L, 1);
    if (neap_pg_is_alive(h->pg)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (!neap_list_is_empty(&h->turns)) neap_raisef(L, NEAP_E_USAGE, "the connection is in use");
    pg_op *op = neap_pg_op_new(L, sizeof *op, &open_class, h, NEAP_P_PG_CONNECT, "connect", 0);
    op->gate.start = open_start;
    return neap_gate_enter(L, &op->gate);
}

/* ---- the card ---- */

static void set_text(lua_State *L, const char *name, const char *text) {
    if (!text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

/* conn:card() -> {id=, system=, database=, user=, version=, …}: what open learnt. Effect: pure. */
int neap_pg_card(lua_State *L) {
    static const char *const trust[] = {"local", "verified", "encrypted", "plain"};
    pg_handle *h = neap_pg_check_handle(L, 1);
    PGconn *conn = neap_pg_conn(h->pg);
    lua_createtable(L, 0, 16);
    set_text(L, "id", h->subject);
    set_text(L, "system", h->system);
    set_text(L, "database", h->database);
    set_text(L, "user", h->user);
    set_text(L, "version", h->version);
    set_text(L, "address", h->address);
    set_text(L, "backend_start", h->backend_start);
    set_text(L, "host", conn ? PQhost(conn) : NULL);
    set_text(L, "port", conn ? PQport(conn) : NULL);
    set_text(L, "tls", trust[neap_pg_trusted(h->pg)]);
    set_flag(L, "recovery", h->recovery);
    set_flag(L, "superuser", h->superuser);
    set_flag(L, "pooled", h->pooled);
    set_flag(L, "trusted", neap_pg_trusted(h->pg) <= NEAP_PG_VERIFIED);
    lua_pushinteger(L, neap_pg_backend(h->pg));
    lua_setfield(L, -2, "pid");
    if (h->timeline) lua_pushinteger(L, h->timeline), lua_setfield(L, -2, "timeline");
    return 1;
}
