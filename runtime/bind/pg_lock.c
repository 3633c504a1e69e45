/* pg_lock.c -- keeping a target for one run: the lock while it lives, the hold when it died in debt.
 *
 * The lock is a session advisory lock on a connection of its own; it goes with the session, so a dead run never keeps it. The hold is
 * what stays: a text under the key that everybody who can connect may read, without a table of ours and without a privilege. Where
 * the role may, it is a setting of the role in this database (ALTER ROLE CURRENT_USER IN DATABASE … SET "neap.hold_<key>");
 * from PostgreSQL 15 on only superusers may set parameters nobody has defined, so for others it is the comment of an empty
 * large object. Both are found by hold_get, whoever made them.
 *
 * These are the engine's own bookkeeping and change nothing that a runbook is about; in a preview nothing is taken or set.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_private.h"

typedef struct key_op {
    pg_op base;
    int   expected;               /* answers to come */
    PGresult *results[2];
    neap_err  errors[2];
    int (*then)(lua_State *L, struct key_op *k);
    char  key[17];
    char *text;                   /* of the hold */
} key_op;

static void on_answer(void *arg, PGresult *r, const neap_err *err) {
    key_op *k = arg;
    int answer = k->base.answers++;
    (void)r;
    if (err) neap_err_set(&k->errors[answer], err->code, "%s", err->message ? err->message : ""), memcpy(k->errors[answer].sqlstate, err->sqlstate, 6);
    else k->results[answer] = neap_pg_keep(k->base.h->pg);
    if (k->base.answers == k->expected) neap_op_finish(&k->base.gate.op);
}

static int key_deliver(lua_State *L, neap_op *o) { return ((key_op *)o)->then(L, (key_op *)o); }

static void key_drop(neap_op *o) {
    key_op *k = (key_op *)o;
    for (int i = 0; i < 2; i++) PQclear(k->results[i]), neap_err_close(&k->errors[i]);
    free(k->text);
    neap_pg_op_drop(o);
}

static const neap_op_class key_class = {"the target's lock", neap_pg_op_cancel, key_deliver, key_drop};

/* Send and wait; `then` builds the answer. */
static int ask(lua_State *L, key_op *k, const neap_pg_query *queries, int count, int (*then)(lua_State *L, key_op *k)) {
    void *args[2] = {k, k};
    if (!neap_pg_op_alive(&k->base)) return neap_fail(L, &k->base.err);
    k->then = then;
    k->expected = count;
    k->base.answers = 0;
    for (int i = 0; i < 2; i++) PQclear(k->results[i]), k->results[i] = NULL, neap_err_close(&k->errors[i]);
    neap_op_rearm(&k->base.gate.op);
    neap_pg_flight(k->base.h->pg, queries, count, on_answer, args);
    return neap_await(L, &k->base.gate.op);
}

static int start_of(lua_State *L, key_op *k, int (*start)(lua_State *L, neap_gate *g)) {
    k->base.gate.start = start;
    if (!neap_pg_op_alive(&k->base)) return neap_fail(L, &k->base.err);
    return neap_gate_enter(L, &k->base.gate);
}

static key_op *new_op(lua_State *L, const char *what) {
    pg_handle *h = neap_pg_check_acting(L, 1);
    const char *key = luaL_checkstring(L, 2);
    luaL_argcheck(L, strlen(key) == 16 && strspn(key, "0123456789abcdef") == 16, 2, "a key has 16 lower-case hex digits");
    key_op *k = (key_op *)neap_pg_op_new(L, sizeof *k, &key_class, h, NEAP_P_PG_LOCK, what, 0);
    strcpy(k->key, key);
    for (int i = 0; i < 2; i++) k->errors[i] = (neap_err)NEAP_ERR_INIT;
    k->base.gate.act.subject = NULL;               /* no preview withholds a lock */
    return k;
}

static bool is_preview(lua_State *L) { return neap_guard_get_mode(neap_host_of(L)->guard) == NEAP_MODE_PLAN; }

static int push_true(lua_State *L) {
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- the lock ---- */

#define OF_THE_KEY " FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted" \
    " AND l.classid::bigint = $1::bigint AND l.objid::bigint = $2::bigint" \
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"

static const char holder_sql[] =
    "SELECT l.pid, a.application_name, a.usename, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
    " coalesce(host(a.client_addr), 'a local socket')" OF_THE_KEY " AND l.pid <> pg_backend_pid()";

typedef struct halves { char high[16], low[16], whole[24]; const char *pair[2], *one[1]; } halves;

static void split_key(const char *key, halves *h) {
    unsigned long long number = strtoull(key, NULL, 16);
    snprintf(h->high, sizeof h->high, "%llu", number >> 32);
    snprintf(h->low, sizeof h->low, "%llu", number & 0xffffffffULL);
    snprintf(h->whole, sizeof h->whole, "%lld", (long long)number);
    h->pair[0] = h->high, h->pair[1] = h->low, h->one[0] = h->whole;
}

static const char *or(const PGresult *r, int column, const char *otherwise) {
    return PQgetisnull(r, 0, column) || !*PQgetvalue(r, 0, column) ? otherwise : PQgetvalue(r, 0, column);
}

static int busy(lua_State *L, key_op *k, const PGresult *holder) {
    neap_err *err = &k->base.err;
    if (PQntuples(holder) == 0) {
        neap_err_set(err, NEAP_E_BUSY, "another session held the lock a moment ago");
    } else {
        neap_err_set(err, NEAP_E_BUSY, "held by %s (role %s, backend %s since %s, from %s)", or(holder, 1, "an unnamed session"),
                     or(holder, 2, "unknown"), or(holder, 0, "?"), or(holder, 3, "an unknown time"), or(holder, 4, "an unknown address"));
    }
    neap_err_hint(err, "Wait until that run has ended, or end its session if nobody is behind it.");
    err->retry = true;
    return neap_fail(L, err);
}

static int lock_then(lua_State *L, key_op *k) {
    for (int i = 0; i < k->expected; i++)
        if (k->errors[i].code) return neap_fail(L, &k->errors[i]);
    if (k->expected == 2 && PQgetvalue(k->results[0], 0, 0)[0] == 't') return push_true(L);
    const PGresult *holder = k->results[k->expected - 1];
    return k->expected == 1 && PQntuples(holder) == 0 ? push_true(L) : busy(L, k, holder);
}

static int lock_start(lua_State *L, neap_gate *g) {
    key_op *k = (key_op *)g;
    halves key;
    split_key(k->key, &key);
    neap_pg_query queries[2] = {{"SELECT pg_try_advisory_lock($1::bigint)", 1, key.one, NULL, NULL, true},
                                {holder_sql, 2, key.pair, NULL, NULL, true}};
    return is_preview(L) ? ask(L, k, queries + 1, 1, lock_then) : ask(L, k, queries, 2, lock_then);
}

/* conn:lock(key) -> true | nil, {code="busy"} naming the holder. In a preview it only looks. Effect: read. */
static int conn_lock(lua_State *L) {
    key_op *k = new_op(L, "lock");
    if (k->base.h->pooled) {
        neap_err_set(&k->base.err, NEAP_E_CONFIG, "a lock does not work through a pooler");
        neap_err_hint(&k->base.err, "Give the inventory a direct connection to the server.");
        return neap_fail(L, &k->base.err);
    }
    return start_of(L, k, lock_start);
}

static int flag_then(lua_State *L, key_op *k) {
    if (k->errors[0].code) return neap_fail(L, &k->errors[0]);
    lua_pushboolean(L, PQgetvalue(k->results[0], 0, 0)[0] == 't');
    return 1;
}

static int locked_start(lua_State *L, neap_gate *g) {
    halves key;
    split_key(((key_op *)g)->key, &key);
    neap_pg_query q = {"SELECT count(*) > 0" OF_THE_KEY " AND l.pid = pg_backend_pid()", 2, key.pair, NULL, NULL, true};
    return ask(L, (key_op *)g, &q, 1, flag_then);
}

/* conn:has_lock(key) -> boolean | nil, err: proved by asking the server. Effect: read. */
static int conn_has_lock(lua_State *L) { return start_of(L, new_op(L, "prove the lock"), locked_start); }

static int unlock_start(lua_State *L, neap_gate *g) {
    halves key;
    split_key(((key_op *)g)->key, &key);
    neap_pg_query q = {"SELECT pg_advisory_unlock($1::bigint)", 1, key.one, NULL, NULL, true};
    return ask(L, (key_op *)g, &q, 1, flag_then);
}

/* conn:unlock(key) -> was it held | nil, err. Effect: read. */
static int conn_unlock(lua_State *L) { return start_of(L, new_op(L, "unlock"), unlock_start); }

/* ---- the hold ---- */

static int done_then(lua_State *L, key_op *k) { return k->errors[0].code ? neap_fail(L, &k->errors[0]) : push_true(L); }

/* Send SQL made by `format` from the database's name, the key and the text, all quoted by libpq. */
static int send_made(lua_State *L, key_op *k, neap_buf *sql, int (*then)(lua_State *L, key_op *k)) {
    neap_pg_query q = neap_pg_plain(sql->data, true);
    int results = 0;
    char *copy = neap_strdup(sql->data);
    neap_buf_close(sql);
    free(k->base.sql);
    k->base.sql = copy;
    q.sql = copy;
    results = ask(L, k, &q, 1, then);
    return results;
}

static void add_quoted(neap_buf *out, PGconn *conn, const char *text, bool name) {
    char *quoted = name ? PQescapeIdentifier(conn, text, strlen(text)) : PQescapeLiteral(conn, text, strlen(text));
    neap_buf_adds(out, quoted ? quoted : name ? "\"\"" : "''");
    PQfreemem(quoted);
}

#define OBJECTS_OF_THE_KEY "FROM pg_description WHERE classoid = 'pg_largeobject'::regclass AND left(description, 27) = 'neap.hold_%s '"

static int set_object(lua_State *L, key_op *k) {
    neap_buf sql = NEAP_BUF_INIT, body = NEAP_BUF_INIT, comment = NEAP_BUF_INIT;
    PGconn *conn = neap_pg_conn(k->base.h->pg);
    neap_buf_addf(&comment, "neap.hold_%s %s", k->key, k->text);
    neap_buf_addf(&body, "BEGIN PERFORM lo_unlink(objoid) " OBJECTS_OF_THE_KEY ";"
                  " EXECUTE format('COMMENT ON LARGE OBJECT %%s IS %%L', lo_create(0), ", k->key);
    add_quoted(&body, conn, comment.data, false);
    neap_buf_adds(&body, "); END");
    neap_buf_adds(&sql, "DO ");
    add_quoted(&sql, conn, body.data, false);
    neap_buf_close(&comment);
    neap_buf_close(&body);
    return send_made(L, k, &sql, done_then);
}

static int set_then(lua_State *L, key_op *k) {
    bool denied = k->errors[0].code && strcmp(k->errors[0].sqlstate, "42501") == 0;
    return denied ? set_object(L, k) : done_then(L, k);
}

static int set_start(lua_State *L, neap_gate *g) {
    key_op *k = (key_op *)g;
    neap_buf sql = NEAP_BUF_INIT;
    PGconn *conn = neap_pg_conn(k->base.h->pg);
    if (is_preview(L)) return push_true(L);
    neap_buf_adds(&sql, "ALTER ROLE CURRENT_USER IN DATABASE ");
    add_quoted(&sql, conn, k->base.h->database, true);
    neap_buf_addf(&sql, " SET \"neap.hold_%s\" = ", k->key);
    add_quoted(&sql, conn, k->text, false);
    return send_made(L, k, &sql, set_then);
}

/* conn:hold_set(key, text) -> true | nil, err. Effect: read (the engine's bookkeeping; nothing in a preview). */
static int conn_hold_set(lua_State *L) {
    const char *text = luaL_checkstring(L, 3);
    key_op *k = new_op(L, "hold");
    k->text = neap_strdup(text);
    return start_of(L, k, set_start);
}

static int get_then(lua_State *L, key_op *k) {
    if (k->errors[0].code) return neap_fail(L, &k->errors[0]);
    const PGresult *r = k->results[0];
    if (PQntuples(r) == 0) return 0;
    lua_pushstring(L, PQgetvalue(r, 0, 0));
    lua_pushstring(L, PQgetvalue(r, 0, 1));
    return 2;
}

static int get_start(lua_State *L, neap_gate *g) {
    key_op *k = (key_op *)g;
    const char *key = k->key;
    neap_pg_query q = {
        "SELECT substr(c, 28), coalesce(r.rolname, '') FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS c"
        " LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND left(c, 27) = 'neap.hold_' || $1::text || '='"
        " UNION ALL SELECT substr(d.description, 28), coalesce(r.rolname, '') FROM pg_description d"
        " LEFT JOIN pg_largeobject_metadata m ON m.oid = d.objoid LEFT JOIN pg_roles r ON r.oid = m.lomowner"
        " WHERE d.classoid = 'pg_largeobject'::regclass AND left(d.description, 27) = 'neap.hold_' || $1::text || ' '",
        1, &key, NULL, NULL, true};
    return ask(L, k, &q, 1, get_then);
}

/* conn:hold_get(key) -> text, role | nothing | nil, err: whoever set it. Effect: read. */
static int conn_hold_get(lua_State *L) { return start_of(L, new_op(L, "ask for a hold"), get_start); }

static int clear_start(lua_State *L, neap_gate *g) {
    key_op *k = (key_op *)g;
    neap_buf sql = NEAP_BUF_INIT, body = NEAP_BUF_INIT;
    if (is_preview(L)) return push_true(L);
    neap_buf_addf(&body, "DECLARE who name; BEGIN"
                  " FOR who IN SELECT r.rolname FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS c JOIN pg_roles r ON r.oid = s.setrole"
                  " WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND left(c, 27) = 'neap.hold_%s=' LOOP"
                  " EXECUTE format('ALTER ROLE %%I IN DATABASE %%I RESET \"neap.hold_%s\"', who, current_database()); END LOOP;"
                  " PERFORM lo_unlink(objoid) " OBJECTS_OF_THE_KEY "; END", k->key, k->key, k->key);
    neap_buf_adds(&sql, "DO ");
    add_quoted(&sql, neap_pg_conn(k->base.h->pg), body.data, false);
    neap_buf_close(&body);
    return send_made(L, k, &sql, done_then);
}

/* conn:hold_clear(key) -> true | nil, err: whoever set it, if the server lets us. Effect: read (see hold_set). */
static int conn_hold_clear(lua_State *L) { return start_of(L, new_op(L, "clear a hold"), clear_start); }

const luaL_Reg neap_pg_lock_methods[] = {{"lock", conn_lock}, {"unlock", conn_unlock}, {"has_lock", conn_has_lock}, {"hold_set", conn_hold_set},
                                         {"hold_get", conn_hold_get}, {"hold_clear", conn_hold_clear}, {NULL, NULL}};
