/* pg_flight.c -- requests out, answers in.
 *
 * libpq in pipeline mode gives, for each statement, its results and then NULL, and for each Sync one PGRES_PIPELINE_SYNC. A
 * request is answered at its result, ended at the NULL and gone after its Sync. A flight is written whole or not at all, so a
 * later flight can never slip between its statements.
 */
#include "drive/pg_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum { SENT_AHEAD = 512 };                         /* statements; more wait in our own queue */

static int length_of(const neap_pg_query *q, int i) {
    if (!q->values[i]) return 0;
    return q->formats && q->formats[i] ? q->lengths[i] : (int)strlen(q->values[i]);
}

static void copy_values(pg_request *r, const neap_pg_query *q) {
    if (q->count == 0) return;
    r->values = neap_zalloc(sizeof *r->values * (size_t)q->count);
    r->lengths = neap_zalloc(sizeof *r->lengths * (size_t)q->count);
    r->formats = neap_zalloc(sizeof *r->formats * (size_t)q->count);
    for (int i = 0; i < q->count; i++) {
        r->lengths[i] = length_of(q, i);
        r->formats[i] = q->formats ? q->formats[i] : 0;
        if (!q->values[i]) continue;
        r->values[i] = neap_alloc((size_t)r->lengths[i] + 1);
        memcpy(r->values[i], q->values[i], (size_t)r->lengths[i]);
        r->values[i][r->lengths[i]] = '\0';
    }
}

void neap_pg_request_free(pg_request *r) {
    neap_list_remove(&r->node);
    for (int i = 0; i < r->count; i++) {
        if (r->values[i]) explicit_bzero(r->values[i], (size_t)r->lengths[i]);   /* it may have been a secret */
        free(r->values[i]);
    }
    free(r->values);
    free(r->lengths);
    free(r->formats);
    free(r->sql);
    free(r);
}

pg_request *neap_pg_front(neap_pg *c) {
    return neap_list_is_empty(&c->flying) ? NULL : NEAP_LIST_OF(c->flying.next, pg_request, node);
}

void neap_pg_request_end(neap_pg *c, pg_request *r, PGresult *result, const neap_err *err) {
    if (r->answered) return;
    r->answered = true;
    neap_pg_enter(c);
    if (r->done) r->done(r->arg, result, err);
    neap_pg_leave(c);
}

/* Everything outstanding ends. Requests made by the callbacks on the way end too, since the connection is dead. */
void neap_pg_fail_all(neap_pg *c, const neap_err *err) {
    neap_list *const queues[] = {&c->flying, &c->waiting};
    for (int i = 0; i < 2; i++) {
        while (!neap_list_is_empty(queues[i])) {
            pg_request *r = NEAP_LIST_OF(queues[i]->next, pg_request, node);
            neap_list_remove(&r->node);
            if (r->copy) neap_pg_copy_fail(r->copy, err);
            else neap_pg_request_end(c, r, NULL, err);
            neap_pg_request_free(r);
        }
    }
}

/* ---- out ---- */

void neap_pg_flight(neap_pg *c, const neap_pg_query *queries, int count, neap_pg_done_fn done, void *const *args) {
    neap_pg_enter(c);
    for (int i = 0; i < count; i++) {
        pg_request *r = neap_zalloc(sizeof *r);
        neap_list_init(&r->node);
        r->done = done;
        r->arg = args ? args[i] : NULL;
        r->sql = neap_strdup(queries[i].sql);
        r->count = queries[i].count;
        copy_values(r, &queries[i]);
        r->last = i == count - 1;
        r->sync = queries[i].sync || r->last;
        neap_list_append(&c->waiting, &r->node);
    }
    if (c->state == PG_DEAD) neap_pg_fail_all(c, &c->why);
    else neap_pg_pump(c);
    neap_pg_leave(c);
}

void neap_pg_send(neap_pg *c, const neap_pg_query *q, neap_pg_done_fn done, void *arg) {
    neap_pg_flight(c, q, 1, done, &arg);
}

/* True when libpq took it. */
static bool send_one(neap_pg *c, pg_request *r) {
    if (!PQsendQueryParams(c->conn, r->sql, r->count, NULL, (const char *const *)r->values, r->lengths, r->formats, 0)) return false;
    return !r->sync || PQpipelineSync(c->conn);
}

void neap_pg_send_waiting(neap_pg *c) {
    int ahead = 0;
    for (neap_list *n = c->flying.next; n != &c->flying; n = n->next) ahead++;
    if (neap_pg_is_cancelling(c)) return;          /* a late cancel must not hit what is not even sent */
    bool within = false;                           /* a flight that was begun is sent to its end */
    while (!neap_list_is_empty(&c->waiting) && (within || ahead < SENT_AHEAD)) {
        pg_request *r = NEAP_LIST_OF(c->waiting.next, pg_request, node);
        if (r->copy) {
            if (neap_pg_front(c)) return;          /* COPY has no place in a pipeline: let it empty first */
            neap_pg_copy_begin(c, r);
            return;
        }
        neap_list_remove(&r->node);
        neap_list_append(&c->flying, &r->node);
        within = !r->last;
        ahead++;
        if (!send_one(c, r)) {
            neap_err err = NEAP_ERR_INIT;
            neap_pg_error_lost(&err, c->conn);
            neap_pg_die(c, &err);
            return;
        }
    }
    neap_pg_cancel_due(c);
}

/* ---- in ---- */

static void answer(neap_pg *c, pg_request *r, PGresult *result) {
    neap_err err = NEAP_ERR_INIT;
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY: neap_pg_request_end(c, r, result, NULL); return;
    case PGRES_PIPELINE_ABORTED: neap_err_set(&err, NEAP_E_CANCELLED, "not run, because a statement before it failed"); break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        neap_err_set(&err, NEAP_E_USAGE, "COPY with the client is not a statement to be executed");
        neap_err_hint(&err, "Use copy_in or copy_out.");
        neap_pg_request_end(c, r, NULL, &err);
        neap_pg_die(c, &err);                      /* the protocol cannot be continued from here */
        return;
    default: neap_pg_error(&err, result);
    }
    neap_pg_request_end(c, r, NULL, &err);
    neap_err_close(&err);
}

static void pop(neap_pg *c, pg_request *r) {
    neap_pg_request_free(r);
    neap_pg_cancel_due(c);
}

/* One result of libpq belongs to the front. */
static void place(neap_pg *c, pg_request *r, PGresult *result) {
    if (!result) {
        r->ended = r->answered;
        if (r->ended && !r->sync) pop(c, r);
    } else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        if (!r->answered) {
            neap_err err = NEAP_ERR_INIT;
            neap_err_set(&err, NEAP_E_PROTOCOL, "the server did not answer a statement");
            neap_pg_request_end(c, r, NULL, &err);
            neap_err_close(&err);
        }
        if (c->state != PG_DEAD) pop(c, r);
    } else {
        answer(c, r, result);
    }
}

void neap_pg_take(neap_pg *c) {
    int silent = 0;                                /* NULLs in a row: two mean that nothing more is here */
    if (c->state == PG_COPYING) return;
    while (c->state == PG_OPEN && neap_pg_front(c) && !PQisBusy(c->conn) && silent < 2) {
        PGresult *result = PQgetResult(c->conn);
        silent = result ? 0 : silent + 1;
        c->current = result;
        place(c, neap_pg_front(c), result);
        PQclear(c->current);                       /* NULL when the callback kept it */
        c->current = NULL;
    }
}

PGresult *neap_pg_keep(neap_pg *c) {
    PGresult *result = c->current;
    c->current = NULL;
    return result;
}
