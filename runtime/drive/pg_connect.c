/* pg_connect.c -- from a URL to an open connection without ever blocking the loop.
 *
 *   names (uv_getaddrinfo, one after the other) -> PQconnectStartParams (work pool: it reads service files, passfiles
 *   and, for hosts that only a service file names, resolves) -> PQconnectPoll steps on the loop -> open
 *
 * libpq may close and reopen its socket inside PQconnectPoll, with or without another number: the watch is freed before each step
 * and made anew behind it. connect_timeout is ignored by this interface, so the deadline is our own timer over everything. Every
 * host is passed as host (for TLS names and the passfile) and hostaddr; a name with several addresses becomes several pairs.
 */
#include "drive/pg_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "loop/alive.h"
#include "loop/work.h"

enum { MAX_HOSTS = 16, MAX_PARAMETERS = NEAP_PGURL_PAIRS + 16 };

typedef struct pg_attempt {
    neap_pg *c;                   /* NULL once abandoned: what comes back then is thrown away */
    bool working;                 /* the pool or the resolver has it */
    char *hosts[MAX_HOSTS], *ports[MAX_HOSTS];
    int count, next;
    neap_buf host, hostaddr, port;
    int pairs;                    /* in the three lists */
    char *reason;                 /* of the last name that did not resolve */
    char *keys[MAX_PARAMETERS + 1], *values[MAX_PARAMETERS + 1];
    int parameters;
    PGconn *conn;
    int64_t within_ms;
} pg_attempt;

static void attempt_free(pg_attempt *a) {
    for (int i = 0; i < a->count; i++) free(a->hosts[i]), free(a->ports[i]);
    for (int i = 0; i < a->parameters; i++) {
        explicit_bzero(a->values[i], strlen(a->values[i]));     /* one of them is the password */
        free(a->keys[i]);
        free(a->values[i]);
    }
    neap_buf_close(&a->host);
    neap_buf_close(&a->hostaddr);
    neap_buf_close(&a->port);
    free(a->reason);
    free(a);
}

void neap_pg_attempt_drop(neap_pg *c) {
    pg_attempt *a = c->attempt;
    c->attempt = NULL;
    if (!a) return;
    a->c = NULL;
    if (!a->working) attempt_free(a);
}

static void add_parameter(pg_attempt *a, const char *key, const char *value) {
    for (int i = 0; i < a->parameters; i++)
        if (strcmp(a->keys[i], key) == 0) return;              /* what the URL says wins over our defaults */
    if (a->parameters == MAX_PARAMETERS) return;
    a->keys[a->parameters] = neap_strdup(key);
    a->values[a->parameters++] = neap_strdup(value);
}

static bool is_numeric(const char *host) {
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static bool is_socket(const char *host) { return host[0] == '/' || host[0] == '@'; }

static bool is_loopback(const char *host) {
    return is_socket(host) || strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* ---- third: libpq's steps ---- */

static void measure_trust(neap_pg *c) {
    const char *host = PQhost(c->conn), *address = PQhostaddr(c->conn);
    PQconninfoOption *options = PQconninfo(c->conn);
    const char *mode = "";
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, "sslmode") == 0 && o->val) mode = o->val;
    bool local = !host || !*host || is_socket(host) || (address && *address ? is_loopback(address) : is_loopback(host));
    if (local) c->trust = NEAP_PG_LOCAL;
    else if (!PQsslInUse(c->conn)) c->trust = NEAP_PG_PLAIN;
    else c->trust = strcmp(mode, "verify-full") == 0 ? NEAP_PG_VERIFIED : NEAP_PG_ENCRYPTED;
    PQconninfoFree(options);
}

static void on_step(void *arg, int events);

static void await_socket(neap_pg *c, int events) {
    c->watch = neap_watch_new(c->loop, PQsocket(c->conn), events, on_step, c);
}

static void fail(neap_pg *c) {
    neap_err err = NEAP_ERR_INIT;
    neap_pg_error_connection(&err, c->conn);
    neap_pg_die(c, &err);
}

static void on_step(void *arg, int events) {
    neap_pg *c = arg;
    (void)events;
    neap_watch_free(c->watch);                     /* before libpq may close the descriptor under it */
    c->watch = NULL;
    neap_pg_enter(c);
    switch (PQconnectPoll(c->conn)) {
    case PGRES_POLLING_READING: await_socket(c, NEAP_WATCH_READ); break;
    case PGRES_POLLING_WRITING: await_socket(c, NEAP_WATCH_WRITE); break;
    case PGRES_POLLING_OK:
        neap_timer_stop(c->timer);
        measure_trust(c);
        neap_pg_opened(c);
        break;
    default: fail(c);
    }
    neap_pg_leave(c);
}

/* ---- second: start, on the pool ---- */

static void on_notice(void *arg, const PGresult *result) {
    neap_pg *c = arg;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (c->notice) c->notice(c->notice_arg, severity ? severity : "NOTICE", message ? message : PQresultErrorMessage(result));
}

static void start_run(void *arg) {
    pg_attempt *a = arg;
    a->conn = PQconnectStartParams((const char *const *)a->keys, (const char *const *)a->values, 0);
}

static void start_done(void *arg) {
    pg_attempt *a = arg;
    neap_pg *c = a->c;
    PGconn *conn = a->conn;
    a->working = false;
    if (!c) {
        if (conn) PQfinish(conn);
        attempt_free(a);
        return;
    }
    neap_pg_attempt_drop(c);
    c->conn = conn;
    neap_pg_enter(c);
    if (!conn || PQstatus(conn) == CONNECTION_BAD) {
        fail(c);
    } else {
        PQsetNoticeReceiver(conn, on_notice, c);
        await_socket(c, NEAP_WATCH_WRITE);         /* libpq: behave as if the last step had said WRITING */
    }
    neap_pg_leave(c);
}

static void start(pg_attempt *a) {
    neap_pg *c = a->c;
    if (a->count > 0 && a->pairs == 0) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_UNREACHABLE, "host \"%s\" cannot be resolved: %s", a->hosts[a->count - 1], a->reason ? a->reason : "no address");
        err.retry = true;
        neap_pg_die(c, &err);
        return;
    }
    if (a->pairs > 0) {
        add_parameter(a, "host", a->host.data);
        add_parameter(a, "hostaddr", a->hostaddr.data);
        add_parameter(a, "port", a->port.data);
    }
    a->keys[a->parameters] = a->values[a->parameters] = NULL;
    a->working = true;
    neap_work_start(c->loop, start_run, start_done, a);
}

/* ---- first: names ---- */

static void add_pair(pg_attempt *a, const char *address) {
    const char *comma = a->pairs ? "," : "";
    neap_buf_addf(&a->host, "%s%s", comma, a->hosts[a->next]);
    neap_buf_addf(&a->hostaddr, "%s%s", comma, address);
    neap_buf_addf(&a->port, "%s%s", comma, a->ports[a->next]);
    a->pairs++;
}

static void resolve(pg_attempt *a);

static void on_resolved(void *arg, char *const *addresses, const char *reason) {
    pg_attempt *a = arg;
    a->working = false;
    if (!a->c) {
        attempt_free(a);
        return;
    }
    for (int i = 0; addresses && addresses[i] && i < 8; i++) add_pair(a, addresses[i]);
    if (!addresses) {
        free(a->reason);
        a->reason = neap_strdup(reason ? reason : "no address");
    }
    a->next++;
    resolve(a);
}

static void resolve(pg_attempt *a) {
    for (; a->next < a->count; a->next++) {
        const char *host = a->hosts[a->next];
        if (*host && !is_socket(host) && !is_numeric(host)) {
            a->working = true;
            neap_resolve_start(a->c->loop, host, on_resolved, a);
            return;
        }
        add_pair(a, is_numeric(host) ? host : "");
    }
    start(a);
}

/* ---- the beginning ---- */

/* Split the comma lists; one port serves all hosts, an empty one is the default. */
static void split_hosts(pg_attempt *a, const char *hosts, const char *ports) {
    const char *port = ports ? ports : "";
    for (const char *at = hosts; a->count < MAX_HOSTS;) {
        size_t len = strcspn(at, ","), width = strcspn(port, ",");
        a->hosts[a->count] = neap_strndup(at, len);
        a->ports[a->count++] = neap_strndup(port, width);
        if (port[width] == ',') port += width + 1;
        if (at[len] == '\0') break;
        at += len + 1;
    }
}

static void add_defaults(pg_attempt *a, const char *application) {
    char patience[16];
    snprintf(patience, sizeof patience, "%d", neap_alive_patience_ms);
    add_parameter(a, "application_name", application);
    add_parameter(a, "client_encoding", "UTF8");
    add_parameter(a, "gssencmode", "disable");     /* looking for a realm asks DNS, and blocks */
    add_parameter(a, "keepalives", "1");
    add_parameter(a, "keepalives_idle", "10");
    add_parameter(a, "keepalives_interval", "5");
    add_parameter(a, "keepalives_count", "3");
    add_parameter(a, "tcp_user_timeout", patience);
}

static void on_late(void *arg) {
    neap_pg *c = arg;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_UNREACHABLE, "the server does not answer within the time given to connect");
    err.retry = true;
    neap_pg_die(c, &err);
}

void neap_pg_connect(neap_pg *c, const neap_pgurl *where, const char *application, int64_t within_ms, neap_pg_ready_fn ready, void *arg) {
    pg_attempt *a = neap_zalloc(sizeof *a);
    const char *host = neap_pgurl_get(where, "host");
    bool resolved = neap_pgurl_get(where, "hostaddr") != NULL;
    a->c = c;
    c->attempt = a;
    c->state = PG_CONNECTING;
    c->ready = ready;
    c->ready_arg = arg;
    for (int i = 0; i < where->count; i++) {
        bool list = strcmp(where->keys[i], "host") == 0 || strcmp(where->keys[i], "port") == 0;
        if (!list || resolved || !host) add_parameter(a, where->keys[i], where->values[i]);
    }
    add_defaults(a, application);
    if (host && !resolved) split_hosts(a, host, neap_pgurl_get(where, "port"));
    c->timer = neap_timer_new(c->loop, on_late, c);
    neap_timer_start(c->timer, within_ms);
    neap_pg_enter(c);
    resolve(a);
    neap_pg_leave(c);
}
