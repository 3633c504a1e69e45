/* pgurl.h -- connection URLs as people have them: libpq's and those of Prisma, Drizzle/node-postgres, JDBC, Doctrine, SQLAlchemy
 * (ecosystem.md 3.2). Turned into libpq keyword/value pairs; what libpq would reject is mapped, dropped with a notice, or refused
 * with the key's name. The password never leaves as text for people: neap_pgurl_close wipes it. */
#ifndef NEAP_DRIVE_PGURL_H
#define NEAP_DRIVE_PGURL_H

#include <stdbool.h>
#include "base/err.h"

enum { NEAP_PGURL_PAIRS = 32 };

typedef struct neap_pgurl {
    int   count;
    char *keys[NEAP_PGURL_PAIRS];         /* "host", "port", "dbname", "user", "password", "sslmode", "hostaddr", … */
    char *values[NEAP_PGURL_PAIRS];
    char *search_path;                    /* NULL when the URL names none */
    bool  pooled;                         /* pgbouncer=true: no locks, LISTEN, rehearsal */
    char *notices[NEAP_PGURL_PAIRS];      /* full sentences: "connection_limit belongs to Prisma and is ignored." NULL-terminated */
} neap_pgurl;

bool neap_pgurl_read(neap_pgurl *out, const char *url, neap_err *err);
void neap_pgurl_set(neap_pgurl *u, const char *key, const char *value);   /* replace or add; value NULL removes */
const char *neap_pgurl_get(const neap_pgurl *u, const char *key);
/* The same connection as a URL for a tool (password included: the result must be kept secret). `schema` as ?schema= when prisma. */
char *neap_pgurl_write(const neap_pgurl *u, bool prisma);
void neap_pgurl_close(neap_pgurl *u);

#endif
