/* evidence.c -- reading and proving evidence; evidence.h says what it promises.
 *
 * Two states, told apart by bytes 18 and 19 of the file before SQLite looks at it:
 *
 *     OPEN    (2,2: write-ahead log)  newer records lie in the log beside it; the anchor and the index name no hash of the file
 *     SEALED  (1,1: plain file)       the anchor names the file's hash, and so does the index once it has heard of it
 *
 * Whoever seals writes file, anchor, index in this order, whoever unseals index, anchor, file; so after a crash at any point a
 * hash is only ever missing, never wrong, and a hash for an open file proves tampering.
 *
 * What a proof covers. SEALED: every byte of the file (its hash, in the anchor and in the index). OPEN: every byte of every
 * record (the chain, with the storage class of each column, since SQLite would read a blob as text), and the end (the
 * anchor): SQLite drops a damaged log frame and all behind it without a word, which looks like a shorter journal.
 * What it cannot cover: somebody who may write the directory and rewrites records, chain, anchor and index together. */
#include "guard/evidence.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "base/buf.h"

static uint32_t number(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool neap_evidence_is_sealed(sqlite3 *db, bool *sealed, neap_err *err) {
    unsigned char h[NEAP_DB_HEADER];
    const char *path = sqlite3_db_filename(db, "main");
    if (!neap_db_peek(db, h, sizeof h, 0) || memcmp(h, "SQLite format 3", 16) != 0 || number(h + 68) != NEAP_EVIDENCE_MARK)
        return neap_err_set(err, NEAP_E_INVALID, "\"%s\" is not the evidence of a run, or its beginning is damaged", path);
    if (number(h + 60) > NEAP_EVIDENCE_LAYOUT) {
        neap_err_set(err, NEAP_E_INVALID, "\"%s\" was written by a newer neap (layout %u)", path, number(h + 60));
        return neap_err_hint(err, "Use the version of neap that wrote it; `neap version` tells which one this is.");
    }
    *sealed = h[18] == 1 && h[19] == 1;
    return *sealed || (h[18] == 2 && h[19] == 2) || neap_err_set(err, NEAP_E_INVALID, "the header of \"%s\" is damaged", path);
}

static bool check_state(neap_evidence *e, neap_err *err) {
    struct stat st;
    if (!neap_evidence_is_sealed(e->db, &e->sealed, err)) return false;
    if (e->sealed) return true;
    /* A resume may have come between the two looks; it unseals the anchor before the file. */
    if (e->anchor.sealed && !neap_anchor_read(e->dir.fd, &e->anchor, err)) return false;
    if (e->anchor.sealed) return neap_err_set(err, NEAP_E_INVALID, "run \"%s\" was sealed, but its evidence is open", e->run);
    /* Sealing may have died between giving up the log and saying so in the header: then there is none, and nothing was in it. */
    if (fstatat(e->dir.fd, "evidence.db-wal", &st, AT_SYMLINK_NOFOLLOW) != 0) return true;
    return neap_statedir_check(&e->dir, "evidence.db-wal", NULL, err);
}

bool neap_evidence_open(neap_evidence *e, const neap_statedir *state, const char *run, neap_err *err) {
    memset(e, 0, sizeof *e);
    if (!neap_statedir_run(&e->dir, state, run, false, err)) return false;
    e->run = neap_strdup(run);
    /* The anchor first: it may be behind the records, never ahead of them. */
    bool ok = neap_anchor_read(e->dir.fd, &e->anchor, err) && neap_statedir_check(&e->dir, "evidence.db", NULL, err);
    if (ok) {
        char *path = neap_statedir_path(&e->dir, "evidence.db");
        ok = (e->db = neap_db_open(path, SQLITE_OPEN_READONLY, err)) != NULL;
        free(path);
    }
    /* Preparing reads the schema: from here on the snapshot stands. */
    ok = ok && check_state(e, err) && neap_db_exec(e->db, "BEGIN; SELECT seq FROM record LIMIT 1", err);
    if (!ok) neap_evidence_close(e);
    return ok;
}

void neap_evidence_close(neap_evidence *e) {
    sqlite3_close(e->db);
    neap_statedir_close(&e->dir);
    free(e->run);
    *e = (neap_evidence){.dir = NEAP_STATEDIR_INIT};
}

static bool has_types(sqlite3_stmt *s) {
    static const int TYPES[] = {SQLITE_INTEGER, SQLITE_INTEGER, SQLITE_TEXT, SQLITE_TEXT, SQLITE_TEXT, SQLITE_BLOB};
    for (int i = 0; i < 6; i++) if (sqlite3_column_type(s, i) != TYPES[i]) return false;
    return sqlite3_column_bytes(s, 5) == NEAP_HASH_SIZE;
}

/* Does this row follow from `hash`? Leaves its own hash there. */
static bool follows(sqlite3_stmt *s, int64_t seq, unsigned char hash[NEAP_HASH_SIZE]) {
    if (sqlite3_column_int64(s, 0) != seq || !has_types(s)) return false;
    neap_record r = {
        .seq = seq, .at_ms = sqlite3_column_int64(s, 1), .kind = (const char *)sqlite3_column_text(s, 2),
        .step = (const char *)sqlite3_column_text(s, 3), .body = (const char *)sqlite3_column_text(s, 4),
    };
    size_t kind = (size_t)sqlite3_column_bytes(s, 2), step = (size_t)sqlite3_column_bytes(s, 3);
    if (!r.kind || !r.step || !r.body || strlen(r.kind) != kind || strlen(r.step) != step) return false;
    neap_chain_add(hash, &r, (size_t)sqlite3_column_bytes(s, 4));
    return memcmp(hash, sqlite3_column_blob(s, 5), NEAP_HASH_SIZE) == 0;
}

/* The anchor may be behind the records (a power cut) but never ahead, and what it says must be so. */
static bool check_anchor(const neap_evidence *e, const unsigned char at_anchor[NEAP_HASH_SIZE], int64_t last, neap_err *err) {
    const neap_anchor *a = &e->anchor;
    if (!a->known) return true;
    if (a->seq > last || (a->sealed && a->seq != last))
        return neap_err_set(err, NEAP_E_INVALID, "run \"%s\" ends with record %lld, but record %lld had been written", e->run,
                            (long long)last, (long long)a->seq);
    if (memcmp(a->head, at_anchor, NEAP_HASH_SIZE) == 0) return true;
    return neap_err_set(err, NEAP_E_INVALID, "record %lld of run \"%s\" is not the one its anchor names", (long long)a->seq, e->run);
}

static bool check_file(neap_evidence *e, neap_err *err) {
    unsigned char now[NEAP_HASH_SIZE];
    if (!e->sealed || !e->anchor.sealed) return true;
    if (!neap_db_hash(e->db, now, err)) return false;
    if (memcmp(now, e->anchor.file, sizeof now) == 0) return true;
    return neap_err_set(err, NEAP_E_INVALID, "the evidence of run \"%s\" was changed after it was sealed", e->run);
}

bool neap_evidence_prove(neap_evidence *e, unsigned char head[NEAP_HASH_SIZE], int64_t *last, neap_err *err) {
    unsigned char at_anchor[NEAP_HASH_SIZE];
    sqlite3_stmt *s = neap_db_prepare(e->db, "SELECT seq, at, kind, step, body, hash FROM record ORDER BY seq", err);
    if (!s) return false;
    bool ok = true;
    int rc;
    neap_chain_begin(head, e->run);
    memcpy(at_anchor, head, sizeof at_anchor);
    for (*last = 0; ok && (rc = sqlite3_step(s)) == SQLITE_ROW; ) {
        ++*last;
        if (!follows(s, *last, head))
            ok = neap_err_set(err, NEAP_E_INVALID, "record %lld of run \"%s\" is damaged or missing", (long long)*last, e->run);
        if (*last == e->anchor.seq) memcpy(at_anchor, head, sizeof at_anchor);
    }
    if (ok && rc != SQLITE_DONE) ok = neap_db_fail(e->db, "read", err);
    sqlite3_finalize(s);
    return ok && check_anchor(e, at_anchor, *last, err) && check_file(e, err);
}

/* One row, whatever the file holds. The sealed status counts; else the end that no resume has followed; else it runs. */
static const char SUMMARY[] =
    "WITH first(body, at) AS (SELECT body, at FROM record WHERE seq = 1 AND kind = 'run'),"
    "     final(kind, status, at) AS (SELECT kind, json_extract(body, '$.status'), at FROM record"
    "                                 WHERE kind IN ('end', 'resume') ORDER BY seq DESC LIMIT 1),"
    "     ended(status, at) AS (SELECT status, at FROM seal UNION ALL SELECT status, at FROM final WHERE kind = 'end') "
    "SELECT coalesce((SELECT json_extract(body, '$.runbook') FROM first), ''),"
    "       coalesce((SELECT json_extract(body, '$.environment') FROM first), ''),"
    "       coalesce((SELECT json_extract(body, '$.user') FROM first), ''),"
    "       coalesce((SELECT json_extract(body, '$.host') FROM first), ''),"
    "       coalesce((SELECT status FROM ended LIMIT 1), 'running'),"
    "       coalesce((SELECT json_group_array(json_extract(t.value, '$.id')) FROM first, json_each(first.body, '$.targets') AS t), '[]'),"
    "       coalesce((SELECT at FROM first), 0), coalesce((SELECT at FROM ended LIMIT 1), 0),"
    "       coalesce((SELECT seq FROM record ORDER BY seq DESC LIMIT 1), 0),"
    "       (SELECT hash FROM record ORDER BY seq DESC LIMIT 1)";

bool neap_evidence_summary(sqlite3 *db, const char *run, neap_evidence_row *out, neap_err *err) {
    memset(out, 0, sizeof *out);
    sqlite3_stmt *s = out->stmt = neap_db_prepare(db, SUMMARY, err);
    if (!s) return false;
    if (sqlite3_step(s) != SQLITE_ROW) {
        neap_db_fail(db, "read", err);
        neap_evidence_row_close(out);
        return false;
    }
    if (sqlite3_column_bytes(s, 9) == NEAP_HASH_SIZE) neap_hash_hex(sqlite3_column_blob(s, 9), out->head);
    out->row = (neap_index_row){
        .run = run, .hash = out->hash, .head = out->head, .records = sqlite3_column_int64(s, 8),
        .runbook = (const char *)sqlite3_column_text(s, 0), .environment = (const char *)sqlite3_column_text(s, 1),
        .user = (const char *)sqlite3_column_text(s, 2), .host = (const char *)sqlite3_column_text(s, 3),
        .status = (const char *)sqlite3_column_text(s, 4), .targets = (const char *)sqlite3_column_text(s, 5),
        .started_ms = sqlite3_column_int64(s, 6), .ended_ms = sqlite3_column_int64(s, 7),
    };
    return true;
}

void neap_evidence_row_close(neap_evidence_row *row) {
    sqlite3_finalize(row->stmt);
    row->stmt = NULL;
}

/* ---- what journal.h promises to readers ---- */

static bool each_record(neap_evidence *e, int64_t after_seq, neap_record_fn each, void *arg, neap_err *err) {
    sqlite3_stmt *s = neap_db_prepare(e->db, "SELECT seq, at, kind, step, body FROM record WHERE seq > ? ORDER BY seq", err);
    if (!s) return false;
    sqlite3_bind_int64(s, 1, after_seq);
    int rc;
    bool more = true;
    while (more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        neap_record r = {
            .seq = sqlite3_column_int64(s, 0), .at_ms = sqlite3_column_int64(s, 1), .kind = (const char *)sqlite3_column_text(s, 2),
            .step = (const char *)sqlite3_column_text(s, 3), .body = (const char *)sqlite3_column_text(s, 4),
        };
        more = r.kind && r.step && r.body && each(arg, &r);
    }
    bool ok = !more || rc == SQLITE_DONE || neap_db_fail(e->db, "read", err);
    sqlite3_finalize(s);
    return ok;
}

bool neap_journal_read(const char *state, const char *run, int64_t after_seq, neap_record_fn each, void *arg, neap_err *err) {
    neap_statedir dir;
    neap_evidence e;
    if (!neap_statedir_open(&dir, state, false, err)) return false;
    bool ok = neap_evidence_open(&e, &dir, run, err);
    neap_statedir_close(&dir);
    if (!ok) return false;
    ok = each_record(&e, after_seq, each, arg, err);
    neap_evidence_close(&e);
    return ok;
}

typedef struct claim { const char *run; bool known; char hash[NEAP_HASH_HEX_SIZE]; int64_t records; } claim;

static bool on_claim(void *arg, const neap_index_row *row) {
    claim *c = arg;
    if (strcmp(row->run, c->run) != 0) return true;
    c->known = strlen(row->hash) == sizeof c->hash - 1;
    if (c->known) memcpy(c->hash, row->hash, sizeof c->hash);
    c->records = row->records;
    return false;
}

/* The second witness: what the index was told when the run was sealed. */
static bool check_index(neap_evidence *e, const claim *c, int64_t last, neap_err *err) {
    unsigned char file[NEAP_HASH_SIZE];
    char hex[NEAP_HASH_HEX_SIZE];
    if (!c->known) return true;
    if (!e->sealed) return neap_err_set(err, NEAP_E_INVALID, "the index knows run \"%s\" as sealed, but its evidence is open", e->run);
    if (!neap_db_hash(e->db, file, err)) return false;
    neap_hash_hex(file, hex);
    if (strcmp(hex, c->hash) != 0)
        return neap_err_set(err, NEAP_E_INVALID, "the evidence of run \"%s\" is not the file the index knows", e->run);
    return c->records == last || neap_err_set(err, NEAP_E_INVALID, "run \"%s\" has %lld records, the index knows %lld", e->run,
                                              (long long)last, (long long)c->records);
}

bool neap_journal_verify(const char *state, const char *run, char head[65], int64_t *records, neap_err *err) {
    unsigned char hash[NEAP_HASH_SIZE];
    neap_statedir dir;
    neap_evidence e;
    claim c = {.run = run};
    *records = 0;
    if (!neap_statedir_open(&dir, state, false, err)) return false;
    /* The index before the file: a resume clears it first. */
    bool ok = neap_statedir_is_run(run) ? neap_index_find(dir.path, run, on_claim, &c, err)
                                        : neap_err_set(err, NEAP_E_USAGE, "\"%s\" is not the id of a run", run);
    ok = ok && neap_evidence_open(&e, &dir, run, err);
    neap_statedir_close(&dir);
    if (!ok) return false;
    ok = neap_evidence_prove(&e, hash, records, err) && check_index(&e, &c, *records, err);
    neap_evidence_close(&e);
    neap_hash_hex(hash, head);
    return ok;
}

bool neap_journal_is_written(const char *state, const char *run) {
    neap_statedir home = NEAP_STATEDIR_INIT, dir = NEAP_STATEDIR_INIT;
    bool written = false;
    if (neap_statedir_open(&home, state, false, NULL) && neap_statedir_run(&dir, &home, run, false, NULL))
        written = flock(dir.fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;   /* closing gives a lock of ours back */
    neap_statedir_close(&dir);
    neap_statedir_close(&home);
    return written;
}
