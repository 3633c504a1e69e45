/* outlet.c -- see outlet.h.
 *
 * Non-blocking without O_NONBLOCK on the descriptor we were given: that flag belongs to the open file and would
 * change the shell's terminal too. Instead the same file is opened a second time through /proc/self/fd, and
 * the copy is non-blocking. A regular file is written directly (a second opening would start at its
 * beginning, and it never blocks for long); a socket takes MSG_DONTWAIT; a terminal we may not open again (after su) is
 * asked with poll and written in small pieces, on a timer.
 */
#include "drive/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "loop/timer.h"
#include "loop/watch.h"

enum { QUEUE_MOST = 8 * 1024 * 1024, SMALL = 128, RETRY_MS = 20 };

enum way { DIRECT, REOPENED, SOCKET, POLLED };

struct neap_outlet {
    neap_loop  *loop;
    enum way    way;
    int         given, fd;         /* fd: ours when REOPENED, else the given one */
    bool        gone;              /* the reader; nothing is tried any more */
    neap_buf    queue;
    neap_watch *watch;             /* while something is queued; POLLED uses the timer instead */
    neap_timer *timer;
    void      (*on_empty)(void *arg);
    void       *arg;
};

static void find_way(neap_outlet *o) {
    struct stat st;
    char path[40];
    o->way = DIRECT;
    if (fstat(o->given, &st) != 0 || S_ISREG(st.st_mode)) return;
    if (S_ISSOCK(st.st_mode)) { o->way = SOCKET; return; }
    snprintf(path, sizeof path, "/proc/self/fd/%d", o->given);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    o->way = fd >= 0 ? REOPENED : POLLED;
    if (fd >= 0) o->fd = fd;
}

neap_outlet *neap_outlet_new(neap_loop *loop, int fd) {
    neap_outlet *o = neap_zalloc(sizeof *o);
    o->loop = loop;
    o->given = o->fd = fd;
    find_way(o);
    return o;
}

static ssize_t put(neap_outlet *o, const char *text, size_t len) {
    if (o->way == SOCKET) return send(o->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (o->way == POLLED) {
        struct pollfd p = {.fd = o->fd, .events = POLLOUT};
        if (poll(&p, 1, 0) != 1 || !(p.revents & (POLLOUT | POLLERR | POLLHUP))) {
            errno = EAGAIN;
            return -1;
        }
        if (len > SMALL) len = SMALL;
    }
    return write(o->fd, text, len);
}

/* Write as much as goes. False: the reader is gone (errno). */
static bool drain(neap_outlet *o) {
    size_t at = 0;
    while (at < o->queue.len) {
        ssize_t n = put(o, o->queue.data + at, o->queue.len - at);
        if (n >= 0) { at += (size_t)n; continue; }
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        o->gone = true;
        neap_buf_close(&o->queue);
        return false;
    }
    if (at) neap_buf_drop(&o->queue, at);
    return true;
}

static void stop_waiting(neap_outlet *o) {
    neap_watch_free(o->watch);
    o->watch = NULL;
    neap_timer_free(o->timer);
    o->timer = NULL;
}

static void on_room(void *arg);
static void on_ready(void *arg, int events) {
    (void)events;
    on_room(arg);
}

static void wait_for_room(neap_outlet *o) {
    if (o->way == POLLED || o->way == DIRECT) {
        if (!o->timer) o->timer = neap_timer_new(o->loop, on_room, o);
        neap_timer_start(o->timer, RETRY_MS);
    } else if (!o->watch) {
        o->watch = neap_watch_new(o->loop, o->fd, NEAP_WATCH_WRITE, on_ready, o);
    }
}

static void on_room(void *arg) {
    neap_outlet *o = arg;
    if (drain(o) && o->queue.len) {
        wait_for_room(o);
        return;
    }
    stop_waiting(o);
    void (*tell)(void *) = o->on_empty;
    o->on_empty = NULL;
    if (tell) tell(o->arg);
}

static bool fail_gone(neap_outlet *o, neap_err *err) {
    return neap_err_set(err, NEAP_E_CLOSED, "nobody reads descriptor %d any more", o->given);
}

bool neap_outlet_write(neap_outlet *o, const char *text, size_t len, neap_err *err) {
    if (o->gone) return fail_gone(o, err);
    if (o->queue.len && o->queue.len + len > QUEUE_MOST)
        return neap_err_set(err, NEAP_E_BUSY, "descriptor %d takes no more text", o->given);
    bool waiting = o->queue.len > 0;
    neap_buf_add(&o->queue, text, len);
    if (waiting) return true;                      /* order: what is queued goes first, when there is room */
    if (!drain(o)) return fail_gone(o, err);
    if (o->queue.len) wait_for_room(o);
    return true;
}

bool neap_outlet_is_empty(const neap_outlet *o) { return o->queue.len == 0; }

void neap_outlet_on_empty(neap_outlet *o, void (*fn)(void *arg), void *arg) {
    o->on_empty = fn;
    o->arg = arg;
}

void neap_outlet_free(neap_outlet *o, int within_ms) {
    if (!o) return;
    int64_t until = neap_clock_mono_ms() + within_ms, left;
    while (o->queue.len && (left = until - neap_clock_mono_ms()) > 0) {
        struct pollfd p = {.fd = o->fd, .events = POLLOUT};
        (void)poll(&p, 1, (int)left);
        if (!drain(o)) break;
    }
    stop_waiting(o);
    if (o->way == REOPENED) close(o->fd);
    neap_buf_close(&o->queue);
    free(o);
}
