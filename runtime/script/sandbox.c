/* sandbox.c -- see sandbox.h.
 *
 * Why three belts: a count hook is not a time limit. pcall in a loop swallows the hook's error (so the one for
 * computing too long is raised again at each count), a pattern runs in C without a single count, and so does a metamethod chain
 * in the collector. The last belt is a POSIX timer that fires in a signal handler, writes one
 * line and leaves; the journal already holds the intent of whatever was running.
 *
 * The timer is not set at each entry into Lua and unset at each return, which would be two system calls for every wait of every
 * task. It runs on, and looks when it fires: nobody in Lua, then it rests until the next entry; somebody who entered
 * later than it was set, then it waits for what that one has left; else it is stuck.
 */
#include "script/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "script/raise.h"
#include "script/task.h"
#include "script/task_private.h"

void *neap_sandbox_alloc(void *ud, void *block, size_t old_size, size_t new_size) {
    neap_host *host = ud;
    size_t before = block ? old_size : 0;
    if (host->memory_limit && new_size > before && host->memory - before + new_size > host->memory_limit) return NULL;
    void *fresh = neap_pool_resize(&host->pool, block, before, new_size);
    if (fresh || new_size == 0) host->memory = host->memory - before + new_size;
    return fresh;
}

/* [-0, +0, e] an error that the sandbox's pcall gives back: field `fatal`. */
static void overrun(lua_State *L, neap_code code, const char *message) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, code, "%s", message);
    neap_push_error(L, &err);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "fatal");
    lua_error(L);
}

/* [-0, +0, e] a deadline that passed and a cancel are told once, as by a wait: what unwinds has the grace. */
static void stop(lua_State *L, neap_task *task, neap_code why, const char *message) {
    lua_pushstring(L, message);
    if (why == NEAP_E_CANCELLED) {
        free(task->reason);
        task->reason = NULL;
    }
    neap_task_grant_grace(task, why);
    overrun(L, why, lua_tostring(L, -1));
}

static void on_count(lua_State *L, lua_Debug *ar) {
    neap_host *host = neap_host_of(L);
    neap_task *task = host->running;
    (void)ar;
    if (!task) return;
    int64_t now = neap_clock_mono_ms(), nearest = neap_task_nearest(task);
    if (nearest && now > nearest) stop(L, task, NEAP_E_TIMEOUT, "the deadline passed while the runbook was computing");
    if (host->run_limit_ms && now - host->entered_ms > host->run_limit_ms)
        overrun(L, NEAP_E_TIMEOUT, "the runbook computed for too long without waiting for anything");
    if (task->reason) stop(L, task, NEAP_E_CANCELLED, task->reason);
}

void neap_sandbox_watch(lua_State *thread) { lua_sethook(thread, on_count, LUA_MASKCOUNT, NEAP_SANDBOX_INSTRUCTIONS); }

/* ---- the watchdog ---- */

static timer_t watchdog;
static bool    watchdog_made;
static _Atomic bool    watching;       /* the timer runs, */
static _Atomic int64_t fires_ms;       /* and fires then */
static _Atomic int64_t stuck_ms;       /* when who is in Lua now has been there too long; 0: nobody is */

static void set_watchdog(int64_t at_ms, int64_t now_ms) {
    struct itimerspec when;
    int64_t ms = at_ms - now_ms;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = ms / 1000;
    when.it_value.tv_nsec = ms % 1000 * 1000000;
    watching = true;
    fires_ms = at_ms;
    timer_settime(watchdog, 0, &when, NULL);
}

/* clock_gettime and timer_settime may be called in a handler. */
static void on_watchdog(int sig) {
    static const char line[] = "neap: the script is stuck; leaving. What was running is in the journal.\n";
    int before = errno;
    (void)sig;
    watching = false;                              /* before the look: who enters from now on sets the timer himself */
    int64_t stuck = stuck_ms, now = neap_clock_mono_ms();
    if (stuck && stuck <= now) {
        if (write(STDERR_FILENO, line, sizeof line - 1) < 0) { /* nobody reads it */ }
        _exit(70);
    }
    if (stuck) set_watchdog(stuck, now);
    errno = before;
}

static void make_watchdog(void) {
    struct sigaction action;
    struct sigevent event;
    memset(&action, 0, sizeof action);
    memset(&event, 0, sizeof event);
    action.sa_handler = on_watchdog;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGALRM;
    watchdog_made = timer_create(CLOCK_MONOTONIC, &event, &watchdog) == 0;
}

void neap_sandbox_limit(neap_host *host, int64_t run_ms) {
    host->run_limit_ms = run_ms;
    if (run_ms && !watchdog_made) make_watchdog();
    if (host->running) neap_sandbox_enter(host);
}

void neap_sandbox_rearm(neap_host *host) {
    if (!host->run_limit_ms || !host->running || !watchdog_made) return;
    int64_t now = neap_clock_mono_ms(), end = host->entered_ms + host->run_limit_ms, nearest = neap_task_nearest(host->running);
    if (nearest && nearest < end) end = nearest;
    int64_t stuck = (end > now ? end : now) + NEAP_SANDBOX_STUCK_MS;
    stuck_ms = stuck;
    if (watching && fires_ms <= stuck) return;
    set_watchdog(stuck, now);
}

void neap_sandbox_enter(neap_host *host) {
    host->entered_ms = neap_clock_mono_ms();
    neap_sandbox_rearm(host);
}

void neap_sandbox_leave(neap_host *host) {
    (void)host;
    stuck_ms = 0;
}
