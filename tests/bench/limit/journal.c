/* journal.c -- the least that a run can cost: the same files with the same records, made durable at the same moments, and
 * nothing else.
 *
 *     journal STATE RUN RECORDS
 *
 * RECORDS holds one record a line, "kind<TAB>step<TAB>body"; a line "." makes durable what came before it. A Lua state and an
 * event loop are opened and closed, as every interpreter must; the evidence file, its log, its chain, the anchor, the ballast,
 * the socket and the two entries of the index are written with neap's own settings, in one thread, from prepared
 * statements. Nothing is checked, which is why it is a limit and not a journal. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <openssl/sha.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { HASH = 32, PAGE = 4096, LOG = 128 << 10, BALLAST = 1 << 20, LOG_MOST = 1 << 20, ANCHOR = 149 };

typedef struct record { char *kind, *step, *body; } record;   /* kind NULL: make durable */

static record *records;
static int record_count;
static unsigned char head[HASH];
static SHA256_CTX digest;
static int64_t next_seq = 1, log_frames;

static void must(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

static void sql(sqlite3 *db, const char *text) {
    char *why = NULL;
    if (sqlite3_exec(db, text, NULL, NULL, &why) == SQLITE_OK) return;
    fprintf(stderr, "%s: %s\n", text, why);
    exit(1);
}

/* ---- reading ---- */

static void read_records(const char *path) {
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    must(f != NULL, path);
    for (ssize_t len; (len = getline(&line, &size, f)) > 0;) {
        line[len - 1] = '\0';
        if (record_count % 1024 == 0) {
            record *grown = realloc(records, sizeof *records * (size_t)(record_count + 1024));
            must(grown != NULL, "memory");
            records = grown;
        }
        record *r = &records[record_count++];
        *r = (record){NULL, NULL, NULL};
        if (strcmp(line, ".") == 0) continue;
        char *rest = strdup(line);
        r->kind = strsep(&rest, "\t");
        r->step = strsep(&rest, "\t");
        r->body = rest;
    }
    free(line);
    fclose(f);
}

/* ---- writing ---- */

static int anchor_fd, run_fd;
static sqlite3 *db;
static sqlite3_stmt *begin, *insert, *commit;

static void write_anchor(int sync) {
    char line[ANCHOR + 1];
    int at = snprintf(line, sizeof line, "%018lld ", (long long)next_seq - 1);
    for (int i = 0; i < HASH; i++) at += snprintf(line + at, sizeof line - (size_t)at, "%02x", head[i]);
    memset(line + at, '-', sizeof line - (size_t)at);
    line[ANCHOR - 1] = '\n';
    must(pwrite(anchor_fd, line, ANCHOR, 0) == ANCHOR && (!sync || fdatasync(anchor_fd) == 0), "anchor");
}

static void step(sqlite3_stmt *s) {
    if (sqlite3_step(s) != SQLITE_DONE) fprintf(stderr, "%s\n", sqlite3_errmsg(db)), exit(1);
    sqlite3_reset(s);
}

static void add(const record *r) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t at = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    SHA256_Init(&digest);
    SHA256_Update(&digest, head, HASH);
    SHA256_Update(&digest, &at, sizeof at);
    SHA256_Update(&digest, r->body, strlen(r->body));
    SHA256_Final(head, &digest);
    sqlite3_bind_int64(insert, 1, next_seq++);
    sqlite3_bind_int64(insert, 2, at);
    sqlite3_bind_text(insert, 3, r->kind, -1, SQLITE_STATIC);
    sqlite3_bind_text(insert, 4, r->step, -1, SQLITE_STATIC);
    sqlite3_bind_text(insert, 5, r->body, -1, SQLITE_STATIC);
    sqlite3_bind_blob(insert, 6, head, HASH, SQLITE_STATIC);
    step(insert);
}

static void grow_log(int64_t size) {
    static const char zeros[16 * PAGE];
    sqlite3_file *f = NULL;
    sqlite3_int64 at = 0;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f);
    for (f->pMethods->xFileSize(f, &at); at < size; at += (int)sizeof zeros) f->pMethods->xWrite(f, zeros, sizeof zeros, at);
}

static int on_log(void *arg, sqlite3 *d, const char *name, int frames) {
    (void)arg, (void)d, (void)name;
    log_frames = frames;
    return SQLITE_OK;
}

/* One transaction; then the log is tended as neap tends it. */
static void write_group(const record *r, int count) {
    static int64_t size = LOG;
    if (count == 0) return;
    step(begin);
    for (int i = 0; i < count; i++) add(&r[i]);
    step(commit);
    write_anchor(0);
    int64_t used = log_frames * (PAGE + 24);
    if (used > LOG_MOST - LOG_MOST / 8) sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    else if (used >= size - size / 4 && size < LOG_MOST) grow_log(size *= 2);
}

static void note_index(const char *run, const char *status) {
    sqlite3 *index;
    sqlite3_stmt *s;
    must(sqlite3_open("index.db", &index) == SQLITE_OK, "index.db");
    sql(index, "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=EXTRA; BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS run(run TEXT PRIMARY KEY,"
               " status TEXT, targets TEXT, started_ms INTEGER, hash TEXT) WITHOUT ROWID; CREATE INDEX IF NOT EXISTS run_by_start ON run(started_ms);"
               " CREATE INDEX IF NOT EXISTS run_unfinished ON run(started_ms) WHERE status = 'running'");
    sqlite3_prepare_v2(index, "INSERT OR REPLACE INTO run VALUES (?, ?, '[]', ?, hex(randomblob(32)))", -1, &s, NULL);
    sqlite3_bind_text(s, 1, run, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, status, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, (int64_t)time(NULL) * 1000);
    must(sqlite3_step(s) == SQLITE_DONE, "index");
    sqlite3_finalize(s);
    sql(index, "COMMIT");
    sqlite3_close(index);
}

static void sync_path(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    must(fd >= 0 && fsync(fd) == 0, path);
    close(fd);
}

/* ---- the life of a run ---- */

static void open_run(const char *state, const char *run) {
    char dir[512];
    int on = 1;
    mkdir(state, 0700);
    must(chdir(state) == 0, state);
    mkdir("runs", 0700);
    snprintf(dir, sizeof dir, "runs/%s", run);
    must(mkdir(dir, 0700) == 0 && (run_fd = open(dir, O_RDONLY | O_DIRECTORY)) >= 0, dir);
    int ballast = openat(run_fd, "ballast", O_RDWR | O_CREAT, 0600);
    must(posix_fallocate(ballast, 0, BALLAST) == 0, "ballast");
    close(ballast);
    anchor_fd = openat(run_fd, "anchor", O_RDWR | O_CREAT, 0600);
    write_anchor(0);
    snprintf(dir, sizeof dir, "runs/%s/evidence.db", run);
    must(sqlite3_open(dir, &db) == SQLITE_OK, dir);
    sql(db, "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; BEGIN; CREATE TABLE record(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL,"
            " kind TEXT NOT NULL, step TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL); CREATE TABLE seal(status TEXT, at INTEGER);"
            " COMMIT; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; SELECT seq FROM record LIMIT 1");
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    sqlite3_wal_hook(db, on_log, NULL);
    grow_log(LOG);
    sqlite3_prepare_v2(db, "BEGIN IMMEDIATE", -1, &begin, NULL);
    sqlite3_prepare_v2(db, "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", -1, &insert, NULL);
    sqlite3_prepare_v2(db, "COMMIT", -1, &commit, NULL);
    int evidence = open(dir, O_RDONLY);
    must(fdatasync(evidence) == 0, dir);
    close(evidence);
    must(fsync(run_fd) == 0, dir);
    sync_path("runs");
    sync_path(".");
}

static void open_socket(const char *run) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "runs/%s/watch.sock", run);
    must(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 4) == 0, at.sun_path);
}

static void seal(const char *run) {
    int off = 0;
    char path[512], bytes[16 * PAGE];
    sql(db, "PRAGMA synchronous=NORMAL; INSERT INTO seal VALUES ('ok', 0)");
    unlinkat(run_fd, "ballast", 0);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &off);
    sqlite3_finalize(begin), sqlite3_finalize(insert), sqlite3_finalize(commit);
    sql(db, "PRAGMA synchronous=FULL; PRAGMA journal_mode=MEMORY");
    sqlite3_close(db);
    must(fsync(run_fd) == 0, "seal");
    snprintf(path, sizeof path, "runs/%s/evidence.db", run);
    int fd = open(path, O_RDONLY);
    SHA256_Init(&digest);
    for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;) SHA256_Update(&digest, bytes, (size_t)n);
    SHA256_Final(head, &digest);
    close(fd);
    write_anchor(1);
    note_index(run, "ok");
    snprintf(path, sizeof path, "runs/%s/watch.sock", run);
    unlink(path);
}

int main(int argc, char **argv) {
    uv_loop_t loop;
    if (argc < 4) return 64;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    uv_loop_init(&loop);
    read_records(argv[3]);
    open_run(argv[1], argv[2]);
    open_socket(argv[2]);
    int first = 0, groups = 0;
    for (int i = 0; i <= record_count; i++) {
        if (i < record_count && records[i].kind) continue;
        write_group(&records[first], i - first);
        if (groups++ == 0) note_index(argv[2], "running");
        first = i + 1;
    }
    seal(argv[2]);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    lua_close(L);
    return 0;
}
