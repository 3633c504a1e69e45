/* task.h -- coroutines that the host schedules.
 *
 * A task is a Lua coroutine with a phase (what the guard lets it do), a stack of deadlines and at
 * most one pending op. Tasks are made by the engine (native.task.spawn) and by the host for
 * the command itself; runbook code cannot make one. The body runs under pcall inside its coroutine,
 * so that `<close>` variables unwind while waiting is still possible.
 */
#ifndef NEAP_SCRIPT_TASK_H
#define NEAP_SCRIPT_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <lua.h>
#include "guard/guard.h"
#include "loop/loop.h"
#include "script/op.h"

typedef struct neap_task neap_task;

/* The host objects every binding may need; one per state, kept in its extra space. */
typedef struct neap_host {
    neap_loop  *loop;
    neap_guard *guard;
} neap_host;

neap_host *neap_host_of(lua_State *L);
neap_task *neap_task_of(lua_State *L);              /* the running task; NULL outside one */

/* The subject scope of the running task for the guard (phase, step, withheld marks). */
neap_scope *neap_task_scope(neap_task *task);

#endif
