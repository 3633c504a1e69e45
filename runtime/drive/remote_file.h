/* remote_file.h -- files of another host: what is said to its shell about them, and what the answers mean. Pure: no loop, no
 * connection. remote_file.c explains the words. Who says it is remote_file_talk.h. */
#ifndef NEAP_DRIVE_REMOTE_FILE_H
#define NEAP_DRIVE_REMOTE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "drive/disk.h"

/* Arguments, and what is printed. */
typedef enum {
    NEAP_FAR_STAT,                   /* PATH -> neap_far_read_stat */
    NEAP_FAR_LIST,                   /* PATH -> as neap_disk_list, unsorted */
    NEAP_FAR_HASH,                   /* PATH -> neap_far_read_hash */
    NEAP_FAR_HASHES,                 /* PATH PATTERN -> as neap_disk_hashes, unsorted */
    NEAP_FAR_SPACE,                  /* PATH -> neap_far_read_space */
    NEAP_FAR_READ,                   /* PATH MOST -> at most MOST bytes */
    NEAP_FAR_OPEN,                   /* PATH -> a line with its size, then its bytes */
    NEAP_FAR_REMOVE,                 /* PATH */
    NEAP_FAR_MKDIR,                  /* PATH MODE ("": the usual) -> "made" or "there" */
    NEAP_FAR_RENAME,                 /* FROM TO */
    NEAP_FAR_RECEIVE,                /* PATH, stdin -> a line neap_far_read_part reads, then PATH.part is written */
    NEAP_FAR_PUBLISH,                /* PATH PART MODE SIZE SHA256 -> PATH.part is PATH from now on */
    NEAP_FAR_DISCARD,                /* PATH PART -> PATH.part is gone */
    NEAP_FAR_LOOK,                   /* PATH SHA256 ("": not known) -> neap_far_read_look */
    NEAP_FAR_LOCK,                   /* KEY WORDS, stdin -> a line when it is ours; until stdin ends */
    NEAP_FAR_HELD,                   /* KEY -> who has the lock */
    NEAP_FAR_HOLD_SET,               /* KEY WORDS */
    NEAP_FAR_HOLD_GET,               /* KEY -> the words */
    NEAP_FAR_HOLD_CLEAR              /* KEY */
} neap_far_verb;
const char *neap_far_script(neap_far_verb verb);

/* How a script ends when it does not go well; what it printed to stderr says why. Nobody said, or it was never begun: ours. */
enum { NEAP_FAR_GOOD = 0, NEAP_FAR_NOTHING = 3, NEAP_FAR_BUSY = 4, NEAP_FAR_REFUSED = 5, NEAP_FAR_UNTOLD = -1, NEAP_FAR_NOT_BEGUN = -2 };

/* A path we say to a host, in one way of writing it: absolute, no empty, "." or ".." part. USAGE otherwise. The caller's to free. */
char *neap_far_path(const char *path, size_t len, neap_err *err);
/* Error for a script that ended with this status, having said this. `doing` is "read \"/x\"", `place` the host. */
void neap_far_judge(neap_err *err, int status, const char *said, const char *doing, const char *place, const char *sudo);

bool neap_far_read_stat(const char *text, neap_disk_stat *out);
bool neap_far_read_hash(const char *text, char hex[NEAP_HASH_HEX_SIZE], int64_t *size);
bool neap_far_is_hashes(const neap_buf *answer);
bool neap_far_read_space(const char *text, int64_t *free_bytes, int64_t *total_bytes);
/* Entries sorted by bytes, in place. */
bool neap_far_sort_list(neap_buf *list);

enum { NEAP_FAR_PART_SIZE = 48 };
/* A file under construction: `id` is its device and inode, by which the later scripts know it. */
typedef struct neap_far_part { char id[NEAP_FAR_PART_SIZE]; bool stale, replaces; } neap_far_part;
bool neap_far_read_part(const char *line, neap_far_part *out);

/* What lies where a write was to leave something. */
typedef struct neap_far_look { bool there, same, part, busy; } neap_far_look;
bool neap_far_read_look(const char *text, neap_far_look *out);

#endif
