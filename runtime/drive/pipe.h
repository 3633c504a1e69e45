/* pipe.h -- everything one stream has, into another, in one pass.
 *
 *     RUNNING --end of `from`, all of it taken by `to`--> done(result, NULL)
 *         \--an end fails, a deadline, nothing moves--> done(result, err)      both streams are stopped; result says which end it was
 *         \--cancel: both streams are stopped, nobody is called
 *
 * One piece is being written while the next is read, so memory is flat (about half a MiB; a filter has its library's window besides)
 * and a slow end slows the fast one. What was read and not yet written when an end fails is not written any more.
 * Neither stream is shut or freed. `done` comes from the loop. */
#ifndef NEAP_DRIVE_PIPE_H
#define NEAP_DRIVE_PIPE_H

#include <stdint.h>
#include "base/hash.h"
#include "drive/filter.h"
#include "loop/stream.h"

typedef enum { NEAP_PIPE_OPEN, NEAP_PIPE_ENDED, NEAP_PIPE_FAILED } neap_pipe_end;
const char *neap_pipe_end_name(neap_pipe_end end);    /* "open", "ended", "failed" */

enum { NEAP_PIPE_TAIL = 1024 };

typedef struct neap_pipe_result {
    long long bytes, written;      /* read from `from`; written to `to`: different with a filter */
    unsigned char digest[NEAP_HASH_SIZE], written_digest[NEAP_HASH_SIZE];       /* of both, when it succeeded and `plain` is not set */
    char tail[NEAP_PIPE_TAIL];     /* the last bytes written: some files say there that they are whole */
    size_t tail_len;
    neap_pipe_end from, to;
} neap_pipe_result;
typedef void (*neap_pipe_fn)(void *arg, const neap_pipe_result *result, const neap_err *err);

typedef struct neap_pipe_options {
    neap_filter_format format;     /* NONE: as it is */
    bool expand;                   /* else compress */
    bool plain;                    /* nobody asks for hashes */
    const char *ahead;             /* bytes that were read from `from` before, to know what it is: they go first; copied, may be NULL */
    size_t ahead_len;
    int64_t within_ms, stall_ms;   /* 0: no limit. stall: no byte moved for that long */
    neap_hash *kept;               /* the receiver's own hash: fed with what is written; borrowed, may be NULL */
    bool fresh;                    /* nothing was in `kept` before: it is the hash of what is written */
    void (*moved)(void *arg, size_t read, size_t written);                      /* after each piece; may be NULL */
    void (*progress)(void *arg, long long bytes, long long rate);               /* at most five times a second; may be NULL */
} neap_pipe_options;

typedef struct neap_pipe neap_pipe;
neap_pipe *neap_pipe_start(neap_loop *loop, neap_stream *from, neap_stream *to, const neap_pipe_options *o, neap_pipe_fn done, void *arg);
void neap_pipe_cancel(neap_pipe *p);                  /* before `done`, which is not called then; from a stream's callback too */

#endif
