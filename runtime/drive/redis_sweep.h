/* redis_sweep.h -- every key that matches, counted or unlinked, page by page in constant memory.
 *
 * SCAN promises that a key which is there from beginning to end is seen; keys that come meanwhile may be or not. The next page is asked for
 * before the keys of this one are unlinked, so that a far server is not waited for twice a page. `spare` are whole keys that are
 * left alone and not counted: neap's own lock and hold. */
#ifndef NEAP_DRIVE_REDIS_SWEEP_H
#define NEAP_DRIVE_REDIS_SWEEP_H

#include "drive/redis.h"

typedef struct neap_sweep_order {
    const char *match;            /* SCAN's pattern */
    int64_t count, pause_ms;      /* keys a page; rest between pages */
    int64_t most;                 /* stop before more are unlinked; 0: no bound */
    int64_t within_ms;            /* for each command */
    bool    remove;
    const char *spare[2];
} neap_sweep_order;

typedef struct neap_sweep_tally {
    int64_t seen, removed;        /* keys that matched, duplicates of SCAN among them; keys that are gone by our UNLINK */
    bool    sent;                 /* an UNLINK was sent */
} neap_sweep_tally;

typedef struct neap_sweep neap_sweep;
typedef void (*neap_sweep_fn)(void *arg, const neap_err *err);

/* Strings are copied; `tally` is kept up to date for who looks. `done` comes once, unless it is freed before. */
neap_sweep *neap_sweep_start(neap_loop *loop, neap_redis *c, const neap_sweep_order *order, neap_sweep_tally *tally, neap_sweep_fn done, void *arg);
/* No further page is begun; `done` comes when what is under way is answered. */
void neap_sweep_stop(neap_sweep *s);
/* Only when no command is outstanding: after `done`, or after the connection was given up. NULL allowed. */
void neap_sweep_free(neap_sweep *s);

#endif
