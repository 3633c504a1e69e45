/* ssh_native_lane.c -- a channel's streams.
 *
 * Reading: libssh2 is asked only while a reader asks. What comes meanwhile stays in its window (2 MiB), which is opened again by
 * reading alone, so a slow reader stops the far end and not more than a window is held. An output whose stream was freed is read and
 * forgotten: its command would hang otherwise.
 *
 * Writing: bytes are copied, because they may go away, and offered to libssh2 while the link has room; the writer is told when all
 * of them were taken. A stopped write forgets its caller; the bytes still go out, in order (as stream.c does it).
 *
 * When the connection is lost, what libssh2 had already decrypted is kept for the readers: the token that says how a command
 * ended may be in it. */
#include "drive/ssh_native.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_SIZE = 256 * 1024 };

static const neap_stream_class lane_class;

void neap_ssh_lane_init(neap_ssh_channel *c, int n, int source, bool writes) {
    c->lanes[n].stream.class = &lane_class;
    c->lanes[n].channel = c;
    c->lanes[n].source = source;
    c->lanes[n].writes = writes;
}

/* Answers: each takes the caller off first, so that the callback may ask again. */

static void answer_read(neap_ssh_lane *l, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = l->got;
    l->got = NULL;
    if (got) got(l->got_arg, data, len, err);
}

static void answer_done(neap_ssh_lane *l, const neap_err *err) {
    neap_stream_done_fn done = l->done;
    l->done = NULL;
    if (done) done(l->done_arg, err);
}

static void fail(neap_ssh_lane *l, bool reading, neap_code code, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, code, "%s", why);
    if (reading) answer_read(l, NULL, -1, &err);
    else answer_done(l, &err);
    neap_err_close(&err);
}

/* The stream's class --------------------------------------------------------------------------- */

static const char *why_over(const neap_ssh_channel *c) {
    return c->err.message ? c->err.message : "the channel is closed";
}

/* Nothing more will move: ended by the far end, dropped, or without a session. */
static bool is_over(const neap_ssh_channel *c) { return !c->session || c->dropped || c->state == NEAP_SSH_ENDS; }

static void kick(neap_ssh_channel *c) {
    if (c->session) neap_ssh_native_kick(c->session);
}

static void lane_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    neap_ssh_lane *l = (neap_ssh_lane *)s;
    neap_ssh_channel *c = l->channel;
    l->got = got;
    l->got_arg = arg;
    l->most = most ? most : 1;
    if (l->left.len) neap_timer_start(c->late, 0);
    else if (l->ended) answer_read(l, NULL, 0, NULL);
    else if (l->source < 0 || is_over(c)) fail(l, true, NEAP_E_CLOSED, why_over(c));
    else kick(c);
}

static void lane_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_ssh_lane *l = (neap_ssh_lane *)s;
    neap_ssh_channel *c = l->channel;
    l->done = done;
    l->done_arg = arg;
    if (!l->writes || is_over(c) || c->closed || c->eof_wanted) {
        fail(l, false, NEAP_E_CLOSED, c->eof_wanted ? "the stream was shut" : why_over(c));
        return;
    }
    neap_buf_add(&c->out, data, len);
    kick(c);
}

static void lane_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    neap_ssh_lane *l = (neap_ssh_lane *)s;
    neap_ssh_channel *c = l->channel;
    l->done = done;
    l->done_arg = arg;
    c->eof_wanted = c->eof_wanted || l->writes;
    if (!l->writes || c->eof_sent || c->closed || is_over(c)) answer_done(l, NULL);
    else kick(c);
}

static void lane_stop(neap_stream *s) {
    neap_ssh_lane *l = (neap_ssh_lane *)s;
    neap_ssh_channel *c = l->channel;
    c->holders++;                                    /* a callback may free the stream, the last that has a channel without a session */
    if (l->got) fail(l, true, NEAP_E_CANCELLED, "the read was stopped");
    if (l->done) fail(l, false, NEAP_E_CANCELLED, "the write was stopped");
    neap_ssh_channel_release(c);
}

static void lane_free(neap_stream *s) {
    neap_ssh_lane *l = (neap_ssh_lane *)s;
    neap_ssh_channel *c = l->channel;
    lane_stop(s);
    l->freed = true;
    c->eof_wanted = c->eof_wanted || l->writes;
    neap_buf_close(&l->left);
    kick(c);
    if (c->kind != NEAP_SSH_CHANNEL_EXEC) neap_ssh_channel_drop(c);
    neap_ssh_channel_release(c);
}

static const neap_stream_class lane_class = {"ssh", lane_read, lane_write, lane_shut, lane_stop, lane_free};

neap_stream *neap_ssh_channel_lane(neap_ssh_channel *c, int n) {
    neap_ssh_lane *l = &c->lanes[n];
    if (l->handed) return NULL;
    l->handed = true;
    c->holders++;
    return &l->stream;
}

/* Moving --------------------------------------------------------------------------------------- */

static char *piece_of(neap_ssh_native *s) {
    if (!s->piece) s->piece = neap_alloc(PIECE_SIZE);
    return s->piece;
}

static bool move_in(neap_ssh_channel *c, neap_ssh_lane *l) {
    char *piece = piece_of(c->session);
    while ((l->got || l->freed) && !l->ended && !c->dropped && c->lib) {
        size_t most = l->freed || l->most > PIECE_SIZE ? PIECE_SIZE : l->most;
        ssize_t n = libssh2_channel_read_ex(c->lib, l->source, piece, most);
        if (n == LIBSSH2_ERROR_EAGAIN) return true;
        if (neap_ssh_is_fatal((int)n)) {
            neap_ssh_native_fail_lib(c->session, (int)n, "the connection was lost to");
            return false;
        }
        if (n <= 0) l->ended = true;
        if (n > 0) answer_read(l, piece, n, NULL);
        else if (n == 0) answer_read(l, NULL, 0, NULL);
        else fail(l, true, NEAP_E_CLOSED, "the channel cannot be read");
    }
    return true;
}

static bool move_out(neap_ssh_channel *c) {
    neap_ssh_native *s = c->session;
    if (c->closed) return true;
    while (c->out_at < c->out.len && neap_ssh_link_queued(s->link) < NEAP_SSH_OUT_MOST) {
        ssize_t n = libssh2_channel_write_ex(c->lib, 0, c->out.data + c->out_at, c->out.len - c->out_at);
        if (n == LIBSSH2_ERROR_EAGAIN || n == 0) return true;
        if (neap_ssh_is_fatal((int)n)) {
            neap_ssh_native_fail_lib(s, (int)n, "the connection was lost to");
            return false;
        }
        if (n < 0) { c->out_at = c->out.len; break; }
        c->out_at += (size_t)n;
    }
    if (c->out_at < c->out.len) return true;
    neap_buf_clear(&c->out);
    c->out_at = 0;
    if (c->eof_wanted && !c->eof_sent) {
        int rc = libssh2_channel_send_eof(c->lib);
        c->eof_sent = rc != LIBSSH2_ERROR_EAGAIN;
        if (neap_ssh_is_fatal(rc)) {
            neap_ssh_native_fail_lib(s, rc, "the connection was lost to");
            return false;
        }
    }
    if (!c->eof_wanted || c->eof_sent) answer_done(&c->lanes[0], NULL);
    return true;
}

bool neap_ssh_lanes_move(neap_ssh_channel *c) {
    if (!move_out(c)) return false;
    for (int n = 0; n < 3; n++) {
        neap_ssh_lane *l = &c->lanes[n];
        if (l->channel && l->source >= 0 && !move_in(c, l)) return false;
    }
    return true;
}

/* The end -------------------------------------------------------------------------------------- */

static void salvage(neap_ssh_channel *c, neap_ssh_lane *l) {
    char *piece = piece_of(c->session);
    ssize_t n;
    while (!l->ended && !l->freed && (n = libssh2_channel_read_ex(c->lib, l->source, piece, PIECE_SIZE)) > 0) neap_buf_add(&l->left, piece, (size_t)n);
}

void neap_ssh_lanes_salvage(neap_ssh_channel *c) {
    for (int n = 0; n < 3; n++)
        if (c->lanes[n].channel && c->lanes[n].source >= 0) salvage(c, &c->lanes[n]);
}

void neap_ssh_lanes_no_writing(neap_ssh_channel *c) {
    bool whole = c->out_at == c->out.len;            /* then only a shut is pending, and it has what it wanted */
    neap_buf_clear(&c->out);
    c->out_at = 0;
    if (whole) answer_done(&c->lanes[0], NULL);
    else fail(&c->lanes[0], false, NEAP_E_CLOSED, "the far end closed the channel");
}

bool neap_ssh_lanes_have_left(const neap_ssh_channel *c) {
    return c->lanes[0].left.len || c->lanes[1].left.len || c->lanes[2].left.len;
}

void neap_ssh_lanes_end(neap_ssh_channel *c, const neap_err *err) {
    for (int n = 0; n < 3; n++) {
        neap_ssh_lane *l = &c->lanes[n];
        if (!l->channel) continue;
        if (!err && l->source >= 0) l->ended = true;
        bool has_left = l->left.len > 0;                 /* then its reader is served from the timer */
        if (l->got && !err && !has_left) answer_read(l, NULL, 0, NULL);
        if (l->got && !has_left) fail(l, true, NEAP_E_CLOSED, err ? err->message : why_over(c));
        if (l->done) fail(l, false, NEAP_E_CLOSED, err ? err->message : "the far end closed the channel");
    }
}

static void give_left(neap_ssh_lane *l) {
    if (!l->got || !l->left.len) return;
    neap_buf all = l->left;
    size_t n = all.len < l->most ? all.len : l->most;
    l->left = (neap_buf)NEAP_BUF_INIT;
    if (n < all.len) neap_buf_add(&l->left, all.data + n, all.len - n);
    answer_read(l, all.data, (ssize_t)n, NULL);
    neap_buf_close(&all);
}

void neap_ssh_lanes_late(neap_ssh_channel *c) {
    for (int n = 0; n < 3; n++)
        if (c->lanes[n].channel) give_left(&c->lanes[n]);
}
