/* tls.c -- a TLS session as a byte stream over another byte stream.
 *
 *     SHAKING --handshake--> OPEN --close_notify from there--> ended for reading, still writable
 *        \--flaw, end, error--> done(err)      \--error, or the stream below ends without close_notify--> BROKEN (final)
 *
 * OpenSSL sees two memory BIOs and never a socket: what comes from below is put into one, what it wants sent is taken from the other.
 * So nothing here blocks, and "want write" does not exist: a write is encrypted whole, and is done when the stream below has taken it.
 * At most one read and one write are under way below.
 *
 * One piece is read ahead even when nobody reads: a server sends tickets unasked, and a socket that is closed over unread bytes is
 * reset by the kernel, which throws away what we had written last.
 *
 * A reader is called from the loop; bytes that were decrypted already wait for a timer of 0 ms. A callback may free the stream:
 * `busy` counts how deep we are in calls that touch it afterwards.
 *
 * Rejected: a socket BIO (there is none under an SSH channel), and a thread per session.
 */
#include "drive/tls_private.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "base/buf.h"
#include "loop/timer.h"

enum { PIECE_SIZE = 64 * 1024, PIECE_MOST = 256 * 1024 };

typedef struct session {
    neap_stream stream;            /* first */
    neap_dialing dialing;          /* while SHAKING */
    neap_stream *below;
    neap_tls_verdict verdict;      /* holds the settings */
    SSL *ssl;
    BIO *in, *out;                 /* the session's own */
    neap_timer *soon;
    enum { SHAKING, OPEN, BROKEN } state;
    bool reading, writing;         /* below */
    bool cut, ended, shut;         /* below has ended; its close_notify came; ours was made */
    bool drained;                  /* the session has nothing for a reader until more comes from below */
    bool freed;
    int busy;
    neap_err err;                  /* why BROKEN */
    neap_dial_fn opened;
    void *opened_arg;
    neap_stream_read_fn got;       /* NULL: no read pending */
    void *got_arg;
    char *piece;
    size_t most, room;
    neap_stream_done_fn done;      /* NULL: neither write nor shut pending */
    void *done_arg;
} session;

static void destroy(session *s) {
    SSL_free(s->ssl);
    neap_timer_free(s->soon);
    neap_tls_release(s->verdict.tls);
    neap_err_close(&s->verdict.flaw);
    neap_err_close(&s->err);
    free(s->piece);
    free(s);
}

static void leave(session *s) {
    if (--s->busy == 0 && s->freed) destroy(s);
}

/* What the stream below still had pending calls back while it is freed. */
static void give_up(session *s) {
    s->busy++;
    s->freed = true;
    neap_stream_free(s->below);
    leave(s);
}

static void answer_read(session *s, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = s->got;
    s->got = NULL;
    if (got) got(s->got_arg, data, len, err);
}

static void answer_done(session *s, const neap_err *err) {
    neap_stream_done_fn done = s->done;
    s->done = NULL;
    if (done) done(s->done_arg, err);
}

static void want_more(session *s);
static void read_ahead(session *s);
static void flush(session *s);

/* `err` is moved. The reader hears of it when it has read what came before. */
static void break_session(session *s, neap_err *err) {
    if (s->state != BROKEN) neap_err_move(&s->err, err);
    else neap_err_close(err);
    s->state = BROKEN;
    answer_done(s, &s->err);
}

/* Reading ------------------------------------------------------------------------------------ */

/* Only when there is something to decrypt: a reader that asks again from its callback still looks at the last piece. */
static void make_room(session *s) {
    if (s->room >= s->most || s->drained || s->ended) return;
    free(s->piece);
    s->piece = neap_alloc(s->most);
    s->room = s->most;
}

/* As much as was decrypted, up to what the reader asked for. */
static size_t fill(session *s) {
    size_t len = 0;
    neap_err err = NEAP_ERR_INIT;
    ERR_clear_error();
    make_room(s);
    while (len < s->most && !s->ended && !s->drained) {
        int n = SSL_read(s->ssl, s->piece + len, (int)(s->most - len)), why = n > 0 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, n);
        if (n > 0) len += (size_t)n;
        else if (why == SSL_ERROR_WANT_READ) s->drained = true;
        else if (why == SSL_ERROR_ZERO_RETURN) s->ended = true;
        else {
            s->drained = true;
            neap_tls_explain(&s->verdict, &err);
            break_session(s, &err);
        }
    }
    return len;
}

static void deliver(session *s) {
    neap_err err = NEAP_ERR_INIT;
    if (!s->got || s->freed) return;
    size_t len = s->state == BROKEN && s->drained ? 0 : fill(s);
    flush(s);                                      /* an answer of the protocol's own */
    if (s->freed) return;
    if (s->drained && s->cut && !s->ended && s->state == OPEN) {
        neap_err_set(&err, NEAP_E_CLOSED, "the connection was cut off: it ended without TLS saying so");
        break_session(s, &err);
    }
    if (len) answer_read(s, s->piece, (ssize_t)len, NULL);
    else if (s->ended) answer_read(s, NULL, 0, NULL);
    else if (s->state == BROKEN) answer_read(s, NULL, -1, &s->err);
    else want_more(s);
    read_ahead(s);
}

static void tls_read(neap_stream *stream, size_t most, neap_stream_read_fn got, void *arg) {
    session *s = (session *)stream;
    s->got = got;
    s->got_arg = arg;
    s->most = most && most < PIECE_MOST ? most : PIECE_MOST;
    s->busy++;
    if (s->drained || s->ended) deliver(s);
    else neap_timer_start(s->soon, 0);             /* bytes come from the loop */
    leave(s);
}

/* The handshake ------------------------------------------------------------------------------ */

static void refuse(session *s, const neap_err *err) {
    neap_dial_fn opened = s->opened;
    void *arg = s->opened_arg;
    s->opened = NULL;
    give_up(s);                                    /* memory stays: the caller is busy with it */
    opened(arg, NULL, err);
}

static void shake(session *s) {
    neap_err err = NEAP_ERR_INIT;
    if (!s->ssl) {
        neap_err_set(&err, NEAP_E_MEMORY, "there is no memory for a TLS session");
        refuse(s, &err);
        neap_err_close(&err);
        return;
    }
    ERR_clear_error();
    int n = SSL_do_handshake(s->ssl), why = n == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, n);
    flush(s);                                      /* our part of it, or the alert that says why not */
    if (s->freed || s->state == BROKEN) return;
    if (n == 1) {
        s->state = OPEN;
        s->opened(s->opened_arg, &s->stream, NULL);
        read_ahead(s);
        return;
    }
    if (why == SSL_ERROR_WANT_READ && !s->cut) { want_more(s); return; }
    if (why == SSL_ERROR_WANT_READ) neap_err_set(&err, NEAP_E_CLOSED, "the connection ended during the TLS handshake");
    else neap_tls_explain(&s->verdict, &err);
    refuse(s, &err);
    neap_err_close(&err);
}

/* Below -------------------------------------------------------------------------------------- */

static void lose(session *s, const neap_err *err) {
    neap_err why = NEAP_ERR_INIT;
    neap_err_set(&why, err->code, s->state == SHAKING ? "the connection ended during the TLS handshake: %s" : "%s", err->message);
    if (s->state != SHAKING) {
        break_session(s, &why);
        return;
    }
    s->state = BROKEN;
    refuse(s, &why);
    neap_err_close(&why);
}

static void on_read(void *arg, const char *data, ssize_t len, const neap_err *err) {
    session *s = arg;
    s->reading = false;
    if (s->freed) return;
    s->busy++;
    if (len > 0) BIO_write(s->in, data, (int)len);
    if (len > 0) s->drained = false;
    if (len == 0) s->cut = true;
    if (len < 0) lose(s, err);
    if (s->freed) {}
    else if (s->state == SHAKING) shake(s);
    else deliver(s);
    read_ahead(s);
    leave(s);
}

static void want_more(session *s) {
    if (s->reading || s->cut) return;
    s->reading = true;
    neap_stream_read(s->below, PIECE_SIZE, on_read, s);
}

static void on_written(void *arg, const neap_err *err) {
    session *s = arg;
    s->writing = false;
    if (s->freed) return;
    s->busy++;
    if (err) lose(s, err);
    else if (BIO_pending(s->out)) flush(s);
    else answer_done(s, NULL);
    if (!s->freed && s->state == BROKEN) deliver(s);
    leave(s);
}

static void read_ahead(session *s) {
    if (!s->freed && s->state == OPEN && BIO_pending(s->in) < PIECE_SIZE) want_more(s);
}

static void flush(session *s) {
    char *bytes;
    long len = BIO_get_mem_data(s->out, &bytes);
    if (s->writing || len <= 0 || s->freed || s->state == BROKEN) return;
    s->writing = true;
    s->busy++;
    BIO *out = s->out;
    neap_stream_write(s->below, bytes, (size_t)len, on_written, s);
    BIO_reset(out);                                /* the stream below has its copy */
    leave(s);
}

/* Writing ------------------------------------------------------------------------------------ */

static void tls_write(neap_stream *stream, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    session *s = (session *)stream;
    neap_err err = NEAP_ERR_INIT;
    s->done = done;
    s->done_arg = arg;
    s->busy++;
    ERR_clear_error();
    if (s->shut && s->state == OPEN) {
        neap_err_set(&err, NEAP_E_CLOSED, "the stream was shut before");
        answer_done(s, &err);
        neap_err_close(&err);
    } else if (s->state == BROKEN) {
        answer_done(s, &s->err);
    } else if (!len) {
        neap_timer_start(s->soon, 0);
    } else if (SSL_write(s->ssl, data, (int)len) > 0) {
        flush(s);
    } else {
        neap_tls_explain(&s->verdict, &err);
        break_session(s, &err);
    }
    leave(s);
}

static void tls_shut(neap_stream *stream, neap_stream_done_fn done, void *arg) {
    session *s = (session *)stream;
    s->done = done;
    s->done_arg = arg;
    s->busy++;
    ERR_clear_error();
    if (s->state != OPEN || s->shut) {
        answer_done(s, NULL);                      /* our side is closed either way */
    } else {
        s->shut = true;
        SSL_shutdown(s->ssl);
        ERR_clear_error();
        flush(s);
    }
    leave(s);
}

/* The first step of the handshake; a reader whose bytes were there; a write of nothing. */
static void on_soon(void *arg) {
    session *s = arg;
    s->busy++;
    if (s->state == SHAKING) shake(s);
    else {
        if (s->done && !s->writing && !BIO_pending(s->out)) answer_done(s, NULL);
        deliver(s);
    }
    leave(s);
}

/* Ends --------------------------------------------------------------------------------------- */

static void tls_stop(neap_stream *stream) {
    session *s = (session *)stream;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CANCELLED, "the stream was stopped");
    s->busy++;
    answer_read(s, NULL, -1, &err);
    answer_done(s, &err);
    neap_err_close(&err);
    leave(s);
}

static void tls_free(neap_stream *stream) {
    session *s = (session *)stream;
    s->busy++;
    tls_stop(stream);
    if (s->state == OPEN && !s->shut) SSL_shutdown(s->ssl);
    ERR_clear_error();
    flush(s);                                      /* the word of the end goes out when there is room for it */
    give_up(s);
    leave(s);
}

static const neap_stream_class tls_class = {"tls", tls_read, tls_write, tls_shut, tls_stop, tls_free};

static void open_cancel(neap_dialing *p) { give_up((session *)((char *)p - offsetof(session, dialing))); }

static const neap_dialer_class session_class = {.name = "tls", .cancel = open_cancel};

neap_dialing *neap_tls_open(neap_tls *t, neap_loop *loop, neap_stream *below, neap_dial_fn done, void *arg) {
    session *s = neap_zalloc(sizeof *s);
    s->stream.class = &tls_class;
    s->dialing.class = &session_class;
    s->below = below;
    s->verdict.tls = neap_tls_hold(t);
    s->ssl = neap_tls_session(&s->verdict);
    if (s->ssl) {
        s->in = BIO_new(BIO_s_mem());
        s->out = BIO_new(BIO_s_mem());
        SSL_set_bio(s->ssl, s->in, s->out);
    }
    s->soon = neap_timer_new(loop, on_soon, s);
    s->opened = done;
    s->opened_arg = arg;
    neap_timer_start(s->soon, 0);
    return &s->dialing;
}

void neap_tls_cancel(neap_dialing *p) { p->class->cancel(p); }

/* The dialer --------------------------------------------------------------------------------- */

typedef struct tls_dialer {
    neap_dialer dialer;            /* first */
    neap_dialer *below;
    neap_tls *tls;
} tls_dialer;

typedef struct tls_dialing {
    neap_dialing dialing;          /* first */
    neap_dialing *stage;           /* the dial below, then the handshake */
    neap_loop *loop;
    neap_tls *tls;
    neap_dial_fn done;
    void *arg;
} tls_dialing;

static const neap_dialer_class dialer_class;

static void end_dialing(tls_dialing *p) {
    neap_tls_release(p->tls);
    free(p);
}

static void on_opened(void *arg, neap_stream *stream, const neap_err *err) {
    tls_dialing *p = arg;
    neap_dial_fn done = p->done;
    void *to = p->arg;
    end_dialing(p);
    done(to, stream, err);
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    tls_dialing *p = arg;
    if (err) on_opened(p, NULL, err);
    else p->stage = neap_tls_open(p->tls, p->loop, stream, on_opened, p);
}

static neap_dialing *dial(neap_dialer *d, neap_dial_fn done, void *arg) {
    tls_dialer *t = (tls_dialer *)d;
    tls_dialing *p = neap_zalloc(sizeof *p);
    *p = (tls_dialing){.dialing = {&dialer_class}, .loop = d->loop, .tls = neap_tls_hold(t->tls), .done = done, .arg = arg};
    p->stage = neap_dial(t->below, on_dialed, p);
    return &p->dialing;
}

static void dial_cancel(neap_dialing *dialing) {
    tls_dialing *p = (tls_dialing *)dialing;
    neap_dial_cancel(p->stage);
    end_dialing(p);
}

static void dialer_free(neap_dialer *d) {
    tls_dialer *t = (tls_dialer *)d;
    neap_dialer_release(t->below);
    neap_tls_release(t->tls);
    free(d->label);
    free(t);
}

static const neap_dialer_class dialer_class = {"tls", dial, dial_cancel, dialer_free};

neap_dialer *neap_dialer_tls(neap_dialer *below, neap_tls *tls) {
    tls_dialer *t = neap_zalloc(sizeof *t);
    t->dialer = (neap_dialer){.class = &dialer_class, .loop = below->loop, .holds = 1, .label = neap_strdup(below->label)};
    t->below = neap_dialer_hold(below);
    t->tls = neap_tls_hold(tls);
    return &t->dialer;
}
