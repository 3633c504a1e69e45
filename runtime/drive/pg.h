/* pg.h -- one PostgreSQL connection on the loop (libpq). No Lua.
 *
 *   IDLE -> CONNECTING -> READY <-> BUSY -> READY | DEAD      DEAD is final
 *
 * Promises: no call blocks the loop (names are resolved first, the start of a connection and PQcancel run on the work pool,
 * cancel is async from libpq 17 on); extended protocol only; requests queue and are sent ahead in pipeline mode;
 * every request ends with exactly one final `done`; a cancelled request is drained and the connection usable, or dead
 * after its grace.
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
/* `result` is borrowed for the call and NULL where err says why. May call anything of this header, neap_pg_free too. */
typedef void (*neap_pg_done_fn)(void *arg, PGresult *result, const neap_err *err);
typedef void (*neap_pg_notice_fn)(void *arg, const char *severity, const char *message);

neap_pg *neap_pg_new(neap_loop *loop);
/* `where` is copied; `application` becomes application_name. Several hosts: tried in order by libpq. The whole attempt,
 * names included, has `within_ms`. */
void neap_pg_connect(neap_pg *c, const neap_pgurl *where, const char *application, int64_t within_ms, neap_pg_ready_fn ready, void *arg);
void neap_pg_on_notice(neap_pg *c, neap_pg_notice_fn notice, void *arg);

/* One statement. Parameters are text, or bytes where formats[i] is 1; a NULL value is SQL NULL. */
typedef struct neap_pg_query {
    const char        *sql;
    int                count;
    const char *const *values;
    const int         *lengths;           /* only where formats[i] is 1; may be NULL */
    const int         *formats;           /* NULL: all text */
    bool               sync;              /* a Sync follows it: what comes behind it runs even when it fails */
} neap_pg_query;

/* Send one statement. Several may be outstanding: they are answered in order. Everything is copied. */
void neap_pg_send(neap_pg *c, const neap_pg_query *q, neap_pg_done_fn done, void *arg);
/* Send several in one flight (one write, one round trip): `done` is called for each in order, with its own of `args`. After one that
 * failed, those up to the next Sync end with the code CANCELLED. The last one is always followed by a Sync. */
void neap_pg_flight(neap_pg *c, const neap_pg_query *queries, int count, neap_pg_done_fn done, void *const *args);

/* The connection goes through a tunnel, whose far end no keepalive of libpq sees: from now on it is asked, over this connection while it is idle, by a
 * second session while it is not, and a far end that is gone is noticed within 30 s. `where` and `application` open that session; `started` is
 * when our backend began, as in pg_fate.h (NULL: not known, or a pooler stands between). Everything is copied. */
void neap_pg_watch_far(neap_pg *c, const neap_pgurl *where, const char *application, const char *started);

/* Within a `done`: keep its result, which is the caller's to PQclear from now on. */
PGresult *neap_pg_keep(neap_pg *c);

/* COPY ... TO STDOUT / FROM STDIN as a stream; `ready` is called when the stream may be used, or with why not. Reading ends with 0
 * only after the server confirmed the whole copy; `shut` ends a COPY FROM and is done when the server has confirmed it. The stream must be
 * freed before the connection; freeing it early aborts the copy. */
void neap_pg_copy(neap_pg *c, const char *sql, void (*ready)(void *arg, neap_stream *stream, const neap_err *err), void *arg);
int64_t neap_pg_copied(const neap_pg *c);                  /* rows of the last copy, by its command tag */

/* Ask the server to stop the request with this arg (NULL: whatever runs). Its done comes with SQLSTATE 57014, or with CLOSED when the
 * server did not react within `grace_ms`: the connection is dead then. */
void neap_pg_cancel(neap_pg *c, void *arg, int64_t grace_ms);
/* How often the server was asked so far: what was sent before the last time may have been hit in the place of another. 0 for NULL. */
unsigned neap_pg_cancels(const neap_pg *c);
/* Give the connection up now: everything outstanding ends with this code before the call returns. NULL allowed. */
void neap_pg_kill(neap_pg *c, neap_code code, const char *message);

bool neap_pg_is_alive(const neap_pg *c);                   /* READY or BUSY; false for NULL */
bool neap_pg_is_idle(const neap_pg *c);                    /* alive, nothing outstanding, outside a transaction */
int  neap_pg_backend(const neap_pg *c);                    /* backend pid, 0 before it is connected; kept after death */
/* For PQparameterStatus, PQserverVersion, escaping; NULL while not alive. */
PGconn *neap_pg_conn(neap_pg *c);

typedef enum { NEAP_PG_LOCAL, NEAP_PG_VERIFIED, NEAP_PG_ENCRYPTED, NEAP_PG_PLAIN } neap_pg_trust;
/* How far the server's identity is proved: local socket or loopback, verify-full, unverified TLS, clear text. */
neap_pg_trust neap_pg_trusted(const neap_pg *c);

/* Close and free; outstanding requests end with CANCELLED first. NULL allowed. */
void neap_pg_free(neap_pg *c);

/* pg_error.c: what the server said, as an error (code REMOTE, or CLOSED when it says good-bye). */
void neap_pg_error(neap_err *err, const PGresult *result);

#endif
