/* function.c -- see function.h. Who is who is kept by address, for the whole process: the address of a function is one in
 * every Lua state, and looking it up must not allocate, because some functions are pushed where nothing may raise. */
#include "script/function.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/raise.h"

enum { NAME = 96, SLOTS = 2048 };                  /* a power of two, at least twice what there is */

static const struct { const char *name; neap_primitive row; } rows[] = {
#define F(name, id) {name, NEAP_P_##id},
#include "guard/functions.def"
#undef F
    {NULL, NEAP_P_PURE}};

enum { ROWS = sizeof rows / sizeof *rows - 1 };
static_assert(ROWS * 2 <= SLOTS, "functions.def has outgrown the tables of function.c");

/* Two tables with open addressing: row + 1 by name, and what was pushed by address. A start pushes hundreds of functions. */
static uint16_t by_name[SLOTS];
static struct { lua_CFunction function; int row; } known[SLOTS];
static int known_count;

static unsigned slot_of_name(const char *name) {
    uint32_t h = 2166136261u;                      /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h % SLOTS;
}

static unsigned slot_of(lua_CFunction function) { return (unsigned)((uintptr_t)function * 0x9E3779B97F4A7C15u >> 32) % SLOTS; }

static void index_names(void) {
    for (int row = 0; row < ROWS; row++) {
        unsigned i = slot_of_name(rows[row].name);
        while (by_name[i]) i = (i + 1) % SLOTS;
        by_name[i] = (uint16_t)(row + 1);
    }
}

static int find(const char *name) {
    static bool indexed;
    if (!indexed) index_names();
    indexed = true;
    for (unsigned i = slot_of_name(name); by_name[i]; i = (i + 1) % SLOTS)
        if (strcmp(rows[by_name[i] - 1].name, name) == 0) return by_name[i] - 1;
    return -1;
}

static void remember(lua_CFunction function, int row) {
    if (++known_count == SLOTS) abort();
    unsigned i = slot_of(function);
    while (known[i].function) i = (i + 1) % SLOTS;
    known[i].function = function;
    known[i].row = row;
}

static bool is_known(lua_CFunction function, const char *name) {
    for (unsigned i = slot_of(function); known[i].function; i = (i + 1) % SLOTS)
        if (known[i].function == function && strcmp(rows[known[i].row].name, name) == 0) return true;
    return false;
}

void neap_function_push(lua_State *L, const char *name, lua_CFunction function, int upvalues) {
    if (!is_known(function, name)) {
        int row = find(name);
        if (row < 0) neap_raisef(L, NEAP_E_BUG, "\"%s\" has no row in functions.def", name);
        remember(function, row);
    }
    lua_pushcclosure(L, function, upvalues);
}

void neap_function_set(lua_State *L, const char *prefix, const luaL_Reg *list, int upvalues) {
    char name[NAME];
    int table = lua_gettop(L) - upvalues;
    luaL_checkstack(L, upvalues + 1, "upvalues");
    for (; list->name; list++) {
        for (int i = 1; i <= upvalues; i++) lua_pushvalue(L, table + i);
        snprintf(name, sizeof name, "%s%s", prefix, list->name);
        neap_function_push(L, name, list->func, upvalues);
        lua_setfield(L, table, list->name);
    }
    lua_pop(L, upvalues);
}

void neap_function_table(lua_State *L, const char *prefix, const luaL_Reg *list) {
    lua_newtable(L);
    neap_function_set(L, prefix, list, 0);
}

void neap_function_adopt(lua_State *L, int table, const char *prefix) {
    char name[NAME];
    table = lua_absindex(L, table);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_iscfunction(L, -1)) continue;
        snprintf(name, sizeof name, "%s%s", prefix, lua_tostring(L, -2));
        int row = find(name);
        if (row >= 0 && !is_known(lua_tocfunction(L, -1), name)) remember(lua_tocfunction(L, -1), row);
        if (row >= 0) continue;
        lua_pushvalue(L, -2);
        lua_pushnil(L);
        lua_rawset(L, table);                      /* clearing a field does not disturb the traversal */
    }
}

const char *neap_function_row(lua_State *L, int index, neap_primitive *row) {
    lua_CFunction function = lua_tocfunction(L, index);
    int best = -1;
    for (unsigned i = slot_of(function); function && known[i].function; i = (i + 1) % SLOTS) {
        if (known[i].function != function) continue;
        if (best < 0 || neap_primitive_effect(rows[known[i].row].row) > neap_primitive_effect(rows[best].row)) best = known[i].row;
    }
    if (best >= 0 && row) *row = rows[best].row;
    return best >= 0 ? rows[best].name : NULL;
}

const char *neap_function_name(int row) { return row >= 0 && row < ROWS ? rows[row].name : NULL; }
