/* records.c -- what the journal and its index give, on its way to Lua.
 *
 * It is copied into a C list first, whose userdata frees it, and becomes Lua values only after SQLite has
 * been left: raising in the middle of a query would leave its connection open. */
#include "bind/records.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/value.h"

#define LIST_META "neap.journal.list"

void neap_records_clear(neap_records *l) {
    for (size_t i = 0; l->records && i < l->count; i++) {
        free((char *)l->records[i].kind);
        free((char *)l->records[i].step);
        free((char *)l->records[i].body);
    }
    for (size_t i = 0; l->rows && i < l->count; i++) {
        const neap_index_row *r = &l->rows[i];
        const char *texts[] = {r->run, r->runbook, r->environment, r->user, r->host, r->status, r->targets, r->hash, r->head};
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) free((char *)texts[t]);
    }
    free(l->records);
    free(l->rows);
    *l = (neap_records){0};
}

static int list_gc(lua_State *L) {
    neap_records_clear(lua_touserdata(L, 1));
    return 0;
}

neap_records *neap_records_new(lua_State *L) {
    neap_records *l = lua_newuserdatauv(L, sizeof *l, 0);
    *l = (neap_records){0};
    if (luaL_newmetatable(L, LIST_META)) {
        neap_function_push(L, "records:__gc", list_gc, 0);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return l;
}

/* `items` with room for one more of `size` bytes behind `count`. */
static void *grow(neap_records *l, void *items, size_t size) {
    if (l->count < l->room) return items;
    l->room = l->room ? l->room * 2 : 16;
    void *more = neap_alloc(l->room * size);
    if (items) memcpy(more, items, l->count * size);
    free(items);
    return more;
}

bool neap_records_keep(void *arg, const neap_record *r) {
    neap_records *l = arg;
    l->records = grow(l, l->records, sizeof *l->records);
    l->records[l->count++] = (neap_record){r->seq, r->at_ms, neap_strdup(r->kind), neap_strdup(r->step), neap_strdup(r->body), r->redacted};
    return true;
}

bool neap_records_take(void *arg, neap_record *r) {
    neap_records *l = arg;
    l->records = grow(l, l->records, sizeof *l->records);
    l->records[l->count++] = *r;
    r->kind = r->step = r->body = NULL;
    return true;
}

bool neap_records_keep_row(void *arg, const neap_index_row *r) {
    neap_records *l = arg;
    l->rows = grow(l, l->rows, sizeof *l->rows);
    l->rows[l->count++] = (neap_index_row){
        .run = neap_strdup(r->run), .runbook = neap_strdup(r->runbook), .environment = neap_strdup(r->environment),
        .user = neap_strdup(r->user), .host = neap_strdup(r->host), .status = neap_strdup(r->status), .targets = neap_strdup(r->targets),
        .started_ms = r->started_ms, .ended_ms = r->ended_ms, .hash = neap_strdup(r->hash), .head = neap_strdup(r->head), .records = r->records,
    };
    return true;
}

static void set_text(lua_State *L, const char *field, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, field);
}

static void set_integer(lua_State *L, const char *field, int64_t n) {
    lua_pushinteger(L, n);
    lua_setfield(L, -2, field);
}

/* [-0, +1, e] evidence that is no JSON was not written by neap. */
static void push_json(lua_State *L, const char *json) {
    neap_err err = NEAP_ERR_INIT;
    if (!neap_value_decode(L, json, strlen(json), &err)) neap_raise(L, &err);
}

/* [-0, +1, e] what was kept of it when it was appended, unless the journal says something else. */
static void push_body(lua_State *L, const neap_record *r, int bodies) {
    int type = bodies ? lua_rawgeti(L, bodies, r->seq) : LUA_TNONE;
    if (type != LUA_TNONE) {
        lua_pushnil(L);
        lua_rawseti(L, bodies, r->seq);
        if (type == LUA_TTABLE && !r->redacted) return;
        lua_pop(L, 1);
    }
    push_json(L, r->body);
}

void neap_records_push(lua_State *L, const neap_records *l, int bodies) {
    lua_createtable(L, (int)l->count, 0);
    for (size_t i = 0; i < l->count; i++) {
        const neap_record *r = &l->records[i];
        lua_createtable(L, 0, 5);
        set_integer(L, "seq", r->seq);
        set_integer(L, "at", r->at_ms);
        set_text(L, "kind", r->kind);
        set_text(L, "step", r->step);
        push_body(L, r, bodies);
        lua_setfield(L, -2, "body");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

void neap_records_push_rows(lua_State *L, const neap_records *l) {
    lua_createtable(L, (int)l->count, 0);
    for (size_t i = 0; i < l->count; i++) {
        const neap_index_row *r = &l->rows[i];
        lua_createtable(L, 0, 12);
        set_text(L, "run", r->run);
        set_text(L, "runbook", r->runbook);
        set_text(L, "environment", r->environment);
        set_text(L, "user", r->user);
        set_text(L, "host", r->host);
        set_text(L, "status", r->status);
        push_json(L, *r->targets ? r->targets : "[]");
        lua_setfield(L, -2, "targets");
        set_integer(L, "started_ms", r->started_ms);
        set_integer(L, "ended_ms", r->ended_ms);
        set_text(L, "hash", r->hash);
        set_text(L, "head", r->head);
        set_integer(L, "records", r->records);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}
