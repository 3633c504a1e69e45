/* value.c -- see value.h. The JSON is canonical (keys sorted by bytes, no spaces), because records are hashed.
 * Bytes that are not UTF-8 become {"$bytes":"hex"}: rare, and readable by any tool. */
#include "script/value.h"

#include <jansson.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "script/function.h"

enum { MAX_DEPTH = 64 };

static const char null_key;
static const char BYTES[] = "$bytes";

void neap_push_null(lua_State *L) { lua_pushlightuserdata(L, (void *)&null_key); }
bool neap_is_null(lua_State *L, int index) { return lua_touserdata(L, index) == (void *)&null_key; }

/* Where something was refused is found out on the way back from there. */
typedef struct writer { lua_State *L; neap_buf *out; const char *refused; neap_buf path; } writer;

static bool encode(writer *w, int index, int depth);

static bool refuse(writer *w, const char *what) {
    w->refused = what;
    return false;
}

/* It was in the member `key`, or else in item `i`. */
static bool refuse_in(writer *w, const char *key, lua_Integer i) {
    neap_buf inner = w->path;
    w->path = (neap_buf)NEAP_BUF_INIT;
    if (key) neap_buf_adds(&w->path, key);
    else neap_buf_addf(&w->path, "[%lld]", (long long)i);
    if (inner.len && inner.data[0] != '[') neap_buf_addc(&w->path, '.');
    neap_buf_add(&w->path, inner.data ? inner.data : "", inner.len);
    neap_buf_close(&inner);
    return false;
}

static void encode_text(writer *w, int index) {
    size_t len;
    const char *text = lua_tolstring(w->L, index, &len);
    if (neap_json_is_utf8(text, len)) {
        neap_json_string(w->out, text, len);
        return;
    }
    neap_buf_addf(w->out, "{\"%s\":\"", BYTES);
    for (size_t i = 0; i < len; i++) neap_buf_addf(w->out, "%02x", (unsigned char)text[i]);
    neap_buf_adds(w->out, "\"}");
}

static bool encode_number(writer *w, int index) {
    if (lua_isinteger(w->L, index)) {
        neap_buf_addi(w->out, lua_tointeger(w->L, index));
        return true;
    }
    double number = lua_tonumber(w->L, index);
    if (!isfinite(number)) return refuse(w, "a number that is infinite or not a number");
    char text[40];
    snprintf(text, sizeof text, "%.17g", number);
    neap_buf_adds(w->out, text);
    if (!strpbrk(text, ".e")) neap_buf_adds(w->out, ".0");
    return true;
}

static bool encode_list(writer *w, int index, lua_Integer len, int depth) {
    neap_buf_addc(w->out, '[');
    for (lua_Integer i = 1; i <= len; i++) {
        if (i > 1) neap_buf_addc(w->out, ',');
        lua_geti(w->L, index, i);
        bool ok = encode(w, lua_gettop(w->L), depth + 1);
        lua_pop(w->L, 1);
        if (!ok) return refuse_in(w, NULL, i);
    }
    neap_buf_addc(w->out, ']');
    return true;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Keys stay alive because the table holds them. NULL and err when one is not a string. */
static const char **sorted_keys(writer *w, int index, size_t *count) {
    lua_State *L = w->L;
    size_t cap = 16;
    const char **keys = neap_alloc(cap * sizeof *keys);
    *count = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            free(keys);
            refuse(w, "a table with keys that are neither 1..n nor all strings");
            return NULL;
        }
        size_t len;
        const char *key = lua_tolstring(L, -2, &len);
        if (strlen(key) != len || !neap_json_is_utf8(key, len)) {      /* two of them could become one */
            lua_pop(L, 2);
            free(keys);
            refuse(w, "a table with a key that is not text");
            return NULL;
        }
        if (*count == cap) {
            cap *= 2;
            const char **more = neap_alloc(cap * sizeof *more);
            memcpy(more, keys, *count * sizeof *keys);
            free(keys);
            keys = more;
        }
        keys[(*count)++] = key;
    }
    qsort(keys, *count, sizeof *keys, by_bytes);
    return keys;
}

static bool encode_object(writer *w, int index, int depth) {
    size_t count;
    const char **keys = sorted_keys(w, index, &count);
    if (!keys) return false;
    bool ok = true;
    neap_buf_addc(w->out, '{');
    for (size_t i = 0; ok && i < count; i++) {
        if (i > 0) neap_buf_addc(w->out, ',');
        neap_json_string(w->out, keys[i], strlen(keys[i]));
        neap_buf_addc(w->out, ':');
        lua_getfield(w->L, index, keys[i]);
        ok = encode(w, lua_gettop(w->L), depth + 1) || refuse_in(w, keys[i], 0);
        lua_pop(w->L, 1);
    }
    free(keys);
    neap_buf_addc(w->out, '}');
    return ok;
}

static bool encode_table(writer *w, int index, int depth) {
    lua_State *L = w->L;
    if (depth > MAX_DEPTH) return refuse(w, "it is nested too deeply, or contains itself");
    lua_Integer len = (lua_Integer)lua_rawlen(L, index);
    if (len == 0) return encode_object(w, index, depth);
    lua_Integer keys = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) keys++;
    if (keys != len) return refuse(w, "a list with holes or with names in it");
    return encode_list(w, index, len, depth);
}

/* A userdata speaks for itself when its metatable says how it is shown where its content may not be. */
static bool encode_placeholder(writer *w, int index) {
    if (luaL_getmetafield(w->L, index, "__placeholder") == LUA_TNIL) return refuse(w, luaL_typename(w->L, index));
    lua_pop(w->L, 1);
    luaL_tolstring(w->L, index, NULL);
    encode_text(w, -1);
    lua_pop(w->L, 1);
    return true;
}

static bool encode(writer *w, int index, int depth) {
    lua_State *L = w->L;
    luaL_checkstack(L, 4, "nested value");
    switch (lua_type(L, index)) {
    case LUA_TNIL: neap_buf_adds(w->out, "null"); return true;
    case LUA_TBOOLEAN: neap_buf_adds(w->out, lua_toboolean(L, index) ? "true" : "false"); return true;
    case LUA_TNUMBER: return encode_number(w, index);
    case LUA_TSTRING: encode_text(w, index); return true;
    case LUA_TTABLE: return encode_table(w, index, depth);
    case LUA_TLIGHTUSERDATA:
        if (!neap_is_null(L, index)) break;
        neap_buf_adds(w->out, "null");
        return true;
    case LUA_TUSERDATA: return encode_placeholder(w, index);
    default: break;
    }
    return refuse(w, luaL_typename(L, index));
}

bool neap_value_encode(lua_State *L, int index, neap_buf *out, neap_err *err) {
    writer w = {L, out, NULL, NEAP_BUF_INIT};
    bool ok = encode(&w, lua_absindex(L, index), 0);
    if (!ok) neap_err_set(err, NEAP_E_USAGE, "%s is not plain data: %s", w.path.len ? w.path.data : "the value", w.refused);
    neap_buf_close(&w.path);
    return ok;
}

bool neap_value_is_flat(lua_State *L, int index) {
    index = lua_absindex(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        int type = lua_type(L, -1);
        bool plain = type == LUA_TSTRING || type == LUA_TNUMBER || type == LUA_TBOOLEAN;
        if (plain && lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), BYTES) != 0) continue;
        lua_pop(L, 2);
        return false;
    }
    return true;
}

/* ---- decoding ---- */

static void push_json(lua_State *L, const json_t *value);

static bool push_bytes(lua_State *L, const json_t *object) {
    const char *hex = json_string_value(json_object_get(object, BYTES));
    if (!hex || json_object_size(object) != 1) return false;
    size_t len = strlen(hex) / 2;
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, len);
    for (size_t i = 0; i < len; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        to[i] = (char)strtol(pair, NULL, 16);
    }
    luaL_pushresultsize(&b, len);
    return true;
}

static void push_object(lua_State *L, const json_t *object) {
    const char *key;
    json_t *member;
    if (push_bytes(L, object)) return;
    lua_createtable(L, 0, (int)json_object_size(object));
    json_object_foreach((json_t *)object, key, member) {
        if (json_is_null(member)) continue;
        push_json(L, member);
        lua_setfield(L, -2, key);
    }
}

static void push_list(lua_State *L, const json_t *list) {
    size_t count = json_array_size(list);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        push_json(L, json_array_get(list, i));
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_json(lua_State *L, const json_t *value) {
    luaL_checkstack(L, 4, "nested value");
    switch (json_typeof(value)) {
    case JSON_OBJECT: push_object(L, value); break;
    case JSON_ARRAY: push_list(L, value); break;
    case JSON_STRING: lua_pushlstring(L, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: lua_pushinteger(L, json_integer_value(value)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(value)); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    case JSON_NULL: neap_push_null(L); break;
    }
}

/* The tree must die even when pushing raises for want of memory: it is pushed by a protected call. */
static int push_tree(lua_State *L) {
    push_json(L, lua_touserdata(L, 1));
    return 1;
}

bool neap_value_decode(lua_State *L, const char *text, size_t len, neap_err *err) {
    json_error_t where;
    json_t *tree = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
    if (!tree) return neap_err_set(err, NEAP_E_INVALID, "not JSON: %s at byte %d", where.text, where.position);
    neap_function_push(L, "value.tree", push_tree, 0);
    lua_pushlightuserdata(L, tree);
    int status = lua_pcall(L, 1, 1, 0);
    json_decref(tree);
    if (status != LUA_OK) lua_error(L);
    return true;
}
