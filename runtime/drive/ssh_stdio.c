/* ssh_stdio.c -- a dialer whose far end is a program on a host: its stdin and stdout are the byte stream. That is how an Engine is
 * reached whose socket the user may not open but may use through the docker program (`docker system dial-stdio`, with sudo
 * where the inventory says so).
 *
 *     dial ──► the connection, the program ──on_begun──► done(stream)
 *                                         └─ended first─► done(NULL, what it said on stderr)
 *
 * The program is one of ours, never the caller's: what may be run on a host is asked of the gate, and a dialer is not. Freeing the
 * stream closes the channel; the program reads the end of its stdin and goes. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "drive/remote_attached.h"

enum { SAID = 1024, PIECE = 512 };

typedef struct stdio_dialer {
    neap_dialer dialer;              /* first */
    neap_ssh_link *link;
    char *sudo;                      /* as in neap_remote_command */
} stdio_dialer;

typedef struct talk {
    neap_stream stream;              /* first */
    neap_dialing dialing;
    stdio_dialer *from;
    neap_remote_command command;
    neap_remote_names names;
    neap_attached *attached;
    neap_stream *in, *out, *said_by; /* 0, 1, 2 */
    neap_buf said;                   /* the beginning of its stderr */
    bool answered;                   /* a byte came */
    bool heard, mute;                /* its stderr has ended; its stdout has without a byte, and whoever reads is told why once it is heard */
    bool stopping, freed;
    neap_stream_read_fn got;
    void *got_arg;
    neap_dial_fn done;               /* NULL: told */
    void *arg;
} talk;

static const char *const argv_of_docker[] = {"docker", "system", "dial-stdio", NULL};

static void destroy(talk *t) {
    neap_buf_close(&t->said);
    neap_dialer_release(&t->from->dialer);
    free(t);
}

static void drop(talk *t) {
    t->freed = true;
    neap_stream_free(t->in);
    neap_stream_free(t->out);
    neap_stream_free(t->said_by);
    neap_attached_free(t->attached);
    if (!t->stopping) destroy(t);
}

/* What it said, as one error. */
static void say_why(talk *t, neap_err *err) {
    size_t len = t->said.len;
    while (len > 0 && strchr("\r\n ", t->said.data[len - 1])) len--;
    if (len) neap_err_set(err, NEAP_E_UNREACHABLE, "%s: %.*s", t->from->dialer.label, (int)len, t->said.data);
    else neap_err_set(err, NEAP_E_CLOSED, "%s: the program ended without a word", t->from->dialer.label);
}

static void tell_why(talk *t) {
    neap_err why = NEAP_ERR_INIT;
    t->mute = false;
    say_why(t, &why);
    t->got(t->got_arg, NULL, -1, &why);
    neap_err_close(&why);
}

static void on_said(void *arg, const char *data, ssize_t len, const neap_err *err) {
    talk *t = arg;
    (void)err;
    if (len <= 0) {
        t->heard = true;
        if (t->mute && t->got) tell_why(t);
        return;
    }
    if (t->said.len < SAID) neap_buf_add(&t->said, data, (size_t)len);
    neap_stream_read(t->said_by, PIECE, on_said, t);
}

/* The stream --------------------------------------------------------------------------------------- */

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    talk *t = arg;
    if (!t->got) return;                             /* being freed */
    t->answered = t->answered || len > 0;
    if (len != 0 || t->answered) { t->got(t->got_arg, data, len, err); return; }
    t->mute = true;
    if (t->heard) tell_why(t);
}

static void talk_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    talk *t = (talk *)s;
    t->got = got;
    t->got_arg = arg;
    neap_stream_read(t->out, most, on_got, t);
}

static void talk_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_stream_write(((talk *)s)->in, data, len, done, arg);
}

static void talk_shut(neap_stream *s, neap_stream_done_fn done, void *arg) { neap_stream_shut(((talk *)s)->in, done, arg); }

/* What the first is told may free the stream. Whoever reads from one that is mute waits for us alone. */
static void talk_stop(neap_stream *s) {
    talk *t = (talk *)s;
    neap_err err = NEAP_ERR_INIT;
    bool outer = t->stopping;
    t->stopping = true;
    if (t->mute) {
        t->mute = false;
        neap_err_set(&err, NEAP_E_CANCELLED, "reading was stopped");
        t->got(t->got_arg, NULL, -1, &err);
        neap_err_close(&err);
    }
    if (!t->freed) neap_stream_stop(t->in);
    if (!t->freed) neap_stream_stop(t->out);
    t->stopping = outer;
    if (t->freed && !outer) destroy(t);
}

static void talk_free(neap_stream *s) {
    ((talk *)s)->got = NULL;
    drop((talk *)s);
}

static const neap_stream_class talk_class = {"ssh", talk_read, talk_write, talk_shut, talk_stop, talk_free};

/* Dialing ------------------------------------------------------------------------------------------ */

static void tell(talk *t, neap_stream *stream, const neap_err *err) {
    neap_dial_fn done = t->done;
    t->done = NULL;
    done(t->arg, stream, err);
}

static void on_channel(void *arg) {
    talk *t = arg;
    t->out = neap_attached_stream(t->attached, 1);
    t->said_by = neap_attached_stream(t->attached, 2);
    neap_stream_read(t->said_by, PIECE, on_said, t);
}

static void on_begun(void *arg) {
    talk *t = arg;
    t->in = neap_attached_stream(t->attached, 0);
    if (t->in) tell(t, &t->stream, NULL);
}

/* After it was handed out, the stream's own end says so. */
static void on_ended(void *arg, const neap_remote_end *end, const neap_err *err) {
    talk *t = arg;
    neap_err why = NEAP_ERR_INIT;
    (void)end;
    if (!t->done) return;
    if (!err) say_why(t, &why);
    tell(t, NULL, err ? err : &why);
    neap_err_close(&why);
    drop(t);
}

static void on_started(void *arg, long long pid, long long started) { (void)arg, (void)pid, (void)started; }

static void stdio_cancel(neap_dialing *p) { drop((talk *)((char *)p - offsetof(talk, dialing))); }

static neap_dialing *stdio_dial(neap_dialer *dialer, neap_dial_fn done, void *arg);

static void stdio_free(neap_dialer *dialer) {
    stdio_dialer *d = (stdio_dialer *)dialer;
    neap_ssh_link_release(d->link);
    free(d->sudo);
    free(d->dialer.label);
    free(d);
}

static const neap_dialer_class stdio_class = {"command", stdio_dial, stdio_cancel, stdio_free};

static neap_dialing *stdio_dial(neap_dialer *dialer, neap_dial_fn done, void *arg) {
    static const neap_attached_events events = {on_channel, on_started, on_begun, on_ended};
    stdio_dialer *d = (stdio_dialer *)dialer;
    talk *t = neap_zalloc(sizeof *t);
    *t = (talk){.stream.class = &talk_class, .dialing.class = &stdio_class, .from = d, .said = NEAP_BUF_INIT, .done = done, .arg = arg};
    neap_dialer_hold(dialer);
    t->command = (neap_remote_command){.argv = argv_of_docker, .sudo = d->sudo};
    t->names = (neap_remote_names){.place = neap_ssh_link_host(d->link)->name, .program = argv_of_docker[0], .sudo = d->sudo,
                                   .user = neap_ssh_link_host(d->link)->user};
    t->attached = neap_attached_new(d->link, &t->command, true, &t->names, &events, t);
    return &t->dialing;
}

neap_dialer *neap_ssh_link_dial_docker(neap_ssh_link *l, const char *sudo) {
    stdio_dialer *d = neap_zalloc(sizeof *d);
    d->dialer = (neap_dialer){&stdio_class, neap_ssh_link_loop(l), 1, neap_asprintf("%s, docker system dial-stdio", neap_ssh_link_host(l)->name)};
    d->link = neap_ssh_link_hold(l);
    d->sudo = sudo ? neap_strdup(sudo) : NULL;
    return &d->dialer;
}
