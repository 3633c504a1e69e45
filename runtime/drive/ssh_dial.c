/* ssh_dial.c -- dialers through a host: have its connection opened, then dial over it (direct-tcpip, direct-streamlocal). A dialer
 * stays good when the connection is lost: the next dial goes over the next one. */
#include <stdlib.h>

#include "base/buf.h"
#include "drive/ssh_link.h"

typedef struct through {
    neap_dialer dialer;              /* first */
    neap_ssh_link *link;
    char *host;                      /* NULL: `path` */
    int port;
    char *path;
} through;

typedef struct dialing {
    neap_dialing dialing;            /* first */
    through *from;
    neap_ssh_wait *wait;
    neap_dialer *inner;
    neap_dialing *dial;
    neap_dial_fn done;
    void *arg;
} dialing;

static void free_dialing(dialing *d) {
    neap_dialer_release(d->inner);
    neap_dialer_release(&d->from->dialer);
    free(d);
}

static void finish(dialing *d, neap_stream *stream, const neap_err *err) {
    neap_dial_fn done = d->done;
    void *arg = d->arg;
    done(arg, stream, err);
    free_dialing(d);
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) { finish(arg, stream, err); }

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err) {
    dialing *d = arg;
    d->wait = NULL;
    if (!ssh) { finish(d, NULL, err); return; }
    d->inner = d->from->host ? neap_ssh_dial_tcp(ssh, d->from->host, d->from->port) : neap_ssh_dial_unix(ssh, d->from->path);
    d->dial = neap_dial(d->inner, on_dialed, d);
}

static neap_dialing *through_dial(neap_dialer *dialer, neap_dial_fn done, void *arg);

static void through_cancel(neap_dialing *p) {
    dialing *d = (dialing *)p;
    if (d->wait) neap_ssh_link_forgo(d->wait);
    else neap_dial_cancel(d->dial);
    free_dialing(d);
}

static void through_free(neap_dialer *dialer) {
    through *t = (through *)dialer;
    neap_ssh_link_release(t->link);
    free(t->host);
    free(t->path);
    free(t->dialer.label);
    free(t);
}

static const neap_dialer_class through_class = {"ssh", through_dial, through_cancel, through_free};

static neap_dialing *through_dial(neap_dialer *dialer, neap_dial_fn done, void *arg) {
    through *t = (through *)dialer;
    dialing *d = neap_zalloc(sizeof *d);
    neap_dialer_hold(dialer);
    *d = (dialing){.dialing.class = &through_class, .from = t, .done = done, .arg = arg};
    d->wait = neap_ssh_link_open(t->link, on_open, d);
    return &d->dialing;
}

static through *new_dialer(neap_ssh_link *l, neap_buf *label) {
    through *t = neap_zalloc(sizeof *t);
    t->dialer = (neap_dialer){&through_class, neap_ssh_link_loop(l), 1, neap_buf_take(label)};
    t->link = neap_ssh_link_hold(l);
    return t;
}

neap_dialer *neap_ssh_link_dial_tcp(neap_ssh_link *l, const char *host, int port) {
    neap_buf label = NEAP_BUF_INIT;
    neap_buf_addf(&label, "%s, %s:%d", neap_ssh_link_host(l)->name, host, port);
    through *t = new_dialer(l, &label);
    t->host = neap_strdup(host);
    t->port = port;
    return &t->dialer;
}

neap_dialer *neap_ssh_link_dial_unix(neap_ssh_link *l, const char *path) {
    neap_buf label = NEAP_BUF_INIT;
    neap_buf_addf(&label, "%s, %s", neap_ssh_link_host(l)->name, path);
    through *t = new_dialer(l, &label);
    t->path = neap_strdup(path);
    return &t->dialer;
}
