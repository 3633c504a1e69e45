/* redis_value_lua.c -- answers of Redis as Lua values: texts and bytes as strings, integers, lists; nil is nil, and native.null inside a
 * list; an error is an error table, which only lists hold (alone it is the second result). */
#include "bind/redis_private.h"
#include "script/value.h"

static void push_list(lua_State *L, const neap_redis_value *v) {
    luaL_checkstack(L, 4, "nested answer");
    lua_createtable(L, (int)v->len, 0);
    for (size_t i = 0; i < v->len; i++) {
        neap_redis_push_item(L, v->items[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

void neap_redis_push_value(lua_State *L, const neap_redis_value *v) {
    neap_err err = NEAP_ERR_INIT;
    switch (v->type) {
    case NEAP_REDIS_NIL: lua_pushnil(L); break;
    case NEAP_REDIS_INTEGER: lua_pushinteger(L, v->integer); break;
    case NEAP_REDIS_ARRAY: push_list(L, v); break;
    case NEAP_REDIS_ERROR:
        neap_redis_refusal(&err, v);
        neap_push_error(L, &err);
        break;
    default: lua_pushlstring(L, v->text, v->len);
    }
}

void neap_redis_push_item(lua_State *L, const neap_redis_value *v) {
    if (v->type == NEAP_REDIS_NIL) neap_push_null(L);
    else neap_redis_push_value(L, v);
}
