/* pgurl.h -- connection URLs as people have them: libpq's and those of Prisma, Drizzle/node-postgres, JDBC, Doctrine, SQLAlchemy,
 * Rails, Django and the Go drivers (ecosystem.md 3.2). Turned into libpq keyword/value pairs; what libpq would reject is
 * mapped, dropped with a notice, or refused with the key's name. The password never leaves as text for people: it is in no
 * error and no notice, and neap_pgurl_close wipes it. */
#ifndef NEAP_DRIVE_PGURL_H
#define NEAP_DRIVE_PGURL_H

#include <stdbool.h>
#include "base/err.h"

enum { NEAP_PGURL_PAIRS = 48 };           /* more than libpq has keywords */

typedef struct neap_pgurl {
    int   count;
    char *keys[NEAP_PGURL_PAIRS];         /* "host", "port", "dbname", "user", "password", "sslmode", "hostaddr", … */
    char *values[NEAP_PGURL_PAIRS];
    char *search_path;                    /* as SET search_path takes it (names quoted); NULL when the URL names none */
    bool  pooled;                         /* pgbouncer=true: no locks, LISTEN, rehearsal */
    char *notices[NEAP_PGURL_PAIRS];      /* full sentences: "connection_limit belongs to Prisma and is ignored." NULL-terminated */
} neap_pgurl;

/* A URL, or libpq's "host=… dbname=…" text. False and err (CONFIG) otherwise; `out` needs closing only on true. */
bool neap_pgurl_read(neap_pgurl *out, const char *url, neap_err *err);
void neap_pgurl_set(neap_pgurl *u, const char *key, const char *value);   /* replace or add; value NULL removes */
const char *neap_pgurl_get(const neap_pgurl *u, const char *key);
/* The same connection as a URL for a tool (password included: the result must be kept secret, and wiped). For prisma the schema becomes
 * ?schema= and only keys that Prisma knows are written. */
char *neap_pgurl_write(const neap_pgurl *u, bool prisma);
void neap_pgurl_close(neap_pgurl *u);

#endif
