/* watch.c -- readiness of somebody else's descriptor.
 *
 *     WATCHING --set 0--> PAUSED --set n--> WATCHING        both --free--> gone (memory follows)
 *        | error: told as READ|WRITE, then WATCHING again
 *     DEAF (libuv would not watch it) --next turn--> told as READ|WRITE
 *
 * A watch that libuv refuses to make (descriptor closed, watched twice, a regular file) still calls back, once per
 * `set` with an interest: the library that owns the descriptor then makes its own call and finds the reason. A
 * silent refusal would leave a task waiting for ever.
 *
 * After an error libuv has stopped polling. If the owner neither frees nor changes the watch, it is started
 * again: a library that goes on is told again, rather than never.
 */
#include "loop/watch.h"

#include <stdlib.h>
#include <uv.h>

#include "base/buf.h"

struct neap_watch {
    union { uv_handle_t any; uv_poll_t poll; uv_timer_t alarm; } uv;
    bool deaf, closing;
    bool armed;                    /* libuv polls for `events`: asking again would cost three system calls and change nothing */
    int events;
    neap_watch_fn on_ready;
    void *arg;
};

static void start(neap_watch *w);

static void on_poll(uv_poll_t *uv, int status, int events) {
    neap_watch *w = uv->data;
    if (!w) return;
    if (status < 0) w->armed = false;              /* an error ends the polling */
    w->on_ready(w->arg, status < 0 ? NEAP_WATCH_READ | NEAP_WATCH_WRITE : events);
    if (status < 0 && !w->closing && !w->armed) start(w);
}

static void on_alarm(uv_timer_t *uv) {
    neap_watch *w = uv->data;
    uv_stop(uv->loop);                              /* see timer.c: else this turn would go on waiting */
    if (w) w->on_ready(w->arg, NEAP_WATCH_READ | NEAP_WATCH_WRITE);
}

static void start(neap_watch *w) {
    if (w->deaf) {
        if (w->events) uv_timer_start(&w->uv.alarm, on_alarm, 0, 0);
        else uv_timer_stop(&w->uv.alarm);
    } else if (w->events) {
        w->armed = uv_poll_start(&w->uv.poll, w->events, on_poll) == 0;
    } else {
        uv_poll_stop(&w->uv.poll);
        w->armed = false;
    }
}

neap_watch *neap_watch_new(neap_loop *loop, int fd, int events, neap_watch_fn on_ready, void *arg) {
    neap_watch *w = neap_zalloc(sizeof *w);
    w->on_ready = on_ready;
    w->arg = arg;
    w->deaf = uv_poll_init(neap_loop_uv(loop), &w->uv.poll, fd) != 0;
    if (w->deaf) uv_timer_init(neap_loop_uv(loop), &w->uv.alarm);
    w->uv.any.data = w;
    neap_watch_set(w, events);
    return w;
}

void neap_watch_set(neap_watch *w, int events) {
    if (w->armed && w->events == events) return;
    w->events = events;
    start(w);
}

static void on_closed(uv_handle_t *uv) { free(uv); }

void neap_watch_free(neap_watch *w) {
    if (!w) return;
    w->closing = true;
    w->uv.any.data = NULL;
    uv_close(&w->uv.any, on_closed);
}
