/* tunnel.c -- see tunnel.h.
 *
 * Each direction of a connection is a pipe (pipe.h). When one comes to its end, the other end's writing side is shut; when it fails, the
 * connection is over: who speaks through it must not take half an answer for a whole one, and a broken far end cannot be told to a
 * peer in any other way than by closing.
 *
 * Rejected: a TCP port of this machine, which every user of it could connect to.
 */
#include "drive/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/list.h"
#include "drive/pipe.h"
#include "loop/net.h"

typedef struct line line;

typedef struct direction { line *of; neap_pipe *pipe; neap_stream *to; bool done; } direction;

struct line {                      /* one connection */
    neap_list link;
    neap_tunnel *tunnel;
    neap_dialing *dialing;
    neap_stream *peer, *far;
    direction up, down;
    bool closing;
};

struct neap_tunnel {
    neap_dialer *dialer;
    neap_listener *listener;
    char *dir, *path;
    neap_list lines;
    int count;
    neap_err failure;
};

/* Connections -------------------------------------------------------------------------------- */

/* What is stopped calls back while it is stopped: `closing` says that nobody listens. */
static void close_line(line *l) {
    if (l->closing) return;
    l->closing = true;
    if (l->dialing) neap_dial_cancel(l->dialing);
    if (l->up.pipe) neap_pipe_cancel(l->up.pipe);
    if (l->down.pipe) neap_pipe_cancel(l->down.pipe);
    neap_stream_free(l->peer);
    neap_stream_free(l->far);
    neap_list_remove(&l->link);
    l->tunnel->count--;
    free(l);
}

static void on_shut(void *arg, const neap_err *err) {
    direction *d = arg;
    line *l = d->of;
    if (l->closing) return;
    d->done = true;
    if (err || (l->up.done && l->down.done)) close_line(l);
}

static void on_end(void *arg, const neap_pipe_result *result, const neap_err *err) {
    direction *d = arg;
    (void)result;
    d->pipe = NULL;
    if (d->of->closing) return;
    if (err) close_line(d->of);
    else neap_stream_shut(d->to, on_shut, d);
}

static void pump(line *l, direction *d, neap_stream *from, neap_stream *to) {
    neap_pipe_options plain = {.plain = true};
    *d = (direction){.of = l, .to = to};
    d->pipe = neap_pipe_start(l->tunnel->dialer->loop, from, to, &plain, on_end, d);
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    line *l = arg;
    neap_err *kept = &l->tunnel->failure;
    l->dialing = NULL;
    neap_err_close(kept);
    if (err) {
        neap_err_copy(kept, err);
        close_line(l);
        return;
    }
    l->far = stream;
    pump(l, &l->up, l->peer, l->far);
    pump(l, &l->down, l->far, l->peer);
}

static void on_accepted(void *arg, neap_stream *peer) {
    neap_tunnel *t = arg;
    line *l = neap_zalloc(sizeof *l);
    l->tunnel = t;
    l->peer = peer;
    neap_list_append(&t->lines, &l->link);
    t->count++;
    l->dialing = neap_dial(t->dialer, on_dialed, l);
}

/* The tunnel --------------------------------------------------------------------------------- */

/* A new directory 0700 below `base`; NULL when there is none or the path would be too long for an address. */
static char *make_dir(const char *base, const char *name) {
    static const char pattern[] = "/neap.XXXXXX";
    if (!base || *base != '/' || strlen(base) + sizeof pattern + strlen(name) + 1 > sizeof((struct sockaddr_un *)0)->sun_path) return NULL;
    char *dir = neap_asprintf("%s%s", base, pattern);
    if (mkdtemp(dir)) return dir;
    free(dir);
    return NULL;
}

neap_tunnel *neap_tunnel_open(neap_dialer *d, const char *name, neap_err *err) {
    char *dir = make_dir(getenv("TMPDIR"), name);
    if (!dir) dir = make_dir(getenv("XDG_RUNTIME_DIR"), name);
    if (!dir) dir = make_dir("/tmp", name);
    if (!dir) {
        neap_loop_fail(err, -errno, "cannot make a directory for the socket \"%s\"", name);
        return NULL;
    }
    neap_tunnel *t = neap_zalloc(sizeof *t);
    t->dialer = neap_dialer_hold(d);
    t->dir = dir;
    t->path = neap_asprintf("%s/%s", dir, name);
    t->failure = (neap_err)NEAP_ERR_INIT;
    neap_list_init(&t->lines);
    t->listener = neap_listener_new(d->loop, t->path, on_accepted, t, err);
    if (t->listener) return t;
    neap_tunnel_free(t);
    return NULL;
}

const char *neap_tunnel_dir(const neap_tunnel *t) { return t->dir; }
const char *neap_tunnel_path(const neap_tunnel *t) { return t->path; }
const neap_err *neap_tunnel_failure(const neap_tunnel *t) { return t->failure.code ? &t->failure : NULL; }
int neap_tunnel_count(const neap_tunnel *t) { return t->count; }

void neap_tunnel_free(neap_tunnel *t) {
    if (!t) return;
    neap_listener_free(t->listener);
    while (!neap_list_is_empty(&t->lines)) close_line(NEAP_LIST_OF(t->lines.next, line, link));
    rmdir(t->dir);
    neap_dialer_release(t->dialer);
    neap_err_close(&t->failure);
    free(t->dir);
    free(t->path);
    free(t);
}
