/* http_stream.c -- the body of an answer as a stream: libcurl is held back when nobody reads, so memory does not grow.
 *
 *     head whole ──► on_head(stream) ──► reads … ──► end, or an error when the body was cut
 *
 * Bytes lie in the answer's body, at most HTTP_STREAM_KEPT of them, until they are read. The stream owns the request from then on. */
#include "drive/http_private.h"

#include <stdlib.h>

struct http_body {
    neap_stream stream;           /* first */
    neap_http_request *request;
    neap_stream_read_fn got;      /* NULL: nobody reads */
    void *arg;
    size_t most;
    neap_timer *later;            /* bytes that were there already are told from the loop */
    bool ended;
    neap_err err;                 /* why it ended, when that was no end */
};

static void tell_end(http_body *b) {
    neap_stream_read_fn got = b->got;
    neap_err err = NEAP_ERR_INIT;                        /* a copy: the reader may free us */
    neap_err_keep(&err, &b->err);
    b->got = NULL;
    got(b->arg, NULL, err.code ? -1 : 0, err.code ? &err : NULL);
    neap_err_close(&err);
}

static void resume(neap_http_request *r) {
    if (!r->paused || !r->easy) return;
    r->paused = false;
    curl_easy_pause(r->easy, CURLPAUSE_CONT);
}

/* Give the reader what is there. */
static void serve(http_body *b) {
    neap_buf *kept = &b->request->answer.body;
    if (!b->got) return;
    if (!kept->len) {
        if (b->ended) tell_end(b);
        return;
    }
    neap_buf piece = *kept;                              /* the reader may free us, not what it is reading */
    *kept = (neap_buf)NEAP_BUF_INIT;
    size_t len = piece.len < b->most ? piece.len : b->most;
    if (len < piece.len) neap_buf_add(kept, piece.data + len, piece.len - len);
    neap_stream_read_fn got = b->got;
    b->got = NULL;
    resume(b->request);
    got(b->arg, piece.data, (ssize_t)len, NULL);
    neap_buf_close(&piece);
}

static void on_later(void *arg) {
    http_body *b = arg;
    neap_timer_free(b->later);
    b->later = NULL;
    serve(b);
}

static void body_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    http_body *b = (http_body *)s;
    b->got = got;
    b->arg = arg;
    b->most = most ? most : 1;
    bool waits = b->request->answer.body.len || b->ended;
    if (!waits || b->later) return;
    b->later = neap_timer_new(b->request->http->loop, on_later, b);
    neap_timer_start(b->later, 0);
}

static void body_stop(neap_stream *s) {
    http_body *b = (http_body *)s;
    neap_stream_read_fn got = b->got;
    if (!got) return;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CANCELLED, "stopped");
    b->got = NULL;
    got(b->arg, NULL, -1, &err);
    neap_err_close(&err);
}

static void body_free(neap_stream *s) {
    http_body *b = (http_body *)s;
    neap_timer_free(b->later);
    neap_http_request_free(b->request);
    neap_err_close(&b->err);
    free(b);
}

static const neap_stream_class body_class = {"http", body_read, neap_stream_write_refused, neap_stream_shut_refused, body_stop, body_free};

void http_stream_news(neap_http_request *r) {
    if (!r->whole_head || http_is_hop(r)) {
        neap_buf_clear(&r->answer.body);                 /* of a redirect: nobody wants it */
        resume(r);
        return;
    }
    if (r->stream) {
        serve(r->stream);
        return;
    }
    http_body *b = neap_zalloc(sizeof *b);
    b->stream.class = &body_class;
    b->request = r;
    b->err = (neap_err)NEAP_ERR_INIT;
    r->stream = b;
    neap_timer_free(r->late);                            /* the deadline was for the head */
    r->late = NULL;
    r->on_head(r->arg, &r->answer, &b->stream, NULL);
}

void http_stream_end(neap_http_request *r, const neap_err *err) {
    http_body *b = r->stream;
    b->ended = true;
    if (err) {
        neap_err_set(&b->err, err->code, "%s", err->message);
        b->err.retry = err->retry;
    }
    serve(b);
}
