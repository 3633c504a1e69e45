/* journal.c -- the one writer of an evidence file; journal.h says what it promises, evidence.c how it is read and proved.
 *
 *     create ──► LIVE ──commit failed: disk full──► SPENT (ballast gone; still writes, every commit answers false)
 *     resume ──►   │                                  │
 *                  ├──────any other failure───────────┴──► DEAD (writes nothing; a failed fsync is never tried again)
 *                  └──seal──► SEALED (only freed)
 *
 * Two threads meet here. The loop thread owns `pending`; whoever commits owns `batch`, the database and the chain. The hand-over
 * is take (before a commit) and settle (after it), both on the loop thread, never while a commit runs; only `durable`
 * and `health` are read across, hence atomic.
 *
 * One commit costs one fdatasync: the log is pre-grown with zeros, so that it is overwritten in place and its size
 * does not change; it doubles ahead of need up to LOG_MOST, where a checkpoint starts it over.
 *
 * Rejected: SQLite's own automatic checkpoint, which hides its failures; locking_mode=EXCLUSIVE, which would spare the shared
 * memory file but shut out `neap watch`; an extra descriptor of our own to fstat (closing it would drop SQLite's locks), so
 * identity is inode numbers by name, looked at after each commit and before it is believed. */
#include "guard/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "guard/evidence.h"
#include "guard/secret.h"

enum {
    BALLAST = 1 << 20,
    LOG_FIRST = 128 << 10, LOG_MOST = 1 << 20,             /* bytes of the write-ahead log */
    FRAME = NEAP_DB_PAGE + 24,
};

typedef struct entry {
    struct entry *next;
    neap_record   record;         /* its texts are owned */
    size_t        body_len;
} entry;

typedef struct queue { entry *first, **last; } queue;

typedef struct identity { dev_t device; ino_t inode; } identity;

struct neap_journal {
    neap_statedir state, dir;
    char         *run, *file, *log;                        /* paths of evidence.db and its log */
    identity      file_id, log_id;
    int           anchor;
    sqlite3      *db;
    sqlite3_stmt *begin, *insert, *commit;
    int64_t       next;
    queue         pending, batch;
    _Atomic int64_t durable;
    unsigned char head[NEAP_HASH_SIZE];                    /* of the record `durable` */
    int64_t       log_size, log_used;
    _Atomic enum { LIVE, SPENT, DEAD, SEALED } health;
};

/* ---- queues ---- */

static void queue_init(queue *q) { q->first = NULL; q->last = &q->first; }

static void queue_clear(queue *q) {
    for (entry *e = q->first, *next; e; e = next) {
        next = e->next;
        free((char *)e->record.kind);
        free((char *)e->record.step);
        free((char *)e->record.body);
        free(e);
    }
    queue_init(q);
}

int64_t neap_journal_append(neap_journal *j, const char *kind, const char *step, const char *body) {
    neap_buf clean = NEAP_BUF_INIT;
    size_t len = strlen(body);
    neap_redact(&clean, body, len);
    entry *e = neap_zalloc(sizeof *e);
    e->body_len = clean.len;
    bool redacted = clean.len != len || (len && memcmp(clean.data, body, len) != 0);
    e->record = (neap_record){
        .seq = j->next++, .at_ms = neap_clock_wall_ms(), .kind = neap_strdup(kind), .step = neap_strdup(step ? step : ""),
        .body = clean.data ? neap_buf_take(&clean) : neap_strdup(""), .redacted = redacted,
    };
    *j->pending.last = e;
    j->pending.last = &e->next;
    return e->record.seq;
}

bool neap_journal_is_dead(const neap_journal *j) { return j->health == DEAD || j->health == SEALED; }
bool neap_journal_is_dirty(const neap_journal *j) { return j->pending.first || j->batch.first; }

void neap_journal_take(neap_journal *j) {
    if (!j->pending.first) return;
    *j->batch.last = j->pending.first;
    j->batch.last = j->pending.last;
    queue_init(&j->pending);
}

int64_t neap_journal_durable(const neap_journal *j) { return atomic_load(&j->durable); }

void neap_journal_settle(neap_journal *j, neap_record_heir each, void *arg) {
    int64_t durable = neap_journal_durable(j);
    for (entry *e = j->batch.first; each && e && e->record.seq <= durable; e = e->next)
        if (!each(arg, &e->record)) break;
    queue_clear(&j->batch);
}

/* ---- is the file still the one we opened? ---- */

static bool look(const char *path, identity *id, neap_err *err) {
    struct stat st;
    if (lstat(path, &st) != 0) return neap_err_set(err, NEAP_E_JOURNAL, "the evidence file \"%s\" is gone: %s", path, strerror(errno));
    *id = (identity){st.st_dev, st.st_ino};
    const char *fault = !S_ISREG(st.st_mode) || st.st_nlink != 1 ? "is no longer a plain file with one name"
                      : st.st_uid != geteuid()                   ? "now belongs to another user"
                      : (st.st_mode & 07777) != 0600             ? "no longer has mode 600" : NULL;
    return !fault || neap_err_set(err, NEAP_E_JOURNAL, "the evidence file \"%s\" %s", path, fault);
}

static bool is_same(const char *path, const identity *then, neap_err *err) {
    identity now;
    if (!look(path, &now, err)) return false;
    return (now.device == then->device && now.inode == then->inode)
        || neap_err_set(err, NEAP_E_JOURNAL, "the evidence file \"%s\" was replaced by another", path);
}

static bool is_ours(const neap_journal *j, neap_err *err) {
    return is_same(j->file, &j->file_id, err) && is_same(j->log, &j->log_id, err);
}

/* ---- commit ---- */

static bool die(neap_journal *j, neap_err *err) {
    j->health = DEAD;
    neap_err_hint(err, "Nothing is done unrecorded, so the run has stopped. Records up to %lld are safe.", (long long)neap_journal_durable(j));
    return false;
}

/* What is left of a disk is the ballast: give it up once. */
static bool spend_ballast(neap_journal *j) {
    if (j->health == SPENT || unlinkat(j->dir.fd, "ballast", 0) != 0) return false;
    j->health = SPENT;
    return true;
}

static int step_once(sqlite3_stmt *s) {
    int rc = sqlite3_step(s);
    sqlite3_reset(s);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int insert(neap_journal *j, const entry *e, unsigned char hash[NEAP_HASH_SIZE]) {
    neap_chain_add(hash, &e->record, e->body_len);
    sqlite3_bind_int64(j->insert, 1, e->record.seq);
    sqlite3_bind_int64(j->insert, 2, e->record.at_ms);
    sqlite3_bind_text(j->insert, 3, e->record.kind, -1, SQLITE_STATIC);
    sqlite3_bind_text(j->insert, 4, e->record.step, -1, SQLITE_STATIC);
    sqlite3_bind_text(j->insert, 5, e->record.body, (int)e->body_len, SQLITE_STATIC);
    sqlite3_bind_blob(j->insert, 6, hash, NEAP_HASH_SIZE, SQLITE_STATIC);
    return step_once(j->insert);
}

/* The batch as one transaction, or nothing of it. On success the chain stands behind it. */
static int write_batch(neap_journal *j, int64_t *last, unsigned char hash[NEAP_HASH_SIZE]) {
    memcpy(hash, j->head, NEAP_HASH_SIZE);
    int rc = step_once(j->begin);
    for (entry *e = j->batch.first; rc == SQLITE_OK && e; e = e->next) {
        rc = insert(j, e, hash);
        *last = e->record.seq;
    }
    if (rc == SQLITE_OK) rc = step_once(j->commit);
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(j->db)) {
        neap_db_exec(j->db, "ROLLBACK", NULL);
    }
    return rc;
}

static int on_log(void *arg, sqlite3 *db, const char *name, int frames) {
    (void)db; (void)name;
    ((neap_journal *)arg)->log_used = (int64_t)frames * FRAME;
    return SQLITE_OK;
}

/* Keep the log overwritable: double it before it is full, start it over when it is large. */
static int tend_log(neap_journal *j) {
    if (j->log_used > LOG_MOST - LOG_MOST / 8) {
        int rc = sqlite3_wal_checkpoint_v2(j->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        return rc == SQLITE_BUSY ? SQLITE_OK : rc;         /* a reader is in the way: the next commit tries again */
    }
    if (j->log_used < j->log_size - j->log_size / 4 || j->log_size >= LOG_MOST) return SQLITE_OK;
    int rc = neap_db_grow_log(j->db, j->log_size * 2);
    j->log_size *= 2;
    return rc == SQLITE_FULL ? SQLITE_OK : rc;             /* only the room ahead of need is missing yet */
}

static bool refuse_full(const neap_journal *j, neap_err *err) {
    neap_err_set(err, NEAP_E_JOURNAL, "no space left for the journal in \"%s\"", j->dir.path);
    return neap_err_hint(err, "The end of this run is still recorded from a reserve. Free some space, then resume the run.");
}

static bool refuse_dead(const neap_journal *j, neap_err *err) {
    return neap_err_set(err, NEAP_E_JOURNAL, "the journal of run \"%s\" %s", j->run,
                        j->health == SEALED ? "is sealed" : "can no longer be written");
}

static bool commit_batch(neap_journal *j, neap_err *err) {
    unsigned char hash[NEAP_HASH_SIZE];
    int64_t last = 0;
    int rc = write_batch(j, &last, hash);
    if (rc == SQLITE_FULL && spend_ballast(j)) rc = write_batch(j, &last, hash);
    if (rc != SQLITE_OK) {
        if (rc == SQLITE_FULL) neap_err_set(err, NEAP_E_JOURNAL, "no space left for the journal in \"%s\", and no reserve", j->dir.path);
        else neap_err_set(err, NEAP_E_JOURNAL, "cannot write \"%s\": %s", j->file, sqlite3_errstr(rc));
        return die(j, err);
    }
    /* A file that has vanished since the last commit took the batch with it. */
    if (!is_ours(j, err)) return die(j, err);
    memcpy(j->head, hash, sizeof hash);
    atomic_store(&j->durable, last);
    return true;
}

static bool write_anchor(neap_journal *j, const unsigned char *file, bool durable, neap_err *err) {
    neap_anchor a = {.known = true, .seq = neap_journal_durable(j), .sealed = file != NULL};
    memcpy(a.head, j->head, sizeof a.head);
    if (file) memcpy(a.file, file, sizeof a.file);
    return neap_anchor_write(j->anchor, &a, durable, err);
}

bool neap_journal_commit(neap_journal *j, neap_err *err) {
    if (neap_journal_is_dead(j)) return refuse_dead(j, err);
    if (j->batch.first) {
        if (!commit_batch(j, err)) return false;
        if (!write_anchor(j, NULL, false, err)) return die(j, err);
        int rc = tend_log(j);
        if (rc == SQLITE_FULL) spend_ballast(j);
        else if (rc != SQLITE_OK) {
            neap_err_set(err, NEAP_E_JOURNAL, "cannot tend the log of \"%s\": %s", j->file, sqlite3_errstr(rc));
            return die(j, err);
        }
    }
    return j->health == LIVE || refuse_full(j, err);
}

/* ---- open and close ---- */

static bool lock(const neap_journal *j, neap_err *err) {
    if (flock(j->dir.fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK) return neap_err_set(err, NEAP_E_JOURNAL, "cannot lock \"%s\": %s", j->dir.path, strerror(errno));
    neap_err_set(err, NEAP_E_BUSY, "run \"%s\" is being written by another process", j->run);
    if (err) err->retry = true;
    return neap_err_hint(err, "`neap watch %s` shows what it does.", j->run);
}

static int make_file(const neap_journal *j, const char *name, neap_err *err) {
    int fd = openat(j->dir.fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) neap_err_set(err, NEAP_E_JOURNAL, "cannot make \"%s/%s\": %s", j->dir.path, name, strerror(errno));
    return fd;
}

/* The reserve; its blocks must really be taken. One that is there already stays. */
static bool make_ballast(const neap_journal *j, neap_err *err) {
    if (faccessat(j->dir.fd, "ballast", F_OK, AT_SYMLINK_NOFOLLOW) == 0) return true;
    int fd = make_file(j, "ballast", err);
    if (fd < 0) return false;
    int why = posix_fallocate(fd, 0, BALLAST);
    close(fd);
    if (why == 0) return true;
    unlinkat(j->dir.fd, "ballast", 0);
    neap_err_set(err, NEAP_E_JOURNAL, "cannot keep 1 MiB in reserve in \"%s\": %s", j->dir.path, strerror(why));
    return neap_err_hint(err, "A run must be able to record its own end; free some space in the state directory.");
}

static neap_journal *new_journal(const char *run) {
    neap_journal *j = neap_zalloc(sizeof *j);
    j->state = j->dir = (neap_statedir)NEAP_STATEDIR_INIT;
    j->anchor = -1;
    j->run = neap_strdup(run);
    j->next = 1;
    queue_init(&j->pending);
    queue_init(&j->batch);
    return j;
}

/* Somebody who reads at this moment (neap watch, neap show) keeps the log open; SQLite's own patience does not cover the lock that
 * leaving it takes, so it is asked again. We are on the pool: waiting holds nobody up. */
static bool change_mode(neap_journal *j, const char *sql, neap_err *err) {
    int64_t ends = neap_clock_mono_ms() + NEAP_DB_BUSY_MS;
    struct timespec pause = {.tv_nsec = 5 * 1000000};
    for (;;) {
        neap_err why = NEAP_ERR_INIT;
        if (neap_db_exec(j->db, sql, &why)) return true;
        if (why.code != NEAP_E_BUSY || neap_clock_mono_ms() >= ends) {
            neap_err_move(err, &why);
            return false;
        }
        neap_err_close(&why);
        nanosleep(&pause, NULL);
    }
}

/* From rollback mode, or from the log of a run that was killed, to a new log; and the statements that are kept. The change of the header
 * is one sector: with the rollback journal in memory it cannot leave a hot one behind, which a reader could not open. */
static bool start_log(neap_journal *j, neap_err *err) {
    int on = 1;
    if (!change_mode(j, "PRAGMA journal_mode=MEMORY; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
                        "SELECT seq FROM record LIMIT 1", err)) return false;
    sqlite3_file_control(j->db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    sqlite3_wal_hook(j->db, on_log, j);
    j->log_size = LOG_FIRST;
    if (neap_db_grow_log(j->db, LOG_FIRST) != SQLITE_OK)
        return neap_err_set(err, NEAP_E_JOURNAL, "cannot write \"%s\": no room for its log", j->file);
    j->begin = neap_db_prepare(j->db, "BEGIN IMMEDIATE", err);
    j->insert = neap_db_prepare(j->db, "INSERT INTO record(seq, at, kind, step, body, hash) VALUES (?, ?, ?, ?, ?, ?)", err);
    j->commit = neap_db_prepare(j->db, "COMMIT", err);
    return j->begin && j->insert && j->commit && look(j->file, &j->file_id, err) && look(j->log, &j->log_id, err);
}

static bool open_file(neap_journal *j, neap_err *err) {
    j->file = neap_statedir_path(&j->dir, "evidence.db");
    j->log = neap_statedir_path(&j->dir, "evidence.db-wal");
    return (j->db = neap_db_open(j->file, SQLITE_OPEN_READWRITE, err)) != NULL;
}

/* Everything is written without syncs while nobody can know of it; one sync at the end makes it count. */
static const char SCHEMA[] =
    "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; BEGIN;"
    "PRAGMA application_id=0x6e656170; PRAGMA user_version=1;"
    "CREATE TABLE record(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, step TEXT NOT NULL,"
    "  body TEXT NOT NULL, hash BLOB NOT NULL);"
    "CREATE TABLE seal(status TEXT NOT NULL, at INTEGER NOT NULL); COMMIT";

static bool create_files(neap_journal *j, neap_err *err) {
    if (!lock(j, err) || !make_ballast(j, err)) return false;
    int fd = make_file(j, "evidence.db", err);
    if (fd < 0) return false;
    close(fd);
    neap_chain_begin(j->head, j->run);
    if ((j->anchor = make_file(j, "anchor", err)) < 0 || !write_anchor(j, NULL, false, err)) return false;
    return open_file(j, err) && neap_db_exec(j->db, SCHEMA, err) && start_log(j, err)
        && neap_db_sync(j->db, err) && neap_statedir_sync_path(&j->dir, err);
}

static void remove_files(const neap_journal *j) {
    static const char *const NAMES[] = {"evidence.db", "evidence.db-wal", "evidence.db-shm", "evidence.db-journal", "anchor", "ballast"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) unlinkat(j->dir.fd, NAMES[i], 0);
    rmdir(j->dir.path);
}

neap_journal *neap_journal_create(const char *state, const char *run, neap_err *err) {
    neap_journal *j = new_journal(run);
    if (neap_statedir_open(&j->state, state, true, err) && neap_statedir_run(&j->dir, &j->state, run, true, err)) {
        if (create_files(j, err)) return j;
        remove_files(j);
    }
    neap_journal_free(j);
    return NULL;
}

/* Index, anchor, file: the reverse of sealing (evidence.c). */
static bool unseal(neap_journal *j, neap_err *err) {
    neap_evidence_row row;
    bool sealed = false;
    if (!neap_evidence_is_sealed(j->db, &sealed, err)) return false;
    if (sealed) {
        if (!neap_evidence_summary(j->db, j->run, &row, err)) return false;
        row.row.status = "running";
        row.row.ended_ms = 0;
        row.row.hash = "";
        bool ok = neap_index_note(j->state.path, &row.row, err);
        neap_evidence_row_close(&row);
        if (!ok) return false;
    }
    return write_anchor(j, NULL, true, err);
}

static bool resume_files(neap_journal *j, neap_err *err) {
    char head[NEAP_HASH_HEX_SIZE];
    int64_t last = 0;
    neap_evidence_row row;
    if (!lock(j, err) || !neap_journal_verify(j->state.path, j->run, head, &last, err) || !make_ballast(j, err)) return false;
    if (!neap_statedir_check(&j->dir, "anchor", NULL, err)) return false;
    if ((j->anchor = openat(j->dir.fd, "anchor", O_RDWR | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return neap_err_set(err, NEAP_E_JOURNAL, "cannot open \"%s/anchor\": %s", j->dir.path, strerror(errno));
    if (!open_file(j, err) || !neap_evidence_summary(j->db, j->run, &row, err)) return false;
    if (row.row.records) memcpy(j->head, sqlite3_column_blob(row.stmt, 9), NEAP_HASH_SIZE);
    else neap_chain_begin(j->head, j->run);
    neap_evidence_row_close(&row);
    atomic_store(&j->durable, last);
    j->next = last + 1;
    return unseal(j, err) && start_log(j, err) && neap_db_exec(j->db, "DELETE FROM seal", err) && neap_statedir_sync(&j->dir, err);
}

neap_journal *neap_journal_resume(const char *state, const char *run, neap_err *err) {
    neap_journal *j = new_journal(run);
    if (neap_statedir_open(&j->state, state, false, err) && neap_statedir_run(&j->dir, &j->state, run, false, err)
        && resume_files(j, err)) return j;
    neap_journal_free(j);
    return NULL;
}

static void close_file(neap_journal *j) {
    sqlite3_finalize(j->begin);
    sqlite3_finalize(j->insert);
    sqlite3_finalize(j->commit);
    sqlite3_close(j->db);
    j->begin = j->insert = j->commit = NULL;
    j->db = NULL;
}

void neap_journal_free(neap_journal *j) {
    if (!j) return;
    close_file(j);
    if (j->anchor >= 0) close(j->anchor);
    neap_statedir_close(&j->dir);
    neap_statedir_close(&j->state);
    queue_clear(&j->pending);
    queue_clear(&j->batch);
    free(j->run);
    free(j->file);
    free(j->log);
    free(j);
}

/* ---- seal ---- */

/* Not synced by itself: the checkpoint that follows syncs the log first. */
static bool write_seal(neap_journal *j, const char *status, int64_t at_ms, neap_err *err) {
    if (!neap_db_exec(j->db, "PRAGMA synchronous=NORMAL", err)) return false;
    sqlite3_stmt *s = neap_db_prepare(j->db, "INSERT INTO seal(status, at) VALUES (?, ?)", err);
    if (!s) return false;
    sqlite3_bind_text(s, 1, status, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, at_ms);
    bool ok = sqlite3_step(s) == SQLITE_DONE || neap_db_fail(j->db, "write", err);
    sqlite3_finalize(s);
    return ok;
}

/* Checkpoint everything, give up the log, and see that it is so. MEMORY for the reason start_log gives; in the file it
 * is the same plain mode as DELETE. */
static bool close_log(neap_journal *j, neap_err *err) {
    int off = 0;
    bool sealed = false;
    sqlite3_file_control(j->db, "main", SQLITE_FCNTL_PERSIST_WAL, &off);
    return change_mode(j, "PRAGMA synchronous=FULL; PRAGMA journal_mode=MEMORY", err)
        && neap_evidence_is_sealed(j->db, &sealed, err)
        && (sealed || neap_err_set(err, NEAP_E_BUSY, "the log of \"%s\" could not be closed", j->file));
}

/* A run that the index has never heard of (it was removed meanwhile) is read back from its evidence. */
static bool list_again(neap_journal *j, const char *hash, neap_err *err) {
    neap_evidence_row row;
    if (!neap_evidence_summary(j->db, j->run, &row, err)) return false;
    row.row.hash = hash;
    bool ok = neap_index_note(j->state.path, &row.row, err);
    neap_evidence_row_close(&row);
    return ok;
}

static bool publish(neap_journal *j, const char *status, int64_t at_ms, neap_err *err) {
    unsigned char file[NEAP_HASH_SIZE];
    char hash[NEAP_HASH_HEX_SIZE], head[NEAP_HASH_HEX_SIZE];
    bool listed;
    if (!neap_db_hash(j->db, file, err) || !write_anchor(j, file, true, err)) return false;
    neap_hash_hex(file, hash);
    neap_hash_hex(j->head, head);
    neap_index_row row = {.run = j->run, .status = status, .ended_ms = at_ms, .hash = hash, .head = head, .records = neap_journal_durable(j)};
    return neap_index_end(j->state.path, &row, &listed, err) && (listed || list_again(j, hash, err));
}

bool neap_journal_seal(neap_journal *j, const char *status, neap_err *err) {
    int64_t at_ms = neap_clock_wall_ms();
    if (!neap_journal_commit(j, err)) {
        if (j->health != SPENT) return false;
        neap_err_close(err);                               /* sealing is what the reserve is for */
    }
    if (!is_ours(j, err)) return die(j, err);
    if (!write_seal(j, status, at_ms, err)) return false;
    if (j->health == LIVE) unlinkat(j->dir.fd, "ballast", 0);
    /* A log that came back after a power cut would speak against the seal: it is gone for good before anything says sealed. */
    if (!close_log(j, err) || !neap_statedir_sync(&j->dir, err) || !publish(j, status, at_ms, err)) return false;
    j->health = SEALED;
    close_file(j);
    return true;
}
