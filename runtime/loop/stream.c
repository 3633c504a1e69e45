/* stream.c -- streams over pipes and sockets.
 *
 *     OPEN --free--> closing --close callback--> memory freed
 *       \--shut of a pipe (no write under way)--> closing --> CLOSED --free--> memory freed
 *
 * Reading is switched on by one `read` and off by its first bytes, unless their reader asks for more before it returns: the kernel's
 * buffer is the only queue, and a reader that is always ready costs no system call to watch for.
 * libuv cannot take a write back, so written bytes are copied, and a stopped write only forgets its caller: the bytes
 * still go out, in order, before those of a later write.
 *
 * A pipe has no half-close in the kernel; its `shut` waits for the last byte to leave and closes it. A socket is
 * shut by libuv, which waits by itself.
 *
 * Rejected: writing synchronously first (uv_try_write). It saves one copy and lets a writer's callback recurse
 * into the next write without ever coming back to the loop.
 */
#include "loop/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"

enum { PIECE_SIZE = 256 * 1024 };                     /* what is not filled costs no memory */

typedef struct writing writing;

typedef struct channel {
    neap_stream stream;                              /* first */
    union { uv_handle_t any; uv_stream_t stream; uv_pipe_t pipe; uv_tcp_t tcp; } uv;
    bool is_socket, closing, closed, freed, ended;
    int writing;                                     /* writes libuv has not finished, stopped ones included */

    neap_stream_read_fn got;                         /* NULL: no read pending */
    void *got_arg;
    size_t most;
    char *piece;

    neap_stream_done_fn done;                        /* NULL: neither write nor shut pending */
    void *done_arg;
    writing *current;                                /* the one write whose caller still waits */
    bool shutting;                                   /* a pipe's shut waits for `writing` to reach 0 */
} channel;

struct writing {
    uv_write_t uv;
    channel *owner;
    bool stopped;
    char bytes[];
};

static const neap_stream_class channel_class;

static void destroy(channel *c) {
    free(c->piece);
    free(c);
}

static void on_closed(uv_handle_t *uv) {
    channel *c = (channel *)((char *)uv - offsetof(channel, uv));
    c->closed = true;
    if (c->freed) destroy(c);
}

static void close_channel(channel *c) {
    if (c->closing) return;
    c->closing = true;
    uv_close(&c->uv.any, on_closed);
}

/* Answers: each takes the caller off the slot first, so that the callback may start the next one. */

static void answer_read(channel *c, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = c->got;
    c->got = NULL;
    if (got) got(c->got_arg, data, len, err);
}

static void answer_done(channel *c, const neap_err *err) {
    neap_stream_done_fn done = c->done;
    c->done = NULL;
    c->shutting = false;
    if (done) done(c->done_arg, err);
}

/* The kernel's own time-out is a peer that vanished (net.h), not a deadline of ours. */
static void explain(neap_err *err, const channel *c, int error, const char *verb) {
    neap_loop_fail(err, error, "cannot %s the %s", verb, c->is_socket ? "socket" : "pipe");
    if (error == UV_ETIMEDOUT) err->code = NEAP_E_CLOSED;
}

static void fail_read(channel *c, int error) {
    neap_err err = NEAP_ERR_INIT;
    explain(&err, c, error, "read from");
    answer_read(c, NULL, -1, &err);
    neap_err_close(&err);
}

static void fail_done(channel *c, int error) {
    neap_err err = NEAP_ERR_INIT;
    explain(&err, c, error, "write to");
    answer_done(c, &err);
    neap_err_close(&err);
}

/* Reading ---------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *uv, size_t suggested, uv_buf_t *out) {
    (void)suggested;
    channel *c = uv->data;
    if (!c) { *out = uv_buf_init(NULL, 0); return; }
    if (!c->piece) c->piece = neap_alloc(PIECE_SIZE);
    *out = uv_buf_init(c->piece, (unsigned)(c->most < PIECE_SIZE ? c->most : PIECE_SIZE));
}

static void on_read(uv_stream_t *uv, ssize_t len, const uv_buf_t *piece) {
    channel *c = uv->data;
    if (!c || len == 0) return;                      /* 0 is libuv's EAGAIN */
    if (len > 0) {
        answer_read(c, piece->base, len, NULL);
        if (uv->data && !c->got) uv_read_stop(uv);   /* no data: freed, and closing */
        return;
    }
    uv_read_stop(uv);
    if (len == UV_EOF) {
        c->ended = true;
        answer_read(c, NULL, 0, NULL);
    } else {
        fail_read(c, (int)len);
    }
}

static void channel_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    channel *c = (channel *)s;
    c->got = got;
    c->got_arg = arg;
    c->most = most ? most : 1;
    if (c->ended) { answer_read(c, NULL, 0, NULL); return; }
    int result = c->closing ? UV_ENOTCONN : uv_read_start(&c->uv.stream, on_alloc, on_read);
    if (result && result != UV_EALREADY) fail_read(c, result);
}

/* Writing ---------------------------------------------------------------------------------- */

static void finish_shut(channel *c) {
    close_channel(c);
    answer_done(c, NULL);
}

static void on_written(uv_write_t *uv, int status) {
    writing *w = uv->data;
    channel *c = w->owner;
    bool stopped = w->stopped;
    free(w);
    c->writing--;
    if (!c->uv.any.data) return;
    if (c->shutting) { if (!c->writing) finish_shut(c); return; }
    if (stopped) return;
    c->current = NULL;
    if (status < 0) fail_done(c, status);
    else answer_done(c, NULL);
}

static void channel_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    channel *c = (channel *)s;
    c->done = done;
    c->done_arg = arg;
    if (c->closing) { fail_done(c, UV_EPIPE); return; }
    writing *w = neap_alloc(sizeof *w + len);
    memcpy(w->bytes, data, len);
    w->uv.data = w;
    w->owner = c;
    w->stopped = false;
    uv_buf_t piece = uv_buf_init(w->bytes, (unsigned)len);
    int result = uv_write(&w->uv, &c->uv.stream, &piece, 1, on_written);
    if (result) { free(w); fail_done(c, result); return; }
    c->current = w;
    c->writing++;
}

static void on_shut(uv_shutdown_t *uv, int status) {
    channel *c = uv->data;
    free(uv);
    if (!c->uv.any.data) return;
    if (status < 0 && status != UV_ENOTCONN) fail_done(c, status);
    else answer_done(c, NULL);
}

static void channel_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    channel *c = (channel *)s;
    c->done = done;
    c->done_arg = arg;
    if (c->closing) { answer_done(c, NULL); return; }
    if (!c->is_socket && !uv_is_writable(&c->uv.stream)) { answer_done(c, NULL); return; }
    if (!c->is_socket) {
        c->shutting = true;
        if (!c->writing) finish_shut(c);
        return;
    }
    uv_shutdown_t *uv = neap_zalloc(sizeof *uv);
    uv->data = c;
    int result = uv_shutdown(uv, &c->uv.stream, on_shut);
    if (result == 0) return;
    free(uv);
    answer_done(c, NULL);                            /* shut already, or gone: our side is closed either way */
}

/* Ends ------------------------------------------------------------------------------------- */

static void channel_stop(neap_stream *s) {
    channel *c = (channel *)s;
    if (!c->closing) uv_read_stop(&c->uv.stream);
    if (c->current) c->current->stopped = true;
    c->current = NULL;
    if (c->got) fail_read(c, UV_ECANCELED);
    if (c->done) fail_done(c, UV_ECANCELED);
}

static void channel_free(neap_stream *s) {
    channel *c = (channel *)s;
    channel_stop(s);
    c->freed = true;
    c->uv.any.data = NULL;
    if (c->closed) destroy(c);
    else close_channel(c);
}

static const neap_stream_class channel_class = {
    "pipe", channel_read, channel_write, channel_shut, channel_stop, channel_free,
};

static int open_channel(neap_loop *loop, channel *c, int fd) {
    uv_loop_t *uv = neap_loop_uv(loop);
    if (uv_guess_handle(fd) == UV_TCP) {
        int result = uv_tcp_init(uv, &c->uv.tcp);
        return result ? result : uv_tcp_open(&c->uv.tcp, fd);
    }
    int result = uv_pipe_init(uv, &c->uv.pipe, 0);
    return result ? result : uv_pipe_open(&c->uv.pipe, fd);
}

/* A stream whose descriptor libuv refuses still exists: closed from the start, it answers every call with "not
 * connected", so that callers have one way to hear of trouble. */
neap_stream *neap_stream_of_fd(neap_loop *loop, int fd) {
    struct stat st;
    bool known = fstat(fd, &st) == 0;
    if (known && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode) && !isatty(fd)) return neap_stream_of_file(loop, fd);
    channel *c = neap_zalloc(sizeof *c);
    c->stream.class = &channel_class;
    c->is_socket = known && S_ISSOCK(st.st_mode);
    int result = open_channel(loop, c, fd);
    c->uv.any.data = c;
    if (result) {
        if (known) close(fd);
        close_channel(c);
    }
    return &c->stream;
}

void neap_stream_write_refused(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    (void)s, (void)data, (void)len;
    neap_err_set(&err, NEAP_E_USAGE, "this stream can only be read");
    done(arg, &err);
    neap_err_close(&err);
}

void neap_stream_shut_refused(neap_stream *s, neap_stream_done_fn done, void *arg) { neap_stream_write_refused(s, NULL, 0, done, arg); }

void neap_stream_shut_nothing(neap_stream *s, neap_stream_done_fn done, void *arg) {
    (void)s;
    done(arg, NULL);
}
