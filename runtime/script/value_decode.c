/* value_decode.c -- JSON text straight into Lua values; value.c is the way back.
 *
 * Views are shown what was recorded and not what was meant, so every record is read again after its commit. A library's tree of counted nodes,
 * built to be walked once, was half the price of that. What is half made is on the Lua stack: an error of Lua's leaves nothing behind.
 *
 * Refused, as jansson refuses it (docker.c still asks it): text that is not UTF-8, a control character in a string, half a surrogate pair, a
 * name twice in one object or with a NUL in it, an integer beyond 64 bits or a float beyond a double, nesting beyond DEPTH, and
 * anything behind the value. */
#include "script/value.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { DEPTH = 2048, MEMBERS = 4 };                /* MEMBERS: room that an object begins with */

typedef struct reader { lua_State *L; const char *begin, *at, *end; neap_err *err; } reader;

static bool read_value(reader *r, int depth);

static bool fail(reader *r, const char *what) {
    return neap_err_set(r->err, NEAP_E_INVALID, "not JSON: %s at byte %d", what, (int)(r->at - r->begin));
}

/* The next character that is no space; 0 at the end. */
static char peek(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
    return r->at < r->end ? *r->at : '\0';
}

static bool has_next(reader *r, char c) {
    bool is = peek(r) == c && r->at < r->end;
    r->at += is;
    return is;
}

/* ---- strings ---- */

/* Four digits at `at`; -1: they are not. */
static int hex4(const char *at, const char *end) {
    int value = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

static void add_utf8(luaL_Buffer *b, unsigned code) {
    if (code < 0x80) {
        luaL_addchar(b, (char)code);
        return;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char leads[] = {0, 0xC0, 0xE0, 0xF0};
    luaL_addchar(b, (char)(leads[more] | code >> 6 * more));
    while (more-- > 0) luaL_addchar(b, (char)(0x80 | (code >> 6 * more & 0x3F)));
}

/* What \u says, with its other half where it has one. r->at is behind the u. */
static bool add_unicode(reader *r, luaL_Buffer *b, const char *end) {
    int code = hex4(r->at, end), low = -1;
    if (code < 0) return fail(r, "four hexadecimal digits are missing");
    if (code >= 0xD800 && code < 0xDC00 && end - r->at >= 10 && r->at[4] == '\\' && r->at[5] == 'u') low = hex4(r->at + 6, end);
    bool half = code >= 0xD800 && code < 0xE000;
    if (half && (low < 0xDC00 || low > 0xDFFF)) return fail(r, "half a character");
    add_utf8(b, half ? 0x10000u + ((unsigned)code - 0xD800u) * 0x400u + ((unsigned)low - 0xDC00u) : (unsigned)code);
    r->at += half ? 10 : 4;
    return true;
}

/* [-0, +1, m] the text up to `end`, escapes resolved. */
static bool unescape(reader *r, const char *end) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    luaL_Buffer b;
    luaL_buffinitsize(r->L, &b, (size_t)(end - r->at));
    while (r->at < end) {
        const char *next = memchr(r->at, '\\', (size_t)(end - r->at));
        luaL_addlstring(&b, r->at, (size_t)((next ? next : end) - r->at));
        if (!next) break;
        const char *name = strchr(names, next[1]);
        r->at = next + 2;
        if (next[1] == 'u') {
            if (!add_unicode(r, &b, end)) return false;
        } else if (next[1] && name) {
            luaL_addchar(&b, meant[name - names]);
        } else {
            return fail(r, "an unknown escape");
        }
    }
    luaL_pushresult(&b);
    return true;
}

/* [-0, +1, m] r->at is on the quote. */
static bool read_text(reader *r) {
    const char *begin = ++r->at;
    bool escaped = false;
    for (; r->at < r->end && *r->at != '"'; r->at++) {
        if ((unsigned char)*r->at < 0x20) return fail(r, "a control character in a string");
        if (*r->at != '\\') continue;
        escaped = true;
        if (++r->at == r->end) break;
    }
    if (r->at >= r->end) return fail(r, "a string without an end");
    const char *end = r->at;
    r->at = begin;
    if (!neap_json_is_utf8(begin, (size_t)(end - begin))) return fail(r, "bytes that are not UTF-8");
    if (!escaped) lua_pushlstring(r->L, begin, (size_t)(end - begin));
    else if (!unescape(r, end)) return false;
    r->at = end + 1;
    return true;
}

/* ---- numbers ---- */

static bool skip_digits(reader *r) {
    const char *begin = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > begin;
}

/* [-0, +1, -] */
static bool push_integer(reader *r, const char *at) {
    long long value = 0;
    bool negative = *at == '-', over = false;
    for (at += negative; at < r->at; at++) {       /* below zero, where there is one more */
        over |= __builtin_mul_overflow(value, 10, &value);
        over |= __builtin_sub_overflow(value, *at - '0', &value);
    }
    if (!negative) over |= __builtin_sub_overflow(0, value, &value);
    if (over) return fail(r, "an integer that is too large");
    lua_pushinteger(r->L, value);
    return true;
}

/* [-0, +1, m] Lua's own reading, which knows the locale's decimal point. */
static bool push_float(reader *r, const char *at) {
    lua_pushlstring(r->L, at, (size_t)(r->at - at));
    if (!lua_stringtonumber(r->L, lua_tostring(r->L, -1)) || !isfinite(lua_tonumber(r->L, -1))) return fail(r, "a number that is too large");
    lua_remove(r->L, -2);
    return true;
}

static bool read_number(reader *r) {
    const char *begin = r->at;
    bool whole = true;
    r->at += *r->at == '-';
    if (r->at < r->end && *r->at == '0') r->at++;
    else if (!skip_digits(r)) return fail(r, "no value");
    if (r->at < r->end && *r->at == '.') {
        whole = false;
        r->at++;
        if (!skip_digits(r)) return fail(r, "a number without its digits");
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        whole = false;
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!skip_digits(r)) return fail(r, "a number without its digits");
    }
    return whole ? push_integer(r, begin) : push_float(r, begin);
}

/* ---- objects and lists ---- */

/* [-0, +0, -] of the object on top; a null is as if it were not there, but its name is taken until the end. */
static void drop_nulls(lua_State *L) {
    for (lua_pushnil(L); lua_next(L, -2);) {
        bool null = neap_is_null(L, -1);
        lua_pop(L, 1);
        if (!null) continue;
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, -4);
    }
}

/* [-0, +0, m] the object on top, which has one member, becomes what it stands for if that is {"$bytes": hex}. */
static void replace_bytes(lua_State *L) {
    size_t len = 0;
    const char *hex = lua_getfield(L, -1, "$bytes") == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (!hex) {
        lua_pop(L, 1);
        return;
    }
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, len / 2);
    for (size_t i = 0; i < len / 2; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        to[i] = (char)strtol(pair, NULL, 16);
    }
    luaL_pushresultsize(&b, len / 2);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* [-0, +1, m] a name that the object on top does not have yet. */
static bool read_name(reader *r) {
    size_t len;
    if (peek(r) != '"') return fail(r, "no name");
    if (!read_text(r)) return false;
    const char *name = lua_tolstring(r->L, -1, &len);
    if (strlen(name) != len) return fail(r, "a NUL in a name");
    lua_pushvalue(r->L, -1);
    if (lua_rawget(r->L, -3) != LUA_TNIL) return fail(r, "a name that was there before");
    lua_pop(r->L, 1);
    return true;
}

static bool read_object(reader *r, int depth) {
    lua_State *L = r->L;
    int count = 0;
    bool nulls = false;
    r->at++;
    lua_createtable(L, 0, peek(r) == '}' ? 0 : MEMBERS);
    if (has_next(r, '}')) return true;
    do {
        if (!read_name(r)) return false;
        if (!has_next(r, ':')) return fail(r, "no colon");
        if (!read_value(r, depth + 1)) return false;
        nulls |= neap_is_null(L, -1);
        lua_rawset(L, -3);
        count++;
    } while (has_next(r, ','));
    if (!has_next(r, '}')) return fail(r, "an object without an end");
    if (nulls) drop_nulls(L);
    if (count == 1) replace_bytes(L);
    return true;
}

static bool read_list(reader *r, int depth) {
    r->at++;
    lua_newtable(r->L);
    if (has_next(r, ']')) return true;
    lua_Integer count = 0;
    do {
        if (!read_value(r, depth + 1)) return false;
        lua_rawseti(r->L, -2, ++count);
    } while (has_next(r, ','));
    return has_next(r, ']') || fail(r, "a list without an end");
}

static bool read_word(reader *r) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t len = strlen(words[i]);
        if ((size_t)(r->end - r->at) < len || memcmp(r->at, words[i], len) != 0) continue;
        r->at += len;
        if (i == 2) neap_push_null(r->L);
        else lua_pushboolean(r->L, i == 0);
        return true;
    }
    return fail(r, "no value");
}

/* [-0, +1, m] on failure more may be left on the stack. */
static bool read_value(reader *r, int depth) {
    if (depth > DEPTH) return fail(r, "nesting that is too deep");
    luaL_checkstack(r->L, 8, "nested value");
    switch (peek(r)) {
    case '{': return read_object(r, depth);
    case '[': return read_list(r, depth);
    case '"': return read_text(r);
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': return read_number(r);
    default: return read_word(r);
    }
}

bool neap_value_decode(lua_State *L, const char *text, size_t len, neap_err *err) {
    reader r = {L, text, text, text + len, err};
    int top = lua_gettop(L);
    bool ok = read_value(&r, 1) && (peek(&r), r.at == r.end || fail(&r, "something behind the value"));
    if (!ok) lua_settop(L, top);
    return ok;
}
