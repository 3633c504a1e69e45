/* sandbox.c -- see sandbox.h.
 *
 * Why three belts: a hook is not a time limit. pcall in a loop swallows the hook's error (so the one for
 * computing too long is raised again at each count), a pattern runs in C without a single count, and so does a metamethod chain
 * in the collector. The last belt is a POSIX timer that fires in a signal handler, writes one
 * line and leaves; the journal already holds the intent of whatever was running.
 *
 * A count hook makes all of Lua slower by half while it only counts (measured), so a thread has one only when something is due: the same timer
 * sets it, as lua.c does for Ctrl-C, and it goes when it finds nothing due any more.
 *
 * Too long is processor time of the thread that Lua runs in: on a machine that was suspended, that is busy with something else or whose disk
 * keeps the journal waiting, nobody has computed for too long, and no runbook is refused or ended for it. Only the deadlines that somebody
 * wrote down are the clock's.
 *
 * The timer is not set at each entry into Lua and unset at each return, which would be two system calls for every wait of every
 * task. It runs on, and looks when it fires: nobody in Lua, then it rests until the next entry; somebody for whom nothing is due yet, then
 * it waits for what that one has left; else that one is hooked; and when even that did not help, it is stuck.
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

/* Nobody computes for longer than the clock says, and the clock is cheaper to ask. */
static bool computed_too_long(const neap_host *host, int64_t now_ms) {
    if (!host->run_limit_ms || now_ms - host->entered_ms + host->computed_us / 1000 <= host->run_limit_ms) return false;
    return neap_clock_thread_us() - host->entered_us + host->computed_us > host->run_limit_ms * 1000;
}

static void on_count(lua_State *L, lua_Debug *ar) {
    neap_host *host = neap_host_of(L);
    neap_task *task = host->running;
    (void)ar;
    int64_t now = neap_clock_mono_ms(), nearest = task ? neap_task_nearest(task) : 0;
    if (nearest && now > nearest) stop(L, task, NEAP_E_TIMEOUT, "the deadline passed while the runbook was computing");
    if (task && computed_too_long(host, now)) overrun(L, NEAP_E_TIMEOUT, "the runbook computed for too long without waiting for anything");
    if (task && task->reason) stop(L, task, NEAP_E_CANCELLED, task->reason);
    lua_sethook(L, NULL, 0, 0);
    neap_sandbox_rearm(host);
}

static void hook(lua_State *L) { lua_sethook(L, on_count, LUA_MASKCOUNT, NEAP_SANDBOX_INSTRUCTIONS); }

/* ---- the timer ---- */

static timer_t timer;
static bool    timer_made;
static _Atomic int64_t fires_ms;              /* when it fires; 0: it rests */
static _Atomic(lua_State *) inside;           /* who is in Lua and is not to be there for ever; NULL: nobody */
static _Atomic bool    limited;               /* there is a limit: only then is anybody ever stuck */
static _Atomic int64_t since_us;              /* what this thread had computed when he entered, */
static _Atomic int64_t most_us;               /* and what it may have */
static _Atomic int64_t deadline_ms, late_ms;  /* his deadline, and when it is long over */

enum { STUCK_US = NEAP_SANDBOX_STUCK_MS * 1000, LOOK_MS = 10 };

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void set_timer(int64_t at_ms, int64_t now_ms) {
    struct itimerspec when;
    int64_t ms = larger(at_ms - now_ms, 1);
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = ms / 1000;
    when.it_value.tv_nsec = ms % 1000 * 1000000;
    fires_ms = at_ms;
    timer_settime(timer, 0, &when, NULL);
}

/* How long until something may be due for who is inside; 0: it is. */
static int64_t until_due_ms(int64_t now_ms, int64_t used_us) {
    if (now_ms > deadline_ms || (limited && used_us > most_us)) return 0;
    return smaller(deadline_ms - now_ms, limited ? (most_us - used_us) / 1000 : INT64_MAX - 1) + 1;
}

/* How long until he may be stuck; 0: he is. Past his deadline he must have computed as long as that is over: a machine that
 * stood still has given his hook no chance. */
static int64_t until_stuck_ms(int64_t now_ms, int64_t used_us) {
    int64_t by_limit = most_us + STUCK_US - used_us;
    int64_t by_deadline = late_ms == INT64_MAX ? INT64_MAX : larger((late_ms - now_ms) * 1000, since_us + STUCK_US - used_us);
    int64_t left = smaller(by_limit, by_deadline);
    return left <= 0 ? 0 : larger(left / 1000, LOOK_MS);
}

/* clock_gettime, timer_settime and lua_sethook may be called in a handler. */
static void on_timer(int sig) {
    static const char line[] = "neap: the script is stuck; leaving. What was running is in the journal.\n";
    int before = errno;
    (void)sig;
    fires_ms = 0;
    if (inside) {
        int64_t now = neap_clock_mono_ms(), used = neap_clock_thread_us(), due = until_due_ms(now, used), stuck = until_stuck_ms(now, used);
        if (limited && stuck == 0) {
            if (write(STDERR_FILENO, line, sizeof line - 1) < 0) { /* nobody reads it */ }
            _exit(70);
        }
        if (due == 0) hook(inside);
        if (due || limited) set_timer(now + (due ? due : stuck), now);
    }
    errno = before;
}

/* The signal goes to the thread that Lua runs in: only there may it be hooked. */
static void make_timer(void) {
    struct sigaction action;
    struct sigevent event;
    memset(&action, 0, sizeof action);
    memset(&event, 0, sizeof event);
    action.sa_handler = on_timer;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGALRM;
    event._sigev_un._tid = gettid();
    timer_made = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
}

void neap_sandbox_limit(neap_host *host, int64_t run_ms, bool whole) {
    host->run_limit_ms = run_ms;
    host->run_limit_whole = whole;
    host->computed_us = 0;
    if (host->running) neap_sandbox_enter(host);
}

/* Nobody computes for longer than the clock says: before `first` nothing can be due. */
void neap_sandbox_rearm(neap_host *host) {
    neap_task *task = host->running;
    if (!task) return;
    if (task->reason) hook(task->thread);
    int64_t nearest = neap_task_nearest(task), left_us = host->run_limit_ms * 1000 - host->computed_us;
    inside = NULL;                                 /* nobody looks at halves */
    if (!nearest && !host->run_limit_ms) return;
    int64_t now = neap_clock_mono_ms(), first = nearest ? nearest + 1 : INT64_MAX;
    if (host->run_limit_ms) first = smaller(first, host->entered_ms + left_us / 1000 + 1);
    limited = host->run_limit_ms != 0;
    since_us = host->entered_us;
    most_us = host->entered_us + left_us;
    deadline_ms = nearest ? nearest : INT64_MAX;
    late_ms = nearest ? larger(nearest, now) + NEAP_SANDBOX_STUCK_MS : INT64_MAX;
    inside = task->thread;
    if (fires_ms && fires_ms <= first) return;
    if (!timer_made) make_timer();
    if (timer_made) set_timer(larger(first, now + 1), now);
}

void neap_sandbox_enter(neap_host *host) {
    host->entered_ms = neap_clock_mono_ms();
    if (host->run_limit_ms) host->entered_us = neap_clock_thread_us();
    neap_sandbox_rearm(host);
}

void neap_sandbox_leave(neap_host *host) {
    lua_State *L = host->running->thread;
    inside = NULL;
    if (lua_gethook(L) == on_count) lua_sethook(L, NULL, 0, 0);
    if (host->run_limit_ms && host->run_limit_whole) host->computed_us += neap_clock_thread_us() - host->entered_us;
}
