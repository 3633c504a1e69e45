/* ssh_native_dial.c -- dialers over a session: each dial is a tunnel, whose one stream it gives away.
 *
 * A dialer may outlive its session, which then forgets it: a dial is CLOSED from then on. */
#include "drive/ssh_native.h"

#include <stdlib.h>

typedef struct tunnel_dialer {
    neap_dialer dialer;                  /* first */
    neap_list node;                      /* of its session */
    neap_ssh_native *session;            /* NULL: freed */
    neap_ssh_channel_kind kind;
    char *text;
    int port;
} tunnel_dialer;

typedef struct dialing {
    neap_dialing dialing;                /* first */
    neap_ssh_channel *channel;
    neap_dial_fn done;
    void *arg;
} dialing;

static const neap_dialer_class tunnel_class;

static void on_ready(void *arg, const neap_err *err) {
    dialing *p = arg;
    neap_ssh_channel *c = p->channel;
    neap_dial_fn done = p->done;
    void *done_arg = p->arg;
    free(p);
    if (err) done(done_arg, NULL, err);
    else done(done_arg, neap_ssh_channel_lane(c, 0), NULL);
    neap_ssh_channel_release(c);
}

static neap_dialing *tunnel_dial(neap_dialer *d, neap_dial_fn done, void *arg) {
    tunnel_dialer *t = (tunnel_dialer *)d;
    dialing *p = neap_zalloc(sizeof *p);
    bool open = t->session && t->session->state == NEAP_SSH_OPEN && !t->session->err.code;
    p->dialing.class = &tunnel_class;
    p->done = done;
    p->arg = arg;
    p->channel = neap_ssh_channel_new(d->loop, open ? t->session : NULL, t->kind, t->text, t->port);
    p->channel->ready = on_ready;
    p->channel->arg = p;
    if (!open) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_CLOSED, "there is no connection to reach \"%s\" through", d->label);
        neap_ssh_channel_tell(p->channel, &err);
        neap_err_close(&err);
    }
    return &p->dialing;
}

static void tunnel_cancel(neap_dialing *dial) {
    dialing *p = (dialing *)dial;
    neap_ssh_channel_drop(p->channel);
    neap_ssh_channel_release(p->channel);
    free(p);
}

static void tunnel_free(neap_dialer *d) {
    tunnel_dialer *t = (tunnel_dialer *)d;
    neap_list_remove(&t->node);
    free(d->label);
    free(t->text);
    free(t);
}

static const neap_dialer_class tunnel_class = {"ssh", tunnel_dial, tunnel_cancel, tunnel_free};

static neap_dialer *new_dialer(neap_ssh *ssh, neap_ssh_channel_kind kind, const char *text, int port) {
    neap_ssh_native *s = neap_ssh_native_from(ssh);
    tunnel_dialer *t = neap_zalloc(sizeof *t);
    char *label = kind == NEAP_SSH_CHANNEL_TCP ? neap_asprintf("%s, %s:%d", s->name, text, port) : neap_asprintf("%s, %s", s->name, text);
    t->dialer = (neap_dialer){.class = &tunnel_class, .loop = ssh->loop, .holds = 1, .label = label};
    t->session = s;
    t->kind = kind;
    t->text = neap_strdup(text);
    t->port = port;
    neap_list_append(&s->dialers, &t->node);
    return &t->dialer;
}

neap_dialer *neap_ssh_native_dial_tcp(neap_ssh *s, const char *host, int port) { return new_dialer(s, NEAP_SSH_CHANNEL_TCP, host, port); }
neap_dialer *neap_ssh_native_dial_unix(neap_ssh *s, const char *path) { return new_dialer(s, NEAP_SSH_CHANNEL_UNIX, path, 0); }

void neap_ssh_native_dialers_end(neap_ssh_native *s) {
    while (!neap_list_is_empty(&s->dialers)) {
        tunnel_dialer *t = NEAP_LIST_OF(s->dialers.next, tunnel_dialer, node);
        t->session = NULL;
        neap_list_remove(&t->node);
    }
}
