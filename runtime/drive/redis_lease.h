/* redis_lease.h -- a lock in Redis: a key with our value that disappears when nobody renews it.
 *
 *   take: SET key value NX PX ttl ─► ours ─► renewed every third of its time ─► released: deleted if it still holds our value
 *                                  └─► taken: the value says by whom
 *
 * Renewing and releasing compare first (WATCH, GET, MULTI … EXEC: no script is needed, and an ACL often allows none). A key that vanished
 * before its time was flushed, not expired: it is set again, unless somebody was faster. The lock is advisory, and asynchronous
 * replication may forget it in a failover; every act is preceded by a proof, and the hold that stays behind is a second belt. */
#ifndef NEAP_DRIVE_REDIS_LEASE_H
#define NEAP_DRIVE_REDIS_LEASE_H

#include "drive/redis.h"

/* Shorter than an operator's patience with a run that was killed (engine/hold.lua waits 10 s for its own). */
enum { NEAP_LEASE_MS = 9000, NEAP_LEASE_ASK_MS = 5000 };

typedef struct neap_lease neap_lease;
/* err: nobody knows. Else `ours`, or the value of whoever has it (NULL: nobody). */
typedef void (*neap_lease_fn)(void *arg, bool ours, const char *holder, const neap_err *err);

/* Over this connection, which must outlive the lease and be used for nothing else. Texts are copied. */
neap_lease *neap_lease_new(neap_loop *loop, neap_redis *c, const char *key, const char *value);
void neap_lease_take(neap_lease *l, neap_lease_fn done, void *arg);
/* Is it ours still? Renewed in passing. */
void neap_lease_prove(neap_lease *l, neap_lease_fn done, void *arg);
void neap_lease_release(neap_lease *l, neap_lease_fn done, void *arg);
/* Stop renewing and forget; nobody is called any more. The key is left to expire. NULL allowed. */
void neap_lease_free(neap_lease *l);

#endif
