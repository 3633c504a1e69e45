/* redis_watch.c -- is the far end still there while a command takes its time?
 *
 *   a command has waited PROBE_AFTER ─► a second dial, closed as soon as it is connected ─► there: look again after PROBE_AFTER
 *                                                              └─ refused, or no connection within PROBE_MS ─► dead
 *
 * A blocked or busy Redis answers nobody, on no connection, and is not dead; but its machine, or the SSH server in front of it,
 * still takes connections. Whether *this* connection still leads there is what TCP keepalive and the keepalive of SSH find out. */
#include "drive/redis_private.h"

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

void neap_redis_watch_stop(neap_redis *c) {
    if (c->probe) neap_dial_cancel(c->probe);
    c->probe = NULL;
}
