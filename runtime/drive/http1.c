/* http1.c -- see http1.h.
 *
 * Bytes are read from the connection in pieces and offered to the parser; what the parser has not taken when it tells of something is
 * kept in `rest` and offered first the next time. Body bytes are handed to the reader where they lie in the piece, so a body of a
 * gigabyte is copied once, by the kernel; only what is behind a head or larger than was asked for waits in `rest`.
 *
 * Callbacks may free the exchange. Whoever calls one looks afterwards only at what it holds itself: `holds` keeps the memory until
 * the last frame that uses it has returned. */
#include "drive/http1.h"

#include <stdlib.h>
#include <string.h>

#include "loop/timer.h"

enum { PIECE_SIZE = 256 * 1024 };                     /* what is not filled costs no memory */

struct neap_http1 {
    neap_stream face;                 /* first: what neap_http1_stream gives */
    neap_dialer *dialer;
    neap_dialing *dialing;            /* NULL: not under way */
    neap_stream *wire;                /* NULL: not there yet, or given up */
    neap_http1_parse parse;
    neap_http1_head_fn on_head;       /* NULL: told */
    void *arg;
    neap_buf out, rest;               /* the request; what the parser has not seen yet */
    bool sending, writing, reading, stopping, freed;
    bool offering;                    /* bytes are being taken apart; a stream may answer at once, and its end must not overtake them */
    bool over;                        /* nothing more will come: the end, or `failure` */
    neap_err failure;
    int holds;

    neap_stream_read_fn got;          /* the reader of the body; NULL: nobody waits */
    void *got_arg;
    size_t most;
    neap_timer *turn;                 /* to answer from the loop what is there already */
    neap_timer *late;                 /* the dial, or the head, takes too long */
    int64_t head_ms;

    neap_buf chunk;                   /* a piece of the body that waits for the connection */
    neap_stream_done_fn wrote;
    void *wrote_arg;
};

static const neap_stream_class face_class;

static void release(neap_http1 *h) {
    if (--h->holds) return;
    neap_http1_parse_close(&h->parse);
    neap_buf_wipe(&h->out);
    neap_buf_wipe(&h->rest);
    neap_buf_wipe(&h->chunk);
    neap_err_close(&h->failure);
    neap_dialer_release(h->dialer);
    free(h);
}

void neap_http1_free(neap_http1 *h) {
    if (!h || h->freed) return;
    h->freed = true;
    h->on_head = NULL;
    h->got = NULL;
    h->wrote = NULL;
    if (h->dialing) neap_dial_cancel(h->dialing);
    h->dialing = NULL;
    neap_timer_free(h->turn), neap_timer_free(h->late);
    h->turn = h->late = NULL;
    neap_stream *wire = h->wire;
    h->wire = NULL;
    neap_stream_free(wire);
    release(h);
}

/* Answers. Each takes the caller off its slot first. ------------------------------------------------ */

static void tell_head(neap_http1 *h, const neap_err *err) {
    neap_http1_head_fn on_head = h->on_head;
    h->on_head = NULL;
    if (h->late) neap_timer_stop(h->late);
    if (on_head) on_head(h->arg, err);
}

static void tell_written(neap_http1 *h, const neap_err *err) {
    neap_stream_done_fn wrote = h->wrote;
    h->wrote = NULL;
    if (wrote) wrote(h->wrote_arg, err);
}

static void tell_read(neap_http1 *h, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = h->got;
    h->got = NULL;
    if (got) got(h->got_arg, data, len, err);
}

/* Nothing more can come. Everybody who waits hears the same. */
static void fail(neap_http1 *h, const neap_err *err) {
    h->holds++;
    h->over = true;
    if (!h->failure.code) neap_err_set(&h->failure, err->code, "%s", err->message);
    if (h->on_head) tell_head(h, err);
    else tell_read(h, NULL, -1, err);
    if (!h->freed) tell_written(h, err);
    release(h);
}

static void fail_protocol(neap_http1 *h) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_PROTOCOL, "%s: %s", h->dialer->label, h->parse.why);
    fail(h, &err);
    neap_err_close(&err);
}

/* It was there and is no more: whether the request arrived, nobody can say. */
static void lose(neap_http1 *h, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "%s: %s", h->dialer->label, why);
    fail(h, &err);
    neap_err_close(&err);
}

/* Reading ------------------------------------------------------------------------------------------ */

static void pump(neap_http1 *h);

/* Offer bytes until somebody was told something or they are used up. Returns how many were taken. */
static size_t offer(neap_http1 *h, const char *data, size_t len) {
    neap_http1_event event = NEAP_HTTP1_MORE;
    if (!h->on_head && h->got && h->most < len) len = h->most;
    if (h->parse.status == 101 && !h->on_head) {                       /* no HTTP any more */
        tell_read(h, data, (ssize_t)len, NULL);
        return len;
    }
    size_t took = neap_http1_step(&h->parse, data, len, &event);
    switch (event) {
    case NEAP_HTTP1_MORE: break;
    case NEAP_HTTP1_GOT_HEAD: tell_head(h, NULL); break;
    case NEAP_HTTP1_BODY: tell_read(h, h->parse.body, (ssize_t)h->parse.body_len, NULL); break;
    case NEAP_HTTP1_END: case NEAP_HTTP1_UPGRADED: h->over = true; tell_read(h, NULL, 0, NULL); break;
    case NEAP_HTTP1_BAD: fail_protocol(h); break;
    }
    return took;
}

static bool is_wanted(const neap_http1 *h) { return !h->freed && !h->over && (h->on_head || h->got); }

/* Everything in `rest`, as long as somebody asks. The buffer is taken out, because who is told may ask again at once. */
static void offer_rest(neap_http1 *h) {
    while (is_wanted(h) && h->rest.len) {
        neap_buf piece = h->rest;
        h->rest = (neap_buf)NEAP_BUF_INIT;
        h->offering = true;
        size_t took = offer(h, piece.data, piece.len);
        h->offering = false;
        neap_buf_drop(&piece, took);
        neap_buf_add(&piece, h->rest.data ? h->rest.data : "", h->rest.len);
        neap_buf_close(&h->rest);
        h->rest = piece;
    }
}

static void on_piece(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_http1 *h = arg;
    h->reading = false;
    if (h->stopping) return;                         /* face_stop tells its reader itself */
    h->holds++;
    if (len < 0) {
        lose(h, err->message);
    } else if (len == 0 && h->parse.status == 101 && !h->on_head) {
        h->over = true;
        tell_read(h, NULL, 0, NULL);
    } else if (len == 0) {
        neap_http1_event event = neap_http1_step_end(&h->parse);
        if (event == NEAP_HTTP1_BAD) lose(h, h->parse.why);
        else h->over = true, tell_read(h, NULL, 0, NULL);
    } else {
        size_t took = 0;
        h->offering = true;
        while (is_wanted(h) && took < (size_t)len) took += offer(h, data + took, (size_t)len - took);
        h->offering = false;
        if (!h->freed && took < (size_t)len) neap_buf_add(&h->rest, data + took, (size_t)len - took);
    }
    pump(h);
    release(h);
}

/* Read on when somebody waits. A body of no length ends without another byte. */
static void pump(neap_http1 *h) {
    if (h->offering) return;                         /* who offers looks again afterwards */
    h->holds++;
    offer_rest(h);
    if (is_wanted(h) && !h->rest.len && !h->on_head && h->parse.status != 101) offer(h, "", 0);
    if (is_wanted(h) && h->wire && !h->reading) {
        h->reading = true;
        neap_stream_read(h->wire, PIECE_SIZE, on_piece, h);
    }
    release(h);
}

/* Sending ------------------------------------------------------------------------------------------ */

static void send_chunk(neap_http1 *h);

/* A server that has read enough may have answered and closed: the answer is what counts, so a failed write of the request only
 * matters when no head comes, and then the reader says so. */
static void on_sent(void *arg, const neap_err *err) {
    neap_http1 *h = arg;
    (void)err;
    h->sending = false;
    neap_buf_wipe(&h->out);
    if (h->wrote && !h->writing) send_chunk(h);
}

static void on_chunk_sent(void *arg, const neap_err *err) {
    neap_http1 *h = arg;
    h->writing = false;
    neap_buf_clear(&h->chunk);
    tell_written(h, err);
}

static void send_chunk(neap_http1 *h) {
    h->writing = true;
    neap_stream_write(h->wire, h->chunk.data, h->chunk.len, on_chunk_sent, h);
}

void neap_http1_write(neap_http1 *h, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    h->wrote = done;
    h->wrote_arg = arg;
    neap_buf_clear(&h->chunk);
    neap_buf_addf(&h->chunk, "%zx\r\n", len);
    neap_buf_add(&h->chunk, data, len);
    neap_buf_adds(&h->chunk, "\r\n");
    if (h->wire && !h->sending) send_chunk(h);
}

static void write_request(neap_http1 *h, const neap_http1_request *r) {
    neap_buf *out = &h->out;
    neap_buf_addf(out, "%s %s HTTP/1.1\r\nHost: docker\r\nUser-Agent: neap/" NEAP_VERSION "\r\n", r->method, r->target);
    neap_buf_adds(out, r->upgrade ? "Connection: Upgrade\r\nUpgrade: tcp\r\n" : "Connection: close\r\n");
    if (r->type) neap_buf_addf(out, "Content-Type: %s\r\n", r->type);
    if (r->chunked) neap_buf_adds(out, "Transfer-Encoding: chunked\r\n");
    else if (r->body || strcmp(r->method, "GET") != 0) neap_buf_addf(out, "Content-Length: %zu\r\n", r->body_len);
    neap_buf_adds(out, "\r\n");
    if (r->body) neap_buf_add(out, r->body, r->body_len);
}

static void on_dialed(void *arg, neap_stream *wire, const neap_err *err) {
    neap_http1 *h = arg;
    h->dialing = NULL;
    h->holds++;
    if (err) {
        fail(h, err);
    } else {
        h->wire = wire;
        h->sending = true;
        if (!h->head_ms) neap_timer_stop(h->late);
        neap_stream_write(wire, h->out.data, h->out.len, on_sent, h);
        pump(h);
    }
    release(h);
}

static void on_turn(void *arg) { pump(arg); }

static void on_late(void *arg) {
    neap_http1 *h = arg;
    neap_err err = NEAP_ERR_INIT;
    if (h->dialing) neap_dial_cancel(h->dialing);
    h->dialing = NULL;
    neap_err_set(&err, NEAP_E_UNREACHABLE, "%s does not answer within %lld s", h->dialer->label, (long long)(h->head_ms ? h->head_ms : NEAP_HTTP1_DIAL_MS) / 1000);
    fail(h, &err);
    neap_err_close(&err);
}

neap_http1 *neap_http1_start(neap_dialer *d, const neap_http1_request *r, neap_http1_head_fn on_head, void *arg) {
    neap_http1 *h = neap_zalloc(sizeof *h);
    h->face.class = &face_class;
    h->holds = 1;
    h->failure = (neap_err)NEAP_ERR_INIT;
    h->dialer = neap_dialer_hold(d);
    h->on_head = on_head;
    h->arg = arg;
    h->turn = neap_timer_new(d->loop, on_turn, h);
    h->late = neap_timer_new(d->loop, on_late, h);
    h->head_ms = r->head_ms;
    neap_timer_start(h->late, r->head_ms ? r->head_ms : NEAP_HTTP1_DIAL_MS);
    neap_http1_parse_init(&h->parse, strcmp(r->method, "HEAD") == 0);
    write_request(h, r);
    h->dialing = neap_dial(d, on_dialed, h);
    return h;
}

const neap_http1_parse *neap_http1_head(const neap_http1 *h) { return &h->parse; }

/* The stream --------------------------------------------------------------------------------------- */

neap_stream *neap_http1_stream(neap_http1 *h) { return &h->face; }

static void face_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    neap_http1 *h = (neap_http1 *)s;
    h->got = got;
    h->got_arg = arg;
    h->most = most ? most : 1;
    if (h->over) tell_read(h, NULL, h->failure.code ? -1 : 0, h->failure.code ? &h->failure : NULL);
    else if (h->rest.len) neap_timer_start(h->turn, 0);
    else pump(h);
}

static void face_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_http1 *h = (neap_http1 *)s;
    if (h->parse.status == 101) neap_stream_write(h->wire, data, len, done, arg);
    else neap_stream_write_refused(s, data, len, done, arg);
}

static void face_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    neap_http1 *h = (neap_http1 *)s;
    if (h->parse.status == 101) neap_stream_shut(h->wire, done, arg);
    else done(arg, NULL);
}

static void face_stop(neap_stream *s) {
    neap_http1 *h = (neap_http1 *)s;
    neap_err err = NEAP_ERR_INIT;
    h->holds++;
    h->stopping = true;
    if (h->wire) neap_stream_stop(h->wire);
    h->stopping = false;
    neap_err_set(&err, NEAP_E_CANCELLED, "reading was stopped");
    tell_read(h, NULL, -1, &err);
    neap_err_close(&err);
    release(h);
}

static void face_free(neap_stream *s) { neap_http1_free((neap_http1 *)s); }

static const neap_stream_class face_class = {"http", face_read, face_write, face_shut, face_stop, face_free};
