/* work.h -- calls that block, on libuv's pool: fsync, PQcancel. `run` executes on another
 * thread and must touch only its argument; `done` runs on the loop afterwards. A started job is
 * always finished; there is no cancel, so `run` must be bounded by itself. */
#ifndef NEAP_LOOP_WORK_H
#define NEAP_LOOP_WORK_H

#include "loop/loop.h"

void neap_work_start(neap_loop *loop, void (*run)(void *arg), void (*done)(void *arg), void *arg);

/* Resolve a host name off the loop. `done` gets a NULL-terminated list of numeric addresses
 * (freed after the call), or NULL and a reason. */
typedef void (*neap_resolve_fn)(void *arg, char *const *addresses, const char *reason);
void neap_resolve_start(neap_loop *loop, const char *host, neap_resolve_fn done, void *arg);

#endif
