/* timer.h -- one-shot timers on the loop's monotonic clock. */
#ifndef NEAP_LOOP_TIMER_H
#define NEAP_LOOP_TIMER_H

#include <stdint.h>
#include "loop/loop.h"

typedef struct neap_timer neap_timer;

neap_timer *neap_timer_new(neap_loop *loop, void (*on_time)(void *arg), void *arg);
void neap_timer_start(neap_timer *t, int64_t delay_ms);   /* again: the new delay counts */
void neap_timer_stop(neap_timer *t);
void neap_timer_free(neap_timer *t);                      /* NULL allowed; closes asynchronously, never calls back again */

#endif
