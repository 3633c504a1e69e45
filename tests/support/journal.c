/* journal.c -- what the specs of the journal do beneath it: many finished runs at once, and what a query of the index costs in
 * steps of SQLite's machine, which do not depend on the hour. */
#include <sqlite3.h>

#include "guard/index.h"
#include "testlib.h"

/* [-0, +0, e] */
static sqlite3 *open_index(lua_State *L) {
    sqlite3 *db = NULL;
    const char *path = luaL_checkstring(L, 1);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) return db;
    sqlite3_close(db);
    luaL_error(L, "cannot open %s", path);
    return NULL;
}

/* [-0, +0, e] close, and raise when `rc` says so. */
static void close_index(lua_State *L, sqlite3 *db, int rc) {
    if (rc != SQLITE_OK) lua_pushstring(L, sqlite3_errmsg(db));
    sqlite3_close(db);
    if (rc != SQLITE_OK) lua_error(L);
}

/* T.fill_index(path, n): n finished runs, all older than any real one. */
static int fill_index(lua_State *L) {
    lua_Integer n = luaL_checkinteger(L, 2);
    sqlite3 *db = open_index(L);
    char *sql = sqlite3_mprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %lld) "
                                "INSERT INTO run SELECT printf('old%%08d', i), 'old', 'demo', 'u', 'h', 'ok', '[]', i, i + 1, '', '', 1 FROM n",
                                (long long)n);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_free(sql);
    close_index(L, db, rc);
    return 0;
}

/* T.index_cost(path, unfinished, limit) -> the query's plan, steps of the machine to run it to its end */
static int index_cost(lua_State *L) {
    lua_settop(L, 3);
    sqlite3 *db = open_index(L);
    sqlite3_stmt *s = NULL;
    const char *query = neap_index_query(lua_toboolean(L, 2));
    char *explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", query);
    int rc = sqlite3_prepare_v2(db, explain, -1, &s, NULL);
    lua_pushliteral(L, "");
    while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) {
        lua_pushfstring(L, "%s; ", sqlite3_column_text(s, 3));
        lua_concat(L, 2);
    }
    sqlite3_finalize(s);
    sqlite3_free(explain);
    s = NULL;
    if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(db, query, -1, &s, NULL);
    if (rc == SQLITE_OK) sqlite3_bind_int64(s, 1, luaL_optinteger(L, 3, -1));
    while (rc == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW) continue;
    lua_pushinteger(L, s ? sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, 0) : 0);
    sqlite3_finalize(s);
    close_index(L, db, rc);
    return 2;
}

/* T.sql(path, sql): change a database behind neap's back. */
static int change(lua_State *L) {
    sqlite3 *db = open_index(L);
    close_index(L, db, sqlite3_exec(db, luaL_checkstring(L, 2), NULL, NULL, NULL));
    return 0;
}

static const luaL_Reg journal[] = {{"fill_index", fill_index}, {"index_cost", index_cost}, {"sql", change}, {NULL, NULL}};
NEAP_TEST_LIBRARY(journal)
