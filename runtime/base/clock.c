/* clock.c -- monotonic, wall and processor time.
 *
 * CLOCK_MONOTONIC, not CLOCK_BOOTTIME: a deadline must not fire the moment a suspended laptop wakes,
 * before the operator has seen where the run stands. The loop's own timers use the same clock.
 */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id) {
    struct timespec now = {0, 0};
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t neap_clock_mono_us(void) { return read_us(CLOCK_MONOTONIC); }
int64_t neap_clock_mono_ms(void) { return read_us(CLOCK_MONOTONIC) / 1000; }
int64_t neap_clock_thread_us(void) { return read_us(CLOCK_THREAD_CPUTIME_ID); }
int64_t neap_clock_wall_ms(void) { return read_us(CLOCK_REALTIME) / 1000; }

void neap_clock_iso(int64_t wall_ms, char out[NEAP_CLOCK_ISO_SIZE]) {
    int64_t rest = wall_ms % 1000;
    if (rest < 0) rest += 1000;                     /* before 1970 */
    time_t seconds = (time_t)((wall_ms - rest) / 1000);
    struct tm parts;
    char text[NEAP_CLOCK_ISO_SIZE];
    if (!gmtime_r(&seconds, &parts) || !strftime(text, sizeof text - 6, "%Y-%m-%dT%H:%M:%S", &parts)) {
        snprintf(out, NEAP_CLOCK_ISO_SIZE, "%s", "?");
        return;
    }
    snprintf(out, NEAP_CLOCK_ISO_SIZE, "%.25s.%03dZ", text, (int)rest);
}
