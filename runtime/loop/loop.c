/* loop.c -- the one event loop.
 *
 * Promises: nothing is lost silently. Every handle lives until its close callback ran; closing the loop counts
 * what somebody forgot, closes it and waits for it. A forgotten child is killed with its group, and its handle is closed
 * only after its exit (it would stay a zombie otherwise).
 *
 * Forgotten handles are closed with their `data` set to NULL: the callbacks of this folder take that as
 * "nobody is listening", since what they would call has probably been freed.
 *
 * Whoever has a loop writes to pipes whose far ends may go away. That is an error to be told, not a signal to die of, so
 * SIGPIPE is ignored from the first loop on; children get the default action back (child.c).
 *
 * Stalls are measured, not prevented: a turn's length less the time libuv was idle in it is what the
 * callbacks took. Rejected: a heartbeat timer that aborts, which fails on busy machines for no fault of ours.
 */
#include "loop/loop.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/buf.h"
#include "base/clock.h"
#include "loop/alive.h"
#include "loop/child.h"

struct neap_loop {
    uv_loop_t uv;
    neap_alive *alive;             /* the loop's own handle */
    int64_t stall_us;
};

static void require(int result, const char *what) {
    if (result == 0) return;
    fprintf(stderr, "neap: %s: %s\n", what, uv_strerror(result));
    exit(neap_code_exit(NEAP_E_BUG));
}

neap_loop *neap_loop_new(void) {
    neap_loop *loop = neap_zalloc(sizeof *loop);
    signal(SIGPIPE, SIG_IGN);
    require(uv_loop_init(&loop->uv), "cannot make an event loop");
#ifdef NEAP_DEBUG                                   /* it costs a second epoll_wait each turn, and only tests ask */
    require(uv_loop_configure(&loop->uv, UV_METRICS_IDLE_TIME), "cannot measure the event loop");
#endif
    loop->alive = neap_alive_new(&loop->uv);
    return loop;
}

bool neap_loop_turn(neap_loop *loop, bool wait) {
    int64_t began = neap_clock_mono_us();
    uint64_t idle = uv_metrics_idle_time(&loop->uv);
    bool alive = uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT) != 0;
    int64_t waited = (int64_t)((uv_metrics_idle_time(&loop->uv) - idle) / 1000);
    int64_t held = neap_clock_mono_us() - began - waited;
    if (held > loop->stall_us) loop->stall_us = held;
    return alive;
}

int64_t neap_loop_stall_ms(neap_loop *loop) {
    int64_t ms = loop->stall_us / 1000;
    loop->stall_us = 0;
    return ms;
}

static void count_one(uv_handle_t *handle, void *count) {
    (void)handle;
    ++*(int *)count;
}

int neap_loop_handles(neap_loop *loop) {
    int count = 0;
    uv_walk(&loop->uv, count_one, &count);
    return count - 1;
}

static void close_one(uv_handle_t *handle, void *count) {
    if (uv_is_closing(handle)) return;
    ++*(int *)count;
    handle->data = NULL;
    if (handle->type == UV_SIGNAL) neap_child_forget(handle);      /* signals are listened to for children only */
    else uv_close(handle, NULL);
}

int neap_loop_close(neap_loop *loop) {
    int forgotten = 0;
    neap_alive_free(loop->alive);
    uv_walk(&loop->uv, close_one, &forgotten);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT)) ;
    require(uv_loop_close(&loop->uv), "cannot close the event loop");
    free(loop);
    return forgotten;
}

/* Codes say what a person would do about it: EPIPE is a far end that went away, EACCES a door. */
static neap_code code_of(int error) {
    switch (error) {
    case UV_EPIPE: case UV_ECONNRESET: case UV_ENOTCONN: case UV_EBADF: return NEAP_E_CLOSED;
    case UV_ECONNREFUSED: case UV_EHOSTUNREACH: case UV_ENETUNREACH:    return NEAP_E_UNREACHABLE;
    case UV_EACCES: case UV_EPERM:                                      return NEAP_E_AUTH;
    case UV_ETIMEDOUT:                                                  return NEAP_E_TIMEOUT;
    case UV_ECANCELED:                                                  return NEAP_E_CANCELLED;
    case UV_ENOMEM:                                                     return NEAP_E_MEMORY;
    default:                                                            return NEAP_E_REMOTE;
    }
}

bool neap_loop_fail(neap_err *err, int error, const char *format, ...) {
    neap_buf what = NEAP_BUF_INIT;
    va_list args;
    va_start(args, format);
    neap_buf_addv(&what, format, args);
    va_end(args);
    neap_err_set(err, code_of(error), "%s: %s", what.data ? what.data : "", uv_strerror(error));
    neap_buf_close(&what);
    return false;
}

struct uv_loop_s *neap_loop_uv(neap_loop *loop) { return &loop->uv; }
