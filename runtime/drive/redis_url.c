/* redis_url.c -- see redis_url.h.
 *
 * Every part is percent-decoded exactly once, and a bad escape is an error, never taken literally. Where clients differ the text
 * is refused instead of guessed: a second @ in front of the host (some end the password at the first, some at the last), a fragment,
 * a query key we do not know (some would mean a timeout by it, some a password), and two databases that disagree.
 *
 * `user@host` without a colon is a user without a password, as in every URL; whoever means a password alone writes `:password@`. */
#include "drive/redis_url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

typedef struct scheme { const char *name; bool tls, local; } scheme;

static const scheme schemes[] = {
    {"redis://", false, false}, {"rediss://", true, false}, {"unix://", false, true}, {"redis+unix://", false, true}, {"redis-socket://", false, true}};

static const char forms[] = "Write redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path/redis.sock?db=0.";

static void wipe(char *text) {
    if (text) explicit_bzero(text, strlen(text));
    free(text);
}

void neap_redis_url_close(neap_redis_url *u) {
    wipe(u->password);
    free(u->user);
    free(u->host);
    free(u->path);
    *u = (neap_redis_url){.db = -1};
}

static bool refuse(neap_err *err, const char *what) {
    neap_err_set(err, NEAP_E_CONFIG, "the Redis url %s", what);
    return neap_err_hint(err, "%s", forms);
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* text[0..len) decoded; NULL for a bad escape, and for a byte no part may hold (NUL, line ends). */
static char *decode(const char *text, size_t len) {
    char *out = neap_alloc(len + 1), *to = out;
    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < len ? digit(text[i + 1]) : -1, low = high >= 0 ? digit(text[i + 2]) : -1;
            c = high < 0 || low < 0 ? 0 : high << 4 | low;
            i += 2;
        }
        if (c == 0 || c == '\r' || c == '\n') {
            *to = '\0';
            wipe(out);
            return NULL;
        }
        *to++ = (char)c;
    }
    *to = '\0';
    return out;
}

static bool take(char **into, const char *text, size_t len, const char *part, neap_err *err) {
    *into = decode(text, len);
    if (*into) return true;
    neap_err_set(err, NEAP_E_CONFIG, "the Redis url's %s has a bad percent escape or a control character", part);
    return neap_err_hint(err, "A percent sign is written %%25; escapes are two hex digits.");
}

static bool read_number(const char *text, size_t len, long most, int *out) {
    long value = 0;
    if (len == 0) return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) return false;
        value = value * 10 + (text[i] - '0');
        if (value > most) return false;
    }
    *out = (int)value;
    return true;
}

static bool read_db(neap_redis_url *u, const char *text, size_t len, neap_err *err) {
    int db = 0;
    if (!read_number(text, len, NEAP_REDIS_MOST_DATABASES, &db)) return refuse(err, "names a database that is not a number");
    if (u->db >= 0 && u->db != db) return refuse(err, "names two different databases");
    u->db = db;
    return true;
}

/* "user:password" in front of the @. */
static bool read_login(neap_redis_url *u, const char *text, size_t len, neap_err *err) {
    const char *colon = memchr(text, ':', len);
    size_t user = colon ? (size_t)(colon - text) : len;
    if (memchr(text, '@', len)) return refuse(err, "has a second @ in front of the host; in a password it is written %40");
    if (user > 0 && !take(&u->user, text, user, "user", err)) return false;
    if (!colon) return true;
    if (!take(&u->password, colon + 1, len - user - 1, "password", err)) return false;
    if (!*u->password) free(u->password), u->password = NULL;
    return true;
}

static bool read_port(neap_redis_url *u, const char *text, size_t len, neap_err *err) {
    if (read_number(text, len, 65535, &u->port) && u->port > 0) return true;
    return refuse(err, "has a port that is not a number from 1 to 65535");
}

static bool is_host(const char *text) {
    for (; *text; text++)
        if (isspace((unsigned char)*text) || strchr("/?#@[]\\\"", *text)) return false;
    return true;
}

/* "host", "host:port", "[v6]:port" */
static bool read_place(neap_redis_url *u, const char *text, size_t len, neap_err *err) {
    size_t end = 0, name = 0;
    if (len && text[0] == '[') {
        const char *close = memchr(text, ']', len);
        if (!close) return refuse(err, "opens a bracket for an IPv6 address and does not close it");
        name = 1, end = (size_t)(close - text);
    } else {
        const char *colon = memchr(text, ':', len);
        end = colon ? (size_t)(colon - text) : len;
        if (colon && memchr(colon + 1, ':', len - end - 1)) return refuse(err, "has an IPv6 address without brackets");
    }
    if (end == name) return refuse(err, "names no host");
    if (!take(&u->host, text + name, end - name, "host", err)) return false;
    if (!is_host(u->host)) return refuse(err, "has a host with a character no name has");
    u->port = NEAP_REDIS_PORT;
    if (name) end++;
    if (end == len) return true;
    if (text[end] != ':') return refuse(err, "has something between the host and the port");
    return read_port(u, text + end + 1, len - end - 1, err);
}

/* "db=2&database=2" */
static bool read_query(neap_redis_url *u, const char *text, neap_err *err) {
    while (*text) {
        size_t len = strcspn(text, "&");
        const char *equals = memchr(text, '=', len);
        size_t key = equals ? (size_t)(equals - text) : len;
        bool known = (key == 2 && memcmp(text, "db", 2) == 0) || (key == 8 && memcmp(text, "database", 8) == 0);
        if (!known) {                              /* its value is not repeated: it may be a password */
            neap_err_set(err, NEAP_E_CONFIG, "the Redis url has a key \"%.*s\" that means nothing here", key > 40 ? 40 : (int)key, text);
            return neap_err_hint(err, "Only db is read from behind the question mark; the rest are fields of the inventory.");
        }
        if (!read_db(u, equals ? equals + 1 : "", equals ? len - key - 1 : 0, err)) return false;
        text += len + (text[len] == '&');
    }
    return true;
}

static bool read_rest(neap_redis_url *u, const scheme *s, const char *text, neap_err *err) {
    const char *question = strchr(text, '?');
    size_t whole = question ? (size_t)(question - text) : strlen(text);
    const char *at = NULL, *slash = memchr(text, '/', whole);
    size_t before = slash ? (size_t)(slash - text) : whole;
    if (memchr(text, '#', strlen(text))) return refuse(err, "has a #; in a password it is written %23");
    for (size_t i = 0; i < before; i++)
        if (text[i] == '@') at = text + i;
    if (!at && memchr(text, '@', whole)) {         /* a slash in a password, or an @ in a path: clients differ */
        if (!s->local || slash != text) return refuse(err, "has a / in front of the @; in a password it is written %2F");
    }
    if (at && !read_login(u, text, (size_t)(at - text), err)) return false;
    const char *place = at ? at + 1 : text;
    size_t len = whole - (size_t)(place - text), host = before - (size_t)(place - text);
    if (question && !read_query(u, question + 1, err)) return false;
    if (s->local) {
        if (!len || *place != '/') return refuse(err, "needs the socket's absolute path behind unix://");
        return take(&u->path, place, len, "path", err);
    }
    if (!read_place(u, place, host, err)) return false;
    return len <= host + 1 || read_db(u, place + host + 1, len - host - 1, err);
}

bool neap_redis_url_read(neap_redis_url *out, const char *url, neap_err *err) {
    *out = (neap_redis_url){.db = -1};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        const scheme *s = &schemes[i];
        if (strncasecmp(url, s->name, strlen(s->name)) != 0) continue;
        out->tls = s->tls;
        if (read_rest(out, s, url + strlen(s->name), err)) return true;
        neap_redis_url_close(out);
        return false;
    }
    return refuse(err, "begins with no scheme that is known");
}
