/* signal.c -- see signal.h.
 *
 *     handler (any thread):  count, write the number into a pipe; too many or too late: die
 *     loop:                  read the pipe, tell the callback
 *
 * Rejected: uv_signal_t, which is delivered only while the loop turns; that is exactly when a third Ctrl-C is not
 * needed. signalfd has the same fault.
 *
 * The pipe is non-blocking. If it is ever full, news is lost but not the count.
 */
#include "bind/signal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bind/term_lua.h"
#include "loop/watch.h"

enum { STOPS_MOST = 3, STUCK_MS = 5000 };

static const int stopping[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, 0}, resizing[] = {SIGWINCH, 0};

static atomic_int  stops, hangups, resizes;         /* seen by the handler */
static atomic_int  served;                          /* stops that the loop has taken up */
static atomic_llong waiting_since;                  /* when the oldest stop came that is not served */
static int         pipe_ends[2] = {-1, -1};
static neap_watch *watch;
static neap_signal_fn on_stop, on_resize;
static int         told;                            /* stops told to the callback */

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void neap_signal_die(int number) {
    neap_term_restore();
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    _exit(128 + number);
}

static void on_signal(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    if (number == SIGHUP) atomic_fetch_add(&hangups, 1);
    else if (number == SIGWINCH) atomic_fetch_add(&resizes, 1);
    else {
        int count = atomic_fetch_add(&stops, 1) + 1, before = count - 1;
        bool unserved = before > atomic_load(&served);
        if (count >= STOPS_MOST || (unserved && now_ms() - atomic_load(&waiting_since) > STUCK_MS)) neap_signal_die(number);
        if (!unserved) atomic_store(&waiting_since, now_ms());
    }
    if (write(pipe_ends[1], &byte, 1) < 0) { /* full: the count is what matters */ }
    errno = saved;
}

/* On the loop. The callback may give the signals back, so every byte is looked at anew. */
static void on_news(void *arg, int events) {
    (void)arg, (void)events;
    unsigned char bytes[64];
    ssize_t n = pipe_ends[0] >= 0 ? read(pipe_ends[0], bytes, sizeof bytes) : 0;
    atomic_store(&served, atomic_load(&stops));
    for (ssize_t i = 0; i < n; i++) {
        int number = bytes[i];
        if (number == SIGWINCH) {
            if (on_resize) on_resize(number, atomic_load(&resizes));
        } else if (on_stop) {
            on_stop(number, number == SIGHUP ? atomic_load(&hangups) : ++told);
        }
    }
}

static bool open_pipe(neap_loop *loop, neap_err *err) {
    if (pipe_ends[0] >= 0) return true;
    if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) return neap_err_set(err, NEAP_E_CONFIG, "cannot make a pipe for signals: %s", strerror(errno));
    watch = neap_watch_new(loop, pipe_ends[0], NEAP_WATCH_READ, on_news, NULL);
    return true;
}

static void close_pipe(void) {
    if (on_stop || on_resize || pipe_ends[0] < 0) return;
    neap_watch_free(watch);
    watch = NULL;
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    pipe_ends[0] = pipe_ends[1] = -1;
}

/* What was ignored when we were started (nohup, a background job of sh) stays ignored. */
static void take(const int *signals) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    sigfillset(&action.sa_mask);
    for (; *signals; signals++)
        if (sigaction(*signals, NULL, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(*signals, &action, NULL);
}

static void give_back(const int *signals) {
    struct sigaction before;
    for (; *signals; signals++)
        if (sigaction(*signals, NULL, &before) == 0 && before.sa_handler == on_signal) signal(*signals, SIG_DFL);
}

static bool set(neap_loop *loop, neap_signal_fn *slot, neap_signal_fn fn, const int *signals, neap_err *err) {
    if (!fn) {
        give_back(signals);
        *slot = NULL;
        close_pipe();
        return true;
    }
    if (!open_pipe(loop, err)) return false;
    *slot = fn;
    take(signals);
    return true;
}

bool neap_signal_on_stop(neap_loop *loop, neap_signal_fn fn, neap_err *err) {
    atomic_store(&stops, 0);
    atomic_store(&served, 0);
    told = 0;
    return set(loop, &on_stop, fn, stopping, err);
}

bool neap_signal_on_resize(neap_loop *loop, neap_signal_fn fn, neap_err *err) { return set(loop, &on_resize, fn, resizing, err); }
