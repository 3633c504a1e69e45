/* db.h -- SQLite as the journal uses it: never through a symbolic link, failures in our own words, and the
 * file's bytes only ever read through SQLite's own descriptor (closing another one would drop its locks: POSIX, fcntl). */
#ifndef NEAP_GUARD_DB_H
#define NEAP_GUARD_DB_H

#include <stdbool.h>
#include <stdint.h>
#include <sqlite3.h>
#include "base/err.h"
#include "base/hash.h"

enum { NEAP_DB_HEADER = 100, NEAP_DB_PAGE = 4096, NEAP_DB_BUSY_MS = 5000 };

/* `flags` as sqlite3_open_v2. Nothing in the file's schema is trusted, and closing never checkpoints. */
sqlite3 *neap_db_open(const char *path, int flags, neap_err *err);
bool neap_db_exec(sqlite3 *db, const char *sql, neap_err *err);
sqlite3_stmt *neap_db_prepare(sqlite3 *db, const char *sql, neap_err *err);
/* Returns false; `doing` is "read", "write", … A damaged file is INVALID, a locked one BUSY, the rest JOURNAL. */
bool neap_db_fail(sqlite3 *db, const char *doing, neap_err *err);

/* Bytes of the main file; false when it is shorter. */
bool neap_db_peek(sqlite3 *db, void *out, int len, int64_t offset);
bool neap_db_hash(sqlite3 *db, unsigned char out[NEAP_HASH_SIZE], neap_err *err);
/* Make the main file durable now, whatever `synchronous` says. */
bool neap_db_sync(sqlite3 *db, neap_err *err);
/* Let the write-ahead log occupy `size` bytes, so that commits overwrite instead of growing it. SQLITE_* code. */
int neap_db_grow_log(sqlite3 *db, int64_t size);

#endif
