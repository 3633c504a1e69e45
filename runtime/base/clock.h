/* clock.h -- three clocks that are never mixed. Deadlines and durations are monotonic
 * milliseconds; wall time is only for people and for records; what somebody computed is processor time, which stands still while the
 * machine does something else or nothing at all. */
#ifndef NEAP_BASE_CLOCK_H
#define NEAP_BASE_CLOCK_H

#include <stdint.h>
#include <stddef.h>

int64_t neap_clock_mono_ms(void);
int64_t neap_clock_mono_us(void);
int64_t neap_clock_thread_us(void);                   /* processor time of the calling thread */
int64_t neap_clock_wall_ms(void);                     /* since 1970, UTC */

enum { NEAP_CLOCK_ISO_SIZE = 32 };
/* "2026-04-25T02:00:03.123Z" */
void neap_clock_iso(int64_t wall_ms, char out[NEAP_CLOCK_ISO_SIZE]);

#endif
