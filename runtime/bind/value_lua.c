/* value_lua.c -- native.value: plain data as canonical JSON, the null sentinel, and error tables. */
#include <lauxlib.h>
#include <string.h>

#include "script/function.h"
#include "script/raise.h"
#include "script/value.h"

/* encode(value) -> JSON text | nil, err. Effect: pure. */
static int encode(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_buf out = NEAP_BUF_INIT;
    luaL_checkany(L, 1);
    if (!neap_value_encode(L, 1, &out, &err)) {
        neap_buf_close(&out);
        return neap_fail(L, &err);
    }
    lua_pushlstring(L, out.data, out.len);
    neap_buf_close(&out);
    return 1;
}

/* decode(text) -> value | nil, err. Effect: pure. */
static int decode(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    return neap_value_decode(L, text, len, &err) ? 1 : neap_fail(L, &err);
}

/* error{code=, message=, hint=} -> an error table with the metatable C uses. Effect: pure. */
static int make_error(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "code");
    neap_err_set(&err, neap_code_of(luaL_checkstring(L, -1)), "-");
    neap_push_error(L, &err);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_settable(L, -5);
    }
    return 1;
}

/* exit_code(code name) -> the exit code of a run that ends with it. Effect: pure. */
static int exit_code(lua_State *L) {
    lua_pushinteger(L, neap_code_exit(neap_code_of(luaL_checkstring(L, 1))));
    return 1;
}

static const luaL_Reg module[] = {{"encode", encode}, {"decode", decode}, {"error", make_error}, {"exit_code", exit_code}, {NULL, NULL}};

int neap_open_value(lua_State *L) {
    neap_function_table(L, "native.value.", module);
    neap_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
