/* pg_param.c -- Lua values as parameters of a statement, and the same for people.
 *
 * Parameters carry no types: the server infers them from the statement. A string that is not text (NULs, invalid UTF-8) goes in
 * binary format, which is right for bytea and refused by the server anywhere else. A list becomes an array literal, a table with
 * names (or a list of such) JSON; the empty table is "{}", which is both. A secret's bytes go to libpq and nowhere else.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/pg_private.h"
#include "bind/secret_lua.h"
#include "script/value.h"

enum { SHOWN = 120, MAX_PARAMETERS = 65535, MAX_DEPTH = 8 };

void neap_pg_params_close(pg_params *p) {
    for (int i = 0; i < p->count; i++) {
        if (p->values[i]) explicit_bzero(p->values[i], (size_t)p->lengths[i]);
        free(p->values[i]);
    }
    free(p->values);
    free(p->lengths);
    free(p->formats);
    neap_buf_close(&p->shown);
    memset(p, 0, sizeof *p);
}

static void show(pg_params *p, int i, const char *text, size_t len, bool quoted) {
    size_t cut = len > SHOWN ? SHOWN : len;
    while (cut < len && cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80) cut--;
    neap_buf_addf(&p->shown, "%s$%d = %s", i ? ", " : "", i + 1, quoted ? "'" : "");
    for (size_t at = 0; at < cut; at++)             /* what is shown stays one line, and a comment behind the statement */
        if (text[at] == '\n' || text[at] == '\r') neap_buf_adds(&p->shown, text[at] == '\n' ? "\\n" : "\\r");
        else neap_buf_addc(&p->shown, text[at]);
    neap_buf_addf(&p->shown, "%s%s", cut < len ? "…" : "", quoted ? "'" : "");
}

static void set(pg_params *p, int i, const char *text, size_t len, int format) {
    p->values[i] = neap_alloc(len + 1);
    memcpy(p->values[i], text, len);
    p->values[i][len] = '\0';
    p->lengths[i] = (int)len;
    p->formats[i] = format;
}

static void set_shown(pg_params *p, int i, const char *text, bool quoted) {
    set(p, i, text, strlen(text), 0);
    show(p, i, text, strlen(text), quoted);
}

static size_t number_text(lua_State *L, int index, char out[64]) {
    lua_Number n = lua_tonumber(L, index);
    if (lua_isinteger(L, index)) return (size_t)snprintf(out, 64, LUA_INTEGER_FMT, lua_tointeger(L, index));
    if (isnan(n)) return (size_t)snprintf(out, 64, "NaN");
    if (isinf(n)) return (size_t)snprintf(out, 64, "%sInfinity", n < 0 ? "-" : "");
    return (size_t)snprintf(out, 64, "%.17g", n);
}

/* ---- tables ---- */

/* Is it a list all the way down, of plain values? */
static bool is_list(lua_State *L, int index, int depth) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, index), seen = 0;
    if (depth > MAX_DEPTH || !lua_checkstack(L, 4)) return false;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        bool fits = lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && lua_tointeger(L, -2) <= n;
        if (fits && lua_istable(L, -1)) fits = is_list(L, lua_gettop(L), depth + 1);
        if (!fits) {
            lua_pop(L, 2);
            return false;
        }
        seen++;
    }
    return seen == n;
}

static void add_quoted(neap_buf *out, const char *text, size_t len) {
    neap_buf_addc(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\') neap_buf_addc(out, '\\');
        neap_buf_addc(out, text[i]);
    }
    neap_buf_addc(out, '"');
}

/* False where an element has no array form. */
static bool add_array(lua_State *L, int index, neap_buf *out) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, index);
    bool good = true;
    neap_buf_addc(out, '{');
    for (lua_Integer i = 1; i <= n && good; i++) {
        char number[64];
        size_t len = 0;
        if (i > 1) neap_buf_addc(out, ',');
        int type = lua_rawgeti(L, index, i);
        if (type == LUA_TTABLE) good = add_array(L, lua_gettop(L), out);
        else if (type == LUA_TBOOLEAN) neap_buf_adds(out, lua_toboolean(L, -1) ? "t" : "f");
        else if (type == LUA_TNUMBER) len = number_text(L, -1, number), neap_buf_add(out, number, len);
        else if (type == LUA_TSTRING) len = lua_rawlen(L, -1), add_quoted(out, lua_tostring(L, -1), len);
        else if (neap_is_null(L, -1)) neap_buf_adds(out, "NULL");
        else good = false;
        lua_pop(L, 1);
    }
    neap_buf_addc(out, '}');
    return good;
}

static void set_table(lua_State *L, int index, pg_params *p, int i) {
    neap_buf text = NEAP_BUF_INIT;
    neap_err err = NEAP_ERR_INIT;
    bool good;
    lua_pushnil(L);
    bool empty = !lua_next(L, index);
    if (!empty) lua_pop(L, 2);
    if (empty) neap_buf_adds(&text, "{}"), good = true;
    else if (is_list(L, index, 0)) good = add_array(L, index, &text) || neap_err_set(&err, NEAP_E_USAGE, "a list holds something that is no SQL value");
    else good = neap_value_encode(L, index, &text, &err);
    if (good) set_shown(p, i, text.data, true);
    neap_buf_close(&text);
    if (!good) neap_raise(L, &err);
}

/* ---- one parameter ---- */

static void set_secret(pg_params *p, int i, const neap_secret *secret) {
    p->secret = true;
    size_t len = 0;
    const char *bytes = neap_secret_bytes(secret, &len);
    set(p, i, bytes, len, 0);
    neap_buf_addf(&p->shown, "%s$%d = ‹secret %s›", i ? ", " : "", i + 1, neap_secret_name(secret));
}

static void set_string(lua_State *L, int index, pg_params *p, int i) {
    size_t len = 0;
    const char *text = lua_tolstring(L, index, &len);
    bool binary = memchr(text, '\0', len) || !neap_json_is_utf8(text, len);
    set(p, i, text, len, binary);
    if (binary) neap_buf_addf(&p->shown, "%s$%d = %zu bytes", i ? ", " : "", i + 1, len);
    else show(p, i, text, len, true);
}

static void set_parameter(lua_State *L, int index, pg_params *p, int i) {
    char number[64];
    neap_secret *secret = neap_to_secret(L, index);
    switch (lua_type(L, index)) {
    case LUA_TNIL: show(p, i, "NULL", 4, false); return;
    case LUA_TBOOLEAN: set_shown(p, i, lua_toboolean(L, index) ? "true" : "false", false); return;
    case LUA_TNUMBER: number_text(L, index, number), set_shown(p, i, number, false); return;
    case LUA_TSTRING: set_string(L, index, p, i); return;
    case LUA_TTABLE: set_table(L, index, p, i); return;
    default: break;
    }
    if (secret) set_secret(p, i, secret);
    else if (neap_is_null(L, index)) show(p, i, "NULL", 4, false);
    else neap_raisef(L, NEAP_E_USAGE, "parameter $%d is a %s, which is no SQL value", i + 1, luaL_typename(L, index));
}

void neap_pg_check_params(lua_State *L, int first, int top, pg_params *out) {
    int count = top >= first ? top - first + 1 : 0;
    if (count == 0) return;
    if (count > MAX_PARAMETERS) neap_raisef(L, NEAP_E_USAGE, "%d parameters are more than PostgreSQL takes", count);
    out->values = neap_zalloc(sizeof *out->values * (size_t)count);
    out->lengths = neap_zalloc(sizeof *out->lengths * (size_t)count);
    out->formats = neap_zalloc(sizeof *out->formats * (size_t)count);
    out->count = count;
    for (int i = 0; i < count; i++) set_parameter(L, first + i, out, i);
}
