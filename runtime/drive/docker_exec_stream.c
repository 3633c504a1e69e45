/* docker_exec_stream.c -- the bytes of an exec: one connection, three streams.
 *
 * stdin goes straight to the connection once the command is there; half-closing it is the end of the command's stdin. What is
 * written before that waits.
 *
 * stdout and stderr come in frames and are sorted into two queues. The connection is read on while both queues are below the window,
 * wanted or not: the end must be seen also by who only waits for it. A reader gets what is queued in one piece. A queue that is full
 * stops the connection, and with it the command: that is backpressure.
 *
 * The Engine hands on what its shim reads, often 4 KiB at a time, and each piece would cost a turn of the loop, a hash and a hand-over to
 * the disk's thread while the Engine wants the processor too. So behind the first MiB a small piece is followed by a breath of a
 * millisecond: meanwhile the next pieces gather in the socket. */
#include "drive/docker_exec_private.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_SIZE = 256 * 1024, SYSTEM_SIZE = 4096, BULK = 1 << 20, SMALL = 48 * 1024, BREATH_MS = 1 };

static const neap_stream_class input_class, output_class;

/* Reading the connection --------------------------------------------------------------------------- */

static bool is_full(const exec_output *o) { return o->queue.len >= NEAP_EXEC_WINDOW; }

static void on_wire(void *arg, const char *data, ssize_t len, const neap_err *err);

void neap_exec_pull(neap_docker_exec *x) {
    if (x->freed || !x->wire || x->pulling || x->breathing || is_full(&x->out[1]) || is_full(&x->out[2])) return;
    x->pulling = true;
    neap_stream_read(x->wire, PIECE_SIZE, on_wire, x);
}

static void on_breath(void *arg) {
    neap_docker_exec *x = arg;
    x->breathing = false;
    neap_exec_hold(x);
    neap_exec_pull(x);
    neap_exec_release(x);
}

static void breathe(neap_docker_exec *x, size_t len) {
    x->pulled += (long long)len;
    x->breathing = x->breath && x->pulled > BULK && len < SMALL;
    if (x->breathing) neap_timer_start(x->breath, BREATH_MS);
}

/* "TOKEN pid ticks\n" in what came so far. What stands before it was printed by whatever the shell reads when it starts; what stands behind
 * belongs to the command. */
static bool read_greeting(neap_docker_exec *x) {
    char *end, *at = x->greeting.data ? strstr(x->greeting.data, x->token) : NULL;
    char *stop = at ? strchr(at, '\n') : NULL;
    if (!stop) return false;
    x->pid = (int)strtol(at + strlen(x->token), &end, 10);
    x->ticks = strtoll(end, NULL, 10);
    size_t len = (size_t)(stop + 1 - x->greeting.data);
    neap_buf_add(&x->out[1].queue, stop + 1, x->greeting.len - len);
    neap_buf_close(&x->greeting);
    return true;
}

static void keep(neap_docker_exec *x, const neap_docker_frames *f) {
    exec_output *o = &x->out[f->stream == 2 ? 2 : 1];
    if (x->state == GREETING) neap_buf_add(&x->greeting, f->data, f->len);
    else if (!o->gone) neap_buf_add(&o->queue, f->data, f->len);
}

static void sort(neap_docker_exec *x, const char *data, size_t len) {
    neap_docker_event event = NEAP_DOCKER_BYTES;
    while (len && event != NEAP_DOCKER_NOT_FRAMES) {
        size_t took = neap_docker_frames_step(&x->frames, data, len, &event);
        if (event == NEAP_DOCKER_BYTES) keep(x, &x->frames);
        if (event == NEAP_DOCKER_SYSTEM && x->system.len < SYSTEM_SIZE) neap_buf_add(&x->system, x->frames.data, x->frames.len);
        data += took;
        len -= took;
    }
    if (event == NEAP_DOCKER_NOT_FRAMES && !x->lost.code)
        neap_err_set(&x->lost, NEAP_E_PROTOCOL, "the Engine sends no frames where output should come");
}

static void on_wire_end(neap_docker_exec *x, const neap_err *err) {
    if (err && !x->lost.code) neap_err_set(&x->lost, err->code, "the connection to the Engine was lost: %s", err->message);
    else if (!neap_docker_frames_is_whole(&x->frames) && !x->lost.code)
        neap_err_set(&x->lost, NEAP_E_CLOSED, "the Engine closed the connection in the middle of the output");
    if (x->system.len && !x->lost.code) neap_err_set(&x->lost, NEAP_E_REMOTE, "the Engine reports: %.*s", (int)strcspn(x->system.data, "\r\n"), x->system.data);
    neap_exec_ask(x);
}

static void on_wire(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_docker_exec *x = arg;
    x->pulling = false;
    if (x->stopping) return;
    neap_exec_hold(x);
    if (len > 0) sort(x, data, (size_t)len), breathe(x, (size_t)len);
    if (x->state == GREETING && len > 0 && read_greeting(x)) neap_exec_greeted(x);
    if (!x->freed && (len <= 0 || x->frames.broken || x->greeting.len > NEAP_EXEC_GREETING)) on_wire_end(x, len < 0 ? err : NULL);
    if (!x->freed) neap_exec_serve(x);
    if (x->state == HELD || x->state == RUNNING || x->state == GREETING) neap_exec_pull(x);
    neap_exec_release(x);
}

void neap_exec_close_wire(neap_docker_exec *x) {
    neap_stream *wire = x->wire;
    x->wire = NULL;
    x->pulling = x->open = false;
    neap_stream_free(wire);
}

/* Outputs ------------------------------------------------------------------------------------------ */

static void give(exec_output *o, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = o->got;
    o->got = NULL;
    got(o->got_arg, data, len, err);
}

static void give_queue(exec_output *o) {
    neap_buf piece = o->queue;
    size_t len = piece.len < o->most ? piece.len : o->most;
    o->queue = (neap_buf)NEAP_BUF_INIT;
    if (len < piece.len) neap_buf_add(&o->queue, piece.data + len, piece.len - len);
    give(o, piece.data, (ssize_t)len, NULL);
    neap_buf_close(&piece);
}

/* A stream of an exec that was given up, or whose status nobody knows, does not end well. */
static void give_end(exec_output *o) {
    neap_docker_exec *x = o->x;
    neap_err closed = NEAP_ERR_INIT;
    if (x->freed && (x->state != OVER || o->queue.len)) neap_err_set(&closed, NEAP_E_CLOSED, "the command is closed");
    const neap_err *err = closed.code ? &closed : x->failure.code ? &x->failure : NULL;
    neap_exec_hold(x);                               /* the error is its own */
    give(o, NULL, err ? -1 : 0, err);
    neap_exec_release(x);
    neap_err_close(&closed);
}

static void serve(exec_output *o) {
    if (o->got && o->queue.len) give_queue(o);
    else if (o->got && (o->x->state == OVER || o->x->freed)) give_end(o);
}

/* What was written to a command that is no more. */
static void serve_input(neap_docker_exec *x) {
    neap_err err = NEAP_ERR_INIT;
    neap_stream_done_fn done = x->early_done;
    if (!done || !(x->freed || x->state == OVER)) return;
    x->early_done = NULL;
    neap_err_set(&err, NEAP_E_CLOSED, "the command is closed");
    done(x->early_arg, &err);
    neap_err_close(&err);
}

void neap_exec_serve(neap_docker_exec *x) {
    neap_exec_hold(x);
    serve(&x->out[1]);
    serve(&x->out[2]);
    serve_input(x);
    neap_exec_release(x);
}

static void on_turn(void *arg) {
    neap_docker_exec *x = arg;
    neap_exec_hold(x);
    if (x->state == GREETING && x->plain) neap_exec_greeted(x);
    if (!x->freed) neap_exec_serve(x);
    neap_exec_pull(x);
    neap_exec_release(x);
}

static void output_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    exec_output *o = (exec_output *)s;
    o->got = got;
    o->got_arg = arg;
    o->most = most ? most : 1;
    if (o->queue.len && !o->x->freed) neap_timer_start(o->x->turn, 0);
    else if (o->x->state == OVER || o->x->freed) give_end(o);
    else neap_exec_pull(o->x);
}

static void stop_output(exec_output *o) {
    neap_err err = NEAP_ERR_INIT;
    if (!o->got) return;
    neap_err_set(&err, NEAP_E_CANCELLED, "reading was stopped");
    give(o, NULL, -1, &err);
    neap_err_close(&err);
}

static void output_stop(neap_stream *s) { stop_output((exec_output *)s); }

static void output_free(neap_stream *s) {
    exec_output *o = (exec_output *)s;
    o->got = NULL;
    o->gone = true;
    neap_buf_wipe(&o->queue);
    neap_exec_pull(o->x);
    neap_exec_release(o->x);
}

/* Input -------------------------------------------------------------------------------------------- */

/* A write that ends because the wire was given up is told why it was. */
static void on_written(void *arg, const neap_err *err) {
    neap_docker_exec *x = arg;
    neap_stream_done_fn done = x->wrote;
    bool given_up = err && err->code == NEAP_E_CANCELLED && !x->stopping && x->lost.code;
    x->wrote = NULL;
    if (done) done(x->wrote_arg, given_up ? &x->lost : err);
}

static void write_wire(neap_docker_exec *x, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    x->wrote = done;
    x->wrote_arg = arg;
    neap_stream_write(x->wire, data, len, on_written, x);
}

static void input_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_docker_exec *x = ((exec_output *)s)->x;
    if (x->open && x->wire) { write_wire(x, data, len, done, arg); return; }
    neap_buf_clear(&x->early);
    neap_buf_add(&x->early, data, len);
    x->early_shut = false;
    x->early_done = done;
    x->early_arg = arg;
    serve_input(x);
}

/* A command that is gone has no stdin left to close. */
static void input_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    neap_docker_exec *x = ((exec_output *)s)->x;
    if (x->open && x->wire) { neap_stream_shut(x->wire, done, arg); return; }
    if (x->freed || x->state >= ASKING) { done(arg, NULL); return; }
    x->early_shut = true;
    x->early_done = done;
    x->early_arg = arg;
}

static void on_shut(void *arg, const neap_err *err) { (void)arg, (void)err; }

void neap_exec_open_input(neap_docker_exec *x) {
    neap_stream_done_fn done = x->early_done;
    if (!x->wire) return;                            /* who has written is told by serve_input */
    neap_exec_hold(x);
    x->early_done = NULL;
    x->open = true;
    if (!x->input) neap_stream_shut(x->wire, on_shut, NULL);
    else if (done && x->early_shut) neap_stream_shut(x->wire, done, x->early_arg);
    else if (done) write_wire(x, x->early.data, x->early.len, done, x->early_arg);
    neap_buf_wipe(&x->early);
    neap_exec_release(x);
}

static void input_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    (void)s, (void)most;
    got(arg, NULL, 0, NULL);
}

/* Of the connection only the write is stopped for good: its reader asks again. */
static void input_stop(neap_stream *s) {
    neap_docker_exec *x = ((exec_output *)s)->x;
    neap_err err = NEAP_ERR_INIT;
    neap_stream_done_fn done = x->early_done;
    neap_exec_hold(x);
    x->early_done = NULL;
    x->stopping = true;
    if (x->wire && x->open) neap_stream_stop(x->wire);
    x->stopping = false;
    neap_err_set(&err, NEAP_E_CANCELLED, "writing was stopped");
    if (done) done(x->early_arg, &err);
    neap_err_close(&err);
    neap_exec_pull(x);
    neap_exec_release(x);
}

static void input_free(neap_stream *s) {
    neap_docker_exec *x = ((exec_output *)s)->x;
    bool begun = x->wire && x->open && x->input;
    x->early_done = NULL;
    x->input = false;                                /* whoever opens it later closes it at once */
    x->out[0].gone = true;
    if (begun) {
        input_stop(s);
        if (x->wire) neap_stream_shut(x->wire, on_shut, NULL);
    }
    neap_exec_release(x);
}

static const neap_stream_class input_class = {"exec input", input_read, input_write, input_shut, input_stop, input_free};
static const neap_stream_class output_class = {"exec output", output_read, neap_stream_write_refused, neap_stream_shut_refused, output_stop, output_free};

void neap_exec_open_streams(neap_docker_exec *x) {
    for (int n = 0; n < 3; n++) {
        x->out[n].x = x;
        x->out[n].face.class = n ? &output_class : &input_class;
    }
    x->turn = neap_timer_new(neap_docker_loop(x->engine), on_turn, x);
    x->breath = neap_timer_new(neap_docker_loop(x->engine), on_breath, x);
}

neap_stream *neap_docker_exec_stream(neap_docker_exec *x, int n) {
    neap_exec_hold(x);
    return &x->out[n].face;
}
