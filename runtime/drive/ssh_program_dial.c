/* ssh_program_dial.c -- from the host to other addresses, through the master.
 *
 * TCP: a client with -W carries one connection on its standard input and output. It says "master session id" when the far end has opened
 * the channel, so a refused port is told as the failure of the dial; why, stands in the master's own words.
 *
 * Unix sockets: -W knows none. The master is asked once per dialer to listen on a socket in the private directory (-O forward), and
 * each dial connects there. Whether the far socket answers is only seen afterwards: a refusal is an end before the first byte.
 *
 * Rejected: a listening TCP port (-L) in place of -W, which every user of this machine could reach. */
#include "drive/ssh_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "loop/net.h"

typedef struct program_dialer {
    neap_dialer dialer;                          /* first */
    neap_ssh_program *p;                         /* NULL: the connection is freed */
    neap_list node;
    char *target;                                /* host:port, or the far path */
    bool is_unix;
    neap_child *asking;                          /* -O forward */
    neap_dialer *local;                          /* where the master listens, once it does */
    neap_list dialings;                          /* that wait for it */
} program_dialer;

typedef struct program_dialing {
    neap_dialing dialing;                        /* first */
    program_dialer *d;
    neap_dial_fn done;
    void *arg;
    neap_list node;
    neap_dialing *inner;                         /* to d->local */
    struct tunnel *tunnel;                       /* -W */
    neap_timer *soon;
    neap_err err;
} program_dialing;

/* A connection carried by a client of its own. */
typedef struct tunnel {
    neap_stream stream;                          /* first */
    neap_child *client;
    neap_stream *in, *out, *words;
    neap_buf said;
    program_dialing *dialing;                    /* until the channel is open */
    bool freed, stopping;
} tunnel;

static const neap_dialer_class dialer_class;

/* Dials ----------------------------------------------------------------------------------------------------------------------------- */

static void free_dialing(program_dialing *g) {
    neap_list_remove(&g->node);
    neap_timer_free(g->soon);
    neap_err_close(&g->err);
    neap_dialer *d = &g->d->dialer;
    free(g);
    neap_dialer_release(d);
}

static void finish(program_dialing *g, neap_stream *stream) {
    neap_dial_fn done = g->done;
    void *arg = g->arg;
    neap_err err = NEAP_ERR_INIT;
    neap_err_move(&err, &g->err);
    free_dialing(g);
    done(arg, stream, stream ? NULL : &err);
    neap_err_close(&err);
}

static void on_soon(void *arg) { finish(arg, NULL); }

static void fail_soon(program_dialing *g, const char *why) {
    neap_err_set(&g->err, NEAP_E_CLOSED, "cannot reach \"%s\": %s", g->d->dialer.label, why);
    neap_timer_start(g->soon, 0);
}

/* A tunnel -------------------------------------------------------------------------------------------------------------------------- */

static void tunnel_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) { neap_stream_read(((tunnel *)s)->out, most, got, arg); }
static void tunnel_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_stream_write(((tunnel *)s)->in, data, len, done, arg);
}
static void tunnel_shut(neap_stream *s, neap_stream_done_fn done, void *arg) { neap_stream_shut(((tunnel *)s)->in, done, arg); }

static void destroy(tunnel *t) {
    neap_buf_close(&t->said);
    free(t);
}

/* What the first is told may free the stream. */
static void tunnel_stop(neap_stream *s) {
    tunnel *t = (tunnel *)s;
    bool outer = t->stopping;
    t->stopping = true;
    neap_stream_stop(t->in);
    if (!t->freed) neap_stream_stop(t->out);
    t->stopping = outer;
    if (t->freed && !outer) destroy(t);
}

/* The words are read until now, and their end is told while they are freed: to nobody any more. */
static void tunnel_free(neap_stream *s) {
    tunnel *t = (tunnel *)s;
    neap_stream *words = t->words;
    t->freed = true;
    t->dialing = NULL;
    t->words = NULL;
    neap_stream_free(t->in), neap_stream_free(t->out), neap_stream_free(words);
    neap_child_free(t->client);
    t->client = NULL;
    if (!t->stopping) destroy(t);
}

static const neap_stream_class tunnel_class = {"ssh", tunnel_read, tunnel_write, tunnel_shut, tunnel_stop, tunnel_free};

/* The client ended before the channel was open, or nobody waits for it any more. */
static void end_tunnel(tunnel *t) {
    program_dialing *g = t->dialing;
    if (!g) return;
    neap_ssh_program *p = g->d->p;
    const char *why = p && p->words.refused.len ? p->words.refused.data : "the far end refused the channel";
    neap_err_set(&g->err, p && p->state == NEAP_PROGRAM_OPEN ? NEAP_E_UNREACHABLE : NEAP_E_CLOSED, "cannot reach \"%s\": %s",
                 g->d->dialer.label, p && p->state == NEAP_PROGRAM_OPEN ? why : "the connection is lost");
    g->tunnel = NULL;
    tunnel_free(&t->stream);
    finish(g, NULL);
}

static void on_tunnel_exit(void *arg, int status, int signal) {
    (void)status, (void)signal;
    tunnel *t = arg;
    neap_child_free(t->client);
    t->client = NULL;
    if (!t->words) end_tunnel(t);
}

/* The client's own words: until the channel is open for their sense, later only so that it does not block. */
static void on_tunnel_words(void *arg, const char *data, ssize_t len, const neap_err *err) {
    tunnel *t = arg;
    program_dialing *g = t->dialing;
    (void)err;
    if (t->freed) return;
    if (len <= 0) {
        neap_stream_free(t->words);
        t->words = NULL;
        if (!t->client) end_tunnel(t);
        return;
    }
    if (g) neap_buf_add(&t->said, data, (size_t)len);
    neap_stream_read(t->words, 16384, on_tunnel_words, t);
    if (!g || !strstr(t->said.data, "master session id")) return;
    neap_buf_clear(&t->said);
    t->dialing = NULL;
    g->tunnel = NULL;
    finish(g, &t->stream);
}

static void start_tunnel(program_dialing *g) {
    program_dialer *d = g->d;
    const char *argv[NEAP_PROGRAM_ARGS];
    tunnel *t = neap_zalloc(sizeof *t);
    *t = (tunnel){.stream = {&tunnel_class}, .dialing = g};
    int n = neap_program_client(d->p, argv, "LogLevel=DEBUG1");
    argv[n++] = "-W", argv[n++] = d->target;
    argv[n++] = "--", argv[n++] = d->p->host->name, argv[n] = NULL;
    char **env = neap_program_env();
    neap_child_options o = {.argv = argv, .env = (const char *const *)env, .pipes = 7};
    neap_buf_clear(&d->p->words.refused);
    t->client = neap_child_new(d->dialer.loop, &o, on_tunnel_exit, t, &g->err);
    neap_program_env_free(env);
    if (!t->client) {
        free(t);
        neap_timer_start(g->soon, 0);
        return;
    }
    g->tunnel = t;
    t->in = neap_child_stream(t->client, 0), t->out = neap_child_stream(t->client, 1), t->words = neap_child_stream(t->client, 2);
    neap_stream_read(t->words, 16384, on_tunnel_words, t);
}

/* A far unix socket ----------------------------------------------------------------------------------------------------------------- */

static void on_inner(void *arg, neap_stream *stream, const neap_err *err) {
    program_dialing *g = arg;
    g->inner = NULL;
    if (!stream) neap_err_set(&g->err, err->code, "cannot reach \"%s\": %s", g->d->dialer.label, err->message);
    finish(g, stream);
}

static void connect_waiting(program_dialer *d) {
    while (!neap_list_is_empty(&d->dialings)) {
        program_dialing *g = NEAP_LIST_OF(d->dialings.next, program_dialing, node);
        neap_list_remove(&g->node);
        if (d->local) g->inner = neap_dial(d->local, on_inner, g);
        else fail_soon(g, "the ssh program cannot forward a socket");
    }
}

static void on_forwarded(void *arg, int status, int signal) {
    program_dialer *d = arg;
    neap_child_free(d->asking);
    d->asking = NULL;
    if (status != 0 || signal) neap_dialer_release(d->local), d->local = NULL;
    neap_dialer_hold(&d->dialer);
    connect_waiting(d);
    neap_dialer_release(&d->dialer);
}

/* A path as -L reads it: a colon or a backslash stands behind a backslash, a percent sign twice. */
static void add_path(neap_buf *out, const char *path) {
    for (; *path; path++) {
        if (*path == ':' || *path == '\\') neap_buf_addc(out, '\\');
        if (*path == '%') neap_buf_addc(out, '%');
        neap_buf_addc(out, *path);
    }
}

static void ask_forward(program_dialer *d, neap_err *err) {
    neap_ssh_program *p = d->p;
    const char *argv[NEAP_PROGRAM_ARGS];
    neap_buf path = NEAP_BUF_INIT, forward = NEAP_BUF_INIT;
    int n = neap_program_client(p, argv, "LogLevel=QUIET");
    neap_buf_addf(&path, "%s/u%d", p->dir, ++p->serial);
    neap_buf_addf(&forward, "%s:", path.data);
    add_path(&forward, d->target);
    argv[n++] = "-O", argv[n++] = "forward", argv[n++] = "-L", argv[n++] = forward.data;
    argv[n++] = "--", argv[n++] = p->host->name, argv[n] = NULL;
    char **env = neap_program_env();
    neap_child_options o = {.argv = argv, .env = (const char *const *)env};
    d->asking = neap_child_new(d->dialer.loop, &o, on_forwarded, d, err);
    if (d->asking) d->local = neap_dialer_unix(d->dialer.loop, path.data);
    neap_program_env_free(env);
    neap_buf_close(&path), neap_buf_close(&forward);
}

/* The class ------------------------------------------------------------------------------------------------------------------------- */

static neap_dialing *dial(neap_dialer *dialer, neap_dial_fn done, void *arg) {
    program_dialer *d = (program_dialer *)dialer;
    program_dialing *g = neap_zalloc(sizeof *g);
    *g = (program_dialing){.dialing = {&dialer_class}, .d = d, .done = done, .arg = arg};
    g->err = (neap_err)NEAP_ERR_INIT;
    g->soon = neap_timer_new(dialer->loop, on_soon, g);
    neap_list_init(&g->node);
    neap_dialer_hold(dialer);
    if (!d->p || d->p->state != NEAP_PROGRAM_OPEN) fail_soon(g, "the connection is not open");
    else if (!d->is_unix) start_tunnel(g);
    else if (d->local && !d->asking) g->inner = neap_dial(d->local, on_inner, g);
    else {
        if (!d->asking) ask_forward(d, &g->err);
        if (d->asking) neap_list_append(&d->dialings, &g->node);
        else neap_timer_start(g->soon, 0);
    }
    return &g->dialing;
}

static void cancel(neap_dialing *dialing) {
    program_dialing *g = (program_dialing *)dialing;
    if (g->inner) neap_dial_cancel(g->inner);
    if (g->tunnel) tunnel_free(&g->tunnel->stream);
    free_dialing(g);
}

static void free_dialer(neap_dialer *dialer) {
    program_dialer *d = (program_dialer *)dialer;
    neap_list_remove(&d->node);
    neap_child_free(d->asking);
    neap_dialer_release(d->local);
    free(d->target);
    free(d->dialer.label);
    free(d);
}

static const neap_dialer_class dialer_class = {"ssh", dial, cancel, free_dialer};

static neap_dialer *new_dialer(neap_ssh_program *p, char *target, bool is_unix) {
    program_dialer *d = neap_zalloc(sizeof *d);
    d->dialer = (neap_dialer){.class = &dialer_class, .loop = p->ssh.loop, .holds = 1, .label = neap_asprintf("%s, %s", p->host->name, target)};
    d->p = p, d->target = target, d->is_unix = is_unix;
    neap_list_init(&d->dialings);
    neap_list_init(&d->node);
    neap_list_append(&p->dialers, &d->node);
    return &d->dialer;
}

neap_dialer *neap_program_dial_tcp(neap_ssh *s, const char *host, int port) {
    return new_dialer((neap_ssh_program *)s, neap_asprintf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port), false);
}

neap_dialer *neap_program_dial_unix(neap_ssh *s, const char *path) { return new_dialer((neap_ssh_program *)s, neap_strdup(path), true); }

void neap_program_dialers_forget(neap_ssh_program *p) {
    while (!neap_list_is_empty(&p->dialers)) {
        program_dialer *d = NEAP_LIST_OF(p->dialers.next, program_dialer, node);
        neap_list_remove(&d->node);
        d->p = NULL;
    }
}
