/* pg_fence.c -- the six parts around every read (all six, always, one fence per call).
 *
 *   1 parse       the server's own grammar says: one statement that reads (guard/sql.h)
 *   2 functions   every function called is looked up in pg_proc: all its overloads immutable or stable, or vetted by name
 *   3 session     a connection of its own whose sessions are read-only, with lock, statement and idle timeouts;
 *                 BEGIN … REPEATABLE READ READ ONLY; SELECT 1, or SET TRANSACTION SNAPSHOT to see what another transaction
 *                 sees (after either the mode can no longer be changed)
 *   4 role        what the inventory gives for previews; a superuser's reads are labelled declared
 *   5 standby     chosen above (stdlib/client/postgres.lua)
 *   6 tripwire    the transaction must not have taken an id; always rolled back, in the same flight, behind a Sync of its own
 *
 * The flight is one write and one round trip; the look-up costs one more the first time a function is seen on a
 * connection. Names are looked up without regard to search_path: any overload anywhere counts. Some stable functions take SQL as
 * text or take a transaction id; they are refused by name.
 *
 * A cancel meant for a neighbour may hit the look-up or the flight (pg_cancel.c): it is then repeated. Once is enough for a cancel that nobody
 * here has sent, so that an operator's second one is obeyed; each further time needs a cancel of ours since it was sent.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_private.h"

const char neap_pg_fence_begin[] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const char *neap_pg_fence_freeze(const pg_handle *h) { return h->snapshot ? h->snapshot : "SELECT 1"; }

/* ---- part one ---- */

bool neap_pg_fence_parse(pg_op *op) {
    return neap_sql_read(&op->parsed, op->sql, &op->err) && neap_sql_check_read(&op->parsed, &op->err);
}

/* ---- part two ---- */

/* Called stable, and yet they run SQL given as text, or take a transaction id. */
static bool is_treacherous(const char *name) {
    static const char *const names[] = {"txid_current", "pg_current_xact_id", "query_to_xml", "query_to_xmlschema",
        "query_to_xml_and_xmlschema", "cursor_to_xml", "cursor_to_xmlschema", "ts_stat", "ts_rewrite", "connectby", "normal_rand", NULL};
    const char *dot = strrchr(name, '.'), *bare = dot ? dot + 1 : name;
    for (const char *const *n = names; *n; n++)
        if (strcmp(bare, *n) == 0) return true;
    return strncmp(bare, "crosstab", 8) == 0 || strncmp(bare, "dblink", 6) == 0 || strncmp(bare, "lo_", 3) == 0;
}

static bool is_known(const pg_handle *h, const char *name) {
    for (int i = 0; i < h->function_count; i++)
        if (strcmp(h->functions[i], name) == 0) return true;
    return false;
}

static void remember(pg_handle *h, const char *name) {
    char **grown = realloc(h->functions, sizeof *grown * (size_t)(h->function_count + 1));
    if (!grown) return;                            /* it is asked again */
    h->functions = grown;
    h->functions[h->function_count++] = neap_strdup(name);
}

static bool refuse_function(pg_op *op, const char *name, const char *why) {
    neap_err_set(&op->err, NEAP_E_REFUSED, "a read may not call %s(): %s", name, why);
    return neap_err_hint(&op->err, "Reads may call functions that PostgreSQL marks stable or immutable; what changes something belongs into exec or a named word.");
}

static void add_quoted(neap_buf *out, const char *name) {
    neap_buf_addc(out, '"');
    for (const char *c = name; *c; c++) {
        if (*c == '"' || *c == '\\') neap_buf_addc(out, '\\');
        neap_buf_addc(out, *c);
    }
    neap_buf_addc(out, '"');
}

/* The look-up's three columns as array literals: names, which are vetted, which are attributes. */
typedef struct wanted { neap_buf names, vetted, attributes; } wanted;

static void want(wanted *w, const char *name, bool vetted, bool attribute) {
    char before = w->names.len ? ',' : '{';
    neap_buf_addc(&w->names, before);
    add_quoted(&w->names, name);
    neap_buf_addf(&w->vetted, "%c%c", before, vetted ? 't' : 'f');
    neap_buf_addf(&w->attributes, "%c%c", before, attribute ? 't' : 'f');
}

/* A snapshot is named for others only where the transaction is kept for them: elsewhere the name would be dead before anybody has it. */
static bool is_vetted(const pg_handle *h, const char *name) {
    return neap_sql_is_vetted(name) || (h->keeps && strcmp(name, "pg_catalog.pg_export_snapshot") == 0);
}

/* What is not yet known of this connection. False and op->err for what is refused by its name alone. */
static bool gather(pg_op *op, wanted *w) {
    char key[256];
    for (char **f = op->parsed.functions; f && *f; f++) {
        if (is_treacherous(*f)) return refuse_function(op, *f, "it runs SQL of its own or takes a transaction id");
        if (!is_known(op->h, *f)) want(w, *f, is_vetted(op->h, *f), false);
    }
    for (char **a = op->parsed.attributes; a && *a; a++) {
        snprintf(key, sizeof key, ".%s", *a);
        if (!is_known(op->h, key)) want(w, *a, false, true);
    }
    return true;
}

/* A row for each volatile function that answers to one of the names, with or without its schema. A vetted name is vetted in
 * pg_catalog only: the same name elsewhere is somebody's own function. An attribute may be a function of one row. */
static const char lookup[] =
    "SELECT DISTINCT u.name FROM unnest($1::text[], $2::bool[], $3::bool[]) AS u(name, vetted, attribute) JOIN pg_catalog.pg_proc p"
    " ON p.proname = u.name OR p.proname = pg_catalog.regexp_replace(u.name, '^.*[.]', '')"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " WHERE p.provolatile = 'v' AND (u.name = p.proname OR u.name = n.nspname || '.' || p.proname)"
    " AND NOT (u.vetted AND n.nspname = 'pg_catalog')"
    " AND (NOT u.attribute OR EXISTS (SELECT 1 FROM pg_catalog.pg_type t WHERE t.oid = p.proargtypes[0] AND t.typtype IN ('c', 'd', 'p')))";

static void remember_all(pg_op *op) {
    char key[256];
    for (char **f = op->parsed.functions; f && *f; f++)
        if (!is_known(op->h, *f)) remember(op->h, *f);
    for (char **a = op->parsed.attributes; a && *a; a++) {
        snprintf(key, sizeof key, ".%s", *a);
        if (!is_known(op->h, key)) remember(op->h, key);
    }
}

static void on_lookup(void *arg, PGresult *r, const neap_err *err) {
    pg_op *op = arg;
    if (err && neap_pg_was_hit_by_accident(op, err) && neap_pg_is_alive(op->h->pg)) {
        op->repeated = true;
        neap_pg_fence_functions(op, op->then);
        return;
    }
    if (err) neap_pg_op_error(op, err);
    else if (PQntuples(r) > 0) refuse_function(op, PQgetvalue(r, 0, 0), "it is volatile, so it may change something");
    if (op->cancelled && !op->err.code) neap_err_set(&op->err, NEAP_E_CANCELLED, "cancelled before it was sent");
    if (op->err.code) {
        neap_op_finish(&op->gate.op);
        return;
    }
    remember_all(op);
    op->then(op);
}

void neap_pg_fence_functions(pg_op *op, void (*then)(pg_op *op)) {
    wanted w = {NEAP_BUF_INIT, NEAP_BUF_INIT, NEAP_BUF_INIT};
    op->then = then;
    if (!gather(op, &w)) {
        neap_op_finish(&op->gate.op);
    } else if (!w.names.len) {
        then(op);
    } else {
        neap_buf_addc(&w.names, '}'), neap_buf_addc(&w.vetted, '}'), neap_buf_addc(&w.attributes, '}');
        const char *values[3] = {w.names.data, w.vetted.data, w.attributes.data};
        neap_pg_query q = {lookup, 3, values, NULL, NULL, true};
        op->cancels = neap_pg_cancels(op->h->pg);
        neap_pg_send(op->h->pg, &q, on_lookup, op);
    }
    neap_buf_close(&w.names);
    neap_buf_close(&w.vetted);
    neap_buf_close(&w.attributes);
}

/* ---- parts three and six ---- */

const char *neap_pg_tripwire(const pg_handle *h) {
    PGconn *conn = neap_pg_conn(h->pg);
    return conn && PQserverVersion(conn) < 130000 ? "SELECT txid_current_if_assigned()" : "SELECT pg_current_xact_id_if_assigned()";
}

void neap_pg_check_tripwire(pg_op *op, const PGresult *r) {
    if (PQntuples(r) == 1 && PQgetisnull(r, 0, 0)) return;
    neap_err_set(&op->err, NEAP_E_REFUSED, "the statement was no read: it took a transaction id, and was rolled back");
    neap_err_hint(&op->err, "A function or a view behind it writes or locks; call it by exec in act.");
}

bool neap_pg_was_hit_by_accident(pg_op *op, const neap_err *err) {
    bool user = strcmp(err->sqlstate, "57014") == 0 && err->message && strstr(err->message, "user request");
    bool stale = strcmp(err->sqlstate, "25P02") == 0;
    return (user || stale) && !op->cancelled && (!op->repeated || op->cancels != neap_pg_cancels(op->h->pg));
}

static void fly(pg_op *op);

static void on_answer(void *arg, PGresult *r, const neap_err *err) {
    enum { BEGIN, FREEZE, STATEMENT, TRIPWIRE, ROLLBACK };
    pg_op *op = arg;
    int answer = op->answers++;
    if (err) neap_pg_op_error(op, err);
    if (answer == STATEMENT && !err) op->result = neap_pg_keep(op->h->pg);
    if (answer == TRIPWIRE && !err) neap_pg_check_tripwire(op, r);
    if (answer < ROLLBACK) return;
    /* A transaction that cannot be ended: nobody shall read inside it. A ROLLBACK that was never sent has none to end. */
    if (err && err->code != NEAP_E_CLOSED && err->code != NEAP_E_CANCELLED)
        neap_pg_kill(op->h->pg, NEAP_E_CLOSED, "a read could not be rolled back");
    if (op->err.code && neap_pg_was_hit_by_accident(op, &op->err) && neap_pg_is_alive(op->h->pg)) {
        op->repeated = true;
        neap_err_close(&op->err);
        fly(op);
        return;
    }
    neap_op_finish(&op->gate.op);
}

static void fly(pg_op *op) {
    const pg_params *p = &op->params;
    neap_pg_query queries[5] = {
        neap_pg_plain(neap_pg_fence_begin, false), neap_pg_plain(neap_pg_fence_freeze(op->h), false),
        {op->sql, p->count, (const char *const *)p->values, p->lengths, p->formats, false},
        neap_pg_plain(neap_pg_tripwire(op->h), true), neap_pg_plain("ROLLBACK", true)};
    void *args[5] = {op, op, op, op, op};
    op->answers = 0;
    op->cancels = neap_pg_cancels(op->h->pg);
    PQclear(op->result);
    op->result = NULL;
    neap_pg_flight(op->h->pg, queries, 5, on_answer, args);
}

void neap_pg_fence_start(pg_op *op) { neap_pg_fence_functions(op, fly); }
