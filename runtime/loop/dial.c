/* dial.c -- the two dialers that need nobody: a TCP port and a unix socket.
 *
 * A unix socket answers at once, but `done` comes from the loop, so a timer of 0 ms stands between. A listener whose queue is full says
 * "again", and again is asked until the caller gives up.
 */
#include "loop/dial.h"

#include <stdlib.h>

#include "base/buf.h"
#include "loop/net.h"
#include "loop/timer.h"

enum { AGAIN_MS = 10 };

/* TCP ---------------------------------------------------------------------------------------- */

typedef struct tcp_dialer {
    neap_dialer dialer;            /* first */
    neap_net_place place;
} tcp_dialer;

typedef struct tcp_dialing {
    neap_dialing dialing;          /* first */
    neap_loop *loop;
    neap_connecting *connecting;
    neap_dial_fn done;
    void *arg;
} tcp_dialing;

static const neap_dialer_class tcp_class;

static void on_connected(void *arg, int fd, const neap_err *err) {
    tcp_dialing p = *(tcp_dialing *)arg;
    free(arg);
    p.done(p.arg, err ? NULL : neap_stream_of_fd(p.loop, fd), err);
}

static neap_dialing *tcp_dial(neap_dialer *d, neap_dial_fn done, void *arg) {
    tcp_dialing *p = neap_zalloc(sizeof *p);
    *p = (tcp_dialing){.dialing = {&tcp_class}, .loop = d->loop, .done = done, .arg = arg};
    p->connecting = neap_net_connect(d->loop, &((tcp_dialer *)d)->place, on_connected, p);
    return &p->dialing;
}

static void tcp_cancel(neap_dialing *dialing) {
    neap_net_cancel(((tcp_dialing *)dialing)->connecting);
    free(dialing);
}

static void tcp_free(neap_dialer *d) {
    tcp_dialer *t = (tcp_dialer *)d;
    free((char *)t->place.host);
    free((char *)t->place.from);
    free(d->label);
    free(t);
}

static const neap_dialer_class tcp_class = {"tcp", tcp_dial, tcp_cancel, tcp_free};

neap_dialer *neap_dialer_tcp(neap_loop *loop, const neap_net_place *place) {
    tcp_dialer *t = neap_zalloc(sizeof *t);
    neap_buf label = NEAP_BUF_INIT;
    const char *host = place->host;
    bool numbers6 = false;
    for (const char *c = host; *c; c++) numbers6 |= *c == ':';
    neap_buf_addf(&label, numbers6 ? "[%s]:%d" : "%s:%d", host, place->port);
    t->dialer = (neap_dialer){.class = &tcp_class, .loop = loop, .holds = 1, .label = neap_buf_take(&label)};
    t->place = *place;
    t->place.host = neap_strdup(host);
    t->place.from = place->from ? neap_strdup(place->from) : NULL;
    return &t->dialer;
}

const char *neap_dialer_host(const neap_dialer *d) { return d->class == &tcp_class ? ((const tcp_dialer *)d)->place.host : NULL; }

/* Unix sockets: the label is the path ---------------------------------------------------------- */

typedef struct unix_dialing {
    neap_dialing dialing;          /* first */
    neap_loop *loop;
    char *path;
    neap_timer *timer;
    neap_dial_fn done;
    void *arg;
} unix_dialing;

static const neap_dialer_class unix_class;

static void unix_cancel(neap_dialing *dialing) {
    unix_dialing *p = (unix_dialing *)dialing;
    neap_timer_free(p->timer);
    free(p->path);
    free(p);
}

static void on_time(void *arg) {
    unix_dialing *p = arg;
    neap_err err = NEAP_ERR_INIT;
    int fd = neap_unix_connect(p->path, &err);
    if (fd < 0 && err.retry) {
        neap_err_close(&err);
        neap_timer_start(p->timer, AGAIN_MS);
        return;
    }
    neap_dial_fn done = p->done;
    void *to = p->arg;
    neap_loop *loop = p->loop;
    unix_cancel(&p->dialing);
    done(to, fd < 0 ? NULL : neap_stream_of_fd(loop, fd), fd < 0 ? &err : NULL);
    neap_err_close(&err);
}

static neap_dialing *unix_dial(neap_dialer *d, neap_dial_fn done, void *arg) {
    unix_dialing *p = neap_zalloc(sizeof *p);
    *p = (unix_dialing){.dialing = {&unix_class}, .loop = d->loop, .path = neap_strdup(d->label), .done = done, .arg = arg};
    p->timer = neap_timer_new(d->loop, on_time, p);
    neap_timer_start(p->timer, 0);
    return &p->dialing;
}

static void unix_free(neap_dialer *d) {
    free(d->label);
    free(d);
}

static const neap_dialer_class unix_class = {"unix", unix_dial, unix_cancel, unix_free};

neap_dialer *neap_dialer_unix(neap_loop *loop, const char *path) {
    neap_dialer *d = neap_zalloc(sizeof *d);
    *d = (neap_dialer){.class = &unix_class, .loop = loop, .holds = 1, .label = neap_strdup(path)};
    return d;
}
