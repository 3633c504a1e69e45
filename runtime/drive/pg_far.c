/* pg_far.c -- is the far end still there, where the kernel cannot know?
 *
 *   nothing came for QUIET ─┬─ idle ─► an empty statement over the connection itself
 *                           └─ busy ─► a second session, which is asked whether the backend of the first still lives
 *        answered ─► look again after QUIET        no answer within ANSWER ─► once more ─► the connection is dead
 *        the second session sees no such backend ─► the connection is dead
 *
 * A connection through a tunnel ends in a unix socket of this machine: keepalive and TCP_USER_TIMEOUT of libpq see only that. The tunnel's own
 * connection (SSH) is watched by its driver; but what stands behind it, a database on a third machine, may vanish without a word, and a server that
 * was started anew knows nothing of our session and has nobody to say so to. A statement that runs for hours looks the same from here.
 *
 * The second session is kept while something runs, so that a long restore costs one more backend and not one connection every few
 * seconds; it ends when the first is idle. Whoever answers at all, with a refusal too (no slot is left, the server is starting), is alive, and proves no death.
 * Behind a pooler backends change owners, so there only the answer counts.
 * Inside a transaction nothing is sent over the connection itself: it would push away the server's own idle_in_transaction_session_timeout.
 *
 * Rejected: asking by a bare connect. The tunnel's socket takes every connection, and a machine that came back takes it too. */
#include "drive/pg_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"

enum { QUIET_MS = 8000, ANSWER_MS = 7000, AGAIN_MS = 1000, TRIES = 2 };

typedef struct pg_far {
    neap_pg    *c;
    neap_timer *timer;
    neap_pgurl  where;            /* pairs copied */
    char       *application, *started;
    neap_pg    *second;           /* NULL: none is needed */
    bool        open;             /* it is connected */
    int64_t     asked_ms;         /* 0: no question is under way */
    int64_t     looked_ms;        /* when the last one was answered */
    int         failures;
} pg_far;

static void let_second_go(pg_far *f) {
    neap_pg *second = f->second;
    f->second = NULL;
    f->open = false;
    neap_pg_free(second);
}

/* May be called from a callback of the second session. */
void neap_pg_far_drop(neap_pg *c) {
    pg_far *f = c->far;
    c->far = NULL;
    if (!f) return;
    let_second_go(f);
    neap_timer_free(f->timer);
    neap_pgurl_close(&f->where);
    free(f->application);
    free(f->started);
    free(f);
}

static void gone(pg_far *f, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the server is no longer there: %s", why);
    err.retry = true;
    neap_pg_die(f->c, &err);                       /* frees f */
}

static void look_after(pg_far *f, int64_t ms) {
    f->asked_ms = 0;
    neap_timer_start(f->timer, ms);
}

static void answered(pg_far *f) {
    f->failures = 0;
    f->looked_ms = neap_clock_mono_ms();
    look_after(f, QUIET_MS);
}

static void unanswered(pg_far *f, const char *why) {
    let_second_go(f);
    if (++f->failures >= TRIES) { gone(f, why); return; }
    f->looked_ms = neap_clock_mono_ms() - QUIET_MS + AGAIN_MS;
    look_after(f, AGAIN_MS);
}

/* ---- the connection itself ---- */

static void on_echo(void *arg, PGresult *result, const neap_err *err) {
    neap_pg *c = arg;
    (void)result, (void)err;
    if (c->probes > 0) c->probes--;
    if (c->far && c->state != PG_DEAD) answered(c->far);
}

static void ask_itself(pg_far *f) {
    neap_pg_query empty = {"", 0, NULL, NULL, NULL, true};
    f->c->probes++;
    neap_pg_send(f->c, &empty, on_echo, f->c);
}

/* ---- the second session ---- */

static void on_told(void *arg, PGresult *result, const neap_err *err) {
    pg_far *f = arg;
    if (err && err->code == NEAP_E_CANCELLED) return;              /* let go */
    if (err && err->code == NEAP_E_CLOSED) { unanswered(f, err->message); return; }
    bool missing = !err && f->started && PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "0") == 0;
    if (missing) gone(f, "it answers, and knows nothing of this session");
    else answered(f);
}

static void ask_second(pg_far *f) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", f->c->backend);
    const char *values[2] = {pid, f->started ? f->started : ""};
    neap_pg_query q = {"SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int"
                       " AND to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') = $2::text", 2, values, NULL, NULL, true};
    neap_pg_send(f->second, &q, on_told, f);
}

static void on_second(void *arg, const neap_err *err) {
    pg_far *f = arg;
    if (!err) {
        f->open = true;
        ask_second(f);
    } else if (err->code == NEAP_E_CANCELLED) {
        return;
    } else if (err->code == NEAP_E_UNREACHABLE && !err->sqlstate[0]) {
        unanswered(f, err->message ? err->message : "nobody answers");
    } else {
        let_second_go(f);
        answered(f);
    }
}

static void ask_aside(pg_far *f) {
    if (f->second && !neap_pg_is_alive(f->second)) let_second_go(f);
    if (f->open) { ask_second(f); return; }
    f->second = neap_pg_new(f->c->loop);
    neap_pg_connect(f->second, &f->where, f->application, ANSWER_MS, on_second, f);
}

/* ---- the clock ---- */

static void on_time(void *arg) {
    pg_far *f = arg;
    neap_pg *c = f->c;
    int64_t now = neap_clock_mono_ms(), since = c->heard_ms > f->looked_ms ? c->heard_ms : f->looked_ms;
    if (c->state != PG_OPEN && c->state != PG_COPYING) return;
    if (f->asked_ms) { unanswered(f, "it does not answer any more"); return; }
    if (neap_pg_is_idle(c) && f->second) let_second_go(f);
    if (now - since < QUIET_MS) { look_after(f, QUIET_MS - (now - since)); return; }
    f->asked_ms = now;
    neap_timer_start(f->timer, ANSWER_MS);
    if (neap_pg_is_idle(c) && !c->probes) ask_itself(f);
    else ask_aside(f);
}

void neap_pg_watch_far(neap_pg *c, const neap_pgurl *where, const char *application, const char *started) {
    if (c->far || !neap_pg_is_alive(c)) return;
    pg_far *f = neap_zalloc(sizeof *f);
    f->c = c;
    for (int i = 0; i < where->count; i++) neap_pgurl_set(&f->where, where->keys[i], where->values[i]);
    f->application = neap_strdup(application);
    f->started = started ? neap_strdup(started) : NULL;
    f->timer = neap_timer_new(c->loop, on_time, f);
    c->far = f;
    c->heard_ms = neap_clock_mono_ms();
    neap_timer_start(f->timer, QUIET_MS);
}
