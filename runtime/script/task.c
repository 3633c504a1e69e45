/* task.c -- the life of a task: made ready, resumed, done. See task.h for the states.
 *
 * A task is counted: one reference while it lives, one per handle in Lua, one per joiner. The thread is
 * anchored in the registry until the last reference goes, so its results can still be read.
 */
#include "script/task.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/sandbox.h"
#include "script/task_private.h"

#define TASK_META "neap.task"

neap_host *neap_host_of(lua_State *L) { return *(neap_host **)lua_getextraspace(L); }
neap_task *neap_task_of(lua_State *L) { return neap_host_of(L)->running; }
neap_scope *neap_task_scope(neap_task *task) { return &task->scope; }
lua_State *neap_task_thread(neap_task *task) { return task->thread; }
bool neap_task_is_done(const neap_task *task) { return task->done; }

static void release(lua_State *L, neap_task *task) {
    if (--task->references > 0) return;
    luaL_unref(L, LUA_REGISTRYINDEX, task->anchor);
    free(task->reason);
    free(task);
}

void neap_task_ready(neap_task *task) {
    neap_list_remove(&task->link);
    neap_list_append(&task->host->ready, &task->link);
}

static int task_gc(lua_State *L) {
    neap_task **handle = luaL_checkudata(L, 1, TASK_META);
    if (*handle) release(L, *handle);
    *handle = NULL;
    return 0;
}

neap_task *neap_task_spawn(lua_State *L, int arguments) {
    neap_host *host = neap_host_of(L);
    neap_task **handle = lua_newuserdatauv(L, sizeof *handle, 0);
    *handle = NULL;
    luaL_setmetatable(L, TASK_META);
    lua_State *thread = lua_newthread(L);
    neap_task *task = neap_zalloc(sizeof *task);
    *handle = task;
    neap_list_init(&task->link);
    neap_list_init(&task->joiners);
    task->host = host;
    task->thread = thread;
    task->references = 2;
    task->arguments = arguments;
    task->scope.phase = NEAP_PHASE_ENGINE;
    if (host->running) task->scope = host->running->scope;
    task->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_insert(L, -(arguments + 2));              /* the handle goes below the function */
    lua_xmove(L, thread, arguments + 1);
    host->tasks++;
    neap_task_ready(task);
    return task;
}

static void finish(neap_task *task, int status) {
    lua_State *L = task->thread;
    task->done = true;
    task->failed = status != LUA_OK;
    /* A body that raised outside its own pcall still runs its <close> variables here. */
    if (task->failed) {
        lua_pushvalue(L, -1);
        int keep = luaL_ref(L, LUA_REGISTRYINDEX);
        lua_resetthread(L);
        lua_settop(L, 0);
        lua_rawgeti(L, LUA_REGISTRYINDEX, keep);
        luaL_unref(L, LUA_REGISTRYINDEX, keep);
    }
    neap_timer_free(task->timer);
    task->timer = NULL;
    task->host->tasks--;
    while (!neap_list_is_empty(&task->joiners)) {
        neap_list *first = task->joiners.next;
        neap_list_remove(first);
        neap_op_finish(neap_task_joiner(first));
    }
}

static void resume(neap_task *task) {
    neap_host *host = task->host;
    neap_task *before = host->running;
    int results = 0, arguments = task->arguments;
    task->arguments = 0;
    host->running = task;
    neap_sandbox_enter(host);
    int status = lua_resume(task->thread, NULL, arguments, &results);
    neap_sandbox_leave(host);
    host->running = before;
    neap_sandbox_rearm(host);
    if (status == LUA_YIELD) {
        if (task->op) return;
        /* Nothing but neap_await yields, and neap_await always leaves an op. */
        lua_settop(task->thread, 0);
        lua_pushliteral(task->thread, "a task yielded without waiting for anything");
        status = LUA_ERRRUN;
    }
    finish(task, status);
    release(task->thread, task);
}

static bool rest(neap_host *host) {
    void (*at_rest)(void *) = host->at_rest;
    host->at_rest = NULL;
    if (at_rest) at_rest(host->rest_arg);
    return at_rest != NULL;
}

void neap_task_run_ready(neap_host *host) {
    do {
        while (!neap_list_is_empty(&host->ready)) {
            neap_task *task = NEAP_LIST_OF(host->ready.next, neap_task, link);
            neap_list_remove(&task->link);
            resume(task);
        }
    } while (rest(host));
}

void neap_task_run_until(neap_host *host, neap_task *task) {
    task->references++;
    bool alive = true;
    neap_task_run_ready(host);
    while (!task->done && alive) {
        alive = neap_loop_turn(host->loop, true);      /* its last event may have made a task ready */
        alive = alive || !neap_list_is_empty(&host->ready);
        neap_task_run_ready(host);
    }
    release(task->thread, task);
}

bool neap_task_results(lua_State *L, neap_task *task, int *count) {
    int n = lua_gettop(task->thread);
    *count = n;
    luaL_checkstack(L, n + 1, "results of a task");
    for (int i = 1; i <= n; i++) lua_pushvalue(task->thread, i);
    lua_xmove(task->thread, L, n);
    return !task->failed;
}

/* ---- deadlines ---- */

int64_t neap_task_nearest(const neap_task *task) {
    int64_t nearest = 0;
    for (int i = 0; i < task->depth; i++)
        if (task->deadlines[i] && (!nearest || task->deadlines[i] < nearest)) nearest = task->deadlines[i];
    return nearest;
}

int neap_task_deadline(lua_State *L, neap_task *task, int64_t within_ms) {
    if (task->depth >= NEAP_TASK_DEADLINES - 1) neap_raisef(L, NEAP_E_USAGE, "deadlines are nested more than %d deep", NEAP_TASK_DEADLINES - 1);
    task->deadlines[task->depth++] = neap_clock_mono_ms() + within_ms;
    if (task->host->running == task) neap_sandbox_rearm(task->host);
    return task->depth - 1;
}

void neap_task_restore(neap_task *task, int mark) {
    if (mark >= 0 && mark < task->depth) task->depth = mark;
    if (task->host->running == task) neap_sandbox_rearm(task->host);
}

int64_t neap_task_left(const neap_task *task) {
    int64_t nearest = neap_task_nearest(task);
    if (nearest == 0) return -1;
    int64_t left = nearest - neap_clock_mono_ms();
    return left > 0 ? left : 0;
}

/* ---- joining ---- */

typedef struct join { neap_op op; neap_list link; neap_task *task; } join;

neap_op *neap_task_joiner(neap_list *link) { return &NEAP_LIST_OF(link, join, link)->op; }

static void join_cancel(neap_op *op, bool force) {
    (void)force;
    neap_list_remove(&((join *)op)->link);
    neap_op_finish(op);
}

static int join_deliver(lua_State *L, neap_op *op) {
    int count;
    bool ok = neap_task_results(L, ((join *)op)->task, &count);
    lua_pushboolean(L, ok);
    lua_insert(L, -(count + 1));
    return count + 1;
}

static const neap_op_class join_class = {"task.join", join_cancel, join_deliver, NULL};

static neap_task *check_task(lua_State *L, int index) { return *(neap_task **)luaL_checkudata(L, index, TASK_META); }

/* task:join() -> true, results… | false, error. Effect: pure. */
static int task_join(lua_State *L) {
    neap_task *task = check_task(L, 1);
    join *j = (join *)neap_op_new(L, sizeof *j, &join_class);
    neap_list_init(&j->link);
    j->task = task;
    if (task->done) neap_op_finish(&j->op);
    else neap_list_append(&task->joiners, &j->link);
    return neap_await(L, &j->op);
}

/* task:cancel(reason). Effect: pure. */
static int task_cancel(lua_State *L) {
    neap_task_cancel(check_task(L, 1), luaL_optstring(L, 2, "cancelled"));
    return 0;
}

static int task_done(lua_State *L) {
    lua_pushboolean(L, check_task(L, 1)->done);
    return 1;
}

static const luaL_Reg methods[] = {{"join", task_join}, {"cancel", task_cancel}, {"done", task_done}, {NULL, NULL}};

void neap_task_register(lua_State *L) {
    luaL_newmetatable(L, TASK_META);
    neap_function_push(L, "task:__gc", task_gc, 0);
    lua_setfield(L, -2, "__gc");
    neap_function_table(L, "task:", methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
