/* task_lua.c -- native.task: tasks, sleeping, deadlines, and where the running task stands. For the engine only: a
 * runbook sees these through parallel, wait_until and the clauses' own `within`. */
#include <lauxlib.h>
#include <string.h>

#include "base/clock.h"
#include "loop/timer.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/sandbox.h"
#include "script/task.h"

/* spawn(fn, ...) -> task. The function runs when the caller next waits. Effect: pure. */
static int spawn(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    neap_task_spawn(L, lua_gettop(L) - 1);
    return 1;
}

/* ---- sleep ---- */

typedef struct sleep_op { neap_op op; neap_timer *timer; } sleep_op;

static void on_slept(void *arg) { neap_op_finish(arg); }

static void sleep_cancel(neap_op *op, bool force) {
    (void)force;
    neap_timer_stop(((sleep_op *)op)->timer);
    neap_op_finish(op);
}

static int sleep_deliver(lua_State *L, neap_op *op) {
    (void)L, (void)op;
    return 0;
}

static void sleep_drop(neap_op *op) { neap_timer_free(((sleep_op *)op)->timer); }

static const neap_op_class sleep_class = {"a pause", sleep_cancel, sleep_deliver, sleep_drop};

/* sleep(ms). Effect: pure. */
static int task_sleep(lua_State *L) {
    lua_Integer ms = luaL_checkinteger(L, 1);
    luaL_argcheck(L, ms >= 0, 1, "milliseconds must not be negative");
    sleep_op *s = (sleep_op *)neap_op_new(L, sizeof *s, &sleep_class);
    s->timer = neap_timer_new(neap_host_of(L)->loop, on_slept, &s->op);
    neap_timer_start(s->timer, ms);
    return neap_await(L, &s->op);
}

/* now_ms() -> monotonic milliseconds. Effect: pure. */
static int now_ms(lua_State *L) {
    lua_pushinteger(L, neap_clock_mono_ms());
    return 1;
}

static neap_task *check_running(lua_State *L) {
    neap_task *task = neap_task_of(L);
    if (!task) neap_raisef(L, NEAP_E_BUG, "no task is running");
    return task;
}

/* deadline(ms) -> mark: every wait of this task ends with {timeout} after it. Effect: pure. */
static int deadline(lua_State *L) {
    lua_pushinteger(L, neap_task_deadline(L, check_running(L), luaL_checkinteger(L, 1)));
    return 1;
}

/* restore(mark): forget that deadline and the ones nested in it. Effect: pure. */
static int restore(lua_State *L) {
    neap_task_restore(check_running(L), (int)luaL_checkinteger(L, 1));
    return 0;
}

/* left() -> milliseconds until the nearest deadline, or nil. Effect: pure. */
static int left(lua_State *L) {
    int64_t ms = neap_task_left(check_running(L));
    if (ms < 0) lua_pushnil(L);
    else lua_pushinteger(L, ms);
    return 1;
}

static const char *const phases[] = {"declare", "read", "act", "engine", NULL};

/* phase([name]) -> the phase until now. Effect: pure. */
static int phase(lua_State *L) {
    neap_scope *scope = neap_task_scope(check_running(L));
    const char *before = phases[scope->phase];
    if (!lua_isnoneornil(L, 1)) scope->phase = (neap_phase)luaL_checkoption(L, 1, NULL, phases);
    lua_pushstring(L, before);
    return 1;
}

/* step([id]) -> the step until now ("" outside one). Effect: pure. */
static int step(lua_State *L) {
    neap_scope *scope = neap_task_scope(check_running(L));
    lua_pushstring(L, scope->step);
    if (!lua_isnoneornil(L, 1)) {
        const char *id = luaL_checkstring(L, 1);
        luaL_argcheck(L, strlen(id) < sizeof scope->step, 1, "step id is too long");
        strcpy(scope->step, id);
    }
    return 1;
}

/* act([seq]) -> the record until now by which writes of this task belong together (0: none). Effect: pure. */
static int act(lua_State *L) {
    neap_scope *scope = neap_task_scope(check_running(L));
    lua_pushinteger(L, scope->act);
    if (!lua_isnoneornil(L, 1)) scope->act = luaL_checkinteger(L, 1);
    return 1;
}

/* limit{run_ms=, whole=, memory=} -> {run_ms=, whole=, memory=, used=} until now: what Lua may use (0: no limit), and how many bytes it
 * does. run_ms is processor time without waiting, or altogether from now on when it is whole. Effect: pure. */
static int limit(lua_State *L) {
    neap_host *host = neap_host_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, host->run_limit_ms);
    lua_setfield(L, -2, "run_ms");
    lua_pushboolean(L, host->run_limit_whole);
    lua_setfield(L, -2, "whole");
    lua_pushinteger(L, (lua_Integer)host->memory_limit);
    lua_setfield(L, -2, "memory");
    lua_pushinteger(L, (lua_Integer)host->memory);
    lua_setfield(L, -2, "used");
    if (lua_getfield(L, 1, "memory") != LUA_TNIL) host->memory_limit = (size_t)luaL_checkinteger(L, -1);
    bool whole = lua_getfield(L, 1, "whole") != LUA_TNIL && lua_toboolean(L, -1);
    if (lua_getfield(L, 1, "run_ms") != LUA_TNIL) neap_sandbox_limit(host, luaL_checkinteger(L, -1), whole);
    lua_settop(L, 2);
    return 1;
}

/* alive() -> how many tasks are not done. Effect: pure. */
static int alive(lua_State *L) {
    lua_pushinteger(L, neap_host_of(L)->tasks);
    return 1;
}

/* current() -> a light userdata that is the same for the same running task. Effect: pure. */
static int current(lua_State *L) {
    lua_pushlightuserdata(L, check_running(L));
    return 1;
}

/* ---- upvalues ---- */

enum { UPVALUE_DEPTH = 4 };

/* [-0, +0, m] append the upvalues of the function at `fn` to the list at `list` of `len`, and those of Lua functions among them. */
static void add_upvalues(lua_State *L, int fn, int list, int seen, int depth, lua_Integer *len) {
    lua_pushvalue(L, fn);
    if (lua_rawget(L, seen) != LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    lua_pop(L, 1);
    lua_pushvalue(L, fn);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    luaL_checkstack(L, 8, "upvalues");
    const char *name;
    for (int i = 1; (name = lua_getupvalue(L, fn, i)) != NULL; i++) {
        int value = lua_gettop(L);
        lua_pushstring(L, name);
        lua_rawseti(L, list, ++*len);
        lua_pushvalue(L, value);
        lua_rawseti(L, list, ++*len);
        if (depth > 0 && lua_isfunction(L, value) && !lua_iscfunction(L, value)) add_upvalues(L, value, list, seen, depth - 1, len);
        lua_pop(L, 1);
    }
}

/* upvalues(fn) -> list of name, value, name, value, … of the function and of the Lua functions it reaches; a nil leaves a hole. Asked twice for
 * every clause, hence flat. Effect: pure. */
static int upvalues(lua_State *L) {
    lua_Integer len = 0;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_createtable(L, 8, 0);
    lua_newtable(L);
    add_upvalues(L, 1, 2, 3, UPVALUE_DEPTH, &len);
    lua_settop(L, 2);
    return 1;
}

static const luaL_Reg module[] = {
    {"spawn", spawn}, {"upvalues", upvalues}, {"sleep", task_sleep}, {"now_ms", now_ms}, {"deadline", deadline}, {"restore", restore}, {"left", left},
    {"phase", phase}, {"step", step}, {"act", act}, {"limit", limit}, {"alive", alive}, {"current", current}, {NULL, NULL}};

int neap_open_task(lua_State *L) {
    neap_function_table(L, "native.task.", module);
    return 1;
}
