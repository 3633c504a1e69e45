/* alive.h -- a peer that is gone told from one that lives and does not read.
 *
 * Every TCP connection of ours, and of a library that is asked to (libpq), has TCP_USER_TIMEOUT: what was sent and is not acknowledged
 * within neap_alive_patience_ms ends it. Linux counts a peer that says "I have no room" the same way, although each such word
 * proves that it lives; the loop looks at the connections it watches and moves the deadline of those on. */
#ifndef NEAP_LOOP_ALIVE_H
#define NEAP_LOOP_ALIVE_H

struct uv_loop_s;
typedef struct neap_alive neap_alive;

/* How long nothing may be heard while something waits to be sent. Connections take the value that it has when they are made. */
extern int neap_alive_patience_ms;

neap_alive *neap_alive_new(struct uv_loop_s *loop);     /* one handle, which keeps no loop running */
void neap_alive_free(neap_alive *a);                    /* closes the handle; the memory follows */

#endif
