/* sql_lua.c -- native.sql: what a statement is, and what a connection URL says. Every function here is pure: it looks at text and asks
 * nobody. What the parser and the URL reader return lives in a box that Lua collects, because pushing a result may raise.
 *
 * A URL that holds a password should reach C as a secret; this module is for showing, where the password is only `true`. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "drive/pgurl.h"
#include "guard/sql.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/value.h"

#define BOX "neap.sql.box"

/* Closed when it is made: __gc is right at every moment. */
typedef struct box {
    neap_sql   sql;
    neap_pgurl url;
    char     **list;
} box;

/* [-0, +0, -] */
static int box_gc(lua_State *L) {
    box *b = luaL_checkudata(L, 1, BOX);
    neap_sql_close(&b->sql);
    neap_pgurl_close(&b->url);
    for (char **at = b->list; at && *at; at++) free(*at);
    free(b->list);
    b->list = NULL;
    return 0;
}

static const luaL_Reg box_meta[] = {{"__gc", box_gc}, {NULL, NULL}};

/* [-0, +1, m] */
static box *push_box(lua_State *L) {
    box *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    if (luaL_newmetatable(L, BOX)) neap_function_set(L, "box:", box_meta, 0);
    lua_setmetatable(L, -2);
    return b;
}

/* [-0, +0, v] a text without NUL bytes: C would not see what is behind one, the server would not either, but a person might. */
static const char *check_text(lua_State *L, int index) {
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    luaL_argcheck(L, strlen(text) == len, index, "the text holds a NUL byte");
    return text;
}

/* [-0, +1, m] */
static void push_list(lua_State *L, char *const *list) {
    lua_newtable(L);
    for (int i = 0; list && list[i]; i++) {
        lua_pushstring(L, list[i]);
        lua_seti(L, -2, i + 1);
    }
}

static void set_flag(lua_State *L, const char *field, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, field);
}

static void set_text(lua_State *L, const char *field, const char *value) {
    if (value == NULL || *value == '\0') return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, field);
}

/* [-0, +1, m] */
static void push_sql(lua_State *L, const neap_sql *sql) {
    lua_createtable(L, 0, 13);
    set_flag(L, "reads", sql->reads);
    set_flag(L, "alone", sql->alone);
    set_flag(L, "transaction", sql->transaction);
    set_flag(L, "copy_in", sql->copy_in);
    set_flag(L, "copy_out", sql->copy_out);
    set_flag(L, "copy_reads", sql->copy_reads);
    set_flag(L, "bounded", sql->bounded);
    set_text(L, "kind", sql->kind);
    set_text(L, "why", sql->why);
    lua_pushinteger(L, sql->statements);
    lua_setfield(L, -2, "statements");
    push_list(L, sql->functions);
    lua_setfield(L, -2, "functions");
    push_list(L, sql->attributes);
    lua_setfield(L, -2, "attributes");
}

/* read(text) -> {reads=, alone=, transaction=, copy_in=, copy_out=, copy_reads=, bounded=, statements=, kind=, why=, functions={…},
 * attributes={…}} | nil, err. Effect: pure. */
static int sql_read(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *text = check_text(L, 1);
    box *b = push_box(L);
    if (!neap_sql_read(&b->sql, text, &err)) return neap_fail(L, &err);
    push_sql(L, &b->sql);
    return 1;
}

/* check_read(text) -> true | nil, err: refused with the reason, or invalid. Effect: pure. */
static int sql_check_read(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *text = check_text(L, 1);
    box *b = push_box(L);
    if (!neap_sql_read(&b->sql, text, &err) || !neap_sql_check_read(&b->sql, &err)) return neap_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* tree(text) -> the parse tree as tables, {stmts={{stmt={SelectStmt={…}}, …}}}, as libpg_query names its nodes | nil, err. Effect: pure. */
static int sql_tree(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *text = check_text(L, 1);
    box *b = push_box(L);
    b->list = neap_zalloc(2 * sizeof *b->list);
    b->list[0] = neap_sql_tree(text, &err);
    if (!b->list[0] || !neap_value_decode(L, b->list[0], strlen(b->list[0]), &err)) return neap_fail(L, &err);
    return 1;
}

/* split(script) -> list of statements | nil, err. Effect: pure. */
static int sql_split(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *script = check_text(L, 1);
    box *b = push_box(L);
    b->list = neap_sql_split(script, &err);
    if (b->list == NULL) return neap_fail(L, &err);
    push_list(L, b->list);
    return 1;
}

/* vetted(function) -> is it on the list of volatile readers? Effect: pure. */
static int sql_vetted(lua_State *L) {
    lua_pushboolean(L, neap_sql_is_vetted(check_text(L, 1)));
    return 1;
}

/* [-0, +1, m] keyword -> value; what is secret is only said to be there. */
static void push_pairs(lua_State *L, const neap_pgurl *u) {
    lua_createtable(L, 0, u->count);
    for (int i = 0; i < u->count; i++) {
        if (strstr(u->keys[i], "password")) set_flag(L, u->keys[i], true);
        else lua_pushstring(L, u->values[i]), lua_setfield(L, -2, u->keys[i]);
    }
}

/* url(text) -> {pairs={host=, password=true, …}, search_path=, pooled=, notices={…}} | nil, err. Effect: pure. */
static int sql_url(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *text = check_text(L, 1);
    box *b = push_box(L);
    if (!neap_pgurl_read(&b->url, text, &err)) return neap_fail(L, &err);
    lua_createtable(L, 0, 4);
    push_pairs(L, &b->url);
    lua_setfield(L, -2, "pairs");
    set_text(L, "search_path", b->url.search_path);
    set_flag(L, "pooled", b->url.pooled);
    push_list(L, b->url.notices);
    lua_setfield(L, -2, "notices");
    return 1;
}

static const luaL_Reg module[] = {
    {"read", sql_read}, {"check_read", sql_check_read}, {"tree", sql_tree}, {"split", sql_split}, {"vetted", sql_vetted}, {"url", sql_url}, {NULL, NULL}};

int neap_open_sql(lua_State *L) {
    neap_function_table(L, "native.sql.", module);
    return 1;
}
