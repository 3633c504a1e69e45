/* feed.h -- the stdin of a command: nothing, a string, a secret, or everything another stream gives. */
#ifndef NEAP_BIND_FEED_H
#define NEAP_BIND_FEED_H

#include "bind/stream_lua.h"

typedef struct neap_feed {
    neap_stream *in;              /* NULL: nothing (more) to feed */
    const char *input;            /* a string or a secret that the Lua stack keeps */
    size_t input_len;
    neap_stream_handle *source;   /* or a stream */
    neap_op *op;                  /* who reads it */
    void (*on_failed)(void *arg, const neap_err *err);
    void *arg;
} neap_feed;

/* [-0, +1, e] read field `stdin` of the table at `index`; its value stays on the stack, which keeps its bytes. */
void neap_feed_read(lua_State *L, int index, neap_feed *f);
static inline bool neap_feed_is_given(const neap_feed *f) { return f->input || f->source; }
/* Is the source still there and nobody else's? Between reading the field and now the intent was written. */
bool neap_feed_is_ready(const neap_feed *f, neap_err *err);

/* Write everything to `in` (taken over) and half-close it. A source that fails must not look like its end, the command would take
 * half for the whole: then `on_failed` is told, once, and `in` stays open. A command that wants no more is no failure. */
void neap_feed_start(neap_feed *f, neap_stream *in, neap_op *op, void (*on_failed)(void *arg, const neap_err *err), void *arg);
/* Stop, and close `in`. Harmless twice. */
void neap_feed_end(neap_feed *f);

#endif
