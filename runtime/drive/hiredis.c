/* hiredis.c -- the codec of hiredis, loaded when the first Redis is spoken to (base/forward.h).
 *
 * Its soname changes with each version (libhiredis.so.0.14 on Debian 12, libhiredis.so.1.1.0 on 13) and so do the layout of its reader and
 * a return type: the build asks the library it compiles against, as for libpg_query. Rejected: a list of sonames to try at run time, which
 * would pair the header of one version with the library of another; and a parser of our own, which would be the third in this
 * program that reads lengths from a far end, while this one has had its overflows found.
 *
 * Only these six functions are used. Contexts, sockets and its async half are not: see redis.h. */
#include <hiredis/hiredis.h>

#include "base/forward.h"

#define LIBRARY NEAP_HIREDIS

#if HIREDIS_MAJOR >= 1
FORWARD(long long, redisFormatCommandArgv, (char **target, int argc, const char **argv, const size_t *argvlen), (target, argc, argv, argvlen))
#else
FORWARD(int, redisFormatCommandArgv, (char **target, int argc, const char **argv, const size_t *argvlen), (target, argc, argv, argvlen))
#endif
FORWARD_VOID(redisFreeCommand, (char *cmd), (cmd))
FORWARD(redisReader *, redisReaderCreateWithFunctions, (redisReplyObjectFunctions *fn), (fn))
FORWARD_VOID(redisReaderFree, (redisReader *r), (r))
FORWARD(int, redisReaderFeed, (redisReader *r, const char *buf, size_t len), (r, buf, len))
FORWARD(int, redisReaderGetReply, (redisReader *r, void **reply), (r, reply))
