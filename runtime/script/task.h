/* task.h -- coroutines that the host schedules.
 *
 * A task is a Lua coroutine with a scope (what the guard lets it do, and for which step), a stack of deadlines and at
 * most one pending op. Tasks are made by the engine (native.task.spawn) and by the host for
 * the command itself; runbook code cannot make one. The body runs under pcall inside its coroutine (the engine's
 * business), so that `<close>` variables unwind while waiting is still possible.
 *
 *     READY --resume--> RUNNING --await--> WAITING --op finished--> READY … --returns or raises--> DONE
 *
 * Cancelling is an error raised at the waiting point, once. After it the task may wait again, to clean
 * up, but only until its grace has passed.
 */
#ifndef NEAP_SCRIPT_TASK_H
#define NEAP_SCRIPT_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <lua.h>
#include "base/list.h"
#include "guard/guard.h"
#include "guard/recorder.h"
#include "loop/loop.h"
#include "script/op.h"
#include "script/pool.h"

typedef struct neap_task neap_task;

/* What every binding may need; one per Lua state, found through the state's extra space. */
typedef struct neap_host {
    neap_loop    *loop;
    neap_guard   *guard;
    neap_recorder recorder;       /* empty until a journal is open */
    neap_task    *running;        /* NULL while no task runs */
    neap_list     ready;          /* tasks to resume, oldest first */
    int           tasks;          /* alive */
    int           loading;        /* modules that others wait for: `require` within `require` */
    void        (*at_rest)(void *arg);    /* once, when no task is ready any more; NULL: nothing is to be done then */
    void         *rest_arg;
    neap_pool     pool;                   /* what Lua's small objects are made of */
    size_t        memory, memory_limit;   /* bytes Lua holds, and may hold (0: no limit) */
    int64_t       run_limit_ms;           /* how long Lua may compute (0: no limit): without waiting, or altogether when that is whole */
    bool          run_limit_whole;
    int64_t       entered_ms, entered_us; /* since when Lua runs; how much this thread had computed by then, known when there is a limit */
    int64_t       computed_us;            /* of a whole limit, before that */
} neap_host;

enum { NEAP_TASK_GRACE_MS = 10000, NEAP_TASK_TURN_MS = 20, NEAP_TASK_DEADLINES = 32 };

neap_host *neap_host_of(lua_State *L);

/* The running task; NULL outside one. */
neap_task *neap_task_of(lua_State *L);
/* Phase and step of the task, for the guard and for records. */
neap_scope *neap_task_scope(neap_task *task);
lua_State *neap_task_thread(neap_task *task);

/* [-(n+1), +1, m] a new task that will call the function below its n arguments; pushes its handle. The scope is copied from the
 * running task. */
neap_task *neap_task_spawn(lua_State *L, int arguments);
/* Ask it to stop: {cancelled} with this reason is raised where it waits. */
void neap_task_cancel(neap_task *task, const char *reason);
bool neap_task_is_done(const neap_task *task);
/* Of a task that is done: did it return? [-0, +n, m] pushes what it returned or raised. */
bool neap_task_results(lua_State *L, neap_task *task, int *count);

/* Deadlines nest; the nearest counts. `mark` is what neap_task_restore takes to undo it. */
int  neap_task_deadline(lua_State *L, neap_task *task, int64_t within_ms);
void neap_task_restore(neap_task *task, int mark);
/* Milliseconds until the nearest deadline; -1 when there is none. */
int64_t neap_task_left(const neap_task *task);

/* Resume every task that is ready, until none is; then what was to be done at rest, which may make some ready again. */
void neap_task_run_ready(neap_host *host);
/* Turn the loop and resume tasks until `task` is done. */
void neap_task_run_until(neap_host *host, neap_task *task);

void neap_task_register(lua_State *L);           /* the handle's metatable; once per state */

#endif
