/* pg_fate.h -- what became of a transaction or a backend whose answer was lost. Asks over a connection of its own. */
#ifndef NEAP_DRIVE_PG_FATE_H
#define NEAP_DRIVE_PG_FATE_H

#include "drive/pg.h"

typedef enum neap_pg_fate {
    NEAP_PG_COMMITTED, NEAP_PG_ABORTED,       /* of the transaction */
    NEAP_PG_RUNNING,                          /* still in progress when the time was over */
    NEAP_PG_GONE,                             /* without a transaction id: the backend works no more, its end is not known */
    NEAP_PG_FATELESS                          /* nobody can say: `reason` says why */
} neap_pg_fate;

/* As the intent's evidence has it. NULL or 0: not known. */
typedef struct neap_pg_evidence {
    const char *xid, *system, *backend_start;
    int  timeline, pid;
    bool end_it;                              /* terminate the backend first, if it is still the same one */
} neap_pg_evidence;

typedef struct neap_pg_inquiry neap_pg_inquiry;
typedef void (*neap_pg_fate_fn)(void *arg, neap_pg_fate fate, const char *reason);

/* Asks again and again, over broken connections too, until it is decided or `within_ms` have passed (0: ask once). Everything is copied. */
neap_pg_inquiry *neap_pg_inquire(neap_loop *loop, const neap_pgurl *where, const char *application, const neap_pg_evidence *evidence,
                                 int64_t within_ms, neap_pg_fate_fn done, void *arg);
void neap_pg_inquiry_free(neap_pg_inquiry *q);    /* before or after done; never calls back again */

#endif
