/* pg_cancel.c -- asking the server to stop what runs.
 *
 * A cancel names a backend, not a statement: one that arrives late hits whatever runs then. So while one is under way nothing
 * new is sent; what had been sent ahead may be hit and says SQLSTATE 57014 without having been asked (a binding repeats a read). It also may arrive too early, before the statement began, and do nothing: it is repeated until the request is gone
 * or the grace has passed, when the connection is given up. The end of a flight is never cancelled: that is its ROLLBACK.
 *
 * Up to libpq 16 PQcancel blocks, so it runs on the work pool (and is not encrypted, which costs an eavesdropper's cancel at worst);
 * from 17 on the same shim uses the async calls.
 */
#include "drive/pg_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "loop/work.h"

enum { REPEAT_MS = 250 };

static void fire(neap_pg *c);

bool neap_pg_is_cancelling(const neap_pg *c) { return c->cancelling || c->cancel_until; }

unsigned neap_pg_cancels(const neap_pg *c) { return c ? c->cancels : 0; }

#ifdef LIBPQ_HAS_ASYNC_CANCEL

typedef struct pg_cancelling {
    neap_pg *c;
    PGcancelConn *conn;
    neap_watch *watch;
} pg_cancelling;

static void cancelling_end(pg_cancelling *k) {
    neap_watch_free(k->watch);
    PQcancelFinish(k->conn);
    k->c->cancelling = NULL;
    neap_pg_pump(k->c);
    free(k);
}

static void on_cancel_step(void *arg, int events) {
    pg_cancelling *k = arg;
    (void)events;
    neap_watch_free(k->watch);
    k->watch = NULL;
    switch (PQcancelPoll(k->conn)) {
    case PGRES_POLLING_READING: k->watch = neap_watch_new(k->c->loop, PQcancelSocket(k->conn), NEAP_WATCH_READ, on_cancel_step, k); break;
    case PGRES_POLLING_WRITING: k->watch = neap_watch_new(k->c->loop, PQcancelSocket(k->conn), NEAP_WATCH_WRITE, on_cancel_step, k); break;
    default: cancelling_end(k);
    }
}

static void launch(neap_pg *c) {
    pg_cancelling *k = neap_zalloc(sizeof *k);
    k->c = c;
    k->conn = PQcancelCreate(c->conn);
    c->cancelling = k;
    if (!PQcancelStart(k->conn)) cancelling_end(k);
    else k->watch = neap_watch_new(c->loop, PQcancelSocket(k->conn), NEAP_WATCH_WRITE, on_cancel_step, k);
}

static void abandon(pg_cancelling *k) {
    neap_watch_free(k->watch);
    PQcancelFinish(k->conn);
    free(k);
}

#else

typedef struct pg_cancelling {
    neap_pg *c;                   /* NULL once the connection is gone */
    PGcancel *cancel;
    char reason[256];
} pg_cancelling;

static void cancel_run(void *arg) {
    pg_cancelling *k = arg;
    PQcancel(k->cancel, k->reason, (int)sizeof k->reason);
}

static void cancel_done(void *arg) {
    pg_cancelling *k = arg;
    neap_pg *c = k->c;
    PQfreeCancel(k->cancel);
    free(k);
    if (!c) return;
    c->cancelling = NULL;
    neap_pg_pump(c);
}

static void launch(neap_pg *c) {
    PGcancel *cancel = PQgetCancel(c->conn);
    if (!cancel) return;
    pg_cancelling *k = neap_zalloc(sizeof *k);
    k->c = c;
    k->cancel = cancel;
    c->cancelling = k;
    neap_work_start(c->loop, cancel_run, cancel_done, k);
}

static void abandon(pg_cancelling *k) { k->c = NULL; }

#endif

void neap_pg_cancel_drop(neap_pg *c) {
    if (c->cancelling) abandon(c->cancelling);
    c->cancelling = NULL;
    c->cancel_until = 0;
    if (c->cancel_timer) neap_timer_stop(c->cancel_timer);
}

static bool any_unwanted(neap_pg *c) {
    for (neap_list *n = c->flying.next; n != &c->flying; n = n->next)
        if (NEAP_LIST_OF(n, pg_request, node)->unwanted) return true;
    return c->state == PG_COPYING;
}

static void on_again(void *arg) {
    neap_pg *c = arg;
    neap_pg_enter(c);
    if (c->cancel_until && neap_clock_mono_ms() >= c->cancel_until)
        neap_pg_kill(c, NEAP_E_CLOSED, "the server did not stop the statement in time; the connection was given up");
    else neap_pg_cancel_due(c);
    neap_pg_leave(c);
}

static void fire(neap_pg *c) {
    if (!c->cancelling) c->cancels++, launch(c);
    if (!c->cancel_timer) c->cancel_timer = neap_timer_new(c->loop, on_again, c);
    neap_timer_start(c->cancel_timer, REPEAT_MS);
}

void neap_pg_cancel_due(neap_pg *c) {
    pg_request *front = neap_pg_front(c);
    if (!c->cancel_until) return;
    if (!any_unwanted(c)) {
        c->cancel_until = 0;
        if (c->cancel_timer) neap_timer_stop(c->cancel_timer);
        if (!c->cancelling) neap_pg_pump(c);
    } else if (c->state == PG_COPYING || (front && front->unwanted)) {
        fire(c);
    }
}

/* What was never sent ends here; the flight it belongs to is whole, because flights are sent whole. */
static void cancel_waiting(neap_pg *c, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    neap_list *n = c->waiting.next;
    neap_err_set(&err, NEAP_E_CANCELLED, "cancelled before it was sent");
    while (n != &c->waiting) {
        pg_request *r = NEAP_LIST_OF(n, pg_request, node);
        n = n->next;
        if (r->copy || r->arg != arg) continue;
        neap_list_remove(&r->node);
        neap_pg_request_end(c, r, NULL, &err);
        neap_pg_request_free(r);
        n = c->waiting.next;                       /* the callback may have changed the queue */
    }
    neap_err_close(&err);
}

void neap_pg_cancel(neap_pg *c, void *arg, int64_t grace_ms) {
    if (!neap_pg_is_alive(c)) return;
    pg_request *front = neap_pg_front(c);
    neap_pg_enter(c);
    if (arg) cancel_waiting(c, arg);
    if (!arg && front) arg = front->arg;
    for (neap_list *n = c->flying.next; n != &c->flying; n = n->next) {
        pg_request *r = NEAP_LIST_OF(n, pg_request, node);
        bool rollback = r->last && n->prev != &c->flying && !NEAP_LIST_OF(n->prev, pg_request, node)->last;
        if (r->arg == arg && !rollback) r->unwanted = true;
    }
    if (any_unwanted(c)) {
        int64_t until = neap_clock_mono_ms() + grace_ms;
        if (!c->cancel_until || until < c->cancel_until) c->cancel_until = until;
        neap_pg_cancel_due(c);
    }
    neap_pg_leave(c);
}
