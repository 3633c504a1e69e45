/* sql_walk.c -- T.sql_walk(json) -> list of "key=text", true or nil: what the reader of parse trees says of a text that no parser
 * writes. */
#include <lauxlib.h>

#include "guard/sql_walk.h"
#include "testlib.h"

static void on_edge(neap_sql_walk *w) { (void)w; }

static void on_value(neap_sql_walk *w, const neap_sql_frame *key, const char *text) {
    lua_State *L = w->arg;
    lua_pushlstring(L, key->key, key->len);
    lua_pushfstring(L, "%s=%s", lua_tostring(L, -1), text);
    lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
    lua_pop(L, 1);
}

static int walk(lua_State *L) {
    neap_sql_walk w = {.arg = L, .enter = on_edge, .leave = on_edge, .value = on_value};
    const char *json = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_newtable(L);
    if (!neap_sql_walk_run(&w, json)) lua_pushnil(L);
    else lua_pushvalue(L, 2);
    return 1;
}

static const luaL_Reg sql_walks[] = {{"sql_walk", walk}, {NULL, NULL}};
NEAP_TEST_LIBRARY(sql_walks)
