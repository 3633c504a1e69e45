/* http_bridge.c -- a dialed stream behind a socket, because libcurl speaks to sockets only.
 *
 *     libcurl ── connects to a socket of ours │ its other end ══ two lanes ══ the dialed stream
 *
 * Each lane carries one direction, a piece at a time, so whoever is slow holds back the other side. The end of one direction is passed on
 * as an end; an error closes both sides, which libcurl takes for a connection that broke.
 *
 * The socket has a random name without a file (an abstract one) and lets in one peer: this very process, as the kernel says who
 * connects. Rejected: one end of a socketpair by CURLOPT_OPENSOCKETFUNCTION and CURL_SOCKOPT_ALREADY_CONNECTED, because libcurl
 * 7.88 connects it all the same, which fails. */
#include "drive/http_private.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loop/watch.h"

enum { PIECE_SIZE = 64 * 1024 };

typedef struct lane {
    http_bridge *bridge;
    neap_stream *from, *to;
    bool over;
} lane;

struct http_bridge {
    neap_loop *loop;
    int listener;                 /* -1 once libcurl is in */
    neap_watch *watch;
    neap_stream *near, *far;
    lane up, down;
};

static void close_both(http_bridge *b) {
    neap_stream *near = b->near, *far = b->far;
    b->near = b->far = NULL;
    neap_stream_free(near);
    neap_stream_free(far);
}

static void carry(lane *l);

static void on_shut(void *arg, const neap_err *err) {
    lane *l = arg;
    l->over = true;
    if (err || (l->bridge->up.over && l->bridge->down.over)) close_both(l->bridge);
}

static void on_written(void *arg, const neap_err *err) {
    lane *l = arg;
    if (err) close_both(l->bridge);
    else carry(l);
}

static void on_piece(void *arg, const char *data, ssize_t len, const neap_err *err) {
    lane *l = arg;
    (void)err;
    if (len < 0) close_both(l->bridge);
    else if (len == 0) neap_stream_shut(l->to, on_shut, l);
    else neap_stream_write(l->to, data, (size_t)len, on_written, l);
}

static void carry(lane *l) { neap_stream_read(l->from, PIECE_SIZE, on_piece, l); }

/* Letting libcurl in ----------------------------------------------------------------------------- */

static void close_listener(http_bridge *b) {
    neap_watch_free(b->watch);
    b->watch = NULL;
    if (b->listener >= 0) close(b->listener);
    b->listener = -1;
}

static bool is_us(int fd) {
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == getpid();
}

static void on_peer(void *arg, int events) {
    http_bridge *b = arg;
    (void)events;
    int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    if (!is_us(fd)) {
        close(fd);
        return;
    }
    close_listener(b);
    b->near = neap_stream_of_fd(b->loop, fd);
    b->up = (lane){b, b->near, b->far, false};
    b->down = (lane){b, b->far, b->near, false};
    carry(&b->up);
    if (b->near) carry(&b->down);
}

static bool listen_as(http_bridge *b, char name[HTTP_BRIDGE_NAME]) {
    unsigned char random[16];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (getrandom(random, sizeof random, 0) != sizeof random) return false;
    size_t len = (size_t)snprintf(name, HTTP_BRIDGE_NAME, "neap-");
    for (size_t i = 0; i < sizeof random; i++) len += (size_t)snprintf(name + len, HTTP_BRIDGE_NAME - len, "%02x", random[i]);
    memcpy(address.sun_path + 1, name, len);
    b->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return b->listener >= 0 && bind(b->listener, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) == 0
           && listen(b->listener, 4) == 0;
}

http_bridge *http_bridge_new(neap_loop *loop, neap_stream *far, char name[HTTP_BRIDGE_NAME], neap_err *err) {
    http_bridge *b = neap_zalloc(sizeof *b);
    b->loop = loop;
    b->far = far;
    b->listener = -1;
    if (listen_as(b, name)) {
        b->watch = neap_watch_new(loop, b->listener, NEAP_WATCH_READ, on_peer, b);
        return b;
    }
    neap_err_set(err, NEAP_E_UNREACHABLE, "no socket for a connection: %s", strerror(errno));
    http_bridge_free(b);
    return NULL;
}

void http_bridge_free(http_bridge *b) {
    if (!b) return;
    close_listener(b);
    close_both(b);
    free(b);
}
