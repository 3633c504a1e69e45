/* capture.h -- the output of a command, kept for Lua: of each stream the last mebibyte, the rest counted; what is kept passes the
 * redactor before Lua sees it. For any stream: a child's pipe, a channel, an exec. */
#ifndef NEAP_BIND_CAPTURE_H
#define NEAP_BIND_CAPTURE_H

#include <lua.h>
#include "base/buf.h"
#include "base/err.h"
#include "loop/stream.h"

typedef struct neap_capture {
    neap_stream *stream;          /* NULL: ended */
    neap_buf kept;
    long long dropped;
    neap_err err;                 /* how the stream broke, if it did; closed by neap_capture_wipe */
    void (*on_end)(void *arg);    /* the stream has ended or broken */
    void *arg;
} neap_capture;

/* Read until the end; the stream is taken over. */
void neap_capture_open(neap_capture *c, neap_stream *stream, void (*on_end)(void *arg), void *arg);
/* Without a stream: some more bytes. */
void neap_capture_add(neap_capture *c, const char *data, size_t len);
/* Give the stream up; on_end is not called. */
void neap_capture_close(neap_capture *c);
/* [-0, +0, m] what was kept becomes field `name` of the table on top. Returns how many bytes are missing before it. */
long long neap_capture_push(lua_State *L, neap_capture *c, const char *name);
/* [-0, +0, m] field "truncated" of the table on top: how many bytes are missing, or false. */
void neap_capture_push_missing(lua_State *L, long long dropped);
/* Close, and overwrite what was kept. */
void neap_capture_wipe(neap_capture *c);

#endif
