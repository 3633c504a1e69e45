/* outlet.h -- writing to a screen, a pipe or a file without ever waiting for it.
 *
 * A terminal stopped by Ctrl-S, a pager nobody scrolls, a pty whose other end hangs: none of them may hold the
 * loop. What cannot be written now is queued and goes out when there is room; a queue of more than 8 MiB is
 * not added to. A reader that is gone is told once and remembered. */
#ifndef NEAP_DRIVE_OUTLET_H
#define NEAP_DRIVE_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "loop/loop.h"

typedef struct neap_outlet neap_outlet;

/* For descriptor `fd` of this process, which stays open and keeps its flags. */
neap_outlet *neap_outlet_new(neap_loop *loop, int fd);
/* All of it, now or later. CLOSED: the reader is gone; BUSY: the queue is full, nothing was taken. */
bool neap_outlet_write(neap_outlet *o, const char *text, size_t len, neap_err *err);
bool neap_outlet_is_empty(const neap_outlet *o);
/* Called once, from the loop, when the queue is empty or the reader gone. NULL: nobody waits any more. */
void neap_outlet_on_empty(neap_outlet *o, void (*fn)(void *arg), void *arg);
/* Write what is queued, waiting up to `within_ms` altogether; then free. */
void neap_outlet_free(neap_outlet *o, int within_ms);

#endif
