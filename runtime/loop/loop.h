/* loop.h -- the one event loop of the process (libuv). uv_* types stay in loop/ and drive/.
 *
 * Promise: everything that waits is a handle of this loop; `neap_loop_close` waits until the
 * last close callback ran, and `neap_loop_handles` lets a test prove that nothing was left.
 */
#ifndef NEAP_LOOP_LOOP_H
#define NEAP_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

typedef struct neap_loop neap_loop;

neap_loop *neap_loop_new(void);
/* Run one turn: wait for at least one event when `wait`, else only take what is there.
 * Returns false when no active handle or request is left. */
bool neap_loop_turn(neap_loop *loop, bool wait);
/* Handles that are open (closing ones included) less the loop's own. */
int  neap_loop_handles(neap_loop *loop);
/* Close what is left and free. Returns how many handles somebody had forgotten. */
int  neap_loop_close(neap_loop *loop);

/* The longest time that the callbacks of one turn held the loop, since the last question. While they
 * run no other stream, deadline or Ctrl-C is served; whatever blocks belongs on the pool (work.h). */
int64_t neap_loop_stall_ms(neap_loop *loop);

/* Fill `err` from a system error (`error` is -errno, as libuv gives it): "<what>: no space left on device".
 * Returns false, as neap_err_set. */
bool neap_loop_fail(neap_err *err, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

struct uv_loop_s *neap_loop_uv(neap_loop *loop);     /* for loop/ and drive/ only */

#endif
