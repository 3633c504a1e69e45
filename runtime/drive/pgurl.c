/* pgurl.c -- reading and writing connection URLs; what a key means is in pgurl_key.c.
 *
 * The grammar is libpq's, which is the strictest of them:
 *   scheme://[user[:password]@][host[:port][,host[:port]…]][/dbname][?key=value[&key=value…]]
 * plus `jdbc:` in front, a `+driver` behind the scheme, and libpq's other form, "key=value key='quoted value'".
 *
 * Promises: every part is percent-decoded exactly once, and a bad escape is an error, never taken literally; no error or
 * notice repeats a part of the text that may hold a password; every copy of a value made on the way is wiped.
 *
 * Two readings that differ between clients are refused instead of guessed: a second @ in front of the host (libpq ends the password
 * at the first, browsers and Node at the last), and a bare # behind the host (a fragment for Node, text for libpq). */
#include "drive/pgurl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/buf.h"
#include "drive/pgurl_key.h"

static void wipe(char *text) {
    if (text) explicit_bzero(text, strlen(text));
    free(text);
}

static int find(const neap_pgurl *u, const char *key) {
    for (int i = 0; i < u->count; i++) if (strcmp(u->keys[i], key) == 0) return i;
    return -1;
}

const char *neap_pgurl_get(const neap_pgurl *u, const char *key) {
    int i = find(u, key);
    return i < 0 ? NULL : u->values[i];
}

static void remove_pair(neap_pgurl *u, int i) {
    free(u->keys[i]);
    wipe(u->values[i]);
    u->count--;
    for (; i < u->count; i++) u->keys[i] = u->keys[i + 1], u->values[i] = u->values[i + 1];
    u->keys[u->count] = u->values[u->count] = NULL;
}

void neap_pgurl_set(neap_pgurl *u, const char *key, const char *value) {
    int i = find(u, key);
    if (value == NULL) {
        if (i >= 0) remove_pair(u, i);
        return;
    }
    char *copy = neap_strdup(value);               /* first: `value` may be the one that is replaced */
    if (i < 0) {
        if (u->count == NEAP_PGURL_PAIRS) abort();     /* libpq has fewer keywords, and callers use no others */
        i = u->count++;
        u->keys[i] = neap_strdup(key);
    }
    wipe(u->values[i]);
    u->values[i] = copy;
}

void neap_pgurl_close(neap_pgurl *u) {
    while (u->count > 0) remove_pair(u, u->count - 1);
    free(u->search_path);
    for (int i = 0; i < NEAP_PGURL_PAIRS && u->notices[i]; i++) free(u->notices[i]);
    memset(u, 0, sizeof *u);
}

/* Reading a URL ------------------------------------------------------------------------------------------------------------------- */

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Empty, with room for len bytes: a buffer that grew would leave a copy of a password behind in freed memory. */
static void reserve(neap_buf *out, size_t len) {
    neap_buf_wipe(out);
    neap_buf_room(out, len + 1);
    neap_buf_add(out, "", 0);
}

/* Decode len bytes into `out` (emptied first). `part` names them in the error, which must not show them. */
static bool decode(neap_buf *out, const char *text, size_t len, const char *part, neap_err *err) {
    reserve(out, len);
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            neap_buf_addc(out, text[i]);
            continue;
        }
        int high = i + 2 < len ? hex(text[i + 1]) : -1, low = i + 2 < len ? hex(text[i + 2]) : -1;
        if (high < 0 || low < 0 || high + low == 0) {
            neap_err_set(err, NEAP_E_CONFIG, "the %s of the connection URL has a bad percent escape", part);
            return neap_err_hint(err, "Write a percent sign itself as %%25; %%00 is not allowed.");
        }
        neap_buf_addc(out, (char)(high << 4 | low));
        i += 2;
    }
    return true;
}

/* Decode a part and set it; an empty one is left to libpq's default. */
static bool set_part(neap_pgurl *u, const char *key, const char *text, size_t len, const char *part, neap_err *err) {
    neap_buf value = NEAP_BUF_INIT;
    bool ok = decode(&value, text, len, part, err);
    if (ok && value.len > 0) neap_pgurl_set(u, key, value.data);
    neap_buf_wipe(&value);
    return ok;
}

static bool read_user(neap_pgurl *u, const char *text, size_t len, neap_err *err) {
    const char *colon = memchr(text, ':', len);
    size_t name = colon ? (size_t)(colon - text) : len;
    if (!set_part(u, "user", text, name, "user", err)) return false;
    return colon == NULL || set_part(u, "password", colon + 1, len - name - 1, "password", err);
}

/* One host[:port] of the list; both are appended behind a comma where they are not the first. */
static bool read_host(neap_buf *hosts, neap_buf *ports, bool first, const char *text, size_t len, neap_err *err) {
    const char *end = text + len, *colon = NULL;
    if (len > 0 && *text == '[') {
        const char *close = memchr(text, ']', len);
        if (close == NULL || close == text + 1 || (close + 1 < end && close[1] != ':')) {
            return neap_err_set(err, NEAP_E_CONFIG, "the IPv6 address in the connection URL is not closed by \"]\"");
        }
        colon = close + 1 < end ? close + 1 : NULL;
        text++;
        len = (size_t)(close - text);
    } else {
        colon = memchr(text, ':', len);
        if (colon) len = (size_t)(colon - text);
    }
    neap_buf host = NEAP_BUF_INIT;
    bool ok = decode(&host, text, len, "host", err);
    if (ok && !first) neap_buf_addc(hosts, ','), neap_buf_addc(ports, ',');
    if (ok) neap_buf_add(hosts, host.data, host.len);
    if (ok && colon) neap_buf_add(ports, colon + 1, (size_t)(end - colon - 1));
    neap_buf_close(&host);
    return ok;
}

static bool has_more_than_commas(const neap_buf *b) {
    return b->data && strspn(b->data, ",") < b->len;
}

static bool read_hosts(neap_pgurl *u, const char *text, size_t len, neap_err *err) {
    neap_buf hosts = NEAP_BUF_INIT, ports = NEAP_BUF_INIT;
    bool ok = true;
    for (const char *at = text, *end = text + len; ok;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        ok = read_host(&hosts, &ports, at == text, at, (size_t)(stop - at), err);
        if (comma == NULL) break;
        at = comma + 1;
    }
    if (ok && hosts.len > 0) neap_pgurl_set(u, "host", hosts.data);
    if (ok && has_more_than_commas(&ports)) ok = neap_pgurl_apply(u, "port", ports.data, false, err);
    neap_buf_close(&hosts);
    neap_buf_close(&ports);
    return ok;
}

static bool read_authority(neap_pgurl *u, const char *text, size_t len, neap_err *err) {
    const char *at = memchr(text, '@', len);
    if (at == NULL) return read_hosts(u, text, len, err);
    size_t user = (size_t)(at - text);
    if (memchr(at + 1, '@', len - user - 1)) {
        neap_err_set(err, NEAP_E_CONFIG, "the connection URL has two @ in front of the host");
        return neap_err_hint(err, "Write an @ that belongs to the password as %%40.");
    }
    return read_user(u, text, user, err) && read_hosts(u, at + 1, len - user - 1, err);
}

static bool read_pair(neap_pgurl *u, const char *text, size_t len, bool jdbc, neap_err *err) {
    const char *equals = memchr(text, '=', len);
    size_t name = equals ? (size_t)(equals - text) : len;
    neap_buf key = NEAP_BUF_INIT, value = NEAP_BUF_INIT;
    bool ok = decode(&key, text, name, "query", err);
    if (ok && equals == NULL) {
        neap_err_set(err, NEAP_E_CONFIG, "a key of the connection URL has no value");     /* it may be the rest of a password */
        ok = neap_err_hint(err, "Keys are written key=value. If the password contains / ? or @, write them as %%2F, %%3F and %%40.");
    }
    ok = ok && decode(&value, equals + 1, len - name - 1, "query", err) && neap_pgurl_apply(u, key.data, value.data, jdbc, err);
    neap_buf_close(&key);
    neap_buf_wipe(&value);
    return ok;
}

static bool read_query(neap_pgurl *u, const char *text, bool jdbc, neap_err *err) {
    while (*text) {
        size_t len = strcspn(text, "&");
        if (len > 0 && !read_pair(u, text, len, jdbc, err)) return false;
        text += len + (text[len] == '&');
    }
    return true;
}

/* Where user and hosts end. As for libpq, a / ends them and an @ before it ends the user; a ? ends only what has no @ behind it. */
static size_t authority_length(const char *text) {
    size_t slash = strcspn(text, "/");
    const char *at = memchr(text, '@', slash);
    const char *from = at ? at : text;
    return (size_t)(from - text) + strcspn(from, "/?");
}

static bool read_parts(neap_pgurl *u, const char *text, bool jdbc, neap_err *err) {
    size_t len = authority_length(text);
    const char *rest = text + len;
    if (strchr(rest, '#')) {
        neap_err_set(err, NEAP_E_CONFIG, "the connection URL has a # behind the host");
        return neap_err_hint(err, "Write a # that belongs to a value as %%23.");
    }
    if (!read_authority(u, text, len, err)) return false;
    if (*rest == '/') {
        size_t name = strcspn(rest + 1, "?");
        if (memchr(rest, '@', name + 1)) {
            neap_err_set(err, NEAP_E_CONFIG, "the connection URL has an @ behind the first /");
            return neap_err_hint(err, "Write a / that belongs to the password as %%2F.");
        }
        if (!set_part(u, "dbname", rest + 1, name, "database name", err)) return false;
        rest += 1 + name;
    }
    return *rest != '?' || read_query(u, rest + 1, jdbc, err);
}

static bool scheme_is(const char *text, size_t len, const char *scheme) {
    return strlen(scheme) == len && strncasecmp(text, scheme, len) == 0;
}

static bool check_scheme(const char *text, size_t len, neap_err *err) {
    static const char *const known[] = {"postgres", "postgresql", "pgsql", "pdo-pgsql", "pdo_pgsql", "postgis", "psql", NULL};
    if (scheme_is(text, len, "prisma+postgres") || scheme_is(text, len, "prisma")) {
        neap_err_set(err, NEAP_E_CONFIG, "a %.*s:// URL leads to a Prisma proxy, not to a PostgreSQL server", (int)len, text);
        return neap_err_hint(err, "Use the direct URL of the database, which begins with postgresql://.");
    }
    const char *plus = memchr(text, '+', len);
    size_t name = plus ? (size_t)(plus - text) : len;
    for (const char *const *at = known; *at; at++) if (scheme_is(text, name, *at)) return true;
    neap_err_set(err, NEAP_E_CONFIG, "\"%.*s\" is not a scheme of PostgreSQL", (int)(len < 40 ? len : 40), text);
    return neap_err_hint(err, "A connection URL begins with postgresql:// or postgres://.");
}

/* libpq's other form --------------------------------------------------------------------------------------------------------------- */

static const char *skip_space(const char *at) {
    while (isspace((unsigned char)*at)) at++;
    return at;
}

/* A value, quoted or not, in which a backslash keeps the next character. NULL when its quote is not closed. */
static const char *read_word(neap_buf *out, const char *at) {
    bool quoted = *at == '\'';
    reserve(out, strlen(at));
    for (at += quoted; *at && (quoted ? *at != '\'' : !isspace((unsigned char)*at)); at++) {
        if (*at == '\\' && at[1] != '\0') at++;
        neap_buf_addc(out, *at);
    }
    if (quoted && *at != '\'') return NULL;
    return at + quoted;
}

static bool read_words(neap_pgurl *u, const char *at, neap_err *err) {
    neap_buf key = NEAP_BUF_INIT, value = NEAP_BUF_INIT;
    bool ok = true;
    for (at = skip_space(at); ok && *at; at = skip_space(at)) {
        size_t len = strcspn(at, "= \t\r\n");
        neap_buf_clear(&key);
        neap_buf_add(&key, at, len);
        at = skip_space(at + len);
        const char *end = *at == '=' ? read_word(&value, skip_space(at + 1)) : NULL;
        if (end == NULL) ok = neap_err_set(err, NEAP_E_CONFIG, "the connection text has a key without a value, or an open quote");
        else ok = neap_pgurl_apply(u, key.data, value.data, false, err);
        if (ok) at = end;
    }
    neap_buf_close(&key);
    neap_buf_wipe(&value);
    return ok;
}

/* "jdbc:postgresql:name" has no // and names only the database. */
static bool read_jdbc_short(neap_pgurl *u, const char *text, neap_err *err) {
    size_t name = strcspn(text, "?");
    if (!set_part(u, "dbname", text, name, "database name", err)) return false;
    return text[name] != '?' || read_query(u, text + name + 1, true, err);
}

static bool read_any(neap_pgurl *u, const char *url, neap_err *err) {
    bool jdbc = strncasecmp(url, "jdbc:", 5) == 0;
    if (jdbc) url += 5;
    size_t scheme = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._");
    if (scheme > 0 && strncmp(url + scheme, "://", 3) == 0) {
        return check_scheme(url, scheme, err) && read_parts(u, url + scheme + 3, jdbc, err);
    }
    if (jdbc && scheme > 0 && url[scheme] == ':') return check_scheme(url, scheme, err) && read_jdbc_short(u, url + scheme + 1, err);
    if (strchr(url, '=')) return read_words(u, url, err);
    neap_err_set(err, NEAP_E_CONFIG, "this is not a connection URL");
    return neap_err_hint(err, "It looks like postgresql://user@host:5432/database.");
}

bool neap_pgurl_read(neap_pgurl *out, const char *url, neap_err *err) {
    memset(out, 0, sizeof *out);
    if (read_any(out, skip_space(url), err)) return true;
    neap_pgurl_close(out);
    return false;
}
