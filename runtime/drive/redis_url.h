/* redis_url.h -- where a Redis is, as people write it (ecosystem.md 3.3):
 *
 *   redis://[[user]:password@]host[:port][/db][?db=N]        rediss:// the same over TLS
 *   unix://[[user]:password@]/path[?db=N]                    also redis+unix:// and redis-socket://
 *
 * Pure text, fuzzed. The password never leaves as text for people: no error repeats a part that may hold it, and
 * neap_redis_url_close wipes it. */
#ifndef NEAP_DRIVE_REDIS_URL_H
#define NEAP_DRIVE_REDIS_URL_H

#include <stdbool.h>
#include "base/err.h"

enum { NEAP_REDIS_PORT = 6379, NEAP_REDIS_MOST_DATABASES = 1 << 20 };

typedef struct neap_redis_url {
    char *user;                   /* NULL: none was named, and AUTH takes the password alone */
    char *password;               /* NULL: none */
    char *host;                   /* without brackets; NULL with a path */
    char *path;                   /* of a unix socket; NULL with a host */
    int   port;                   /* 0 with a path */
    int   db;                     /* -1: the URL names none */
    bool  tls;
} neap_redis_url;

/* False and err (CONFIG, naming the bad part) otherwise; `out` needs closing only on true. */
bool neap_redis_url_read(neap_redis_url *out, const char *url, neap_err *err);
void neap_redis_url_close(neap_redis_url *u);

#endif
