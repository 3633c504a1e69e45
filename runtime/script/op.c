/* op.c -- the wait. The only lua_yieldk in the program are in neap_await and what it ends with.
 *
 * One timer per task serves two purposes, one after the other: while the op is pending it is the
 * nearest deadline; once the op is being stopped it is the grace after which the driver must let go.
 * Rejected: a timer per op (most waits are shorter than any deadline, and a task has one op), and raising
 * before the driver let go (a callback would point into a collected userdata).
 */
#include "script/op.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/sandbox.h"
#include "script/task_private.h"

#define OP_META "neap.op"

static int op_gc(lua_State *L) {
    neap_op *op = lua_touserdata(L, 1);
    if (op->class && op->class->drop) op->class->drop(op);
    op->class = NULL;
    return 0;
}

neap_op *neap_op_new(lua_State *L, size_t size, const neap_op_class *class) {
    neap_op *op = lua_newuserdatauv(L, size, 1);
    memset(op, 0, size);
    if (luaL_newmetatable(L, OP_META)) {
        neap_function_push(L, "op:__gc", op_gc, 0);
        lua_setfield(L, -2, "__gc");
    }
    op->class = class;
    lua_setmetatable(L, -2);
    return op;
}

void neap_op_rearm(neap_op *op) { op->finished = false; }

static void stop(neap_task *task, neap_code why) {
    neap_op *op = task->op;
    if (op->stopping) return;
    op->stopping = true;
    task->stop = why;
    neap_timer_start(task->timer, NEAP_TASK_GRACE_MS);
    op->class->cancel(op, false);
}

/* The task's timer: a deadline passed, or the grace of an op that is being stopped. An answer that came in the same turn, or that
 * made way for this one, counts. */
static void on_time(void *arg) {
    neap_task *task = arg;
    if (!task->op) return;
    if (task->op->finished) neap_task_ready(task);
    else if (task->op->stopping) task->op->class->cancel(task->op, true);
    else stop(task, NEAP_E_TIMEOUT);
}

static void arm(neap_task *task) {
    if (!task->timer) task->timer = neap_timer_new(task->host->loop, on_time, task);
    int64_t nearest = neap_task_nearest(task);
    if (nearest == 0) return;
    int64_t left = nearest - neap_clock_mono_ms();
    neap_timer_start(task->timer, left > 0 ? left : 0);
}

void neap_task_grant_grace(neap_task *task, neap_code why) {
    int64_t now = neap_clock_mono_ms(), end = now + NEAP_TASK_GRACE_MS;
    for (int i = 0; i < task->depth; i++)
        if (task->deadlines[i] && task->deadlines[i] <= now) task->deadlines[i] = end;
    if (why == NEAP_E_CANCELLED && task->depth < NEAP_TASK_DEADLINES) task->deadlines[task->depth++] = end;
}

/* [-0, +0, e] the error a stopped wait ends with. */
static int raise_stop(lua_State *L, neap_task *task, const char *waited_for) {
    neap_err err = NEAP_ERR_INIT;
    neap_code why = task->stop;
    task->stop = NEAP_OK;
    neap_task_grant_grace(task, why);
    if (why == NEAP_E_TIMEOUT) {
        neap_err_set(&err, why, "no answer before the deadline while waiting for %s", waited_for);
    } else {
        neap_err_set(&err, why, "%s", task->reason ? task->reason : "cancelled");
        free(task->reason);
        task->reason = NULL;
    }
    return neap_raise(L, &err);
}

static int resumed(lua_State *L, int status, lua_KContext context) {
    neap_op *op = (neap_op *)context;
    neap_task *task = op->task;
    (void)status;
    task->op = NULL;
    op->task = NULL;
    if (task->timer) neap_timer_stop(task->timer);
    if (!op->stopping) return op->class->deliver(L, op);
    if (op->on_stop) op->on_stop(L, op);
    return raise_stop(L, task, op->class->name);
}

/* The driver must let go at once; the mistake is the runbook's. */
static int misuse(lua_State *L, neap_op *op, const char *message) {
    if (!op->finished) op->class->cancel(op, true);
    return neap_raisef(L, NEAP_E_USAGE, "%s", message);
}

/* A task whose waits are all answered at once would keep the loop for itself: no other task, no deadline and no Ctrl-C would be
 * served. After a while it makes way for one turn. */
static int make_way(lua_State *L, neap_task *task, neap_op *op) {
    op->task = task;
    task->op = op;
    if (!task->timer) task->timer = neap_timer_new(task->host->loop, on_time, task);
    neap_timer_start(task->timer, 0);
    return lua_yieldk(L, 0, (lua_KContext)op, resumed);
}

static bool is_greedy(lua_State *L, const neap_task *task) {
    return task && task->thread == L && lua_isyieldable(L) && neap_clock_mono_ms() - task->host->entered_ms > NEAP_TASK_TURN_MS;
}

int neap_await(lua_State *L, neap_op *op) {
    neap_task *task = neap_task_of(L);
    if (op->finished) return is_greedy(L, task) ? make_way(L, task, op) : op->class->deliver(L, op);
    if (!task || neap_task_thread(task) != L) return misuse(L, op, "wait directly in a clause, not in a coroutine of your own");
    if (!lua_isyieldable(L)) return misuse(L, op, "a primitive cannot be called inside a callback of table.sort or string.gsub");
    op->task = task;
    task->op = op;
    arm(task);
    if (task->reason) stop(task, NEAP_E_CANCELLED);
    if (op->finished) {                            /* stopped at once: it was queued, but it is running */
        neap_list_remove(&task->link);
        return resumed(L, LUA_OK, (lua_KContext)op);
    }
    return lua_yieldk(L, 0, (lua_KContext)op, resumed);
}

void neap_op_finish(neap_op *op) {
    if (op->finished) return;
    op->finished = true;
    if (op->task) neap_task_ready(op->task);
}

void neap_task_cancel(neap_task *task, const char *reason) {
    if (task->done || task->reason) return;
    task->reason = neap_strdup(reason);
    if (task->op && !task->op->finished) stop(task, NEAP_E_CANCELLED);
    if (task->host->running == task) neap_sandbox_rearm(task->host);
}
