/* watchers.h -- those who look on: lines out over a unix socket to any number of readers, none of whom can slow the run. No Lua. */
#ifndef NEAP_DRIVE_WATCHERS_H
#define NEAP_DRIVE_WATCHERS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "loop/loop.h"

typedef struct neap_watchers neap_watchers;
typedef struct neap_watcher neap_watcher;

/* `joined` is called when a reader was let in: what it sends to that reader comes before everything later. The
 * reader is borrowed for the call. */
typedef void (*neap_watchers_fn)(void *arg, neap_watcher *reader);

/* Listen at `path`; its directory must be ours and 0700. A socket nobody listens on is replaced, else BUSY. */
neap_watchers *neap_watchers_new(neap_loop *loop, const char *path, neap_watchers_fn joined, void *arg, neap_err *err);
void neap_watchers_send(neap_watchers *w, const char *line, size_t len);              /* to all */
bool neap_watcher_send(neap_watcher *reader, const char *line, size_t len);           /* to one; false: it is gone */
int  neap_watchers_count(const neap_watchers *w);
/* Stop listening, remove the socket, give readers up to `within_ms` altogether for what is queued. */
void neap_watchers_free(neap_watchers *w, int within_ms);

/* A connected descriptor to such a socket, or -1. The server must be of our user or of root (for root: of anybody). */
int neap_watchers_connect(const char *path, neap_err *err);

#endif
