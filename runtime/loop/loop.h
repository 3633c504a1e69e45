/* loop.h -- the one event loop of the process (libuv). uv_* types stay in loop/ and drive/.
 *
 * Promise: everything that waits is a handle of this loop; `neap_loop_close` waits until the
 * last close callback ran, and `neap_loop_handles` lets a test prove that nothing was left.
 */
#ifndef NEAP_LOOP_LOOP_H
#define NEAP_LOOP_LOOP_H

#include <stdbool.h>

typedef struct neap_loop neap_loop;

neap_loop *neap_loop_new(void);
/* Run one turn: wait for at least one event when `wait`, else only take what is there.
 * Returns false when no active handle or request is left. */
bool neap_loop_turn(neap_loop *loop, bool wait);
/* Handles that are open (closing ones included) less the loop's own. */
int  neap_loop_handles(neap_loop *loop);
/* Close what is left and free. Returns how many handles somebody had forgotten. */
int  neap_loop_close(neap_loop *loop);

struct uv_loop_s *neap_loop_uv(neap_loop *loop);     /* for loop/ and drive/ only */

#endif
