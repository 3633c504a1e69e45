/* db.c -- the few things the journal and the index ask of SQLite; db.h says why each exists. */
#include "guard/db.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

bool neap_db_fail(sqlite3 *db, const char *doing, neap_err *err) {
    int code = sqlite3_errcode(db) & 0xff, why = sqlite3_system_errno(db);
    const char *path = sqlite3_db_filename(db, "main");
    neap_code as = code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? NEAP_E_INVALID
                 : code == SQLITE_BUSY || code == SQLITE_LOCKED    ? NEAP_E_BUSY : NEAP_E_JOURNAL;
    bool system = why && as == NEAP_E_JOURNAL && code != SQLITE_ERROR;
    neap_err_set(err, as, "cannot %s \"%s\": %s%s%s", doing, path ? path : "", sqlite3_errmsg(db),
                 system ? ", " : "", system ? strerror(why) : "");
    if (err && as == NEAP_E_BUSY) err->retry = true;
    return false;
}

/* A connection begins with 20 pages of memory, each of them touched, and again when its journal mode changes: 150 page faults for a run whose
 * files have six pages. */
static void take_pages_as_needed(void) { (void)sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0); }

sqlite3 *neap_db_open(const char *path, int flags, neap_err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sqlite3 *db = NULL;
    pthread_once(&once, take_pages_as_needed);
    if (sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        neap_err_set(err, NEAP_E_JOURNAL, "cannot open \"%s\": %s", path, db ? sqlite3_errmsg(db) : "out of memory");
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, NEAP_DB_BUSY_MS);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

bool neap_db_exec(sqlite3 *db, const char *sql, neap_err *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK || neap_db_fail(db, "use", err);
}

sqlite3_stmt *neap_db_prepare(sqlite3 *db, const char *sql, neap_err *err) {
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL) != SQLITE_OK) neap_db_fail(db, "use", err);
    return s;
}

static sqlite3_file *main_file(sqlite3 *db) {
    sqlite3_file *f = NULL;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
    return f && f->pMethods ? f : NULL;
}

bool neap_db_peek(sqlite3 *db, void *out, int len, int64_t offset) {
    sqlite3_file *f = main_file(db);
    return f && f->pMethods->xRead(f, out, len, offset) == SQLITE_OK;
}

bool neap_db_hash(sqlite3 *db, unsigned char out[NEAP_HASH_SIZE], neap_err *err) {
    static const int PIECE = 16 * NEAP_DB_PAGE;
    sqlite3_file *f = main_file(db);
    sqlite3_int64 size = 0, at = 0;
    char bytes[16 * NEAP_DB_PAGE];
    bool ok = f && f->pMethods->xFileSize(f, &size) == SQLITE_OK;
    neap_hash *h = neap_hash_new();
    for (; ok && at < size; at += PIECE) {
        int len = size - at < PIECE ? (int)(size - at) : PIECE;
        ok = f->pMethods->xRead(f, bytes, len, at) == SQLITE_OK;
        if (ok) neap_hash_add(h, bytes, (size_t)len);
    }
    neap_hash_end(h, out);
    return ok || neap_err_set(err, NEAP_E_JOURNAL, "cannot read \"%s\" to its end", sqlite3_db_filename(db, "main"));
}

bool neap_db_sync(sqlite3 *db, neap_err *err) {
    sqlite3_file *f = main_file(db);
    if (f && f->pMethods->xSync(f, SQLITE_SYNC_NORMAL) == SQLITE_OK) return true;
    return neap_err_set(err, NEAP_E_JOURNAL, "cannot sync \"%s\": %s", sqlite3_db_filename(db, "main"), strerror(errno));
}

int neap_db_grow_log(sqlite3 *db, int64_t size) {
    static const char zeros[16 * NEAP_DB_PAGE];
    sqlite3_file *f = NULL;
    sqlite3_int64 at = 0;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f);
    int rc = f && f->pMethods ? f->pMethods->xFileSize(f, &at) : SQLITE_IOERR;
    /* Real zeros, not fallocate: an extent that was never written costs a metadata commit when it first is. */
    for (; rc == SQLITE_OK && at < size; at += (int)sizeof zeros) {
        int len = size - at < (int)sizeof zeros ? (int)(size - at) : (int)sizeof zeros;
        rc = f->pMethods->xWrite(f, zeros, len, at);
    }
    return rc;
}
