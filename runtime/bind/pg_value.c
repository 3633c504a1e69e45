/* pg_value.c -- PostgreSQL's text format as Lua values, by type OID.
 *
 *   bool -> boolean; int2 int4 int8 oid -> integer; float4 float8 -> float; numeric -> its exact decimal string;
 *   date timestamp timestamptz -> ISO 8601 (with the offset, where the type has one); bytea -> bytes; json jsonb -> tables;
 *   arrays of these -> lists, nested as they are, NULL inside as native.null; everything else -> its text
 *
 * The text format is used throughout: it needs no table of binary layouts, and for what a runbook asks the difference is
 * a tenth. Sessions are opened with DateStyle ISO and bytea_output hex.
 */
#include <stdlib.h>
#include <string.h>

#include "bind/pg_private.h"
#include "script/function.h"
#include "script/value.h"

enum { OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_OID = 26, OID_JSON = 114, OID_FLOAT4 = 700,
       OID_FLOAT8 = 701, OID_TIMESTAMP = 1114, OID_TIMESTAMPTZ = 1184, OID_JSONB = 3802 };

typedef struct array_type { Oid array, element; } array_type;

static const array_type arrays[] = {
    {1000, OID_BOOL}, {1001, OID_BYTEA}, {1002, 18}, {1003, 19}, {1005, OID_INT2}, {1007, OID_INT4}, {1009, 25}, {1014, 1042},
    {1015, 1043}, {1016, OID_INT8}, {1021, OID_FLOAT4}, {1022, OID_FLOAT8}, {1028, OID_OID}, {1041, 869}, {1115, OID_TIMESTAMP}, {1182, 1082},
    {1183, 1083}, {1185, OID_TIMESTAMPTZ}, {1187, 1186}, {1231, 1700}, {1263, 2275}, {2951, 2950}, {199, OID_JSON}, {3807, OID_JSONB},
    {2207, 2202}, {2210, 2205}, {2211, 2206}, {651, 650}, {1040, 829}, {1011, 28}, {271, 5069}};

static Oid element_of(Oid type) {
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i].array == type) return arrays[i].element;
    return InvalidOid;
}

/* "2026-04-25 02:00:03.5+00" -> "2026-04-25T02:00:03.5+00:00"; infinity and BC stay as they are. */
static void push_timestamp(lua_State *L, const char *text, size_t len) {
    char iso[64];
    if (len + 4 > sizeof iso || len < 19 || text[10] != ' ' || text[len - 1] == 'C') {
        lua_pushlstring(L, text, len);
        return;
    }
    memcpy(iso, text, len);
    iso[10] = 'T';
    if (iso[len - 3] == '+' || iso[len - 3] == '-') memcpy(iso + len, ":00", 3), len += 3;
    lua_pushlstring(L, iso, len);
}

static void push_bytes(lua_State *L, const char *text, size_t len) {
    size_t size = 0;
    if (len >= 2 && text[0] == '\\' && text[1] == 'x') {
        luaL_Buffer b;
        char *out = luaL_buffinitsize(L, &b, (len - 2) / 2);
        for (size_t i = 2; i + 1 < len; i += 2) {
            int high = text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10, low = text[i + 1] <= '9' ? text[i + 1] - '0' : text[i + 1] - 'a' + 10;
            out[size++] = (char)(high << 4 | low);
        }
        luaL_pushresultsize(&b, size);
        return;
    }
    unsigned char *bytes = PQunescapeBytea((const unsigned char *)text, &size);
    lua_pushlstring(L, bytes ? (const char *)bytes : "", size);
    PQfreemem(bytes);
}

static void push_json(lua_State *L, const char *text, size_t len) {
    neap_err err = NEAP_ERR_INIT;
    if (neap_value_decode(L, text, len, &err)) return;
    neap_err_close(&err);
    lua_pushlstring(L, text, len);                 /* deeper than we read, or a number beyond ours: its text */
}

/* As the server writes them: a sign, perhaps, and digits that fit. */
static lua_Integer to_integer(const char *text) {
    lua_Unsigned value = 0;
    bool negative = *text == '-';
    for (text += negative; *text; text++) value = value * 10 + (lua_Unsigned)(*text - '0');
    return (lua_Integer)(negative ? 0 - value : value);
}

static void push_scalar(lua_State *L, Oid type, const char *text, size_t len) {
    switch (type) {
    case OID_BOOL: lua_pushboolean(L, text[0] == 't'); break;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_OID: lua_pushinteger(L, to_integer(text)); break;
    case OID_FLOAT4:
    case OID_FLOAT8: lua_pushnumber(L, strtod(text, NULL)); break;
    case OID_BYTEA: push_bytes(L, text, len); break;
    case OID_JSON:
    case OID_JSONB: push_json(L, text, len); break;
    case OID_TIMESTAMP:
    case OID_TIMESTAMPTZ: push_timestamp(L, text, len); break;
    default: lua_pushlstring(L, text, len);
    }
}

/* ---- arrays ---- */

/* One element's text, quotes and backslashes resolved. */
static const char *read_element(const char *at, neap_buf *out, bool *quoted) {
    neap_buf_clear(out);
    neap_buf_add(out, "", 0);
    *quoted = *at == '"';
    if (!*quoted) {
        size_t len = strcspn(at, ",}");
        neap_buf_add(out, at, len);
        return at + len;
    }
    for (at++; *at && *at != '"'; at++) {
        if (*at == '\\' && at[1]) at++;
        neap_buf_addc(out, *at);
    }
    return *at ? at + 1 : at;
}

static const char *push_array(lua_State *L, Oid element, const char *at, neap_buf *word, int depth) {
    lua_Integer n = 0;
    luaL_checkstack(L, 4, "nested array");
    lua_newtable(L);
    for (at++; *at && *at != '}';) {
        bool quoted = false;
        if (*at == '{' && depth < 8) {
            at = push_array(L, element, at, word, depth + 1);
        } else {
            at = read_element(at, word, &quoted);
            if (!quoted && word->len == 4 && strcasecmp(word->data, "NULL") == 0) neap_push_null(L);
            else push_scalar(L, element, word->data ? word->data : "", word->len);
        }
        lua_seti(L, -2, ++n);
        if (*at == ',') at++;
    }
    return *at ? at + 1 : at;
}

/* The scratch buffer must not leak when Lua runs out of memory: it grows inside a userdata with a finalizer. */
static int word_gc(lua_State *L) {
    neap_buf_close(lua_touserdata(L, 1));
    return 0;
}

static void push_list(lua_State *L, Oid element, const char *text) {
    neap_buf *word = lua_newuserdatauv(L, sizeof *word, 0);
    *word = (neap_buf)NEAP_BUF_INIT;
    if (luaL_newmetatable(L, "neap.pg.word")) neap_function_push(L, "pg.word:__gc", word_gc, 0), lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    const char *brace = *text == '[' ? strchr(text, '{') : text;     /* "[0:2]={…}": bounds that do not begin at 1 */
    push_array(L, element, brace ? brace : "{}", word, 0);
    neap_buf_close(word);
    lua_remove(L, -2);
}

/* ---- rows ---- */

static void push_field(lua_State *L, const pg_column *column, const PGresult *result, int row, int i, int len) {
    const char *text = PQgetvalue(result, row, i);
    if (column->element) push_list(L, column->element, text);
    else push_scalar(L, column->type, text, (size_t)len);
}

void neap_pg_push_value(lua_State *L, const PGresult *result, int row, int column) {
    pg_column one = {PQftype(result, column), element_of(PQftype(result, column))};
    if (PQgetisnull(result, row, column)) lua_pushnil(L);
    else push_field(L, &one, result, row, column, PQgetlength(result, row, column));
}

const pg_column *neap_pg_push_columns(lua_State *L, const PGresult *result) {
    int columns = PQnfields(result);
    pg_column *list = lua_newuserdatauv(L, (size_t)columns * sizeof *list + 1, 0);
    lua_createtable(L, columns, 0);
    for (int i = 0; i < columns; i++) {
        list[i] = (pg_column){PQftype(result, i), element_of(PQftype(result, i))};
        lua_pushstring(L, PQfname(result, i));
        lua_rawseti(L, -2, i + 1);
    }
    return list;
}

/* NULL is the rarest of what has no length, so it is asked for last. */
void neap_pg_push_row(lua_State *L, const PGresult *result, int row, const pg_column *columns, int names) {
    int count = PQnfields(result);
    lua_createtable(L, 0, count);
    for (int i = 0; i < count; i++) {
        int len = PQgetlength(result, row, i);
        if (len == 0 && PQgetisnull(result, row, i)) continue;
        lua_rawgeti(L, names, i + 1);
        push_field(L, &columns[i], result, row, i, len);
        lua_rawset(L, -3);
    }
}

void neap_pg_push_rows(lua_State *L, const PGresult *result) {
    int rows = PQntuples(result);
    const pg_column *columns = neap_pg_push_columns(L, result);
    int names = lua_gettop(L);
    lua_createtable(L, rows, 0);
    for (int i = 0; i < rows; i++) {
        neap_pg_push_row(L, result, i, columns, names);
        lua_rawseti(L, -2, i + 1);
    }
    lua_replace(L, names - 1);
    lua_settop(L, names - 1);
}
