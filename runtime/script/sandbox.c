/* sandbox.c -- see sandbox.h.
 *
 * Why three belts: a count hook is not a time limit. pcall in a loop swallows the hook's error (so it is
 * raised again at each count), a pattern runs in C without a single count, and so does a metamethod chain
 * in the collector. The last belt is a POSIX timer that fires in a signal handler, writes one
 * line and leaves; the journal already holds the intent of whatever was running.
 */
#include "script/sandbox.h"

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
    if (new_size == 0) {
        free(block);
        host->memory -= before;
        return NULL;
    }
    if (host->memory_limit && new_size > before && host->memory - before + new_size > host->memory_limit) return NULL;
    void *fresh = realloc(block, new_size);
    if (fresh) host->memory = host->memory - before + new_size;
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

static void on_count(lua_State *L, lua_Debug *ar) {
    neap_host *host = neap_host_of(L);
    neap_task *task = host->running;
    (void)ar;
    if (!task) return;
    int64_t now = neap_clock_mono_ms(), nearest = neap_task_nearest(task);
    if (nearest && now > nearest) overrun(L, NEAP_E_TIMEOUT, "the deadline passed while the runbook was computing");
    if (host->run_limit_ms && now - host->entered_ms > host->run_limit_ms)
        overrun(L, NEAP_E_TIMEOUT, "the runbook computed for too long without waiting for anything");
    if (task->reason) overrun(L, NEAP_E_CANCELLED, task->reason);
}

void neap_sandbox_watch(lua_State *thread) { lua_sethook(thread, on_count, LUA_MASKCOUNT, NEAP_SANDBOX_INSTRUCTIONS); }

/* ---- the watchdog ---- */

static timer_t watchdog;
static bool    watchdog_made;

static void on_stuck(int sig) {
    static const char line[] = "neap: the script is stuck; leaving. What was running is in the journal.\n";
    (void)sig;
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) { /* nobody reads it */ }
    _exit(70);
}

static void make_watchdog(void) {
    struct sigaction action;
    struct sigevent event;
    memset(&action, 0, sizeof action);
    memset(&event, 0, sizeof event);
    action.sa_handler = on_stuck;
    sigaction(SIGALRM, &action, NULL);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGALRM;
    watchdog_made = timer_create(CLOCK_MONOTONIC, &event, &watchdog) == 0;
}

static void set_watchdog(int64_t ms) {
    struct itimerspec when;
    if (!watchdog_made) return;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = ms / 1000;
    when.it_value.tv_nsec = ms % 1000 * 1000000;
    timer_settime(watchdog, 0, &when, NULL);
}

void neap_sandbox_limit(neap_host *host, int64_t run_ms) {
    host->run_limit_ms = run_ms;
    if (run_ms && !watchdog_made) make_watchdog();
    if (host->running) neap_sandbox_enter(host);
}

void neap_sandbox_rearm(neap_host *host) {
    if (!host->run_limit_ms || !host->running) return;
    int64_t now = neap_clock_mono_ms(), end = host->entered_ms + host->run_limit_ms, nearest = neap_task_nearest(host->running);
    if (nearest && nearest < end) end = nearest;
    set_watchdog((end > now ? end - now : 0) + NEAP_SANDBOX_STUCK_MS);
}

void neap_sandbox_enter(neap_host *host) {
    host->entered_ms = neap_clock_mono_ms();
    neap_sandbox_rearm(host);
}

void neap_sandbox_leave(neap_host *host) {
    if (host->run_limit_ms) set_watchdog(0);
}
