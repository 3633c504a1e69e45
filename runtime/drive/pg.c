/* pg.c -- the life of a connection and its pump.
 *
 * After connecting, libpq stays in pipeline mode (but for COPY): every flight is written at once and ends in a Sync, so a queue
 * of requests costs one round trip, not one each. All libpq calls of an open connection happen in neap_pg_pump and below it.
 *
 * The watch. libpq closes its socket by itself when reading fails. Nothing of ours opens a descriptor between that and the check
 * behind the call, so checking PQsocket at once and freeing the watch there is enough for an open connection; while
 * connecting, where libpq also *opens* sockets, the watch goes before every call (pg_connect.c). An idle connection stays
 * watched: a server that goes away is noticed when it does, not at the next request.
 *
 * The one exception is a COPY out whose reader is busy with the last piece: what is not asked for stays in the socket, so that the server
 * waits and libpq's buffer does not grow with the table (109 MB for 256 MiB, measured).
 *
 * Callbacks may free the connection. Every entry from the loop is bracketed by enter/leave, and the memory goes at the last leave.
 * Rejected: single-row mode for large answers (0.8 us a row more than chunks by cursor, measured), and one request at a
 * time (four times slower for the polling reads of a runbook).
 */
#include "drive/pg_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"

neap_pg *neap_pg_new(neap_loop *loop) {
    neap_pg *c = neap_zalloc(sizeof *c);
    c->loop = loop;
    c->why = (neap_err)NEAP_ERR_INIT;
    neap_list_init(&c->waiting);
    neap_list_init(&c->flying);
    return c;
}

void neap_pg_on_notice(neap_pg *c, neap_pg_notice_fn notice, void *arg) {
    c->notice = notice;
    c->notice_arg = arg;
}

void neap_pg_enter(neap_pg *c) { c->busy++; }

static void destroy(neap_pg *c) {
    neap_timer_free(c->timer);
    neap_timer_free(c->cancel_timer);
    neap_err_close(&c->why);
    neap_buf_close(&c->spare);
    free(c);
}

void neap_pg_leave(neap_pg *c) {
    if (--c->busy == 0 && c->doomed) destroy(c);
}

/* ---- the watch ---- */

static void on_ready(void *arg, int events) {
    neap_pg *c = arg;
    neap_err err = NEAP_ERR_INIT;
    if (events & NEAP_WATCH_READ) c->heard_ms = neap_clock_mono_ms();
    neap_pg_enter(c);                              /* an error arrives as both; libpq finds it */
    bool lives = PQconsumeInput(c->conn);
    if (c->state != PG_DEAD) {
        neap_pg_take(c);                           /* what came before the end still counts */
        if (c->state != PG_DEAD && (!lives || PQsocket(c->conn) < 0)) {
            neap_pg_error_lost(&err, c->conn);
            neap_pg_die(c, &err);
        }
    }
    if (c->state != PG_DEAD) neap_pg_pump(c);
    neap_pg_leave(c);
}

void neap_pg_watch(neap_pg *c, int events) {
    neap_watch_free(c->watch);
    c->watch = neap_watch_new(c->loop, PQsocket(c->conn), events, on_ready, c);
}

/* False when the connection is lost. */
bool neap_pg_flush(neap_pg *c, bool *pending) {
    int rc = PQflush(c->conn);
    *pending = rc == 1;
    return rc >= 0 && PQsocket(c->conn) >= 0;
}

void neap_pg_pump(neap_pg *c) {
    neap_err err = NEAP_ERR_INIT;
    bool pending = false;
    if (c->state != PG_OPEN && c->state != PG_COPYING) return;
    neap_pg_enter(c);
    if (c->state == PG_OPEN) neap_pg_send_waiting(c);
    if (c->state == PG_COPYING) neap_pg_copy_pump(c);
    if (c->state != PG_DEAD) {
        if (neap_pg_flush(c, &pending)) {
            int reads = neap_pg_copy_is_full(c) ? 0 : NEAP_WATCH_READ;
            neap_watch_set(c->watch, pending ? reads | NEAP_WATCH_WRITE : reads);
        } else {
            neap_pg_error_lost(&err, c->conn);
            neap_pg_die(c, &err);
        }
    }
    neap_pg_leave(c);
}

void neap_pg_opened(neap_pg *c) {
    c->state = PG_OPEN;
    c->backend = PQbackendPID(c->conn);
    PQsetnonblocking(c->conn, 1);
    PQenterPipelineMode(c->conn);
    neap_pg_watch(c, NEAP_WATCH_READ);
    c->ready(c->ready_arg, NULL);
    neap_pg_pump(c);
}

/* ---- death ---- */

void neap_pg_die(neap_pg *c, neap_err *err) {
    if (c->state == PG_DEAD) {
        neap_err_close(err);
        return;
    }
    pg_state was = c->state;
    c->state = PG_DEAD;
    neap_err_move(&c->why, err);
    neap_pg_enter(c);
    neap_watch_free(c->watch);
    c->watch = NULL;
    if (c->timer) neap_timer_stop(c->timer);
    neap_pg_far_drop(c);
    neap_pg_cancel_drop(c);
    neap_pg_attempt_drop(c);
    if (c->conn) PQfinish(c->conn);
    c->conn = NULL;
    if (was == PG_CONNECTING) c->ready(c->ready_arg, &c->why);
    if (c->copy) neap_pg_copy_fail(c->copy, &c->why);
    neap_pg_fail_all(c, &c->why);
    neap_pg_leave(c);
}

void neap_pg_kill(neap_pg *c, neap_code code, const char *message) {
    neap_err err = NEAP_ERR_INIT;
    if (!c) return;
    neap_err_set(&err, code, "%s", message);
    neap_pg_die(c, &err);
}

void neap_pg_free(neap_pg *c) {
    if (!c || c->doomed) return;
    neap_pg_enter(c);
    c->doomed = true;
    neap_pg_kill(c, NEAP_E_CANCELLED, "the connection was closed");
    neap_pg_leave(c);
}

/* ---- questions ---- */

bool neap_pg_is_alive(const neap_pg *c) { return c && (c->state == PG_OPEN || c->state == PG_COPYING); }
int neap_pg_backend(const neap_pg *c) { return c ? c->backend : 0; }
PGconn *neap_pg_conn(neap_pg *c) { return neap_pg_is_alive(c) ? c->conn : NULL; }
neap_pg_trust neap_pg_trusted(const neap_pg *c) { return c->trust; }

bool neap_pg_is_idle(const neap_pg *c) {
    if (!c || c->state != PG_OPEN || !neap_list_is_empty(&c->waiting)) return false;
    if (c->probes && c->flying.next != &c->flying && c->flying.next->next == &c->flying) return true;      /* only pg_far.c asks */
    return neap_list_is_empty(&c->flying) && PQtransactionStatus(c->conn) == PQTRANS_IDLE;
}
