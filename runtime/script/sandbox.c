/* sandbox.c -- see sandbox.h.
 *
 * Why three belts: a count hook is not a time limit. pcall in a loop swallows the hook's error (so the one for
 * computing too long is raised again at each count), a pattern runs in C without a single count, and so does a metamethod chain
 * in the collector. The last belt is a POSIX timer that fires in a signal handler, writes one
 * line and leaves; the journal already holds the intent of whatever was running.
 *
 * Too long is processor time of the thread that Lua runs in: on a machine that was suspended, that is busy with something else or whose disk
 * keeps the journal waiting, nobody has computed for too long, and no runbook is refused or ended for it. Only the deadlines that somebody
 * wrote down are the clock's.
 *
 * The timer is not set at each entry into Lua and unset at each return, which would be two system calls for every wait of every
 * task. It runs on, and looks when it fires: nobody in Lua, then it rests until the next entry; somebody who entered
 * later than it was set, then it waits for what that one has left; else it is stuck.
 */
#include "script/sandbox.h"

#include <errno.h>
#include <pthread.h>
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

/* Nobody computes for longer than the clock says, and the clock is cheaper to ask. */
static bool computed_too_long(const neap_host *host, int64_t now_ms) {
    if (!host->run_limit_ms || now_ms - host->entered_ms + host->computed_us / 1000 <= host->run_limit_ms) return false;
    return neap_clock_thread_us() - host->entered_us + host->computed_us > host->run_limit_ms * 1000;
}

static void on_count(lua_State *L, lua_Debug *ar) {
    neap_host *host = neap_host_of(L);
    neap_task *task = host->running;
    (void)ar;
    if (!task) return;
    int64_t now = neap_clock_mono_ms(), nearest = neap_task_nearest(task);
    if (nearest && now > nearest) stop(L, task, NEAP_E_TIMEOUT, "the deadline passed while the runbook was computing");
    if (computed_too_long(host, now)) overrun(L, NEAP_E_TIMEOUT, "the runbook computed for too long without waiting for anything");
    if (task->reason) stop(L, task, NEAP_E_CANCELLED, task->reason);
}

void neap_sandbox_watch(lua_State *thread) { lua_sethook(thread, on_count, LUA_MASKCOUNT, NEAP_SANDBOX_INSTRUCTIONS); }

/* ---- the watchdog ---- */

static timer_t   watchdog;
static bool      watchdog_made;
static clockid_t computing;            /* processor time of the thread that Lua runs in */
static _Atomic bool    watching;       /* the timer runs, */
static _Atomic int64_t fires_ms;       /* and fires then */
static _Atomic bool    inside;         /* somebody is in Lua: */
static _Atomic int64_t since_us;       /* what the thread had computed when he entered, */
static _Atomic int64_t most_us;        /* what it has when he is stuck, */
static _Atomic int64_t late_ms;        /* and when his deadline is long over; INT64_MAX: he has none */

enum { STUCK_US = NEAP_SANDBOX_STUCK_MS * 1000, LOOK_MS = 10 };

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

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* How long until who is inside may be stuck; 0: he is. Past his deadline he must have computed as long as that is over: a machine that
 * stood still has given his hook no chance. */
static int64_t until_stuck_ms(int64_t now_ms) {
    struct timespec time = {0, 0};
    clock_gettime(computing, &time);
    int64_t used = (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
    int64_t by_limit = most_us - used, by_deadline = late_ms == INT64_MAX ? INT64_MAX : larger((late_ms - now_ms) * 1000, since_us + STUCK_US - used);
    int64_t left = smaller(by_limit, by_deadline);
    return left <= 0 ? 0 : larger(left / 1000, LOOK_MS);
}

/* clock_gettime and timer_settime may be called in a handler, which may run in another thread. */
static void on_watchdog(int sig) {
    static const char line[] = "neap: the script is stuck; leaving. What was running is in the journal.\n";
    int before = errno;
    (void)sig;
    watching = false;                              /* before the look: who enters from now on sets the timer himself */
    if (inside) {
        int64_t now = neap_clock_mono_ms(), left = until_stuck_ms(now);
        if (left == 0) {
            if (write(STDERR_FILENO, line, sizeof line - 1) < 0) { /* nobody reads it */ }
            _exit(70);
        }
        set_watchdog(now + left, now);
    }
    errno = before;
}

static void make_watchdog(void) {
    struct sigaction action;
    struct sigevent event;
    if (pthread_getcpuclockid(pthread_self(), &computing) != 0) return;
    memset(&action, 0, sizeof action);
    memset(&event, 0, sizeof event);
    action.sa_handler = on_watchdog;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGALRM;
    watchdog_made = timer_create(CLOCK_MONOTONIC, &event, &watchdog) == 0;
}

void neap_sandbox_limit(neap_host *host, int64_t run_ms, bool whole) {
    host->run_limit_ms = run_ms;
    host->run_limit_whole = whole;
    host->computed_us = 0;
    if (run_ms && !watchdog_made) make_watchdog();
    if (host->running) neap_sandbox_enter(host);
}

void neap_sandbox_rearm(neap_host *host) {
    if (!host->run_limit_ms || !host->running || !watchdog_made) return;
    int64_t now = neap_clock_mono_ms(), nearest = neap_task_nearest(host->running);
    int64_t most = host->entered_us - host->computed_us + host->run_limit_ms * 1000 + STUCK_US;
    inside = false;                                /* nobody looks at halves */
    since_us = host->entered_us;
    most_us = most;
    late_ms = nearest ? larger(nearest, now) + NEAP_SANDBOX_STUCK_MS : INT64_MAX;
    inside = true;
    int64_t first = smaller(late_ms, host->entered_ms + larger((most - host->entered_us) / 1000, LOOK_MS));
    if (watching && fires_ms <= first) return;
    set_watchdog(larger(first, now + LOOK_MS), now);
}

void neap_sandbox_enter(neap_host *host) {
    host->entered_ms = neap_clock_mono_ms();
    if (!host->run_limit_ms) return;
    host->entered_us = neap_clock_thread_us();
    neap_sandbox_rearm(host);
}

void neap_sandbox_leave(neap_host *host) {
    inside = false;
    if (host->run_limit_ms && host->run_limit_whole) host->computed_us += neap_clock_thread_us() - host->entered_us;
}
