/* redis_fence.h -- what a Redis command may do. No connection, no Lua: words and the server's own flags in, a verdict out.
 *
 * A read is allowed when the server says (COMMAND INFO) that the command only reads, and we do not know better; commands without
 * either flag are allowed by a vetted list, container commands by their subcommand. What the server does not know, what a module
 * brought and what is on no list is refused. Because we filter and not they, such a read is DECLARED, unless the user's own ACL
 * keeps it from writing. */
#ifndef NEAP_GUARD_REDIS_FENCE_H
#define NEAP_GUARD_REDIS_FENCE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

/* What COMMAND INFO says, as far as it counts. */
enum { NEAP_REDIS_KNOWN = 1, NEAP_REDIS_READONLY = 2, NEAP_REDIS_WRITE = 4, NEAP_REDIS_MODULE = 8 };

typedef struct neap_redis_words { int count; const char *const *text; const size_t *lens; } neap_redis_words;

/* May it be asked before anything is known of it? Then the server need not be asked for its flags. */
bool neap_redis_is_vetted(const neap_redis_words *w);
/* False and err (REFUSED, with what to use instead). */
bool neap_redis_check_read(const neap_redis_words *w, unsigned flags, neap_err *err);

/* A command that takes data away, or may: FLUSHALL, DEL, EVAL. It belongs to `remove`, everything else to `write`. */
bool neap_redis_destroys(const neap_redis_words *w);
/* Does it reach beyond the database of its connection (FLUSHALL, SWAPDB, scripts)? */
bool neap_redis_is_server_wide(const neap_redis_words *w);
/* A command neither write nor remove may bring: it changes the connection itself (SELECT, MULTI, SUBSCRIBE), or turns it into something else. */
bool neap_redis_check_act(const neap_redis_words *w, neap_err *err);

#endif
