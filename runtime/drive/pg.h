/* pg.h -- one PostgreSQL connection on the loop (libpq). No Lua.
 *
 *   IDLE -> CONNECTING -> READY <-> BUSY -> CANCELLING -> READY | DEAD      DEAD is final
 *
 * Promises: no call blocks the loop (names are resolved first, cancel goes to the pool or is async from libpq 17 on);
 * extended protocol only; requests queue and are sent ahead in pipeline mode where they may be; every request ends
 * with exactly one `done`; after cancel the connection is drained and usable, or dead after `grace_ms`.
 */
#ifndef NEAP_DRIVE_PG_H
#define NEAP_DRIVE_PG_H

#include <stdbool.h>
#include <stdint.h>
#include <libpq-fe.h>
#include "base/err.h"
#include "drive/pgurl.h"
#include "loop/loop.h"
#include "loop/stream.h"

typedef struct neap_pg neap_pg;

typedef void (*neap_pg_ready_fn)(void *arg, const neap_err *err);              /* connected, or why not */
/* `result` is borrowed for the call; NULL with err. For a piece of a streamed answer `more` is true. */
typedef void (*neap_pg_done_fn)(void *arg, PGresult *result, bool more, const neap_err *err);
typedef void (*neap_pg_notice_fn)(void *arg, const char *severity, const char *message);

neap_pg *neap_pg_new(neap_loop *loop);
/* `where` is copied; `application` becomes application_name. Several hosts: tried in order by libpq. */
void neap_pg_connect(neap_pg *c, const neap_pgurl *where, const char *application, int64_t within_ms, neap_pg_ready_fn ready, void *arg);
void neap_pg_on_notice(neap_pg *c, neap_pg_notice_fn notice, void *arg);

/* Parameters in text format; NULL entries are SQL NULL. */
typedef struct neap_pg_query {
    const char        *sql;
    int                count;
    const char *const *values;
    const int         *lengths;           /* only where formats[i] is 1 */
    const int         *formats;           /* NULL: all text */
} neap_pg_query;

/* Send one statement. Several may be outstanding: they are answered in order. */
void neap_pg_send(neap_pg *c, const neap_pg_query *q, neap_pg_done_fn done, void *arg);
/* Send several in one flight (one pipeline, one Sync): each has its own done; after a failed one the rest end with the code CANCELLED. */
void neap_pg_flight(neap_pg *c, const neap_pg_query *queries, int count, neap_pg_done_fn done, void *const *args);

/* COPY ... TO STDOUT / FROM STDIN as a stream; ready is called when the stream may be used; the stream's end carries the outcome, the row
 * count is neap_pg_copied. */
void neap_pg_copy(neap_pg *c, const char *sql, void (*ready)(void *arg, neap_stream *stream, const neap_err *err), void *arg);
int64_t neap_pg_copied(const neap_pg *c);

/* Ask the server to stop what runs. The request's done comes with SQLSTATE 57014, or CLOSED after grace. */
void neap_pg_cancel(neap_pg *c, int64_t grace_ms);
bool neap_pg_is_alive(const neap_pg *c);
int  neap_pg_backend(const neap_pg *c);                    /* backend pid, 0 before it is connected */
PGconn *neap_pg_conn(neap_pg *c);                          /* for PQparameterStatus, PQserverVersion, escaping */
PGTransactionStatusType neap_pg_state(const neap_pg *c);
/* Close; outstanding requests end with CANCELLED first. */
void neap_pg_free(neap_pg *c);

#endif
