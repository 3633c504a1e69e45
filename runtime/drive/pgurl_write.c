/* pgurl_write.c -- the connection as a URL for a tool that wants one (prisma, drizzle-kit, an application under test).
 *
 * Promise: what is written is read back by pgurl.c as the same pairs, but that one port of several hosts is said for each. Everything but letters, digits and -._~ is percent-encoded, so
 * that clients which disagree about raw characters agree here. The buffer is sized beforehand: no half of a password stays
 * in memory that was freed.
 *
 * A tool that is not Prisma gets every keyword; Prisma gets those it knows, in its own words. */
#include "drive/pgurl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"

#define PLAIN "-._~"

/* Keywords with a place of their own in a URL; the others go behind the question mark. */
static const char *const placed[] = {"user", "password", "host", "port", "dbname", NULL};
static const char *const prisma_keys[] = {"sslmode", "connect_timeout", "application_name", "channel_binding", "options",
                                          "target_session_attrs", "sslpassword", NULL};

static bool in_list(const char *const *list, const char *word) {
    for (; *list; list++) if (strcmp(*list, word) == 0) return true;
    return false;
}

/* Percent-encode all but letters, digits and what is in `keep`. */
static void encode(neap_buf *out, const char *text, size_t len, const char *keep) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (isalnum(c) || strchr(keep, c)) {
            neap_buf_addc(out, (char)c);
        } else {
            neap_buf_addc(out, '%');
            neap_buf_addc(out, digits[c >> 4]);
            neap_buf_addc(out, digits[c & 15]);
        }
    }
}

static void encode_text(neap_buf *out, const char *text) {
    if (text) encode(out, text, strlen(text), PLAIN);
}

static void add_key(neap_buf *out, char *mark, const char *key, const char *value) {
    if (value == NULL) return;
    neap_buf_addc(out, *mark);
    neap_buf_adds(out, key);
    neap_buf_addc(out, '=');
    encode_text(out, value);
    *mark = '&';
}

/* The n-th (from 0) of a comma-separated list: its start, and its length. Empty when there are fewer. */
static const char *item(const char *list, int n, size_t *len) {
    for (; n > 0 && list && *list; n--) {
        list += strcspn(list, ",");
        if (*list) list++;
    }
    *len = list ? strcspn(list, ",") : 0;
    return list;
}

/* One port stands for every host. */
static void add_port(neap_buf *out, const char *ports, int n) {
    size_t len;
    const char *port = item(ports, ports && strchr(ports, ',') ? n : 0, &len);
    if (len == 0) return;
    neap_buf_addc(out, ':');
    neap_buf_add(out, port, len);
}

static void add_hosts(neap_buf *out, const char *hosts, const char *ports) {
    int count = 1;
    for (const char *at = hosts; *at; at++) count += *at == ',';
    for (int n = 0; n < count; n++) {
        size_t len;
        const char *host = item(hosts, n, &len);
        if (n > 0) neap_buf_addc(out, ',');
        bool v6 = memchr(host, ':', len) != NULL;
        if (v6) neap_buf_addc(out, '[');
        encode(out, host, len, v6 ? PLAIN ":" : PLAIN);
        if (v6) neap_buf_addc(out, ']');
        add_port(out, ports, n);
    }
}

/* The first name of a search path, without its quotes. */
static char *first_schema(const char *path) {
    neap_buf name = NEAP_BUF_INIT;
    path += strspn(path, " ");
    if (*path != '"') return neap_strndup(path, strcspn(path, ", "));
    for (path++; *path && (*path != '"' || path[1] == '"'); path++) {
        if (*path == '"') path++;
        neap_buf_addc(&name, *path);
    }
    return neap_buf_take(&name);
}

/* Prisma's words for what libpq calls otherwise. Its sslmode knows no verification: that is sslaccept. */
static void add_prisma(neap_buf *out, char *mark, const neap_pgurl *u) {
    const char *mode = neap_pgurl_get(u, "sslmode");
    bool verified = mode && strncmp(mode, "verify-", 7) == 0;
    if (u->search_path) {
        char *schema = first_schema(u->search_path);
        add_key(out, mark, "schema", schema);
        free(schema);
    }
    for (int i = 0; i < u->count; i++) {
        if (!in_list(prisma_keys, u->keys[i])) continue;
        bool strict = verified && strcmp(u->keys[i], "sslmode") == 0;
        add_key(out, mark, u->keys[i], strict ? "require" : u->values[i]);
    }
    if (verified) add_key(out, mark, "sslaccept", "strict");
    add_key(out, mark, "sslcert", neap_pgurl_get(u, "sslrootcert"));
    if (u->pooled) add_key(out, mark, "pgbouncer", "true");
}

static void add_query(neap_buf *out, const neap_pgurl *u, bool prisma, bool socket) {
    char mark = '?';
    if (socket) {
        add_key(out, &mark, "host", neap_pgurl_get(u, "host"));
        if (!prisma) add_key(out, &mark, "port", neap_pgurl_get(u, "port"));
    }
    if (prisma) {
        add_prisma(out, &mark, u);
        return;
    }
    for (int i = 0; i < u->count; i++) {
        if (!in_list(placed, u->keys[i])) add_key(out, &mark, u->keys[i], u->values[i]);
    }
}

/* Three bytes for each of a value is the most that encoding makes of it. */
static size_t largest(const neap_pgurl *u) {
    size_t size = 256 + (u->search_path ? 3 * strlen(u->search_path) : 0);
    for (int i = 0; i < u->count; i++) size += strlen(u->keys[i]) + 3 * strlen(u->values[i]) + 8;
    const char *host = neap_pgurl_get(u, "host"), *port = neap_pgurl_get(u, "port");
    return size + (host && port ? strlen(host) * (strlen(port) + 4) : 0);     /* one port, written behind every host */
}

/* A directory has no place in front of the path: it becomes ?host=. Prisma wants some host there all the same, and the port with it. */
char *neap_pgurl_write(const neap_pgurl *u, bool prisma) {
    const char *user = neap_pgurl_get(u, "user"), *password = neap_pgurl_get(u, "password");
    const char *host = neap_pgurl_get(u, "host"), *port = neap_pgurl_get(u, "port");
    bool socket = host && (*host == '/' || *host == '@');
    neap_buf out = NEAP_BUF_INIT;
    neap_buf_room(&out, largest(u));
    neap_buf_adds(&out, "postgresql://");
    encode_text(&out, user);
    if (password) neap_buf_addc(&out, ':');
    encode_text(&out, password);
    if (user || password) neap_buf_addc(&out, '@');
    if (socket || host == NULL) {
        if (prisma) neap_buf_adds(&out, "localhost");
        if (prisma || host == NULL) add_port(&out, port, 0);
    } else {
        add_hosts(&out, host, port);
    }
    neap_buf_addc(&out, '/');
    encode_text(&out, neap_pgurl_get(u, "dbname"));
    add_query(&out, u, prisma, socket);
    return neap_buf_take(&out);
}
