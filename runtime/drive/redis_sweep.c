/* redis_sweep.c -- see redis_sweep.h.
 *
 *   SCAN 0 ─► page ─► [SCAN next] [UNLINK page] ─► page ─► … ─► cursor 0 and nothing outstanding ─► done
 *
 * With a pause the next SCAN goes behind it instead of ahead. */
#include "drive/redis_sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/timer.h"

struct neap_sweep {
    neap_redis *c;
    neap_timer *timer;
    neap_sweep_order order;
    char *match, *spare[2];
    char cursor[24], count[24];
    neap_sweep_tally *tally;
    int outstanding;
    bool over, told, resting;     /* no page is to come; `done` was called; the timer runs */
    neap_err err;
    neap_sweep_fn done;
    void *arg;
};

static void scan(neap_sweep *s);

static void settle(neap_sweep *s) {
    if (s->told || s->outstanding || !(s->over || s->err.code)) return;
    s->told = true;
    s->done(s->arg, s->err.code ? &s->err : NULL);
}

static void fail(neap_sweep *s, const neap_err *err) { neap_err_keep(&s->err, err); }

static bool refused(neap_sweep *s, const neap_redis_value *v, const neap_err *err) {
    neap_err said = NEAP_ERR_INIT;
    if (err) fail(s, err);
    else if (neap_redis_refusal(&said, v)) fail(s, &said);
    else return false;
    neap_err_close(&said);
    return true;
}

/* ---- unlinking ---- */

static void on_unlinked(void *arg, const neap_redis_value *v, const neap_err *err) {
    neap_sweep *s = arg;
    s->outstanding--;
    if (!refused(s, v, err) && v->type == NEAP_REDIS_INTEGER) s->tally->removed += v->integer;
    settle(s);
}

static bool is_spared(const neap_sweep *s, const neap_redis_value *key) {
    return (s->spare[0] && neap_redis_is(key, s->spare[0])) || (s->spare[1] && neap_redis_is(key, s->spare[1]));
}

static void too_many(neap_sweep *s) {
    neap_err_set(&s->err, NEAP_E_REFUSED, "more keys match than the %" PRId64 " that may be removed", s->order.most);
    neap_err_hint(&s->err, "Keys came while it was counted, or the bound is too low; what was removed so far is gone.");
}

static void unlink_page(neap_sweep *s, const neap_redis_value *keys) {
    const char **words = neap_alloc((keys->len + 1) * sizeof *words);
    size_t *lens = neap_alloc((keys->len + 1) * sizeof *lens);
    int count = 1;
    words[0] = "UNLINK", lens[0] = 6;
    for (size_t i = 0; i < keys->len; i++) {
        if (is_spared(s, keys->items[i])) continue;
        words[count] = keys->items[i]->text;
        lens[count++] = keys->items[i]->len;
    }
    if (count > 1) {
        s->outstanding++;
        s->tally->sent = true;
        neap_redis_send(s->c, count, words, lens, s->order.within_ms, on_unlinked, s);
    }
    free(words);
    free(lens);
}

/* ---- scanning ---- */

static int64_t count_page(const neap_sweep *s, const neap_redis_value *keys) {
    int64_t count = 0;
    for (size_t i = 0; i < keys->len; i++) count += !is_spared(s, keys->items[i]);
    return count;
}

static void next_page(neap_sweep *s) {
    if (s->over || s->err.code) return;
    if (s->order.pause_ms > 0) {
        s->outstanding++;                          /* the pause */
        s->resting = true;
        neap_timer_start(s->timer, s->order.pause_ms);
    } else {
        scan(s);
    }
}

static void take_page(neap_sweep *s, const neap_redis_value *v) {
    const neap_redis_value *cursor = neap_redis_item(v, 0), *keys = neap_redis_item(v, 1);
    if (!cursor || cursor->len >= sizeof s->cursor || !keys || keys->type != NEAP_REDIS_ARRAY) {
        neap_err_set(&s->err, NEAP_E_PROTOCOL, "Redis answered SCAN with something else than a cursor and keys");
        return;
    }
    strcpy(s->cursor, cursor->text);
    if (strcmp(s->cursor, "0") == 0) s->over = true;
    s->tally->seen += count_page(s, keys);
    if (s->order.most && s->tally->seen > s->order.most && s->order.remove) {
        too_many(s);
        return;
    }
    next_page(s);
    if (s->order.remove && !s->err.code) unlink_page(s, keys);
}

static void on_page(void *arg, const neap_redis_value *v, const neap_err *err) {
    neap_sweep *s = arg;
    if (!refused(s, v, err)) take_page(s, v);
    s->outstanding--;                              /* last: what is sent in between may fail before it returns */
    settle(s);
}

static void scan(neap_sweep *s) {
    const char *const words[] = {"SCAN", s->cursor, "MATCH", s->match, "COUNT", s->count, NULL};
    s->outstanding++;
    neap_redis_ask(s->c, words, s->order.within_ms, on_page, s);
}

static void on_rested(void *arg) {
    neap_sweep *s = arg;
    s->resting = false;
    if (!s->over && !s->err.code) scan(s);
    s->outstanding--;
    settle(s);
}

neap_sweep *neap_sweep_start(neap_loop *loop, neap_redis *c, const neap_sweep_order *order, neap_sweep_tally *tally, neap_sweep_fn done, void *arg) {
    neap_sweep *s = neap_zalloc(sizeof *s);
    s->c = c;
    s->order = *order;
    s->match = neap_strdup(order->match);
    for (int i = 0; i < 2; i++) s->spare[i] = order->spare[i] ? neap_strdup(order->spare[i]) : NULL;
    snprintf(s->cursor, sizeof s->cursor, "0");
    snprintf(s->count, sizeof s->count, "%" PRId64, order->count);
    s->tally = tally;
    s->err = (neap_err)NEAP_ERR_INIT;
    s->done = done;
    s->arg = arg;
    s->timer = neap_timer_new(loop, on_rested, s);
    s->outstanding = 1;                            /* nobody is told before this returns */
    scan(s);
    s->outstanding--;
    if (s->err.code && !s->outstanding) s->outstanding = 1, neap_timer_start(s->timer, 0);
    return s;
}

void neap_sweep_stop(neap_sweep *s) {
    if (!s) return;
    s->over = true;
    if (s->resting) neap_timer_start(s->timer, 0);
}

void neap_sweep_free(neap_sweep *s) {
    if (!s) return;
    neap_timer_free(s->timer);
    neap_err_close(&s->err);
    free(s->match);
    free(s->spare[0]);
    free(s->spare[1]);
    free(s);
}
