/* text_lua.c -- native.text: text made fit for one sink, and the few text functions that belong in C because they
 * need Unicode tables, the redactor or a hash. All are pure: no state, no waiting. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/escape.h"
#include "base/hash.h"
#include "base/quote.h"
#include "drive/filter.h"
#include "guard/secret.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/value.h"

enum { WORD_MOST = 64, NEAR = 2 };

/* [-0, +1, m] the buffer as a string; the buffer is freed. */
static int push_buf(lua_State *L, neap_buf *b) {
    lua_pushlstring(L, b->data ? b->data : "", b->len);
    neap_buf_close(b);
    return 1;
}

/* escape(text, {lines=}) -> text for a terminal; `lines` keeps line breaks and tabs. Effect: pure. */
static int escape(lua_State *L) {
    neap_buf out = NEAP_BUF_INIT;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    bool lines = false;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "lines");
        lines = lua_toboolean(L, -1);
    }
    neap_escape_terminal(&out, text, len, lines);
    return push_buf(L, &out);
}

static int through(lua_State *L, void (*make)(neap_buf *, const char *, size_t)) {
    neap_buf out = NEAP_BUF_INIT;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    make(&out, text, len);
    return push_buf(L, &out);
}

/* html(text), markdown(text), redact(text) -> text. Effect: pure. */
static int html(lua_State *L) { return through(L, neap_escape_html); }
static int markdown(lua_State *L) { return through(L, neap_escape_markdown); }
static int redact(lua_State *L) { return through(L, neap_redact); }

/* shell(list) -> the words, each quoted for a POSIX shell, joined by spaces. Effect: pure. */
static int shell(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = luaL_len(L, 1);
    for (lua_Integer i = 1; i <= n; i++) {         /* check all before memory is taken */
        size_t len;
        lua_rawgeti(L, 1, i);
        luaL_argcheck(L, lua_isstring(L, -1), 1, "a list of strings is needed");
        const char *word = lua_tolstring(L, -1, &len);
        luaL_argcheck(L, !memchr(word, 0, len), 1, "a word for a shell cannot hold a NUL byte");
        lua_pop(L, 1);
    }
    neap_buf out = NEAP_BUF_INIT;
    for (lua_Integer i = 1; i <= n; i++) {
        size_t len;
        lua_rawgeti(L, 1, i);
        const char *word = lua_tolstring(L, -1, &len);
        neap_quote_add(&out, word, len);
        lua_pop(L, 1);
    }
    return push_buf(L, &out);
}

/* width(text) -> columns in a terminal, after escaping. Effect: pure. */
static int width(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushinteger(L, (lua_Integer)neap_escape_width(text, len));
    return 1;
}

/* fit(text, columns) -> the longest beginning that fits, whole graphemes. Effect: pure. */
static int fit(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer columns = luaL_checkinteger(L, 2);
    lua_pushlstring(L, text, neap_escape_fit(text, len, columns > 0 ? (size_t)columns : 0));
    return 1;
}

/* sha256(bytes) -> 64 hexadecimal digits. Effect: pure. */
static int sha256(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    unsigned char digest[NEAP_HASH_SIZE];
    char hex[NEAP_HASH_HEX_SIZE];
    neap_hash_of(bytes, len, digest);
    neap_hash_hex(digest, hex);
    lua_pushstring(L, hex);
    return 1;
}

/* json(value) -> canonical JSON; raises for what is not plain data. Effect: pure. */
static int json(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_buf out = NEAP_BUF_INIT;
    luaL_checkany(L, 1);
    if (neap_value_encode(L, 1, &out, &err)) return push_buf(L, &out);
    neap_buf_close(&out);
    return neap_raise(L, &err);
}

/* parse(json) -> value | nil, err. Effect: pure. */
static int parse(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    return neap_value_decode(L, text, len, &err) ? 1 : neap_fail(L, &err);
}

/* expand(bytes, "zstd"|"gzip") -> what a compressed text begins with, as far as these bytes of it go and at most 64 KiB | nil, err. Effect:
 * pure. */
static int expand(lua_State *L) {
    enum { MOST = 64 * 1024 };
    static const char *const formats[] = {"zstd", "gzip", NULL};
    neap_err err = NEAP_ERR_INIT;
    size_t len, made = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    neap_filter_format format = luaL_checkoption(L, 2, NULL, formats) == 0 ? NEAP_FILTER_ZSTD : NEAP_FILTER_GZIP;
    luaL_Buffer out;
    char *room = luaL_buffinitsize(L, &out, MOST);
    neap_filter *filter = neap_filter_new(format, true);
    ssize_t got = 1;
    while (got > 0 && made < MOST) {
        got = neap_filter_run(filter, &bytes, &len, false, room + made, MOST - made, &err);
        if (got > 0) made += (size_t)got;
    }
    neap_filter_free(filter);
    luaL_pushresultsize(&out, made);
    return got < 0 ? neap_fail(L, &err) : 1;
}

static int least(int a, int b) { return a < b ? a : b; }

/* How many letters were added, left out, changed or swapped with their neighbour; capital letters count as small ones. */
static int distance(const char *a, const char *b) {
    int rows[3][WORD_MOST + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++) rows[0][j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            bool same = strncasecmp(a + i - 1, b + j - 1, 1) == 0;
            row[j] = least(above[j - 1] + !same, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && strncasecmp(a + i - 1, b + j - 2, 1) == 0 && strncasecmp(a + i - 2, b + j - 1, 1) == 0)
                row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return rows[strlen(a) % 3][n];
}

/* nearest(word, list) -> the word of the list that was probably meant | nil. Effect: pure. */
static int nearest(lua_State *L) {
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t len = strlen(word);
    int best = least(NEAR, (int)len - 1) + 1, found = 0;
    for (lua_Integer i = 1, n = luaL_len(L, 2); i <= n && len <= WORD_MOST; i++) {
        lua_rawgeti(L, 2, i);
        const char *other = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        int d = other && strlen(other) <= WORD_MOST ? distance(word, other) : best;
        if (d < best) best = d, found = (int)i;
        lua_pop(L, 1);
    }
    if (found) lua_rawgeti(L, 2, found);
    else lua_pushnil(L);
    return 1;
}

static const luaL_Reg module[] = {
    {"escape", escape}, {"html", html}, {"markdown", markdown}, {"redact", redact}, {"shell", shell}, {"width", width}, {"fit", fit},
    {"sha256", sha256}, {"json", json}, {"parse", parse}, {"nearest", nearest},
    {"expand", expand}, {NULL, NULL}};

int neap_open_text(lua_State *L) {
    neap_function_table(L, "native.text.", module);
    return 1;
}
