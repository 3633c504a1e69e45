/* pgurl.c -- PostgreSQL URLs: what was read and written again is the same connection, and no error repeats the password. */
#include <string.h>

#include "base/buf.h"
#include "drive/pgurl.h"
#include "fuzz.h"

/* One port of several hosts is written behind each of them. */
static bool is_said_again(const char *list, const char *port) {
    size_t len = strlen(port);
    for (; strncmp(list, port, len) == 0; list += len + 1) if (!list[len]) return true; else if (list[len] != ',') return false;
    return false;
}

/* A URL of ours reads back as the pairs it was made of. */
static void check_written(const neap_pgurl *u) {
    neap_err err = NEAP_ERR_INIT;
    neap_pgurl again;
    char *text = neap_pgurl_write(u, false);
    bool ok = neap_pgurl_read(&again, text, &err);
    if (!ok) fprintf(stderr, "%s\n%s\n", text, err.message);
    NEAP_FUZZ_CHECK(ok);
    for (int i = 0; i < u->count; i++) {
        const char *value = neap_pgurl_get(&again, u->keys[i]);
        bool same = value && (strcmp(value, u->values[i]) == 0 || (strcmp(u->keys[i], "port") == 0 && is_said_again(value, u->values[i])));
        if (!same) fprintf(stderr, "%s: \"%s\" became \"%s\" in %s\n", u->keys[i], u->values[i], value ? value : "nothing", text);
        NEAP_FUZZ_CHECK(same);
    }
    neap_pgurl_close(&again);
    free(text);
}

NEAP_FUZZ(pgurl) {
    neap_err err = NEAP_ERR_INIT;
    neap_pgurl u;
    char *text = neap_strndup((const char *)data, size);
    if (neap_pgurl_read(&u, text, &err)) {
        check_written(&u);
        free(neap_pgurl_write(&u, true));
        neap_pgurl_close(&u);
    } else NEAP_FUZZ_CHECK(err.code != NEAP_OK && err.message);
    neap_err_close(&err);
    free(text);
    return 0;
}
