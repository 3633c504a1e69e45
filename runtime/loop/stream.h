/* stream.h -- the byte stream, hall of the house: files, children's pipes, unix sockets, COPY.
 *
 * One direction at a time is pending per stream: at most one read and one write. A reader asks
 * for each piece, so backpressure is the absence of the next read.
 * Ends are told apart: `shut` half-closes our writing side, `free` gives up both, and `status`
 * (a child's exit, COPY's command tag) belongs to the implementation.
 *
 * Bytes given to `write` may go away when the call returns. Bytes given to a reader live until its callback returns.
 * Data arrives and is taken from the loop, never inside the call; the end, a refusal and an error may be
 * told before the call returns. A callback may free the stream.
 */
#ifndef NEAP_LOOP_STREAM_H
#define NEAP_LOOP_STREAM_H

#include <stddef.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/err.h"
#include "loop/loop.h"

typedef struct neap_stream neap_stream;

/* len > 0: bytes; 0: end of stream; -1: `err` says why (and is the receiver's to read, not to keep). */
typedef void (*neap_stream_read_fn)(void *arg, const char *data, ssize_t len, const neap_err *err);
typedef void (*neap_stream_done_fn)(void *arg, const neap_err *err);          /* err NULL: done */

typedef struct neap_stream_class {
    const char *name;
    void (*read)(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg);
    void (*write)(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg);
    void (*shut)(neap_stream *s, neap_stream_done_fn done, void *arg);
    void (*stop)(neap_stream *s);          /* pending read and write call back with NEAP_E_CANCELLED, at once */
    void (*free)(neap_stream *s);          /* stop, then close; never calls back again */
} neap_stream_class;

struct neap_stream { const neap_stream_class *class; };

static inline void neap_stream_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) { s->class->read(s, most, got, arg); }
static inline void neap_stream_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) { s->class->write(s, data, len, done, arg); }
static inline void neap_stream_shut(neap_stream *s, neap_stream_done_fn done, void *arg) { s->class->shut(s, done, arg); }
static inline void neap_stream_stop(neap_stream *s) { s->class->stop(s); }
static inline void neap_stream_free(neap_stream *s) { if (s) s->class->free(s); }

/* The write and the shut of a class whose streams are only read: USAGE; or, of a shut, nothing that would have to be done. */
void neap_stream_write_refused(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg);
void neap_stream_shut_refused(neap_stream *s, neap_stream_done_fn done, void *arg);
void neap_stream_shut_nothing(neap_stream *s, neap_stream_done_fn done, void *arg);

/* A stream over a descriptor that is a pipe or a socket (taken over, made non-blocking). `shut` on a pipe closes it.
 * Anything else (a file, /dev/null) becomes a file stream. */
neap_stream *neap_stream_of_fd(neap_loop *loop, int fd);
/* A stream over a regular file: reads and writes go through the work pool. Taken over. `shut` makes it durable (fsync).
 * After a write was stopped half-way no further one is taken: nobody knows where it would land. */
neap_stream *neap_stream_of_file(neap_loop *loop, int fd);

/* For who moves much: every write to a file is a turn of a thread, so pieces are better gathered first, up to about this size,
 * and then given away with their memory instead of being copied. */
enum { NEAP_FILE_PIECE = 256 * 1024 };
bool neap_stream_is_file(const neap_stream *s);
/* As write; only to a file. `piece` is empty afterwards; the memory it then has is that of an earlier one. */
void neap_stream_file_give(neap_stream *s, neap_buf *piece, neap_stream_done_fn done, void *arg);

#endif
