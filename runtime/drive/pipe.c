/* pipe.c -- see pipe.h.
 *
 * A piece that arrives while nothing is being written goes straight on (a stream copies what it is given). What arrives earlier is
 * held, up to PIECE bytes, and goes out as one: a source of many small pieces costs the receiver few writes. For a file everything is
 * held, until it is about PIECE bytes, or all there is, or nothing was written for LATE_MS, and is given away with its memory: its write
 * is a thread's turn, whatever its size. With a filter a piece is held until the filter took it, and goes out in pieces of the filter's
 * making, so that a few bytes that expand to gigabytes cost no memory.
 *
 * Rejected: hashing and compressing on the pool. A piece takes the loop one to three milliseconds, which is less than handing
 * it over and back twice on a machine of two cores.
 */
#include "drive/pipe.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "loop/timer.h"

enum { PIECE = NEAP_FILE_PIECE, WATCHED_PIECE = 64 * 1024, MARGIN = 8 * 1024, OUT = 128 * 1024, TELL_MS = 200, LATE_MS = 5 };    /* margin: a COPY's pieces end with a row */

struct neap_pipe {
    neap_stream *from, *to;
    neap_pipe_options o;
    neap_pipe_fn done;
    void *arg;
    neap_filter *filter;           /* NULL: none */
    neap_hash *hash, *written_hash;       /* NULL: another one knows */
    neap_buf ahead, held;          /* read before it began; read, and not yet written or filtered */
    size_t at;                     /* of it is filtered */
    char *out;                     /* what the filter makes */
    bool reading, writing, begun, over;
    bool gathers, waits, late;     /* `to` is a file; `later` runs; what is held has waited long enough */
    bool drained;                  /* the filter has given its last byte */
    int busy;
    neap_timer *timer, *later;
    int64_t deadline, moved_at, told_at;
    long long told;
    neap_pipe_result result;
};

const char *neap_pipe_end_name(neap_pipe_end end) {
    static const char *const names[] = {"open", "ended", "failed"};
    return names[end];
}

static void advance(neap_pipe *p);

/* The end of it ------------------------------------------------------------------------------ */

static void destroy(neap_pipe *p) {
    neap_filter_free(p->filter);
    neap_hash_free(p->hash);
    neap_hash_free(p->written_hash);
    neap_buf_close(&p->ahead);
    neap_buf_close(&p->held);
    free(p->out);
    free(p);
}

static void leave(neap_pipe *p) {
    if (--p->busy == 0 && p->over) destroy(p);
}

/* `over` comes first, so that what the stopped streams say is not taken for news. */
static void end(neap_pipe *p) {
    p->over = true;
    neap_timer_free(p->timer);
    neap_timer_free(p->later);
    p->timer = p->later = NULL;
    if (p->reading) neap_stream_stop(p->from);
    if (p->writing) neap_stream_stop(p->to);
}

void neap_pipe_cancel(neap_pipe *p) {
    p->done = NULL;
    p->busy++;
    end(p);
    leave(p);
}

/* Others wait for the same streams in their other direction, and hear first that they were stopped: the owner may cancel us for it. */
static void end_and_tell(neap_pipe *p, const neap_err *err) {
    end(p);
    if (p->done) p->done(p->arg, &p->result, err);
}

static void fail_end(neap_pipe *p, neap_pipe_end *side, const neap_err *why) {
    neap_err err = NEAP_ERR_INIT;
    *side = NEAP_PIPE_FAILED;
    neap_err_set(&err, why->code, "the %s end failed: %s", side == &p->result.from ? "reading" : "writing", why->message);
    if (why->hint) neap_err_hint(&err, "%s", why->hint);
    err.retry = why->retry;
    err.status = why->status;
    for (size_t i = 0; i < sizeof err.sqlstate; i++) err.sqlstate[i] = why->sqlstate[i];
    end_and_tell(p, &err);
    neap_err_close(&err);
}

static void finish(neap_pipe *p) {
    neap_pipe_result *r = &p->result;
    r->to = NEAP_PIPE_ENDED;
    if (!p->o.plain) {
        if (p->written_hash) neap_hash_peek(p->written_hash, r->written_digest);
        else if (p->o.fresh) neap_hash_peek(p->o.kept, r->written_digest);
        else neap_hash_peek(p->hash, r->written_digest);
        if (p->hash) neap_hash_peek(p->hash, r->digest);
        else neap_hash_peek(p->o.kept, r->digest);
    }
    end_and_tell(p, NULL);
}

/* Moving ------------------------------------------------------------------------------------- */

static void tell(neap_pipe *p) {
    int64_t now = neap_clock_mono_ms();
    p->moved_at = now;
    if (!p->o.progress || now - p->told_at < TELL_MS) return;
    long long rate = (p->result.bytes - p->told) * 1000 / (now - p->told_at);
    p->told_at = now;
    p->told = p->result.bytes;
    p->o.progress(p->arg, p->result.bytes, rate);
}

static void on_written(void *arg, const neap_err *err) {
    neap_pipe *p = arg;
    p->writing = false;
    if (p->over) return;
    p->busy++;
    if (err) fail_end(p, &p->result.to, err);
    else {
        tell(p);
        advance(p);
    }
    leave(p);
}

static void keep_tail(neap_pipe_result *r, const char *data, size_t len) {
    size_t kept = len < NEAP_PIPE_TAIL ? NEAP_PIPE_TAIL - len : 0;
    if (kept > r->tail_len) kept = r->tail_len;
    if (len > NEAP_PIPE_TAIL) data += len - NEAP_PIPE_TAIL, len = NEAP_PIPE_TAIL;
    memmove(r->tail, r->tail + r->tail_len - kept, kept);
    memcpy(r->tail + kept, data, len);
    r->tail_len = kept + len;
}

/* What is about to be written. */
static void count(neap_pipe *p, const char *data, size_t len) {
    keep_tail(&p->result, data, len);
    if (p->o.kept) neap_hash_add(p->o.kept, data, len);
    if (p->written_hash) neap_hash_add(p->written_hash, data, len);
    p->result.written += (long long)len;
    if (p->o.moved) p->o.moved(p->arg, 0, len);
    p->writing = true;
}

static void put(neap_pipe *p, const char *data, size_t len) {
    count(p, data, len);
    neap_stream_write(p->to, data, len, on_written, p);
}

static void take(neap_pipe *p, const char *data, size_t len) {
    if (p->hash) neap_hash_add(p->hash, data, len);
    p->result.bytes += (long long)len;
    if (p->o.moved) p->o.moved(p->arg, len, 0);
    if (p->gathers) neap_buf_reserve(&p->held, p->held.len + len < PIECE + MARGIN ? PIECE + MARGIN : p->held.len + len);
    if (p->filter || p->gathers || p->writing) neap_buf_add(&p->held, data, len);
    else put(p, data, len);
    if (!p->over) tell(p);
}

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_pipe *p = arg;
    p->reading = false;
    if (p->over) return;
    p->busy++;
    if (len < 0) fail_end(p, &p->result.from, err);
    else if (len == 0) p->result.from = NEAP_PIPE_ENDED;
    else take(p, data, (size_t)len);
    if (!p->over) advance(p);
    leave(p);
}

/* The held bytes, or what the filter makes of them. */
static void put_held(neap_pipe *p) {
    neap_err err = NEAP_ERR_INIT;
    p->late = false;
    if (p->gathers) {
        count(p, p->held.data, p->held.len);
        neap_stream_file_give(p->to, &p->held, on_written, p);
        return;
    }
    if (!p->filter) {
        put(p, p->held.data, p->held.len);
        neap_buf_clear(&p->held);
        return;
    }
    const char *in = p->held.data ? p->held.data + p->at : "";
    size_t len = p->held.len - p->at;
    ssize_t made = neap_filter_run(p->filter, &in, &len, p->result.from == NEAP_PIPE_ENDED, p->out, OUT, &err);
    p->at = p->held.len - len;
    if (made < 0) fail_end(p, &p->result.from, &err);
    else if (made > 0) put(p, p->out, (size_t)made);
    else {
        p->drained = p->result.from == NEAP_PIPE_ENDED;
        neap_buf_clear(&p->held);
        p->at = 0;
    }
    neap_err_close(&err);
}

static bool has_held(const neap_pipe *p) {
    return p->held.len || (p->filter && p->result.from == NEAP_PIPE_ENDED && !p->drained);
}

/* How much may be read now: nothing when it would be hardly anything. */
static size_t room(const neap_pipe *p) {
    size_t most = p->o.stall_ms ? WATCHED_PIECE : PIECE;
    return p->held.len >= most - most / 8 || (p->filter && p->held.len) ? 0 : most - p->held.len;
}

static bool is_due(const neap_pipe *p) {
    return has_held(p) && (!p->gathers || p->late || !room(p) || p->result.from == NEAP_PIPE_ENDED);
}

static void wait_for_more(neap_pipe *p) {
    if (p->waits) return;
    p->waits = true;
    neap_timer_start(p->later, LATE_MS);
}

static void advance(neap_pipe *p) {
    p->busy++;
    while (!p->over && !p->writing && is_due(p)) put_held(p);
    if (!p->over && !p->writing && has_held(p)) wait_for_more(p);
    if (!p->over && !p->reading && room(p) && p->result.from == NEAP_PIPE_OPEN) {
        p->reading = true;
        neap_stream_read(p->from, room(p), on_got, p);
    }
    if (!p->over && !p->writing && !has_held(p) && p->result.from == NEAP_PIPE_ENDED) finish(p);
    leave(p);
}

static void on_late(void *arg) {
    neap_pipe *p = arg;
    p->waits = false;
    p->late = !p->writing && has_held(p);
    advance(p);
}

/* Time --------------------------------------------------------------------------------------- */

static void watch_clock(neap_pipe *p) {
    int64_t stalled = p->o.stall_ms ? p->moved_at + p->o.stall_ms : INT64_MAX;
    int64_t next = p->deadline && p->deadline < stalled ? p->deadline : stalled;
    if (next != INT64_MAX) neap_timer_start(p->timer, next - neap_clock_mono_ms());
}

/* What was read before goes the way of all bytes. */
static void begin(neap_pipe *p) {
    p->begun = true;
    if (p->ahead.len) take(p, p->ahead.data, p->ahead.len);
    if (!p->over) advance(p);
}

static void on_time(void *arg) {
    neap_pipe *p = arg;
    neap_err err = NEAP_ERR_INIT;
    int64_t now = neap_clock_mono_ms();
    p->busy++;
    if (!p->begun) {
        begin(p);
    } else if (p->deadline && now >= p->deadline) {
        neap_err_set(&err, NEAP_E_TIMEOUT, "the copy was not done in time; %lld bytes were moved", p->result.bytes);
    } else if (p->o.stall_ms && now >= p->moved_at + p->o.stall_ms) {
        *(p->writing ? &p->result.to : &p->result.from) = NEAP_PIPE_FAILED;
        neap_err_set(&err, NEAP_E_TIMEOUT, "the copy does not move: the %s; %lld bytes were moved",
                     p->writing ? "writing end takes nothing" : "reading end gives nothing", p->result.bytes);
    }
    if (err.code) end_and_tell(p, &err);
    else if (!p->over) watch_clock(p);
    neap_err_close(&err);
    leave(p);
}

neap_pipe *neap_pipe_start(neap_loop *loop, neap_stream *from, neap_stream *to, const neap_pipe_options *o, neap_pipe_fn done, void *arg) {
    neap_pipe *p = neap_zalloc(sizeof *p);
    p->from = from;
    p->to = to;
    p->o = *o;
    p->done = done;
    p->arg = arg;
    p->moved_at = p->told_at = neap_clock_mono_ms();
    p->deadline = o->within_ms ? p->moved_at + o->within_ms : 0;
    if (o->ahead) neap_buf_add(&p->ahead, o->ahead, o->ahead_len);
    if (o->format) {
        p->filter = neap_filter_new(o->format, o->expand);
        p->out = neap_alloc(OUT);
    }
    p->o.fresh = o->fresh && o->kept;
    if (!o->plain && (p->filter || !p->o.fresh)) p->hash = neap_hash_new();
    if (!o->plain && p->filter && !p->o.fresh) p->written_hash = neap_hash_new();
    p->gathers = !p->filter && neap_stream_is_file(to);
    if (p->gathers) p->later = neap_timer_new(loop, on_late, p);
    p->timer = neap_timer_new(loop, on_time, p);
    neap_timer_start(p->timer, 0);
    return p;
}
