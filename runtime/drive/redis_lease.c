/* redis_lease.c -- see redis_lease.h. One question at a time: what comes while one is under way waits for its turn; a renewal that
 * falls into that time is left out, because the question renews too. */
#include "drive/redis_lease.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "loop/timer.h"

typedef enum { ASK_TAKE, ASK_PROVE, ASK_RELEASE } lease_ask;

struct neap_lease {
    neap_redis *c;
    neap_timer *timer;
    char *key, *value, *holder;
    lease_ask ask;
    bool held, busy, retried;
    int64_t renewed_ms;           /* when the last renewal was asked for: the key lives at least NEAP_LEASE_MS longer */
    int64_t asked_ms;
    int outstanding;              /* answers to come: the lease lives until the last one */
    bool doomed;
    neap_lease_fn done;           /* NULL: a renewal nobody waits for */
    void *arg;
};

static void look(neap_lease *l);

static void destroy(neap_lease *l) {
    neap_timer_free(l->timer);
    free(l->key);
    free(l->value);
    free(l->holder);
    free(l);
}

/* An answer is here; true when it still interests somebody. */
static bool arrived(neap_lease *l) {
    l->outstanding--;
    if (l->doomed && l->outstanding == 0) destroy(l);
    else return !l->doomed;
    return false;
}

static void ask(neap_lease *l, const char *const *words, neap_redis_done_fn done) {
    l->outstanding++;
    neap_redis_ask(l->c, words, NEAP_LEASE_ASK_MS, done, l);
}

static void on_nothing(void *arg, const neap_redis_value *v, const neap_err *err) {
    (void)v, (void)err;
    arrived(arg);
}

static void finish(neap_lease *l, bool ours, const char *holder, const neap_err *err) {
    neap_lease_fn done = l->done;
    l->busy = false;
    l->done = NULL;
    if (ours) l->renewed_ms = l->asked_ms;
    l->held = !err && ours && l->ask != ASK_RELEASE;
    if (l->held) neap_timer_start(l->timer, NEAP_LEASE_MS / 3);
    else neap_timer_stop(l->timer);
    if (done) done(l->arg, ours, holder, err);
}

static bool failed(neap_lease *l, const neap_redis_value *v, const neap_err *err) {
    neap_err said = NEAP_ERR_INIT;
    if (!err && !neap_redis_refusal(&said, v)) return false;
    finish(l, false, NULL, err ? err : &said);
    neap_err_close(&said);
    return true;
}

/* ---- SET NX ---- */

static void on_set(void *arg, const neap_redis_value *v, const neap_err *err) {
    neap_lease *l = arg;
    if (!arrived(l) || failed(l, v, err)) return;
    if (neap_redis_is(v, "OK")) finish(l, true, NULL, NULL);
    else if (l->retried) finish(l, false, NULL, NULL);
    else l->retried = true, look(l);              /* somebody has it: whose value is it? */
}

static void set(neap_lease *l) {
    char ttl[16];
    snprintf(ttl, sizeof ttl, "%d", NEAP_LEASE_MS);
    const char *const words[] = {"SET", l->key, l->value, "NX", "PX", ttl, NULL};
    ask(l, words, on_set);
}

/* ---- WATCH, GET, MULTI, …, EXEC ---- */

static void on_exec(void *arg, const neap_redis_value *v, const neap_err *err) {
    neap_lease *l = arg;
    if (!arrived(l) || failed(l, v, err)) return;
    const neap_redis_value *done = neap_redis_item(v, 0);
    if (done && done->type == NEAP_REDIS_INTEGER && done->integer == 1) finish(l, true, NULL, NULL);
    else if (l->retried) finish(l, false, NULL, NULL);
    else l->retried = true, look(l);              /* the key changed between the look and the act */
}

static void commit(neap_lease *l) {
    static const char *const multi[] = {"MULTI", NULL}, *const exec[] = {"EXEC", NULL};
    char ttl[16];
    snprintf(ttl, sizeof ttl, "%d", NEAP_LEASE_MS);
    const char *const renew[] = {"PEXPIRE", l->key, ttl, NULL}, *const del[] = {"DEL", l->key, NULL};
    l->outstanding++;                              /* sending may end with everything lost, and answered */
    ask(l, multi, on_nothing);
    ask(l, l->ask == ASK_RELEASE ? del : renew, on_nothing);
    ask(l, exec, on_exec);
    arrived(l);
}

static void unwatch(neap_lease *l) {
    static const char *const words[] = {"UNWATCH", NULL};
    ask(l, words, on_nothing);
}

static void on_value(void *arg, const neap_redis_value *v, const neap_err *err) {
    neap_lease *l = arg;
    if (!arrived(l) || failed(l, v, err)) return;
    bool there = v->type == NEAP_REDIS_STRING, ours = there && neap_redis_is(v, l->value);
    bool flushed = !there && l->held && neap_clock_mono_ms() - l->renewed_ms < NEAP_LEASE_MS;
    l->outstanding++;
    if (ours) commit(l);
    else unwatch(l);
    if (!arrived(l) || ours) return;
    if (!there && (l->ask == ASK_TAKE || (flushed && l->ask == ASK_PROVE))) {
        set(l);
        return;
    }
    free(l->holder);
    l->holder = there ? neap_strdup(v->text) : NULL;
    finish(l, false, l->holder, NULL);
}

static void look(neap_lease *l) {
    const char *const watch[] = {"WATCH", l->key, NULL}, *const get[] = {"GET", l->key, NULL};
    l->outstanding++;
    ask(l, watch, on_nothing);
    ask(l, get, on_value);
    arrived(l);
}

/* ---- asking ---- */

static void begin(neap_lease *l, lease_ask what, neap_lease_fn done, void *arg) {
    l->ask = what;
    l->done = done;
    l->arg = arg;
    l->busy = true;
    l->retried = false;
    l->asked_ms = neap_clock_mono_ms();
    if (what == ASK_TAKE) set(l);
    else look(l);
}

static void on_time(void *arg) {
    neap_lease *l = arg;
    if (!l->busy && neap_redis_is_alive(l->c)) begin(l, ASK_PROVE, NULL, NULL);
}

neap_lease *neap_lease_new(neap_loop *loop, neap_redis *c, const char *key, const char *value) {
    neap_lease *l = neap_zalloc(sizeof *l);
    l->c = c;
    l->key = neap_strdup(key);
    l->value = neap_strdup(value);
    l->timer = neap_timer_new(loop, on_time, l);
    return l;
}

/* While a renewal is under way its answer will do for whoever asks for a proof; a release is another question. */
static void start(neap_lease *l, lease_ask what, neap_lease_fn done, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    if (l->busy && what == l->ask && !l->done) {
        l->done = done;
        l->arg = arg;
    } else if (l->busy) {
        neap_err_set(&err, NEAP_E_BUSY, "the lock is being asked about");
        done(arg, false, NULL, &err);
        neap_err_close(&err);
    } else {
        begin(l, what, done, arg);
    }
}

void neap_lease_take(neap_lease *l, neap_lease_fn done, void *arg) { start(l, ASK_TAKE, done, arg); }
void neap_lease_prove(neap_lease *l, neap_lease_fn done, void *arg) { start(l, ASK_PROVE, done, arg); }
void neap_lease_release(neap_lease *l, neap_lease_fn done, void *arg) { start(l, ASK_RELEASE, done, arg); }

void neap_lease_free(neap_lease *l) {
    if (!l) return;
    l->doomed = true;
    l->done = NULL;
    neap_timer_stop(l->timer);
    if (l->outstanding == 0) destroy(l);
}
