/* raise.c -- see raise.h. The metatable of error tables lives in the registry, so that an error made in C and
 * one made by core/raise.lua print alike. */
#include "script/raise.h"

#include <lauxlib.h>
#include <stdarg.h>

#include "script/function.h"

#define ERROR_META "neap.error"

/* [-0, +1, m] */
static int error_tostring(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "message");
    lua_getfield(L, 1, "hint");
    if (!lua_isstring(L, -2)) lua_pushliteral(L, "an error without a message"), lua_replace(L, -3);
    if (lua_isstring(L, -1) && lua_rawlen(L, -1) > 0) lua_pushfstring(L, "%s\nhint: %s", lua_tostring(L, -2), lua_tostring(L, -1));
    else lua_pop(L, 1);
    return 1;
}

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (luaL_newmetatable(L, ERROR_META)) {
        neap_function_push(L, "error:__tostring", error_tostring, 0);
        lua_setfield(L, -2, "__tostring");
        lua_pushliteral(L, "error");
        lua_setfield(L, -2, "__name");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
}

static void set_text(lua_State *L, const char *field, const char *text) {
    if (!text || !*text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, field);
}

void neap_push_error(lua_State *L, neap_err *err) {
    lua_createtable(L, 0, 6);
    push_meta(L);
    lua_setmetatable(L, -2);
    set_text(L, "code", neap_code_name(err->code));
    set_text(L, "message", err->message ? err->message : neap_code_meaning(err->code));
    set_text(L, "hint", err->hint);
    set_text(L, "sqlstate", err->sqlstate);
    if (err->retry) lua_pushboolean(L, 1), lua_setfield(L, -2, "retry");
    if (err->status >= 0) lua_pushinteger(L, err->status), lua_setfield(L, -2, "status");
    neap_err_close(err);
}

int neap_fail(lua_State *L, neap_err *err) {
    lua_pushnil(L);
    neap_push_error(L, err);
    return 2;
}

int neap_raise(lua_State *L, neap_err *err) {
    neap_push_error(L, err);
    lua_error(L);
    __builtin_unreachable();
}

int neap_raisef(lua_State *L, neap_code code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    lua_createtable(L, 0, 3);
    push_meta(L);
    lua_setmetatable(L, -2);
    set_text(L, "code", neap_code_name(code));
    lua_pushvfstring(L, format, args);
    lua_setfield(L, -2, "message");
    va_end(args);
    lua_error(L);
    __builtin_unreachable();
}
