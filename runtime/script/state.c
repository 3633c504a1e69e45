/* state.c -- see state.h. `require` is our own thirty lines: the stock one reads LUA_PATH, searches the file
 * system and loads shared objects, all of which a control host must not do. */
#include "script/state.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "script/function.h"
#include "script/raise.h"
#include "script/sandbox.h"

#define MODULES "neap.modules"
#define OPENERS "neap.openers"

/* Generational: what a loop over rows makes dies young, and marking the whole standard library again for it took a third of the
 * time of reading rows. Every wait also makes a userdata with a finalizer, which lives through one collection more than other
 * garbage; 200,000 waits stay at 19 MB this way (measured). The repairs of lgc.c between 5.4.4 and 5.4.8 concern how soon a
 * cycle begins, not what it frees. */
enum { TEXT_MOST = 1 << 20 };

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
        neap_function_push(L, "require.open", open, 0);
    } else if (e) {
        char chunk[128];
        snprintf(chunk, sizeof chunk, "=%s", name);
        if (luaL_loadbufferx(L, (const char *)e->code, e->len, chunk, "b") != LUA_OK) lua_error(L);
    } else {
        neap_raisef(L, NEAP_E_BUG, "no module \"%s\"", name);
    }
}

/* Bytecode is read once. Its pages are as good as new from the file, so they need not count as ours for the rest of a run. */
static void leave_bytecode(void) {
    extern const unsigned char __start_neap_bytecode[], __stop_neap_bytecode[];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)__start_neap_bytecode & ~(page - 1);
    (void)madvise((void *)from, (uintptr_t)__stop_neap_bytecode - from, MADV_DONTNEED);      /* refused: they stay, and nothing is wrong */
}

/* require(name) -> module. Effect: pure. */
static int require(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    neap_host *host = neap_host_of(L);
    lua_settop(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, MODULES);
    if (lua_getfield(L, 2, name) != LUA_TNIL) return 1;
    push_loader(L, name);
    lua_pushvalue(L, 1);
    host->loading++;
    int status = lua_pcall(L, 1, 1, 0);
    if (--host->loading == 0) leave_bytecode();
    if (status != LUA_OK) return lua_error(L);
    if (lua_isnil(L, -1)) lua_pushboolean(L, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

/* load(text, name, "t", environment) -> function | nil, message. Text only: a made-up binary chunk can crash the interpreter. Effect: pure. */
static int load_text(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);
    luaL_argcheck(L, strcmp(luaL_checkstring(L, 3), "t") == 0, 3, "only text can be loaded");
    luaL_checktype(L, 4, LUA_TTABLE);
    luaL_argcheck(L, len <= TEXT_MOST, 1, "the text is longer than 1 MiB");
    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, 4);
    lua_setupvalue(L, -2, 1);
    return 1;
}

/* What has no row in functions.def is gone: dofile, loadfile, load, print, warn, collectgarbage, string.dump, and whatever a later Lua adds. */
static void open_safe_libraries(lua_State *L) {
    static const struct { const char *name; lua_CFunction open; const char *prefix; } safe[] = {
        {LUA_GNAME, luaopen_base, ""}, {LUA_TABLIBNAME, luaopen_table, "table."}, {LUA_STRLIBNAME, luaopen_string, "string."},
        {LUA_MATHLIBNAME, luaopen_math, "math."}, {LUA_UTF8LIBNAME, luaopen_utf8, "utf8."}};
    for (size_t i = 0; i < sizeof safe / sizeof *safe; i++) {
        luaL_requiref(L, safe[i].name, safe[i].open, 1);
        neap_function_adopt(L, -1, safe[i].prefix);
        lua_pop(L, 1);
    }
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    neap_function_adopt(L, -1, "string:");
    lua_pop(L, 2);
}

static int panic(lua_State *L) {
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "neap: error outside every protected call: %s\n", message ? message : "(no text)");
    return 0;
}

static void init_host(neap_host *host) {
    neap_list_init(&host->ready);
    host->running = NULL;
    host->tasks = host->loading = 0;
}

lua_State *neap_state_new(neap_host *host, const neap_opener *openers) {
    init_host(host);
    lua_State *L = lua_newstate(neap_sandbox_alloc, host);
    if (!L) return NULL;
    lua_gc(L, LUA_GCGEN, 0, 0);
    lua_atpanic(L, panic);
    *(neap_host **)lua_getextraspace(L) = host;
    open_safe_libraries(L);
    neap_task_register(L);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, MODULES);
    lua_pushlightuserdata(L, (void *)openers);
    lua_setfield(L, LUA_REGISTRYINDEX, OPENERS);
    neap_function_push(L, "require", require, 0);
    lua_setglobal(L, "require");
    neap_function_push(L, "load", load_text, 0);
    lua_setglobal(L, "load");
    return L;
}

void neap_state_preload(lua_State *L, const neap_opener *openers) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const neap_opener *o = openers; o->name; o++) {
        neap_function_push(L, "require.open", o->open, 0);
        lua_setfield(L, -2, o->name);
    }
    lua_pop(L, 1);
}

void neap_state_close(lua_State *L) {
    neap_host *host = neap_host_of(L);
    lua_close(L);
    neap_pool_close(&host->pool);
}
