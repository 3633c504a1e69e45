/* pg.c -- the least that asking PostgreSQL can cost: libpq, blocking, and nothing else. Connects as libpq's environment says.
 *
 *     pg ask N            N times "SELECT 1" inside one transaction, each waited for
 *     pg askp N           the same by the extended protocol, the only one in which a parameter is no part of the statement
 *     pg pipeline N       the same, 100 at a time in pipeline mode
 *     pg rows SQL         by cursor, 2,000 rows a FETCH, the next one sent before this one is consumed; each row becomes a
 *                         Lua table and is given to a Lua function. The first column is an integer, the others stay texts
 *     pg copy SQL FILE    COPY … TO STDOUT into a file
 *
 * Prints "seconds: S", without the connecting. */
#define OPENSSL_SUPPRESS_DEPRECATED                /* SHA256_Update only computes; EVP would read a configuration first */
#include <fcntl.h>
#include <lauxlib.h>
#include <libpq-fe.h>
#include <openssl/sha.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 100, COLUMNS = 16, PIECE = 256 << 10 };

static PGconn *conn;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, PQerrorMessage(conn));
    exit(1);
}

static PGresult *good(PGresult *r) {
    ExecStatusType s = PQresultStatus(r);
    if (s != PGRES_TUPLES_OK && s != PGRES_COMMAND_OK && s != PGRES_PIPELINE_SYNC && s != PGRES_COPY_OUT) fail("answer");
    return r;
}

static void run(const char *sql) { PQclear(good(PQexec(conn, sql))); }

static void run_extended(const char *sql) { PQclear(good(PQexecParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0))); }

static void ask(long n, void (*one)(const char *sql)) {
    run("BEGIN");
    while (n-- > 0) one("SELECT 1");
    run("COMMIT");
}

static void pipeline(long n) {
    PQenterPipelineMode(conn);
    for (; n > 0; n -= BATCH) {
        for (int i = 0; i < BATCH; i++) PQsendQueryParams(conn, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0);
        PQpipelineSync(conn);
        for (int i = 0; i < BATCH; i++) {
            PQclear(good(PQgetResult(conn)));
            PQclear(PQgetResult(conn));
        }
        PQclear(good(PQgetResult(conn)));
    }
}

static void give_row(lua_State *L, const PGresult *r, int row, const char *const *names, int columns) {
    lua_pushvalue(L, 1);
    lua_createtable(L, 0, columns);
    for (int i = 0; i < columns; i++) {
        if (PQgetisnull(r, row, i)) continue;
        const char *text = PQgetvalue(r, row, i);
        if (i == 0) lua_pushinteger(L, strtoll(text, NULL, 10));
        else lua_pushlstring(L, text, (size_t)PQgetlength(r, row, i));
        lua_setfield(L, -2, names[i]);
    }
    lua_call(L, 1, 0);
}

static void rows(const char *sql) {
    const char *names[COLUMNS] = {NULL};
    char declare[1024];
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    if (luaL_dostring(L, "local n, len = 0, 0 return function(row) n = n + row.id len = len + #row.note end")) exit(1);
    run("BEGIN");
    snprintf(declare, sizeof declare, "DECLARE c NO SCROLL CURSOR FOR %s", sql);
    run(declare);
    PQsendQuery(conn, "FETCH 2000 FROM c");
    for (;;) {
        PGresult *r = good(PQgetResult(conn));
        PQclear(PQgetResult(conn));
        int n = PQntuples(r), columns = PQnfields(r);
        if (n == 0) break;
        PQsendQuery(conn, "FETCH 2000 FROM c");
        for (int i = 0; !names[0] && i < columns; i++) names[i] = NULL;
        if (!names[0]) for (int i = 0; i < columns; i++) names[i] = strdup(PQfname(r, i));
        for (int i = 0; i < n; i++) give_row(L, r, i, names, columns);
        PQclear(r);
    }
    lua_close(L);
}

static void put(int fd, const char *piece, size_t len, SHA256_CTX *hash) {
    if (hash) SHA256_Update(hash, piece, len);
    if (write(fd, piece, len) != (ssize_t)len) fail("write");
}

/* With `proven` it does all that neap promises: a hash on the way, and a file that survives a power loss. */
static void copy(const char *sql, const char *path, int proven) {
    char command[1024], *row, *piece = malloc(PIECE + 65536);
    size_t len = 0;
    SHA256_CTX hash;
    SHA256_Init(&hash);
    int got, fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    snprintf(command, sizeof command, "COPY (%s) TO STDOUT", sql);
    run(command);
    while ((got = PQgetCopyData(conn, &row, 0)) > 0) {
        memcpy(piece + len, row, (size_t)got);
        PQfreemem(row);
        len += (size_t)got;
        if (len < PIECE) continue;
        put(fd, piece, len, proven ? &hash : NULL);
        len = 0;
    }
    put(fd, piece, len, proven ? &hash : NULL);
    if ((proven && fsync(fd) != 0) || close(fd) != 0) fail("write");
    PQclear(good(PQgetResult(conn)));
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 3) return 64;
    conn = PQconnectdb("");
    if (PQstatus(conn) != CONNECTION_OK) fail("connect");
    double begun = now();
    if (strcmp(argv[1], "ask") == 0) ask(atol(argv[2]), run);
    else if (strcmp(argv[1], "askp") == 0) ask(atol(argv[2]), run_extended);
    else if (strcmp(argv[1], "pipeline") == 0) pipeline(atol(argv[2]));
    else if (strcmp(argv[1], "rows") == 0) rows(argv[2]);
    else if (strcmp(argv[1], "copy") == 0 && argc > 3) copy(argv[2], argv[3], argc > 4);
    else return 64;
    printf("seconds: %.6f\n", now() - begun);
    PQfinish(conn);
    return 0;
}
