/* net.c -- connecting to a TCP port.
 *
 *     RESOLVING --addresses--> TRYING --one answers--> done(fd)
 *          \                      \--all have refused--> done(err: every address with its reason)
 *           \--cancel: the question is answered into the void (a look-up cannot be taken back)
 *
 * Attempts run side by side: a new one begins when the newest has refused, or after 250 ms of silence (RFC 8305), so one dead address
 * of a name costs a quarter of a second and not two minutes. The order is getaddrinfo's, families by turns.
 *
 * Rejected: uv_tcp_connect, which hides the descriptor that libssh2 needs and closes it on its own terms.
 */
#include "loop/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "loop/alive.h"
#include "loop/timer.h"
#include "loop/watch.h"
#include "loop/work.h"

enum { ADDRESSES_MOST = 64, NEXT_MS = 250, IDLE_S = 10, INTERVAL_S = 5, PROBES = 3 };

typedef struct address { struct sockaddr_storage socket; socklen_t len; char *text; } address;

typedef struct attempt {
    neap_connecting *owner;
    const address *to;
    int fd;                        /* -1: not begun, or over */
    neap_watch *watch;
} attempt;

struct neap_connecting {
    neap_loop *loop;
    char *host, *from;
    int port, family;
    neap_net_fn done;
    void *arg;
    bool resolving, cancelled;
    address addresses[ADDRESSES_MOST];
    attempt attempts[ADDRESSES_MOST];
    int count, next, pending;
    neap_timer *timer;
    neap_buf reasons;
    bool forbidden;                /* one of the reasons is a door that is shut, not a far end that is absent */
};

/* Addresses ---------------------------------------------------------------------------------- */

/* Numbers only: it asks nobody and never waits. */
static bool parse(const char *text, int port, int family, address *out) {
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(text, service, &hints, &found) != 0) return false;
    memcpy(&out->socket, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static void add_address(neap_connecting *c, const char *text) {
    address *a = &c->addresses[c->count];
    if (c->count == ADDRESSES_MOST || !parse(text, c->port, c->family, a)) return;
    a->text = neap_strdup(text);
    c->count++;
}

/* Families by turns, each in its own order, the first one's first: one that leads nowhere delays the other only once. */
static void take_turns(neap_connecting *c) {
    for (int n = 1; n < c->count; n++) {
        int last = c->addresses[n - 1].socket.ss_family, next = n;
        while (next < c->count && c->addresses[next].socket.ss_family == last) next++;
        if (next == c->count) return;                      /* only one family is left */
        address picked = c->addresses[next];
        memmove(&c->addresses[n + 1], &c->addresses[n], sizeof picked * (size_t)(next - n));
        c->addresses[n] = picked;
    }
}

bool neap_net_peer(int fd, char out[NEAP_NET_TEXT_SIZE]) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    char host[INET6_ADDRSTRLEN], port[8];
    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0 || peer.ss_family == AF_UNIX) return false;
    if (getnameinfo((struct sockaddr *)&peer, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) return false;
    snprintf(out, NEAP_NET_TEXT_SIZE, peer.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return true;
}

/* The end of it ------------------------------------------------------------------------------ */

static void end_attempt(attempt *a) {
    neap_watch_free(a->watch);
    a->watch = NULL;
    if (a->fd >= 0) close(a->fd);
    a->fd = -1;
}

static void destroy(neap_connecting *c) {
    for (int i = 0; i < c->next; i++) end_attempt(&c->attempts[i]);
    for (int i = 0; i < c->count; i++) free(c->addresses[i].text);
    neap_timer_free(c->timer);
    neap_buf_close(&c->reasons);
    free(c->host);
    free(c->from);
    free(c);
}

static void finish(neap_connecting *c, int fd, const neap_err *err) {
    neap_net_fn done = c->done;
    void *arg = c->arg;
    destroy(c);
    done(arg, fd, err);
}

static void fail(neap_connecting *c) {
    neap_err err = NEAP_ERR_INIT;
    const char *reason = c->reasons.len ? c->reasons.data : "it has no address of the family asked for";
    neap_err_set(&err, c->forbidden ? NEAP_E_AUTH : NEAP_E_UNREACHABLE, "cannot connect to \"%s\" port %d: %s", c->host, c->port, reason);
    err.retry = !c->forbidden;
    if (!c->forbidden) neap_err_hint(&err, "Does it run, is the port right, is nothing in between? On that machine `ss -ltn` shows who listens.");
    finish(c, -1, &err);
    neap_err_close(&err);
}

static void note(neap_connecting *c, const address *to, int error) {
    if (c->reasons.len) neap_buf_adds(&c->reasons, "; ");
    if (strcmp(to->text, c->host) != 0) neap_buf_addf(&c->reasons, "%s: ", to->text);
    neap_buf_adds(&c->reasons, uv_strerror(-error));
    if (error == EACCES || error == EPERM) c->forbidden = true;
}

/* Attempts ----------------------------------------------------------------------------------- */

static void try_next(neap_connecting *c);

static void on_ready(void *arg, int events) {
    attempt *a = arg;
    neap_connecting *c = a->owner;
    int error = 0, fd = a->fd;
    socklen_t len = sizeof error;
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;
    (void)events;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) error = errno;
    if (!error && getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0) return;      /* neither yes nor no yet */
    if (error) {
        note(c, a->to, error);
        end_attempt(a);
        c->pending--;
        try_next(c);
        return;
    }
    neap_watch_free(a->watch);
    a->watch = NULL;
    a->fd = -1;
    finish(c, fd, NULL);
}

static void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

static void tune(int fd) {
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, IDLE_S);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, INTERVAL_S);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, neap_alive_patience_ms);
}

/* 0, or an errno. */
static int bind_to(int fd, const char *from, int family) {
    address own;
    if (!from) return 0;
    if (!parse(from, 0, family, &own)) return EADDRNOTAVAIL;
    return bind(fd, (const struct sockaddr *)&own.socket, own.len) == 0 ? 0 : errno;
}

/* True: the answer will come. */
static bool begin(neap_connecting *c, attempt *a) {
    int family = a->to->socket.ss_family;
    a->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = a->fd < 0 ? errno : bind_to(a->fd, c->from, family);
    if (!error) tune(a->fd);
    if (!error && connect(a->fd, (const struct sockaddr *)&a->to->socket, a->to->len) != 0 && errno != EINPROGRESS) error = errno;
    if (error) {
        note(c, a->to, error);
        end_attempt(a);
        return false;
    }
    a->watch = neap_watch_new(c->loop, a->fd, NEAP_WATCH_WRITE, on_ready, a);
    c->pending++;
    return true;
}

static void try_next(neap_connecting *c) {
    while (c->next < c->count) {
        attempt *a = &c->attempts[c->next];
        *a = (attempt){.owner = c, .to = &c->addresses[c->next], .fd = -1};
        c->next++;
        if (!begin(c, a)) continue;
        if (c->next < c->count) neap_timer_start(c->timer, NEXT_MS);
        return;
    }
    if (!c->pending) fail(c);
}

static void on_time(void *arg) { try_next(arg); }

static void on_resolved(void *arg, char *const *addresses, const char *reason) {
    neap_connecting *c = arg;
    c->resolving = false;
    if (c->cancelled) { destroy(c); return; }
    if (!addresses) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_UNREACHABLE, "cannot find the host \"%s\": %s", c->host, reason);
        neap_err_hint(&err, "Is the name right? Look it up with: getent hosts %s", c->host);
        finish(c, -1, &err);
        neap_err_close(&err);
        return;
    }
    for (; *addresses; addresses++) add_address(c, *addresses);
    take_turns(c);
    try_next(c);
}

/* Ends --------------------------------------------------------------------------------------- */

neap_connecting *neap_net_connect(neap_loop *loop, const neap_net_place *place, neap_net_fn done, void *arg) {
    static const int families[] = {[NEAP_NET_ANY] = AF_UNSPEC, [NEAP_NET_INET] = AF_INET, [NEAP_NET_INET6] = AF_INET6};
    neap_connecting *c = neap_zalloc(sizeof *c);
    c->loop = loop;
    c->host = neap_strdup(place->host);
    c->from = place->from ? neap_strdup(place->from) : NULL;
    c->port = place->port;
    c->family = families[place->family];
    c->done = done;
    c->arg = arg;
    c->timer = neap_timer_new(loop, on_time, c);
    add_address(c, place->host);
    c->resolving = !c->count;
    if (c->count) neap_timer_start(c->timer, 0);           /* a number needs no question, but `done` comes from the loop */
    else neap_resolve_start(loop, c->host, on_resolved, c);
    return c;
}

void neap_net_cancel(neap_connecting *c) {
    c->cancelled = true;
    if (!c->resolving) destroy(c);
}
