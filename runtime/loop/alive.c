/* alive.c -- see alive.h.
 *
 *     OPEN --something waits, nothing is in flight--> SHUT --the peer says so again and again--> the deadline moves on
 *       ^                                              │ └--silent for `quiet`--> the deadline stays, and passes
 *       └─────────────────room again: patience──────────┘
 *
 * In the state SHUT the kernel asks the peer for room ever more seldom, but never later than the deadline it knows when it arms
 * its timer; when that timer finds the deadline passed, it ends the connection. So the deadline has to be well
 * ahead whenever it fires: it is patience ahead of now for as long as the last word of the peer is less than `quiet` old. At the next question
 * of the kernel at least quiet less two looks is left, and the answer to it moves the deadline on. A peer that is gone is given up
 * after quiet + patience, 27 s, at the latest.
 *
 * Every look goes through the handles of the loop and asks the kernel, so that nobody has to register a descriptor, and a
 * library may close its own when it likes. What a user asked for (tcp_user_timeout in a URL) is another number than ours and is left alone.
 *
 * Rejected: no TCP_USER_TIMEOUT and a judgement of our own. Without a deadline the kernel asks a peer that is shut every two minutes, and
 * there is no call that makes it ask sooner (TCP_RTO_MAX_MS came with Linux 6.15). Rejected: more patience for everybody. */
#include "loop/alive.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"

int neap_alive_patience_ms = 20000;

/* A connection that was seen shut: since when, and the deadline it was given last. 0: it was not. */
typedef struct shut { int64_t since_ms; unsigned deadline_ms; } shut;

struct neap_alive {
    uv_timer_t timer;                /* first */
    shut *shuts;                     /* by descriptor */
    int count;
};

static int look_ms(void) { return neap_alive_patience_ms / 20; }
static int quiet_ms(void) { return neap_alive_patience_ms * 3 / 10; }

static shut *shut_of(neap_alive *a, int fd) {
    if (fd >= a->count) {
        shut *more = neap_zalloc((size_t)(fd + 32) * sizeof *more);
        if (a->count) memcpy(more, a->shuts, (size_t)a->count * sizeof *more);
        free(a->shuts);
        a->shuts = more;
        a->count = fd + 32;
    }
    return &a->shuts[fd];
}

static void set_deadline(int fd, unsigned ms) { setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms); }

/* Something waits to be sent and nothing is in flight: the peer has no room. */
static int is_shut(int fd, const struct tcp_info *info) {
    int waiting = 0;
    return info->tcpi_unacked == 0 && ioctl(fd, TIOCOUTQ, &waiting) == 0 && waiting > 0;
}

static void look_at(neap_alive *a, int fd, int64_t now_ms) {
    unsigned deadline = 0;
    socklen_t len = sizeof deadline;
    if (getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &deadline, &len) != 0 || deadline == 0) return;      /* no TCP, or not asked to */
    shut *s = shut_of(a, fd);
    if (deadline == (unsigned)neap_alive_patience_ms) *s = (shut){0, deadline};      /* a new one, or open until now */
    if (deadline != s->deadline_ms) return;
    struct tcp_info info = {0};
    len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0) return;
    if (!is_shut(fd, &info)) {
        if (s->since_ms) set_deadline(fd, (unsigned)neap_alive_patience_ms);
        *s = (shut){0, (unsigned)neap_alive_patience_ms};
        return;
    }
    if (!s->since_ms) s->since_ms = now_ms;
    if (info.tcpi_last_ack_recv >= (unsigned)quiet_ms()) return;
    s->deadline_ms = (unsigned)(neap_alive_patience_ms + now_ms - s->since_ms + 1);
    set_deadline(fd, s->deadline_ms);
}

static void look_at_handle(uv_handle_t *handle, void *arg) {
    uv_os_fd_t fd;
    if ((handle->type != UV_POLL && handle->type != UV_TCP) || uv_is_closing(handle) || uv_fileno(handle, &fd) != 0) return;
    look_at(arg, fd, (int64_t)uv_now(handle->loop));
}

static void on_look(uv_timer_t *timer) {
    neap_alive *a = (neap_alive *)timer;
    uv_walk(timer->loop, look_at_handle, a);
    uv_timer_start(timer, on_look, (uint64_t)look_ms(), 0);
}

neap_alive *neap_alive_new(uv_loop_t *loop) {
    neap_alive *a = neap_zalloc(sizeof *a);
    uv_timer_init(loop, &a->timer);
    uv_timer_start(&a->timer, on_look, (uint64_t)look_ms(), 0);
    uv_unref((uv_handle_t *)&a->timer);
    return a;
}

static void on_closed(uv_handle_t *handle) {
    neap_alive *a = (neap_alive *)handle;
    free(a->shuts);
    free(a);
}

void neap_alive_free(neap_alive *a) { uv_close((uv_handle_t *)&a->timer, on_closed); }
