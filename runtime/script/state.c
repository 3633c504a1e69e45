/* state.c -- see state.h. `require` is our own thirty lines: the stock one reads LUA_PATH, searches the file
 * system and loads shared objects, all of which a control host must not do. */
#include "script/state.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/raise.h"
#include "script/sandbox.h"

#define MODULES "neap.modules"
#define OPENERS "neap.openers"

static const neap_embedded *embedded(const char *name) {
    for (const neap_embedded *e = neap_stdlib; e->name; e++)
        if (strcmp(e->name, name) == 0) return e;
    return NULL;
}

static lua_CFunction opener(lua_State *L, const char *name) {
    lua_getfield(L, LUA_REGISTRYINDEX, OPENERS);
    const neap_opener *o = lua_touserdata(L, -1);
    lua_pop(L, 1);
    for (; o && o->name; o++)
        if (strcmp(o->name, name) == 0) return o->open;
    return NULL;
}

/* [-0, +1, e] the function that makes the module. */
static void push_loader(lua_State *L, const char *name) {
    lua_CFunction open = opener(L, name);
    const neap_embedded *e = open ? NULL : embedded(name);
    if (open) {
        lua_pushcfunction(L, open);
    } else if (e) {
        char chunk[128];
        snprintf(chunk, sizeof chunk, "=%s", name);
        if (luaL_loadbufferx(L, (const char *)e->code, e->len, chunk, "b") != LUA_OK) lua_error(L);
    } else {
        neap_raisef(L, NEAP_E_BUG, "no module \"%s\"", name);
    }
}

/* require(name) -> module. Effect: pure. */
static int require(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, MODULES);
    if (lua_getfield(L, 2, name) != LUA_TNIL) return 1;
    push_loader(L, name);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) lua_pushboolean(L, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

static void open_safe_libraries(lua_State *L) {
    static const luaL_Reg safe[] = {
        {LUA_GNAME, luaopen_base}, {LUA_TABLIBNAME, luaopen_table}, {LUA_STRLIBNAME, luaopen_string},
        {LUA_MATHLIBNAME, luaopen_math}, {LUA_UTF8LIBNAME, luaopen_utf8}, {NULL, NULL}};
    static const char *const unsafe[] = {"dofile", "loadfile", "collectgarbage", NULL};
    for (const luaL_Reg *lib = safe; lib->name; lib++) {
        luaL_requiref(L, lib->name, lib->func, 1);
        lua_pop(L, 1);
    }
    for (const char *const *name = unsafe; *name; name++) lua_pushnil(L), lua_setglobal(L, *name);
    lua_getglobal(L, "string");
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");                 /* binary chunks can crash the interpreter; nobody needs to make one */
    lua_pop(L, 1);
}

static int panic(lua_State *L) {
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "neap: error outside every protected call: %s\n", message ? message : "(no text)");
    return 0;
}

static void init_host(neap_host *host) {
    neap_list_init(&host->ready);
    host->running = NULL;
    host->tasks = 0;
}

lua_State *neap_state_new(neap_host *host, const neap_opener *openers) {
    init_host(host);
    lua_State *L = lua_newstate(neap_sandbox_alloc, host);
    if (!L) return NULL;
    lua_atpanic(L, panic);
    *(neap_host **)lua_getextraspace(L) = host;
    open_safe_libraries(L);
    neap_task_register(L);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, MODULES);
    lua_pushlightuserdata(L, (void *)openers);
    lua_setfield(L, LUA_REGISTRYINDEX, OPENERS);
    lua_pushcfunction(L, require);
    lua_setglobal(L, "require");
    return L;
}

void neap_state_preload(lua_State *L, const neap_opener *openers) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const neap_opener *o = openers; o->name; o++) {
        lua_pushcfunction(L, o->open);
        lua_setfield(L, -2, o->name);
    }
    lua_pop(L, 1);
}

void neap_state_close(lua_State *L) {
    lua_close(L);
}
