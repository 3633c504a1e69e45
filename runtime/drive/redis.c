/* redis.c -- see redis.h.
 *
 * One read is always pending, so a server that hangs up is noticed when it does. Commands are gathered while a write is
 * under way and go out together in the next: that is the pipeline. There is one timer; it is set to the nearest deadline when a command is
 * sent and looks again when it fires, so an answer costs nothing. */
#include "drive/redis_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { PIECE = 256 * 1024 };

/* ---- life ---- */

void neap_redis_enter(neap_redis *c) { c->busy++; }

static void destroy(neap_redis *c) {
    neap_redis_reader_free(c->reader);
    neap_redis_value_free(c->current);
    neap_dialer_release(c->dialer);
    neap_timer_free(c->timer);
    neap_buf_wipe(&c->out);
    neap_buf_wipe(&c->leaving);
    neap_err_close(&c->greeting);
    neap_redis_identity_close(&c->who);
    free(c);
}

void neap_redis_leave(neap_redis *c) {
    if (--c->busy == 0 && c->doomed) destroy(c);
}

static void end(redis_request *r, const neap_redis_value *value, const neap_err *err) {
    neap_list_remove(&r->node);
    r->done(r->arg, value, err);
    free((char *)(size_t)r->name);
    free(r);
}

/* The first error is the one that everybody is told. */
void neap_redis_die(neap_redis *c, const neap_err *err) {
    if (c->state == REDIS_DEAD) return;
    neap_redis_enter(c);
    c->state = REDIS_DEAD;
    neap_redis_watch_stop(c);
    if (c->dialing) neap_dial_cancel(c->dialing), c->dialing = NULL;
    neap_stream_free(c->stream);
    c->stream = NULL;
    neap_timer_free(c->timer);
    c->timer = NULL;
    while (!neap_list_is_empty(&c->waiting)) end(NEAP_LIST_OF(c->waiting.next, redis_request, node), NULL, err);
    neap_redis_tell_ready(c, err);
    neap_redis_leave(c);
}

void neap_redis_kill(neap_redis *c, neap_code code, const char *message) {
    neap_err err = NEAP_ERR_INIT;
    if (!c || c->state == REDIS_DEAD) return;
    neap_err_set(&err, code, "%s", message);
    err.retry = code == NEAP_E_CLOSED;
    neap_redis_die(c, &err);
    neap_err_close(&err);
}

void neap_redis_free(neap_redis *c) {
    if (!c) return;
    neap_redis_enter(c);
    neap_redis_kill(c, NEAP_E_CANCELLED, "the connection was closed");
    c->doomed = true;
    neap_redis_leave(c);
}

/* ---- reading ---- */

static void lost(neap_redis *c, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the connection to Redis at %s was lost: %s", c->dialer->label, why);
    err.retry = true;
    neap_redis_die(c, &err);
    neap_err_close(&err);
}

static void take(neap_redis *c, neap_redis_value *value) {
    if (neap_list_is_empty(&c->waiting)) {
        neap_redis_value_free(value);
        neap_redis_kill(c, NEAP_E_PROTOCOL, "Redis said something nobody asked for");
        return;
    }
    c->current = value;
    end(NEAP_LIST_OF(c->waiting.next, redis_request, node), value, NULL);
    neap_redis_value_free(c->current);
    c->current = NULL;
}

static void take_all(neap_redis *c, const char *data, size_t len) {
    neap_err err = NEAP_ERR_INIT;
    neap_redis_value *value = NULL;
    bool good = neap_redis_reader_feed(c->reader, data, len, &err);
    while (good && c->state != REDIS_DEAD && (good = neap_redis_reader_next(c->reader, &value, &err)) && value) take(c, value);
    if (err.code && c->state != REDIS_DEAD) neap_redis_die(c, &err);
    neap_err_close(&err);
}

static void on_bytes(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_redis *c = arg;
    if (c->state == REDIS_DEAD) return;
    neap_redis_enter(c);
    c->reading = false;
    c->heard_ms = neap_clock_mono_ms();
    if (len > 0) take_all(c, data, (size_t)len);
    else lost(c, len == 0 ? "the server closed it" : err && err->message ? err->message : "reading failed");
    neap_redis_start_reading(c);
    neap_redis_leave(c);
}

void neap_redis_start_reading(neap_redis *c) {
    if (c->reading || !c->stream) return;
    c->reading = true;
    neap_stream_read(c->stream, PIECE, on_bytes, c);
}

/* ---- writing ---- */

static void flush(neap_redis *c);

static void on_written(void *arg, const neap_err *err) {
    neap_redis *c = arg;
    if (c->state == REDIS_DEAD) return;
    neap_redis_enter(c);
    c->writing = false;
    if (c->secret) neap_buf_wipe(&c->leaving);
    c->secret = false;
    neap_buf_clear(&c->leaving);
    if (err) lost(c, err->message ? err->message : "writing failed");
    else flush(c);
    neap_redis_leave(c);
}

static void flush(neap_redis *c) {
    if (c->writing || !c->stream || c->out.len == 0) return;
    neap_buf bytes = c->out;
    c->out = c->leaving;
    c->leaving = bytes;
    c->writing = true;
    neap_stream_write(c->stream, c->leaving.data, c->leaving.len, on_written, c);
}

/* ---- deadlines ---- */

static void late(neap_redis *c, const redis_request *r, int64_t now) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_TIMEOUT, "Redis at %s did not answer %s within %lld ms", c->dialer->label, r->name, (long long)(now - r->since_ms));
    neap_err_hint(&err, "The connection was given up: a late answer would belong to the next question.");
    neap_redis_die(c, &err);
    neap_err_close(&err);
}

static void on_time(void *arg) {
    neap_redis *c = arg;
    int64_t now = neap_clock_mono_ms(), nearest = 0;
    neap_redis_enter(c);
    c->timer_ms = 0;
    if (c->state == REDIS_DIALING && now >= c->until_ms) neap_redis_dial_late(c);
    else if (c->state == REDIS_DIALING) nearest = c->until_ms;
    for (neap_list *n = c->waiting.next; n != &c->waiting && c->state != REDIS_DEAD; n = n->next) {
        const redis_request *r = NEAP_LIST_OF(n, redis_request, node);
        if (r->until_ms <= now) {
            late(c, r, now);
            break;
        }
        if (!nearest || r->until_ms < nearest) nearest = r->until_ms;
    }
    if (c->state == REDIS_OPEN && nearest) neap_redis_watch(c, now);
    if (c->state != REDIS_DEAD && nearest) neap_redis_wake_at(c, nearest);
    if (c->state == REDIS_OPEN && neap_list_is_empty(&c->waiting)) neap_redis_rest(c, now);
    neap_redis_leave(c);
}

void neap_redis_wake_at(neap_redis *c, int64_t at_ms) {
    if (!c->timer || (c->timer_ms && c->timer_ms <= at_ms)) return;
    int64_t left = at_ms - neap_clock_mono_ms();
    c->timer_ms = at_ms;
    neap_timer_start(c->timer, left > 0 ? left : 0);
}

/* ---- asking ---- */

neap_redis *neap_redis_new(neap_loop *loop) {
    neap_redis *c = neap_zalloc(sizeof *c);
    c->loop = loop;
    c->greeting = (neap_err)NEAP_ERR_INIT;
    c->who.keys = -1;
    neap_list_init(&c->waiting);
    c->timer = neap_timer_new(loop, on_time, c);
    c->reader = neap_redis_reader_new(NEAP_REDIS_REPLY_BYTES);
    return c;
}

static void refuse(neap_redis_done_fn done, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the connection to Redis is closed");
    done(arg, NULL, &err);
    neap_err_close(&err);
}

void neap_redis_send(neap_redis *c, int argc, const char *const *argv, const size_t *lens, int64_t within_ms, neap_redis_done_fn done, void *arg) {
    if (c->state != REDIS_OPEN && c->state != REDIS_GREETING) {
        refuse(done, arg);
        return;
    }
    redis_request *r = neap_zalloc(sizeof *r);
    r->done = done;
    r->arg = arg;
    r->since_ms = neap_clock_mono_ms();
    r->until_ms = r->since_ms + within_ms;
    r->name = neap_strndup(argv[0], lens[0] < 32 ? lens[0] : 32);
    neap_list_append(&c->waiting, &r->node);
    neap_redis_format(&c->out, argc, argv, lens);
    neap_redis_wake_at(c, r->until_ms);
    neap_redis_wake_at(c, r->since_ms + NEAP_REDIS_PROBE_AFTER_MS);
    flush(c);
}

void neap_redis_ask(neap_redis *c, const char *const *words, int64_t within_ms, neap_redis_done_fn done, void *arg) {
    enum { MOST = 16 };
    size_t lens[MOST];
    int count = 0;
    for (; count < MOST && words[count]; count++) lens[count] = strlen(words[count]);
    neap_redis_send(c, count, words, lens, within_ms, done, arg);
}

neap_redis_value *neap_redis_keep(neap_redis *c) {
    neap_redis_value *value = c->current;
    c->current = NULL;
    return value;
}

bool neap_redis_is_alive(const neap_redis *c) { return c && c->state == REDIS_OPEN; }
bool neap_redis_is_idle(const neap_redis *c) {
    if (!neap_redis_is_alive(c)) return false;
    return neap_list_is_empty(&c->waiting) || (c->pings && c->waiting.next->next == &c->waiting);
}
const neap_redis_identity *neap_redis_who(const neap_redis *c) { return &c->who; }
const char *neap_redis_label(const neap_redis *c) { return c->dialer ? c->dialer->label : ""; }
