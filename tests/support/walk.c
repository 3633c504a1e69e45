/* walk.c -- T.genuine: a Lua state as neap makes it (not this interpreter's, which has everything), with a loop and a guard
 * of its own, in which a spec runs a piece of Lua that may look at what no runbook can: upvalues, hidden metatables, user values, and the
 * row of a C function. */
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "bind/openlibs.h"
#include "loop/loop.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/state.h"
#include "script/task.h"
#include "testlib.h"
#include "toy.h"

/* upvalue(function, i) -> name, value; nothing after the last. */
static int upvalue(lua_State *L) {
    const char *name = lua_getupvalue(L, 1, (int)luaL_checkinteger(L, 2));
    if (!name) return 0;
    lua_pushstring(L, name);
    lua_insert(L, -2);
    return 2;
}

/* meta(value) -> its metatable, whatever __metatable says, or nil. */
static int meta(lua_State *L) {
    if (!lua_getmetatable(L, 1)) lua_pushnil(L);
    return 1;
}

/* uservalue(userdata, i) -> value, true; nil when there is none. */
static int uservalue(lua_State *L) {
    bool is = lua_type(L, 1) == LUA_TUSERDATA && lua_getiuservalue(L, 1, (int)luaL_checkinteger(L, 2)) != LUA_TNONE;
    if (!is) lua_pushnil(L);
    lua_pushboolean(L, is);
    return 2;
}

/* row(function) -> name and effect of its row; false for a C function without one; nil for one written in Lua. */
static int row(lua_State *L) {
    neap_primitive primitive = NEAP_P_PURE;
    if (!lua_iscfunction(L, 1)) return lua_pushnil(L), 1;
    const char *name = neap_function_row(L, 1, &primitive);
    if (!name) return lua_pushboolean(L, 0), 1;
    lua_pushstring(L, name);
    lua_pushstring(L, primitive == NEAP_P_OWN ? "own" : neap_effect_name(neap_primitive_effect(primitive)));
    return 2;
}

/* modules() -> list of every module that `require` knows. */
static int modules(lua_State *L) {
    int n = 0;
    lua_newtable(L);
    for (const neap_opener *o = neap_openers; o->name; o++) lua_pushstring(L, o->name), lua_seti(L, -2, ++n);
    for (const neap_embedded *e = neap_stdlib; e->name; e++) lua_pushstring(L, e->name), lua_seti(L, -2, ++n);
    return 1;
}

/* bare(): a C function that nobody registered, to see that it is found. */
static int bare(lua_State *L) {
    lua_pushcfunction(L, bare);
    return 1;
}

static void let_go(neap_op *op, bool force) { (void)op, (void)force; }

/* stray([name]): a function that brings file.write to the gate, registered under the name or under none. */
static int stray(lua_State *L) {
    static const neap_op_class class = {"a stray", let_go, NULL, NULL};
    if (lua_isstring(L, 1)) neap_function_push(L, lua_tostring(L, 1), stray, 0);
    neap_gate *g = (neap_gate *)neap_op_new(L, sizeof *g, &class);
    g->act = (neap_act){NEAP_P_FILE_WRITE, "files", NULL, "file:/x", "write /x", NULL};
    return neap_gate_enter(L, g);
}

static const luaL_Reg eyes[] = {{"upvalue", upvalue}, {"meta", meta}, {"uservalue", uservalue}, {"row", row}, {"modules", modules},
                                {"bare", bare}, {"stray", stray}, {"touch", neap_test_touch}, {NULL, NULL}};

/* [-0, +1, m] the text of what the piece returned or raised, into the state that asked. */
static bool take(lua_State *from, lua_State *to, neap_task *task) {
    int count;
    bool ok = neap_task_is_done(task) && neap_task_results(from, task, &count);
    size_t len;
    const char *text = luaL_tolstring(from, -1, &len);
    lua_pushlstring(to, text, len);
    return ok;
}

/* T.genuine(code, argument) -> the text that code(eyes, argument) returns as a task; raises what it raises. */
static int genuine(lua_State *L) {
    size_t len;
    const char *code = luaL_checklstring(L, 1, &len), *argument = luaL_optstring(L, 2, "");
    neap_host host = {.loop = neap_loop_new(), .guard = neap_guard_new()};
    lua_State *own = neap_state_new(&host, neap_openers);
    bool ok = luaL_loadbufferx(own, code, len, "=genuine", "t") == LUA_OK;
    if (!ok) {
        lua_pushstring(L, lua_tostring(own, -1));
    } else {
        luaL_newlib(own, eyes);
        lua_pushstring(own, argument);
        neap_task *task = neap_task_spawn(own, 2);
        neap_task_run_until(&host, task);
        ok = take(own, L, task);
    }
    neap_state_close(own);
    neap_loop_close(host.loop);
    neap_guard_free(host.guard);
    return ok ? 1 : lua_error(L);
}

/* T.functions() -> the names of functions.def. */
static int functions(lua_State *L) {
    lua_newtable(L);
    for (int i = 0; neap_function_name(i); i++) lua_pushstring(L, neap_function_name(i)), lua_seti(L, -2, i + 1);
    return 1;
}

static const luaL_Reg walks[] = {{"genuine", genuine}, {"functions", functions}, {NULL, NULL}};
NEAP_TEST_LIBRARY(walks)
