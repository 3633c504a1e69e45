/* redis_watch.c -- is the far end still there while a command takes its time, or nobody asks anything?
 *
 *   a command has waited PROBE_AFTER ─► a second dial, closed as soon as it is connected ─► there: look again after PROBE_AFTER
 *                                                              └─ refused, or no connection within PROBE_MS ─► dead
 *
 * A blocked or busy Redis answers nobody, on no connection, and is not dead; but its machine, or the SSH server in front of it,
 * still takes connections. Whether *this* connection still leads there is what TCP keepalive and the keepalive of SSH find out.
 *
 *   nothing came for PROBE_AFTER, nobody waits, and the way is no socket of ours ─► PING, watched like any command
 *
 * Keepalive belongs to sockets: behind an SSH channel nobody but us would notice that the Redis at its end is gone. */
#include "drive/redis_private.h"

#include <string.h>

#include "base/clock.h"

static void gone(neap_redis *c, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "Redis at %s is no longer there: %s", c->dialer->label, why);
    err.retry = true;
    neap_redis_die(c, &err);
    neap_err_close(&err);
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    neap_redis *c = arg;
    c->probe = NULL;
    c->probed_ms = neap_clock_mono_ms();
    if (stream) {
        neap_stream_free(stream);
        neap_redis_wake_at(c, c->probed_ms + NEAP_REDIS_PROBE_AFTER_MS);
    } else {
        gone(c, err && err->message ? err->message : "nobody takes a connection");
    }
}

void neap_redis_watch(neap_redis *c, int64_t now_ms) {
    const redis_request *front = NEAP_LIST_OF(c->waiting.next, redis_request, node);
    int64_t since = front->since_ms > c->probed_ms ? front->since_ms : c->probed_ms;
    if (c->probe) {
        if (now_ms - c->probe_since_ms >= NEAP_REDIS_PROBE_MS) gone(c, "a second connection to it is not answered");
        else neap_redis_wake_at(c, c->probe_since_ms + NEAP_REDIS_PROBE_MS);
        return;
    }
    if (now_ms - since < NEAP_REDIS_PROBE_AFTER_MS) {
        neap_redis_wake_at(c, since + NEAP_REDIS_PROBE_AFTER_MS);
        return;
    }
    c->probe_since_ms = now_ms;
    c->probe = neap_dial(c->dialer, on_dialed, c);
    neap_redis_wake_at(c, now_ms + NEAP_REDIS_PROBE_MS);
}

/* ---- while it rests ---- */

static void on_pong(void *arg, const neap_redis_value *value, const neap_err *err) {
    neap_redis *c = arg;
    (void)value, (void)err;                          /* a refusal is a sign of life too */
    c->pings--;
}

static bool has_keepalive(const neap_dialer *d) { return strcmp(d->class->name, "tcp") == 0 || strcmp(d->class->name, "unix") == 0; }

void neap_redis_rest(neap_redis *c, int64_t now_ms) {
    static const char *const words[] = {"PING", NULL};
    if (has_keepalive(c->dialer)) return;
    if (now_ms - c->heard_ms < NEAP_REDIS_PROBE_AFTER_MS) {
        neap_redis_wake_at(c, c->heard_ms + NEAP_REDIS_PROBE_AFTER_MS);
        return;
    }
    c->pings++;
    neap_redis_ask(c, words, 2 * NEAP_REDIS_PROBE_MS, on_pong, c);
}

void neap_redis_watch_stop(neap_redis *c) {
    if (c->probe) neap_dial_cancel(c->probe);
    c->probe = NULL;
}
