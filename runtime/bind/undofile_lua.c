/* undofile_lua.c -- native.undofile: rows kept beside a run's evidence (guard/undofile.h).
 *
 *     write(state, run, name, text) -> {bytes=, sha256=} | nil, err
 *     read(state, run, name) -> text, sha256 | nil, err
 *     remove(state, run, name) -> was it there? | nil, err
 *
 * For the engine only; runbooks reach it through what a client makes of it. Local file work of bounded size, as in journal_lua.c.
 */
#include <lauxlib.h>
#include <string.h>

#include "guard/undofile.h"
#include "script/function.h"
#include "script/raise.h"

static const char *check_name(lua_State *L) {
    const char *name = luaL_checkstring(L, 3);
    luaL_argcheck(L, neap_undofile_is_name(name), 3, "a name is rows- and then letters, digits and dashes");
    return name;
}

/* write(state, run, name, text) -> {bytes=, sha256=} | nil, err. Effect: own. */
static int undofile_write(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    char hex[NEAP_HASH_HEX_SIZE];
    size_t len;
    const char *state = luaL_checkstring(L, 1), *run = luaL_checkstring(L, 2), *name = check_name(L), *text = luaL_checklstring(L, 4, &len);
    if (!neap_undofile_write(state, run, name, text, len, hex, &err)) return neap_fail(L, &err);
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, (lua_Integer)len);
    lua_setfield(L, -2, "bytes");
    lua_pushstring(L, hex);
    lua_setfield(L, -2, "sha256");
    return 1;
}

/* read(state, run, name) -> text, sha256 | nil, err. Effect: own. */
static int undofile_read(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_buf text = NEAP_BUF_INIT;
    char hex[NEAP_HASH_HEX_SIZE];
    bool ok = neap_undofile_read(luaL_checkstring(L, 1), luaL_checkstring(L, 2), check_name(L), &text, hex, &err);
    if (ok) lua_pushlstring(L, text.len ? text.data : "", text.len);
    neap_buf_wipe(&text);
    if (!ok) return neap_fail(L, &err);
    lua_pushstring(L, hex);
    return 2;
}

/* remove(state, run, name) -> boolean | nil, err. Effect: own. */
static int undofile_remove(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    bool gone;
    if (!neap_undofile_remove(luaL_checkstring(L, 1), luaL_checkstring(L, 2), check_name(L), &gone, &err)) return neap_fail(L, &err);
    lua_pushboolean(L, gone);
    return 1;
}

static const luaL_Reg module[] = {{"write", undofile_write}, {"read", undofile_read}, {"remove", undofile_remove}, {NULL, NULL}};

int neap_open_undofile(lua_State *L) {
    neap_function_table(L, "native.undofile.", module);
    return 1;
}
