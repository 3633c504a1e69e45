/* disk.h -- what is done to files, in calls that block and belong on the work pool. No Lua, no loop.
 *
 * Every function fills `err` and returns false when the system refuses. `stop` may be NULL; once it is true a long
 * call gives up with NEAP_E_CANCELLED at its next piece. */
#ifndef NEAP_DRIVE_DISK_H
#define NEAP_DRIVE_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"

typedef atomic_bool neap_disk_flag;

typedef struct neap_disk_stat {
    const char *kind;             /* "file", "directory", "link", "other"; NULL: there is nothing */
    int64_t size, mtime_ms;
    int mode, uid, gid;
} neap_disk_stat;

/* A link is told as what it leads to; one that leads nowhere is a "link". Nothing there is an answer, not an error. */
bool neap_disk_stat_of(const char *path, neap_disk_stat *out, neap_err *err);
/* Entries as <kind letter f d l o><name><NUL>, sorted by bytes. */
bool neap_disk_list(const char *path, neap_buf *out, neap_err *err);
/* REFUSED when the file holds more than `limit` bytes. */
bool neap_disk_read(const char *path, size_t limit, neap_buf *out, neap_err *err);
bool neap_disk_hash(const char *path, const neap_disk_flag *stop, char hex[NEAP_HASH_HEX_SIZE], int64_t *size, neap_err *err);
/* Every regular file below `dir` whose name fits the pattern, as <SHA-256 in hex><name><NUL>. "*" and "?" cross no "/". */
bool neap_disk_hashes(const char *dir, const char *pattern, const neap_disk_flag *stop, neap_buf *out, neap_err *err);
bool neap_disk_space(const char *path, int64_t *free_bytes, int64_t *total_bytes, neap_err *err);
/* A file, a link (not what it leads to) or an empty directory. */
bool neap_disk_remove(const char *path, neap_err *err);
/* With its parents; `made` false: it was there. */
bool neap_disk_mkdir(const char *path, int mode, bool *made, neap_err *err);

/* Make durable that `path` has appeared or gone: fsync of the directory that holds the name. */
bool neap_disk_sync_name(const char *path, neap_err *err);

/* A file under construction. It has its name only when it is whole and durable:
 *
 *     begin (name.part: O_EXCL|O_NOFOLLOW, locked) -> bytes -> publish (fsync, rename, fsync of the directory)
 *                                                      \-> abandon (remove name.part)
 *
 * A name.part that an interrupted run of ours left is removed and told (`stale`); one that somebody is writing is BUSY;
 * anything else of that name is REFUSED. An existing file keeps its mode and, where we may, its owner. */
typedef struct neap_disk_part {
    char *path, *part;            /* owned */
    int fd;                       /* -1: not begun, published or abandoned */
    bool stale;                   /* a leftover was removed */
    bool replaces;                /* a file of that name exists */
} neap_disk_part;

/* `mode` counts for a new file only; -1: 0644 less the umask. */
bool neap_disk_begin(neap_disk_part *p, const char *path, int mode, neap_err *err);
bool neap_disk_put(neap_disk_part *p, const char *data, size_t len, const neap_disk_flag *stop, neap_err *err);
bool neap_disk_publish(neap_disk_part *p, neap_err *err);
void neap_disk_abandon(neap_disk_part *p);               /* also frees; harmless after publish */

/* "/abs/path.part" */
char *neap_disk_part_name(const char *path);

/* The one name of what `path` leads to, the caller's to free: links and ".." resolved as far as things exist. With `entry` the
 * last name is not followed (removing a link removes the link). */
char *neap_disk_resolve(const char *path, bool entry);

#endif
