/* main.c -- neap-test, the interpreter that runs the specs.
 *
 *     neap-test FILE [ARGUMENT…]      neap-test -e CODE [FILE [ARGUMENT…]]
 *
 * The same objects as neap, but a full Lua state instead of a sandbox: standard libraries, every native.*
 * module, the standard library from the source tree (so `make test` sees an edit without a rebuild) and
 * the library `T`. It must be started in the root of the source tree. Rejected: a test mode of
 * neap itself, because the shipped binary would then hold a door out of its sandbox.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/openlibs.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "script/state.h"
#include "script/task.h"
#include "recorder.h"
#include "testlib.h"

enum { LIBRARIES = 64, SETTLE_MS = 3000, LEFT_MS = 60000 };         /* after an error; before anything is called left behind */

static const luaL_Reg *libraries[LIBRARIES];
static int library_count;

void neap_test_add(const luaL_Reg *functions) {
    if (library_count == LIBRARIES) abort();
    libraries[library_count++] = functions;
}

/* ---- T.run ---- */

static void on_late(void *arg) { *(bool *)arg = true; }

/* Wait until no more than `allowed` handles are open. Closing needs turns of the loop; a child
 * that was just killed needs a moment. */
static int settle(neap_host *host, int allowed, int64_t ms) {
    bool late = false;
    neap_timer *timer = neap_timer_new(host->loop, on_late, &late);
    neap_timer_start(timer, ms);
    while (!late && neap_loop_handles(host->loop) - 1 > allowed) {
        neap_loop_turn(host->loop, true);
        neap_task_run_ready(host);
    }
    neap_timer_free(timer);
    neap_loop_turn(host->loop, false);
    return neap_loop_handles(host->loop);
}

/* [-0, +0, e] raise when the task left handles or tasks behind. */
static void check_left(lua_State *L, neap_host *host, int handles, int tasks) {
    lua_gc(L, LUA_GCCOLLECT);
    lua_gc(L, LUA_GCCOLLECT);
    int left = settle(host, handles, host->tasks > tasks ? SETTLE_MS : LEFT_MS);      /* a task that sleeps is left, however long one waits */
    if (host->tasks > tasks) luaL_error(L, "%d tasks are left running by this test", host->tasks - tasks);
    if (left > handles) luaL_error(L, "%d handles are left open by this test", left - handles);
}

/* T.run(fn) -> what fn returns. fn runs as a task in mode "run", phase "act", with the recorder of recorder.c as its journal;
 * its error is raised again; handles and tasks it leaves are an error. */
static int run(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    neap_host *host = neap_host_of(L);
    int handles = neap_loop_handles(host->loop), tasks = host->tasks, results = 0;
    neap_guard_set_mode(host->guard, NEAP_MODE_RUN);
    neap_guard_clear(host->guard);
    neap_recorder before = host->recorder;
    host->recorder = neap_test_recorder(host->loop);
    neap_task *task = neap_task_spawn(L, 0);
    neap_task_scope(task)->phase = NEAP_PHASE_ACT;
    neap_task_run_until(host, task);
    host->recorder = before;
    if (!neap_task_is_done(task)) return luaL_error(L, "the task waits for something that never comes");
    if (!neap_task_results(L, task, &results)) {
        settle(host, handles, SETTLE_MS);         /* what is still closing is not left open */
        return lua_error(L);
    }
    lua_remove(L, 1);                             /* the handle: nothing may keep the task alive */
    check_left(L, host, handles, tasks);
    return results;
}

static int handles(lua_State *L) {
    lua_pushinteger(L, neap_loop_handles(neap_host_of(L)->loop));
    return 1;
}

static int tasks(lua_State *L) {
    lua_pushinteger(L, neap_host_of(L)->tasks);
    return 1;
}

static const luaL_Reg life[] = {{"run", run}, {"handles", handles}, {"tasks", tasks}, {NULL, NULL}};
NEAP_TEST_LIBRARY(life)

/* ---- the state ---- */

static void open_test_library(lua_State *L) {
    lua_newtable(L);
    for (int i = 0; i < library_count; i++) luaL_setfuncs(L, libraries[i], 0);
    lua_setglobal(L, "T");
}

static void set_path(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "stdlib/?.lua;%s", lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

/* [-0, +0, m] the global `arg` as lua(1) sets it: the script is number 0. */
static void set_arguments(lua_State *L, int argc, char **argv, int script) {
    lua_newtable(L);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

static int traceback(lua_State *L) {
    const char *message = luaL_tolstring(L, 1, NULL);
    luaL_traceback(L, L, message, 1);
    return 1;
}

/* Run what was just compiled, or report why it was not. */
static bool call(lua_State *L, int compiled) {
    if (compiled == LUA_OK) {
        lua_pushcfunction(L, traceback);
        lua_insert(L, -2);
        if (lua_pcall(L, 0, 0, -2) == LUA_OK) {
            lua_pop(L, 1);
            return true;
        }
    }
    fprintf(stderr, "neap-test: %s\n", lua_tostring(L, -1));
    return false;
}

static int run_script(lua_State *L, int argc, char **argv) {
    int script = 1;
    const char *code = NULL;
    if (argc > 2 && strcmp(argv[1], "-e") == 0) {
        code = argv[2];
        script = 3;
    }
    set_arguments(L, argc, argv, script < argc ? script : 0);
    if (code && !call(L, luaL_loadbufferx(L, code, strlen(code), "=-e", "t"))) return 1;
    if (script >= argc) return code ? 0 : 2;
    return call(L, luaL_loadfile(L, argv[script])) ? 0 : 1;
}

/* neap_state_new opens only what is safe and has a row; this opens the libraries whole, and gives `require` its stock meaning. */
static void open_everything(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    for (const char *const *name = (const char *const[]){"string", "table", "math", "utf8", NULL}; *name; name++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *name);
    }
    lua_pop(L, 1);
    luaL_openlibs(L);
    lua_pushcfunction(L, luaopen_base);
    lua_call(L, 0, 0);
    neap_state_preload(L, neap_openers);
    open_test_library(L);
    set_path(L);
}

int main(int argc, char **argv) {
    neap_host host = {.loop = neap_loop_new(), .guard = neap_guard_new()};
    lua_State *L = neap_state_new(&host, neap_openers);
    open_everything(L);
    int code = run_script(L, argc, argv);
    if (code == 2) fprintf(stderr, "usage: neap-test [-e CODE] FILE [ARGUMENT...]\n");
    neap_state_close(L);
    neap_loop_close(host.loop);
    neap_guard_free(host.guard);
    return code;
}
