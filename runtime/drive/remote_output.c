/* remote_output.c -- see remote_output.h.
 *
 *     OPEN ──the last word──► WHOLE                                           end
 *       └──`below` ends──► CUT ──told that the command has ended──► error
 *                           └──told anything else──► end
 *
 * stderr, by which the end is told, and stdout overtake each other, so the end of `below` is held back until it is known what it
 * means. Bytes without a mark pass as they came; the others are copied once. Rejected: to trust the end of the stream where the back end is
 * libssh2, which knows a channel's end from a connection's. What is left behind keeps that open too. */
#include "drive/remote_output.h"

#include <stdlib.h>
#include <string.h>

#include "drive/remote_filter.h"
#include "drive/remote_script.h"
#include "loop/timer.h"

enum { MARK = 0x1e, BEFORE_SIZE = 4096 };

struct neap_remote_output {
    neap_stream stream;              /* first */
    neap_stream *below;
    neap_remote_output **slot;       /* NULL: told, or its owner is gone */
    const char *place;
    neap_remote_filter filter;
    neap_buf plain;                  /* came, and was not given yet */
    size_t own;                      /* behind this much of it came the last word */
    bool marks, begun, whole, cut, asked;              /* asked: `below` is being read */
    neap_err err;                    /* how it was cut */
    neap_stream_read_fn got;
    void *arg;
    size_t most;
    neap_timer *soon;
};

static void answer(neap_remote_output *o, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = o->got;
    o->got = NULL;
    got(o->arg, data, len, err);                     /* may free it */
}

static void ask(neap_remote_output *o);

/* Give what there is, or ask for more. */
static void serve(void *arg) {
    neap_remote_output *o = arg;
    if (!o->got) return;
    if (o->plain.len) {
        neap_buf piece = o->plain;
        size_t len = piece.len < o->most ? piece.len : o->most;
        o->plain = (neap_buf)NEAP_BUF_INIT;
        neap_buf_add(&o->plain, piece.data + len, piece.len - len);
        answer(o, piece.data, (ssize_t)len, NULL);
        neap_buf_close(&piece);
    } else if (o->whole) {
        answer(o, NULL, 0, NULL);
    } else if (!o->cut) {
        ask(o);
    } else if (o->err.code) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_copy(&err, &o->err);
        answer(o, NULL, -1, &err);
        neap_err_close(&err);
    } else if (!o->slot) {
        answer(o, NULL, 0, NULL);
    }
}

static void on_word(void *arg, const char *word, size_t len) {
    neap_remote_output *o = arg;
    neap_remote_verb verb = neap_remote_read_word(word, len).verb;
    if (!o->begun && verb == NEAP_WORD_BEGINS) {
        o->begun = true;
        neap_buf_clear(&o->plain);
    }
    if (o->whole || verb != NEAP_WORD_WHOLE) return;
    o->whole = true;
    o->own = o->plain.len;
}

static void on_below(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_remote_output *o = arg;
    o->asked = false;
    if (len < 0 && err->code == NEAP_E_CANCELLED) {
        if (o->got) answer(o, NULL, -1, err);
        return;
    }
    if (len > 0 && o->begun && o->got && !o->filter.len && !memchr(data, MARK, (size_t)len)) {
        answer(o, data, len, NULL);
        return;
    }
    if (len > 0) neap_remote_filter_add(&o->filter, &o->plain, data, (size_t)len);
    else neap_remote_filter_end(&o->filter, &o->plain);
    if (o->whole) neap_buf_cut(&o->plain, o->own);
    if (!o->begun) neap_buf_clear(&o->plain);
    o->whole = o->whole || (len == 0 && !o->marks);
    o->cut = len <= 0 && !o->whole;
    if (len < 0) neap_err_keep(&o->err, err);
    serve(o);
}

static void ask(neap_remote_output *o) {
    if (o->asked) return;
    o->asked = true;
    neap_stream_read(o->below, o->begun ? o->most : BEFORE_SIZE, on_below, o);
}

static void output_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    neap_remote_output *o = (neap_remote_output *)s;
    o->most = most ? most : 1;
    o->got = got;
    o->arg = arg;
    if (o->plain.len) neap_timer_start(o->soon, 0);
    else serve(o);
}

static void output_stop(neap_stream *s) {
    neap_remote_output *o = (neap_remote_output *)s;
    neap_err err = NEAP_ERR_INIT;
    neap_timer_stop(o->soon);
    if (o->asked) { neap_stream_stop(o->below); return; }
    if (!o->got) return;
    neap_err_set(&err, NEAP_E_CANCELLED, "reading was stopped");
    answer(o, NULL, -1, &err);
    neap_err_close(&err);
}

static void output_free(neap_stream *s) {
    neap_remote_output *o = (neap_remote_output *)s;
    o->got = NULL;
    if (o->slot) *o->slot = NULL;
    neap_stream_free(o->below);
    neap_timer_free(o->soon);
    neap_buf_wipe(&o->plain);
    neap_err_close(&o->err);
    free(o);
}

static const neap_stream_class output_class = {"remote stdout", output_read, neap_stream_write_refused, neap_stream_shut_nothing, output_stop, output_free};

neap_remote_output *neap_remote_output_new(neap_loop *loop, neap_stream *below, const char *nonce, bool marks, const char *place, neap_remote_output **slot) {
    neap_remote_output *o = neap_zalloc(sizeof *o);
    *o = (neap_remote_output){.stream = {&output_class}, .below = below, .marks = marks, .slot = slot, .place = place, .plain = NEAP_BUF_INIT, .err = NEAP_ERR_INIT};
    neap_remote_filter_init(&o->filter, nonce, on_word, o);
    o->soon = neap_timer_new(loop, serve, o);
    return o;
}

neap_stream *neap_remote_output_stream(neap_remote_output *o) { return &o->stream; }

static void let_know(neap_remote_output *o) {
    *o->slot = NULL;
    o->slot = NULL;
    if (o->cut && o->got) neap_timer_start(o->soon, 0);
}

void neap_remote_output_told(neap_remote_output *o, bool ended) {
    if (ended && o->marks && !o->whole && !o->err.code)
        neap_err_set(&o->err, NEAP_E_CLOSED, "the connection to \"%s\" was lost before all that the command printed had come", o->place);
    let_know(o);
}

void neap_remote_output_left(neap_remote_output *o) {
    if (o->cut && !o->err.code) neap_err_set(&o->err, NEAP_E_CLOSED, "the command was closed");
    let_know(o);
}
