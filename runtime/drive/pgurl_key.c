/* pgurl_key.c -- the keys of other people's connection URLs, as one table.
 *
 * Promise: no key is ignored in silence. It is libpq's own and passed on; or it means something libpq says differently, and is mapped;
 * or it tunes the client it was written for, and is dropped with a notice naming that client; or the URL is refused with the
 * key's name and the nearest one we know.
 *
 * Mapping never weakens a connection without a notice: ssl=true becomes `require` (JDBC means verify-full and gets it), and whatever
 * switches the check of the certificate off says so.
 *
 * Rejected: passing unknown keys on to libpq (its own message names the key but not the cure), and dropping them (flyway once ran a
 * migration on the wrong database because of one mistyped key). */
#include "drive/pgurl_key.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/buf.h"

typedef bool apply_fn(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err);

static apply_fn pass, port, rename_key, drop, encoding, schema, search_path, sslmode, ssl, sslaccept, sslfactory, pooled, target, keepalive, refuse;

/* key, what happens, and what that needs: libpq's keyword, or whose key it is. A key ending in * is a prefix. */
static const struct { const char *key; apply_fn *apply; const char *more; } keys[] = {
    {"host", pass, NULL}, {"hostaddr", pass, NULL}, {"port", port, NULL}, {"dbname", pass, NULL}, {"user", pass, NULL},
    {"password", pass, NULL}, {"passfile", pass, NULL}, {"service", pass, NULL}, {"connect_timeout", pass, NULL},
    {"options", pass, NULL}, {"application_name", pass, NULL}, {"fallback_application_name", pass, NULL},
    {"keepalives", pass, NULL}, {"keepalives_idle", pass, NULL}, {"keepalives_interval", pass, NULL}, {"keepalives_count", pass, NULL},
    {"tcp_user_timeout", pass, NULL}, {"channel_binding", pass, NULL}, {"sslcompression", pass, NULL}, {"sslcert", pass, NULL},
    {"sslkey", pass, NULL}, {"sslpassword", pass, NULL}, {"sslrootcert", pass, NULL}, {"sslcrl", pass, NULL}, {"sslcrldir", pass, NULL},
    {"sslsni", pass, NULL}, {"requirepeer", pass, NULL}, {"ssl_min_protocol_version", pass, NULL},
    {"ssl_max_protocol_version", pass, NULL}, {"gssencmode", pass, NULL}, {"krbsrvname", pass, NULL}, {"gsslib", pass, NULL},
    {"target_session_attrs", pass, NULL},
    {"sslmode", sslmode, NULL}, {"ssl", ssl, NULL}, {"client_encoding", encoding, NULL},
    {"replication", refuse, "A replication connection cannot run SQL as a runbook needs it; remove the key."},

    {"schema", schema, NULL}, {"search_path", search_path, NULL}, {"currentSchema", search_path, NULL},
    {"schema_search_path", search_path, NULL},
    {"database", rename_key, "dbname"}, {"username", rename_key, "user"}, {"hostname", rename_key, "host"},

    {"pgbouncer", pooled, NULL}, {"sslaccept", sslaccept, NULL}, {"connection_limit", drop, "Prisma"}, {"pool_timeout", drop, "Prisma"},
    {"socket_timeout", drop, "Prisma"}, {"statement_cache_size", drop, "Prisma and asyncpg"}, {"sslidentity", drop, "Prisma"},

    {"max", drop, "node-postgres"}, {"min", drop, "node-postgres"}, {"uselibpqcompat", drop, "node-postgres"},
    {"idleTimeoutMillis", drop, "node-postgres"}, {"connectionTimeoutMillis", drop, "node-postgres"},
    {"query_timeout", drop, "node-postgres"}, {"keepAlive", keepalive, NULL}, {"prepare", drop, "postgres.js"},
    {"idle_timeout", drop, "postgres.js and Rails"}, {"max_lifetime", drop, "postgres.js"}, {"fetch_types", drop, "postgres.js"},
    {"workaround", drop, "Vercel and Supabase"}, {"supa", drop, "Vercel and Supabase"},

    {"ApplicationName", rename_key, "application_name"}, {"connectTimeout", rename_key, "connect_timeout"},
    {"loginTimeout", rename_key, "connect_timeout"}, {"gssEncMode", rename_key, "gssencmode"}, {"channelBinding", rename_key, "channel_binding"},
    {"tcpKeepAlive", keepalive, NULL}, {"targetServerType", target, NULL}, {"sslfactory", sslfactory, NULL},
    {"socketTimeout", drop, "JDBC"}, {"loadBalanceHosts", drop, "JDBC"}, {"prepareThreshold", drop, "JDBC"},
    {"preparedStatementCacheQueries", drop, "JDBC"}, {"preparedStatementCacheSizeMiB", drop, "JDBC"},
    {"reWriteBatchedInserts", drop, "JDBC"}, {"defaultRowFetchSize", drop, "JDBC"}, {"stringtype", drop, "JDBC"},
    {"readOnly", drop, "JDBC"}, {"autosave", drop, "JDBC"}, {"preferQueryMode", drop, "JDBC"}, {"binaryTransfer", drop, "JDBC"},
    {"assumeMinServerVersion", drop, "JDBC"}, {"cancelSignalTimeout", drop, "JDBC"}, {"logServerErrorDetail", drop, "JDBC"},
    {"logUnclosedConnections", drop, "JDBC"}, {"escapeSyntaxCallMode", drop, "JDBC"}, {"hostRecheckSeconds", drop, "JDBC"},

    {"charset", encoding, NULL}, {"encoding", encoding, NULL}, {"serverVersion", drop, "Doctrine"}, {"server_version", drop, "Doctrine"},
    {"driver", drop, "Doctrine"}, {"persistent", drop, "Doctrine"}, {"default_dbname", drop, "Doctrine"},

    {"async_fallback", drop, "SQLAlchemy"}, {"prepared_statement_cache_size", drop, "SQLAlchemy"},
    {"prepared_statement_name_func", drop, "SQLAlchemy"}, {"executemany_mode", drop, "SQLAlchemy"}, {"command_timeout", drop, "asyncpg"},

    {"pool*", drop, "a connection pool"}, {"binary_parameters", drop, "lib/pq"}, {"disable_prepared_binary_result", drop, "lib/pq"},
    {"default_query_exec_mode", drop, "pgx"}, {"statement_cache_capacity", drop, "pgx"}, {"statement_cache_mode", drop, "pgx"},
    {"description_cache_capacity", drop, "pgx"}, {"prefer_simple_protocol", drop, "pgx"}, {"min_read_buffer_size", drop, "pgx"},
    {"x-*", drop, "golang-migrate"},

    {"adapter", drop, "Rails"}, {"timeout", drop, "Rails"}, {"checkout_timeout", drop, "Rails"}, {"reaping_frequency", drop, "Rails"},
    {"prepared_statements", drop, "Rails"}, {"advisory_locks", drop, "Rails"}, {"min_messages", drop, "Rails"},
    {"statement_limit", drop, "Rails"}, {"migrations_paths", drop, "Rails"}, {"conn_max_age", drop, "Django"},
    {"conn_health_checks", drop, "Django"}, {"disable_server_side_cursors", drop, "Django"}, {"ssl_require", ssl, NULL},

    {"statement_timeout", drop, "a session of the application"}, {"lock_timeout", drop, "a session of the application"},
    {"idle_in_transaction_session_timeout", drop, "a session of the application"}, {"TimeZone", drop, "a session of the application"},
    {"timezone", drop, "a session of the application"},
};

#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

enum { KEYS = sizeof keys / sizeof *keys };

void neap_pgurl_notice(neap_pgurl *u, const char *format, ...) {
    neap_buf text = NEAP_BUF_INIT;
    va_list args;
    va_start(args, format);
    neap_buf_addv(&text, format, args);
    va_end(args);
    int i = 0;
    while (u->notices[i] && strcmp(u->notices[i], text.data) != 0) i++;
    if (u->notices[i] || i + 1 >= NEAP_PGURL_PAIRS) neap_buf_close(&text);
    else u->notices[i] = neap_buf_take(&text);
}

/* The values ---------------------------------------------------------------------------------------------------------------------- */

static bool one_of(const char *value, const char *const *list) {
    for (; *list; list++) if (strcasecmp(value, *list) == 0) return true;
    return false;
}

static bool is_true(const char *value) {
    static const char *const yes[] = {"true", "1", "on", "yes", "t", NULL};
    return one_of(value, yes);
}

static bool is_false(const char *value) {
    static const char *const no[] = {"false", "0", "off", "no", "f", NULL};
    return one_of(value, no);
}

static bool bad_value(const char *key, const char *value, const char *hint, neap_err *err) {
    neap_err_set(err, NEAP_E_CONFIG, "the connection URL says %s=\"%s\"", key, value);
    return neap_err_hint(err, "%s", hint);
}

static bool pass(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc, (void)err;
    neap_pgurl_set(u, key, value);
    return true;
}

/* A list, one for each host; an empty one is the default. The value is not shown: in front of it there may be a password. */
static bool port(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc;
    long number = 1;
    bool first = true, good = true;
    for (const char *at = value; good && *at; at++) {
        if (*at == ',') first = true, good = number > 0, number = 1;
        else if (isdigit((unsigned char)*at)) number = (first ? 0 : number * 10) + (*at - '0'), first = false;
        else good = false;
        good = good && number <= 65535;
    }
    if (good && number > 0) {
        neap_pgurl_set(u, key, value);
        return true;
    }
    neap_err_set(err, NEAP_E_CONFIG, "the port in the connection URL is not a number from 1 to 65535");
    return neap_err_hint(err, "If the password contains / ? or @, write them as %%2F, %%3F and %%40.");
}

static bool rename_key(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)key;
    return neap_pgurl_apply(u, more, value, jdbc, err);
}

static bool drop(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)value, (void)jdbc, (void)err;
    neap_pgurl_notice(u, "%s belongs to %s and is ignored.", key, more);
    return true;
}

static bool refuse(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)u, (void)value, (void)jdbc;
    neap_err_set(err, NEAP_E_CONFIG, "the connection URL has the key \"%s\"", key);
    return neap_err_hint(err, "%s", more);
}

static bool encoding(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc, (void)err;
    static const char *const same[] = {"utf8", "utf-8", "unicode", "auto", NULL};
    if (!one_of(value, same)) neap_pgurl_notice(u, "%s is ignored: neap always speaks UTF-8.", key);
    return true;
}

/* Prisma takes the value for one name, as it is; SET wants it quoted unless it is plain. */
static bool schema(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)key, (void)more, (void)jdbc, (void)err;
    bool plain = islower((unsigned char)*value) || *value == '_';
    for (const char *at = value; *at; at++) {
        plain = plain && (islower((unsigned char)*at) || isdigit((unsigned char)*at) || *at == '_');
    }
    neap_buf text = NEAP_BUF_INIT;
    if (!plain) neap_buf_addc(&text, '"');
    for (const char *at = value; *at; at++) {
        if (*at == '"') neap_buf_addc(&text, '"');
        neap_buf_addc(&text, *at);
    }
    if (!plain) neap_buf_addc(&text, '"');
    free(u->search_path);
    u->search_path = neap_buf_take(&text);
    return true;
}

static bool search_path(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)key, (void)more, (void)jdbc, (void)err;
    free(u->search_path);
    u->search_path = neap_strdup(value);
    return true;
}

static bool unverified(neap_pgurl *u, const char *key, const char *value) {
    neap_pgurl_set(u, "sslmode", "require");
    neap_pgurl_notice(u, "%s=%s: the connection is encrypted, but the server's certificate is not checked.", key, value);
    return true;
}

static bool sslmode(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc;
    static const char *const modes[] = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full", NULL};
    if (strcmp(value, "no-verify") == 0) return unverified(u, key, value);
    if (!one_of(value, modes)) {
        return bad_value(key, value, "It is one of disable, allow, prefer, require, verify-ca, verify-full.", err);
    }
    neap_buf lower = NEAP_BUF_INIT;
    for (const char *at = value; *at; at++) neap_buf_addc(&lower, (char)tolower((unsigned char)*at));
    neap_pgurl_set(u, "sslmode", lower.data);
    neap_buf_close(&lower);
    return true;
}

/* ssl is a boolean for node-postgres, JDBC and Django, a mode for asyncpg. */
static bool ssl(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    if (is_true(value)) neap_pgurl_set(u, "sslmode", jdbc ? "verify-full" : "require");
    else if (is_false(value)) neap_pgurl_set(u, "sslmode", "disable");
    else return sslmode(u, key, value, more, jdbc, err);
    return true;
}

static bool sslaccept(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc;
    if (strcmp(value, "accept_invalid_certs") == 0) return unverified(u, key, value);
    if (strcmp(value, "strict") != 0) return bad_value(key, value, "It is strict or accept_invalid_certs.", err);
    neap_pgurl_set(u, "sslmode", "verify-full");
    return true;
}

static bool sslfactory(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    if (strstr(value, "NonValidatingFactory")) return unverified(u, key, "NonValidatingFactory");
    (void)more;
    return drop(u, key, value, "JDBC", jdbc, err);
}

static bool pooled(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc;
    if (!is_true(value) && !is_false(value)) return bad_value(key, value, "It is true or false.", err);
    u->pooled = is_true(value);
    return true;
}

static bool keepalive(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc;
    if (!is_true(value) && !is_false(value)) return bad_value(key, value, "It is true or false.", err);
    neap_pgurl_set(u, "keepalives", is_true(value) ? "1" : "0");
    return true;
}

static bool target(neap_pgurl *u, const char *key, const char *value, const char *more, bool jdbc, neap_err *err) {
    (void)more, (void)jdbc;
    static const char *const names[][2] = {
        {"any", "any"}, {"primary", "primary"}, {"master", "primary"}, {"secondary", "standby"}, {"slave", "standby"},
        {"preferSecondary", "prefer-standby"}, {"preferSlave", "prefer-standby"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcasecmp(names[i][0], value) == 0) {
            neap_pgurl_set(u, "target_session_attrs", names[i][1]);
            return true;
        }
    }
    return bad_value(key, value, "It is any, primary, secondary or preferSecondary.", err);
}

/* The keys ------------------------------------------------------------------------------------------------------------------------ */

static int min3(int a, int b, int c) {
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* Edit distance of two short words, capital letters counting as small ones. */
static int distance(const char *a, const char *b) {
    enum { LONGEST = 40 };
    int row[LONGEST + 1], la = (int)strlen(a), lb = (int)strlen(b);
    if (la > LONGEST || lb > LONGEST) return LONGEST;
    for (int j = 0; j <= lb; j++) row[j] = j;
    for (int i = 1; i <= la; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int above = row[j], same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            row[j] = min3(above + 1, row[j - 1] + 1, corner + !same);
            corner = above;
        }
    }
    return row[lb];
}

static bool unknown_key(const char *key, neap_err *err) {
    const char *best = NULL;
    int least = 3;
    for (int i = 0; i < KEYS; i++) {
        int d = strchr(keys[i].key, '*') ? 3 : distance(key, keys[i].key);
        if (d < least && d < (int)strlen(key)) least = d, best = keys[i].key;
    }
    if (strspn(key, WORD) < strlen(key)) {             /* no key of anybody's: it may be the rest of a password */
        neap_err_set(err, NEAP_E_CONFIG, "the connection URL has a key that is not a word");
        return neap_err_hint(err, "If the password contains / ? & or =, write them as %%2F, %%3F, %%26 and %%3D.");
    }
    neap_err_set(err, NEAP_E_CONFIG, "the connection URL has the unknown key \"%.60s\"", key);
    if (best) return neap_err_hint(err, "Did you mean %s?", best);
    return neap_err_hint(err, "Neither libpq nor an ORM known to neap has this key; remove it.");
}

static bool matches(const char *pattern, const char *key) {
    size_t len = strlen(pattern);
    if (pattern[len - 1] == '*') return strncmp(pattern, key, len - 1) == 0;
    return strcmp(pattern, key) == 0;
}

bool neap_pgurl_apply(neap_pgurl *u, const char *key, const char *value, bool jdbc, neap_err *err) {
    for (int i = 0; i < KEYS; i++) {
        if (!matches(keys[i].key, key)) continue;
        return *value == '\0' || keys[i].apply(u, key, value, keys[i].more, jdbc, err);   /* empty: libpq's default */
    }
    return unknown_key(key, err);
}
