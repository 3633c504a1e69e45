/* watch.h -- readiness of a descriptor that a client library owns. The only caller of uv_poll_*.
 *
 * A library may close or reopen its descriptor inside its own poll step, and libuv aborts when a
 * watched descriptor is closed under it. So: stop the watch before every call that may do so and
 * make a fresh one afterwards, even if the number looks the same. An error arrives as
 * "readable and writable": the library then finds it itself (libuv reports such errors without
 * events and stops polling; silence would hang us).
 */
#ifndef NEAP_LOOP_WATCH_H
#define NEAP_LOOP_WATCH_H

#include "loop/loop.h"

enum { NEAP_WATCH_READ = 1, NEAP_WATCH_WRITE = 2 };

typedef struct neap_watch neap_watch;
typedef void (*neap_watch_fn)(void *arg, int events);

neap_watch *neap_watch_new(neap_loop *loop, int fd, int events, neap_watch_fn on_ready, void *arg);
void neap_watch_set(neap_watch *w, int events);           /* change interest; 0 pauses */
void neap_watch_free(neap_watch *w);                      /* NULL allowed; stops at once, frees asynchronously */

#endif
