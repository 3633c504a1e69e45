/* statedir.h -- where evidence may live: directories and files that are ours alone, on a local disk.
 *
 * Promise: nothing is read from or written to a directory wider than 0700, a file wider or narrower than 0600, something
 * that belongs to somebody else, a symbolic link, a file with a second name, or a network file system
 * (SQLite's locks and write-ahead log are not safe there). Each refusal is JOURNAL with a hint. */
#ifndef NEAP_GUARD_STATEDIR_H
#define NEAP_GUARD_STATEDIR_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/err.h"

typedef struct neap_statedir {
    int   fd;                     /* -1 while closed */
    char *path;                   /* without symbolic links */
} neap_statedir;

#define NEAP_STATEDIR_INIT {-1, NULL}

/* The state directory; `make` creates it, and what is missing above it, as 0700. */
bool neap_statedir_open(neap_statedir *d, const char *state, bool make, neap_err *err);
/* `name` inside it. `make` creates it and accepts one that is there. */
bool neap_statedir_enter(neap_statedir *d, const neap_statedir *parent, const char *name, bool make, neap_err *err);
/* runs/<run>; `make` refuses a run that is there already. INVALID when there is none, USAGE for what is no run id. */
bool neap_statedir_run(neap_statedir *d, const neap_statedir *state, const char *run, bool make, neap_err *err);
void neap_statedir_close(neap_statedir *d);
/* "<path>/<name>", the caller's to free. */
char *neap_statedir_path(const neap_statedir *d, const char *name);

/* Is it a plain file of ours, 0600, with one name? `found` may be NULL. INVALID when it is not there. */
bool neap_statedir_check(const neap_statedir *d, const char *name, struct stat *found, neap_err *err);
/* Make the entries of the directory durable. */
bool neap_statedir_sync(const neap_statedir *d, neap_err *err);
/* Of a run's directory: also the entries that lead to it from the state directory. */
bool neap_statedir_sync_path(const neap_statedir *d, neap_err *err);
/* Lower-case letters, digits and inner dashes, at most 64: nothing that could name another place. */
bool neap_statedir_is_run(const char *run);

#endif
