/* index.c -- the list of runs, kept beside the evidence and never believed against it; index.h says what it promises.
 *
 * Every call opens the file, asks or writes once, and closes it: runs of several processes come by for a millisecond each, and
 * nobody holds it while waiting for a server. A reader of a state directory without an index sees an empty list and makes
 * nothing. The partial index is used because query and index state the same predicate, UNFINISHED below.
 *
 * Rebuilding replaces all rows in one transaction; readers see the old list until then. A file that is no database any
 * more is removed first. Hashes come from the anchors, not from the files as they are now: a rebuild must not make
 * evidence true that was changed before it. */
#include "guard/index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "guard/evidence.h"

#define UNFINISHED "status IN ('running', 'held', 'unknown')"
#define COLUMNS "run, runbook, environment, user, host, status, targets, started_ms, ended_ms, hash, head, records"

enum { LAYOUT = 1, MARK = 0x6e656178 };                    /* "neax" */

static const char SCHEMA[] =
    "CREATE TABLE run(run TEXT PRIMARY KEY, runbook TEXT NOT NULL, environment TEXT NOT NULL, user TEXT NOT NULL,"
    "  host TEXT NOT NULL, status TEXT NOT NULL, targets TEXT NOT NULL, started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,"
    "  hash TEXT NOT NULL, head TEXT NOT NULL, records INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX run_by_start ON run(started_ms);"
    "CREATE INDEX run_unfinished ON run(started_ms) WHERE " UNFINISHED ";"
    "PRAGMA application_id=0x6e656178; PRAGMA user_version=1;";

/* ---- opening ---- */

static bool number_of(sqlite3 *db, const char *pragma, int64_t *out, neap_err *err) {
    sqlite3_stmt *s = neap_db_prepare(db, pragma, err);
    if (!s) return false;
    bool ok = sqlite3_step(s) == SQLITE_ROW;
    if (ok) *out = sqlite3_column_int64(s, 0);
    else neap_db_fail(db, "read", err);
    sqlite3_finalize(s);
    return ok;
}

static bool check_layout(sqlite3 *db, int64_t *layout, neap_err *err) {
    if (!number_of(db, "PRAGMA user_version", layout, err)) return false;
    if (*layout <= LAYOUT) return true;
    neap_err_set(err, NEAP_E_INVALID, "the index of runs was written by a newer neap (layout %lld)", (long long)*layout);
    return neap_err_hint(err, "Use that version, or rebuild the index from the evidence.");
}

static bool hint_rebuild(neap_err *err) {
    if (err && err->code == NEAP_E_INVALID && !err->hint)
        neap_err_hint(err, "The index of runs can be rebuilt from the evidence files; nothing in them is lost.");
    return false;
}

/* In a write transaction, its tables there. */
static bool start_writing(sqlite3 *db, neap_err *err) {
    int64_t layout = 0;
    return neap_db_exec(db, "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=EXTRA; BEGIN IMMEDIATE", err)
        && check_layout(db, &layout, err) && (layout == LAYOUT || neap_db_exec(db, SCHEMA, err));
}

static bool make_file(const neap_statedir *dir, neap_err *err) {
    int fd = openat(dir->fd, "index.db", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST) return neap_err_set(err, NEAP_E_JOURNAL, "cannot make \"%s/index.db\": %s", dir->path, strerror(errno));
    if (fd >= 0) close(fd);
    return true;
}

static sqlite3 *open_index(const neap_statedir *dir, int flags, neap_err *err) {
    if (!neap_statedir_check(dir, "index.db", NULL, err)) return NULL;
    char *path = neap_statedir_path(dir, "index.db");
    sqlite3 *db = neap_db_open(path, flags, err);
    free(path);
    return db;
}

static sqlite3 *open_to_write(const neap_statedir *dir, neap_err *err) {
    /* Creating under O_EXCL and closing at once: only the process that made the file ever has a second descriptor of it,
     * and no lock of its own yet. */
    if (!make_file(dir, err)) return NULL;
    sqlite3 *db = open_index(dir, SQLITE_OPEN_READWRITE, err);
    if (db && start_writing(db, err)) return db;
    sqlite3_close(db);
    hint_rebuild(err);
    return NULL;
}

/* NULL with err empty: there is no index yet. */
static sqlite3 *open_to_read(const char *state, neap_err *err) {
    struct stat st;
    neap_statedir dir;
    int64_t layout = 0;
    if (lstat(state, &st) != 0 && errno == ENOENT) return NULL;
    if (!neap_statedir_open(&dir, state, false, err)) return NULL;
    bool there = fstatat(dir.fd, "index.db", &st, AT_SYMLINK_NOFOLLOW) == 0;
    /* Writable all the same: whoever died in the middle of a write left a journal that the next reader must roll back. */
    sqlite3 *db = there ? open_index(&dir, SQLITE_OPEN_READWRITE, err) : NULL;
    neap_statedir_close(&dir);
    bool ok = db && check_layout(db, &layout, err);
    if (ok && layout == LAYOUT) return db;
    sqlite3_close(db);
    hint_rebuild(err);
    return NULL;
}

static bool finish(sqlite3 *db, bool ok, neap_err *err) {
    ok = ok && neap_db_exec(db, "COMMIT", err);
    sqlite3_close(db);
    return ok || hint_rebuild(err);
}

/* ---- rows ---- */

static void bind_row(sqlite3_stmt *s, const neap_index_row *r) {
    const char *texts[] = {r->run, r->runbook, r->environment, r->user, r->host, r->status, r->targets};
    for (int i = 0; i < 7; i++) sqlite3_bind_text(s, i + 1, texts[i] ? texts[i] : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 8, r->started_ms);
    sqlite3_bind_int64(s, 9, r->ended_ms);
    sqlite3_bind_text(s, 10, r->hash ? r->hash : "", -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 11, r->head ? r->head : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 12, r->records);
}

static bool write_row(sqlite3 *db, const char *sql, const neap_index_row *row, neap_err *err) {
    sqlite3_stmt *s = neap_db_prepare(db, sql, err);
    if (!s) return false;
    bind_row(s, row);
    bool ok = sqlite3_step(s) == SQLITE_DONE || neap_db_fail(db, "write", err);
    sqlite3_finalize(s);
    return ok;
}

static const char INSERT[] = "INSERT OR REPLACE INTO run(" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
static const char NOTE[] =
    "INSERT INTO run(" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(run) DO UPDATE SET"
    " status = excluded.status, ended_ms = excluded.ended_ms, hash = excluded.hash, head = excluded.head, records = excluded.records";

static const char END[] = "UPDATE run SET status = ?6, ended_ms = ?9, hash = ?10, head = ?11, records = ?12 WHERE run = ?1";

static bool change(const char *state, const char *sql, const neap_index_row *row, int *rows, neap_err *err) {
    neap_statedir dir;
    if (!neap_statedir_is_run(row->run)) return neap_err_set(err, NEAP_E_USAGE, "\"%s\" is not the id of a run", row->run);
    if (!neap_statedir_open(&dir, state, true, err)) return false;
    sqlite3 *db = open_to_write(&dir, err);
    neap_statedir_close(&dir);
    if (!db) return false;
    bool ok = write_row(db, sql, row, err);
    if (rows) *rows = sqlite3_changes(db);
    return finish(db, ok, err);
}

bool neap_index_put(const char *state, const neap_index_row *row, neap_err *err) { return change(state, INSERT, row, NULL, err); }
bool neap_index_note(const char *state, const neap_index_row *row, neap_err *err) { return change(state, NOTE, row, NULL, err); }

bool neap_index_end(const char *state, const neap_index_row *row, bool *listed, neap_err *err) {
    int rows = 0;
    bool ok = change(state, END, row, &rows, err);
    *listed = rows > 0;
    return ok;
}

bool neap_index_remove(const char *state, const char *run, neap_err *err) {
    neap_index_row row = {.run = run};
    return change(state, "DELETE FROM run WHERE run = ?1 AND ?12 IS NOT NULL", &row, NULL, err);
}

static bool each_row(sqlite3 *db, sqlite3_stmt *s, neap_index_fn each, void *arg, neap_err *err) {
    int rc;
    bool more = true;
    while (more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *t[12];
        for (int i = 0; i < 12; i++) if (!(t[i] = (const char *)sqlite3_column_text(s, i))) t[i] = "";
        neap_index_row row = {
            .run = t[0], .runbook = t[1], .environment = t[2], .user = t[3], .host = t[4], .status = t[5], .targets = t[6],
            .started_ms = sqlite3_column_int64(s, 7), .ended_ms = sqlite3_column_int64(s, 8),
            .hash = t[9], .head = t[10], .records = sqlite3_column_int64(s, 11),
        };
        more = each(arg, &row);
    }
    return !more || rc == SQLITE_DONE || neap_db_fail(db, "read", err);
}

static bool query(const char *state, const char *sql, const char *from, const char *to, int limit,
                  neap_index_fn each, void *arg, neap_err *err) {
    neap_err why = NEAP_ERR_INIT;
    sqlite3 *db = open_to_read(state, &why);
    if (!db) {
        bool empty = why.code == NEAP_OK;
        if (!empty) neap_err_move(err, &why);
        return empty;
    }
    sqlite3_stmt *s = neap_db_prepare(db, sql, err);
    if (s && from) sqlite3_bind_text(s, 1, from, -1, SQLITE_STATIC);
    if (s && to) sqlite3_bind_text(s, 2, to, -1, SQLITE_STATIC);
    if (s && !from) sqlite3_bind_int(s, 1, limit > 0 ? limit : -1);
    bool ok = s && each_row(db, s, each, arg, err);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return ok || hint_rebuild(err);
}

const char *neap_index_query(bool unfinished_only) {
    return unfinished_only ? "SELECT " COLUMNS " FROM run WHERE " UNFINISHED " ORDER BY started_ms DESC, run DESC LIMIT ?"
                           : "SELECT " COLUMNS " FROM run ORDER BY started_ms DESC, run DESC LIMIT ?";
}

bool neap_index_each(const char *state, bool unfinished_only, int limit, neap_index_fn each, void *arg, neap_err *err) {
    return query(state, neap_index_query(unfinished_only), NULL, NULL, limit, each, arg, err);
}

bool neap_index_find(const char *state, const char *prefix, neap_index_fn each, void *arg, neap_err *err) {
    if (!neap_statedir_is_run(prefix)) return neap_err_set(err, NEAP_E_USAGE, "\"%s\" is not the id of a run", prefix);
    neap_buf end = NEAP_BUF_INIT;
    neap_buf_addf(&end, "%s~", prefix);                    /* '~' is behind everything an id may hold */
    bool ok = query(state, "SELECT " COLUMNS " FROM run WHERE run >= ? AND run < ? ORDER BY run LIMIT 100",
                    prefix, end.data, 0, each, arg, err);
    neap_buf_close(&end);
    return ok;
}

/* ---- rebuild ---- */

static bool add_damaged(sqlite3 *db, const char *run, neap_err *err) {
    neap_index_row row = {.run = run, .status = "damaged", .targets = "[]"};
    return write_row(db, INSERT, &row, err);
}

static bool add_run(sqlite3 *db, const neap_statedir *state, const char *run, neap_err *err) {
    neap_evidence e;
    neap_evidence_row row;
    if (!neap_evidence_open(&e, state, run, NULL)) return add_damaged(db, run, err);
    bool ok = neap_evidence_summary(e.db, run, &row, NULL);
    if (ok && e.sealed && e.anchor.sealed) neap_hash_hex(e.anchor.file, row.hash);
    if (ok && !e.sealed) row.head[0] = '\0', row.row.records = 0;          /* as a running run is listed */
    bool added = ok ? write_row(db, INSERT, &row.row, err) : add_damaged(db, run, err);
    if (ok) neap_evidence_row_close(&row);
    neap_evidence_close(&e);
    return added;
}

static bool add_runs(sqlite3 *db, const neap_statedir *state, int *runs, neap_err *err) {
    neap_statedir dir;
    if (faccessat(state->fd, "runs", F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT) return true;
    if (!neap_statedir_enter(&dir, state, "runs", false, err)) return false;
    int fd = fcntl(dir.fd, F_DUPFD_CLOEXEC, 0);    /* closedir closes it */
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (!list && fd >= 0) close(fd);
    bool ok = list || neap_err_set(err, NEAP_E_JOURNAL, "cannot list \"%s\": %s", dir.path, strerror(errno));
    for (struct dirent *d; ok && (d = readdir(list)); ) {
        if (!neap_statedir_is_run(d->d_name)) continue;
        ok = add_run(db, state, d->d_name, err);
        *runs += ok;
    }
    if (list) closedir(list);
    neap_statedir_close(&dir);
    return ok;
}

bool neap_index_rebuild(const char *state, int *runs, neap_err *err) {
    neap_statedir dir;
    neap_err why = NEAP_ERR_INIT;
    *runs = 0;
    if (!neap_statedir_open(&dir, state, true, err)) return false;
    sqlite3 *db = open_to_write(&dir, &why);
    if (!db && why.code == NEAP_E_INVALID) {
        neap_err_close(&why);
        unlinkat(dir.fd, "index.db-journal", 0);
        unlinkat(dir.fd, "index.db", 0);
        db = open_to_write(&dir, &why);
    }
    if (!db) neap_err_move(err, &why);
    bool ok = db && finish(db, neap_db_exec(db, "DELETE FROM run", err) && add_runs(db, &dir, runs, err), err);
    neap_statedir_close(&dir);
    return ok;
}
