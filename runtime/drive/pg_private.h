/* pg_private.h -- what the files pg*.c of this folder share. Nobody else includes it.
 *
 *   pg.c          the connection: life, pump, death        pg_connect.c  names, libpq's poll steps, the deadline
 *   pg_flight.c   requests out, answers in                 pg_copy.c     COPY as a stream
 *   pg_cancel.c   asking the server to stop                pg_error.c    libpq's words as neap_err
 *   pg_far.c      is the far end of a tunnel still there?
 */
#ifndef NEAP_DRIVE_PG_PRIVATE_H
#define NEAP_DRIVE_PG_PRIVATE_H

#include "base/buf.h"
#include "base/list.h"
#include "drive/pg.h"
#include "loop/timer.h"
#include "loop/watch.h"

typedef enum { PG_IDLE, PG_CONNECTING, PG_OPEN, PG_COPYING, PG_DEAD } pg_state;

/* One statement between `send` and its `done`. A flight is a run of requests; `last` marks its end. */
typedef struct pg_request {
    neap_list node;
    neap_pg_done_fn done;
    void *arg;
    char *sql;
    int   count;
    char **values;                /* values, lengths and formats are one block each; NULL when count is 0 */
    int  *lengths, *formats;
    bool  sync, last;
    bool  answered, ended;        /* done was called; libpq's NULL after its results was seen */
    bool  unwanted;               /* to be cancelled as soon as it runs */
    struct pg_copy *copy;         /* not a statement but a COPY that waits for its turn */
} pg_request;

struct pg_attempt;
struct pg_cancelling;

struct neap_pg {
    neap_loop  *loop;
    PGconn     *conn;
    neap_watch *watch;
    neap_timer *timer;            /* connecting: the deadline */
    pg_state    state;
    neap_list   waiting, flying;  /* of pg_request */
    int         backend;
    neap_pg_trust trust;
    neap_err    why;              /* of death */
    neap_pg_ready_fn ready;
    void       *ready_arg;
    neap_pg_notice_fn notice;
    void       *notice_arg;
    struct pg_attempt *attempt;
    struct pg_cancelling *cancelling;
    neap_timer *cancel_timer;
    int64_t     cancel_until;     /* monotonic; 0: nothing is being cancelled */
    unsigned    cancels;          /* that were sent so far */
    struct pg_copy *copy;         /* the running COPY */
    int64_t     copied;
    neap_buf    spare;            /* memory for its next piece */
    struct pg_far *far;           /* who looks whether the far end is there; NULL: the kernel does */
    int64_t     heard_ms;         /* when bytes last came */
    int         probes;           /* of the requests in flight, those that only ask whether somebody is there */
    PGresult   *current;          /* the answer a callback is looking at */
    int         busy;             /* depth of our own calls: freeing is put off until 0 */
    bool        doomed;
};

/* pg.c */
void neap_pg_enter(neap_pg *c);
void neap_pg_leave(neap_pg *c);                               /* may free c */
void neap_pg_die(neap_pg *c, neap_err *err);                  /* err is moved */
void neap_pg_watch(neap_pg *c, int events);                   /* a fresh watch on the socket of now */
void neap_pg_opened(neap_pg *c);                              /* connecting succeeded */
void neap_pg_pump(neap_pg *c);                                /* send, flush, take what came; set interest */
bool neap_pg_flush(neap_pg *c, bool *pending);
/* pg_connect.c */
void neap_pg_attempt_drop(neap_pg *c);
/* pg_flight.c */
void neap_pg_send_waiting(neap_pg *c);
void neap_pg_take(neap_pg *c);
void neap_pg_fail_all(neap_pg *c, const neap_err *err);
pg_request *neap_pg_front(neap_pg *c);
void neap_pg_request_free(pg_request *r);
void neap_pg_request_end(neap_pg *c, pg_request *r, PGresult *result, const neap_err *err);
/* pg_cancel.c */
void neap_pg_cancel_due(neap_pg *c);                          /* the front changed: is it unwanted? */
void neap_pg_cancel_drop(neap_pg *c);
bool neap_pg_is_cancelling(const neap_pg *c);
/* pg_copy.c */
void neap_pg_copy_begin(neap_pg *c, pg_request *r);
/* Is a COPY out waiting for its reader? Then nothing is read from the socket. */
bool neap_pg_copy_is_full(const neap_pg *c);
void neap_pg_copy_pump(neap_pg *c);
void neap_pg_copy_fail(struct pg_copy *copy, const neap_err *err);
/* pg_far.c */
void neap_pg_far_drop(neap_pg *c);
/* pg_error.c */
void neap_pg_error_connection(neap_err *err, PGconn *conn);
void neap_pg_error_lost(neap_err *err, PGconn *conn);

#endif
