/* sql_walk.h -- private to guard/sql*.c: a walk over the parse tree that libpg_query prints as JSON.
 *
 * The text is read once, front to back, without recursion and without building a tree: a hostile statement may nest
 * half a million levels, or hold half a million constants, and costs one small frame per open level.
 * Rejected: jansson (1.5 kB per constant, 2048 levels) and the protobuf reader (recurses without a limit). */
#ifndef NEAP_GUARD_SQL_WALK_H
#define NEAP_GUARD_SQL_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

/* One open object or array. Keys of parse nodes begin with a capital ("SelectStmt"), those of their fields do not; an
 * element of an array has the key "". The slice points into the JSON text. */
typedef struct neap_sql_frame {
    const char *key;
    size_t      len;
    bool        where;            /* a WHERE clause was seen directly inside */
} neap_sql_frame;

typedef struct neap_sql_walk neap_sql_walk;
struct neap_sql_walk {
    neap_sql_frame *frames;       /* frames[0] is the whole text */
    size_t          depth, cap;
    neap_buf        text;         /* the decoded string handed to `value` */
    void           *arg;
    void (*enter)(neap_sql_walk *w);                              /* frames[depth - 1] was opened */
    void (*leave)(neap_sql_walk *w);                              /* … and is about to close */
    void (*value)(neap_sql_walk *w, const neap_sql_frame *key, const char *text);
};

/* False when the text is not the JSON it should be: an assumption of ours failed. Frees what the walk needed. */
bool neap_sql_walk_run(neap_sql_walk *w, const char *json);

/* Is the key of the frame `up` levels above the innermost open one (0) this one? */
bool neap_sql_walk_at(const neap_sql_walk *w, size_t up, const char *key);
bool neap_sql_frame_is(const neap_sql_frame *frame, const char *key);

#endif
