/* redis_value.h -- RESP2, both ways: commands as bytes, bytes as values. No connection, no Lua; fuzzed.
 *
 * The parser is hiredis' (hiredis.c); the values and the bounds are ours. A reply that is larger or deeper than allowed, a line without an
 * end, and anything that is not RESP2 is an error, told before its memory is taken; after an error the reader gives nothing more. */
#ifndef NEAP_DRIVE_REDIS_VALUE_H
#define NEAP_DRIVE_REDIS_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/err.h"

/* hiredis 0.14 cannot nest deeper than 7 whatever is asked for; `plain COMMAND` just fits. */
enum { NEAP_REDIS_DEPTH = 7 };
#define NEAP_REDIS_REPLY_BYTES ((size_t)64 << 20)

typedef enum { NEAP_REDIS_NIL, NEAP_REDIS_STRING, NEAP_REDIS_STATUS, NEAP_REDIS_INTEGER, NEAP_REDIS_ERROR, NEAP_REDIS_ARRAY } neap_redis_type;

typedef struct neap_redis_value neap_redis_value;
struct neap_redis_value {
    neap_redis_type type;
    size_t len;                   /* of a text in bytes, of an array in items */
    long long integer;
    size_t cap;
    neap_redis_value **items;     /* of an array; every one is there */
    char text[];                  /* NUL-terminated behind `len` */
};

void neap_redis_value_free(neap_redis_value *v);                    /* NULL allowed */
bool neap_redis_is(const neap_redis_value *v, const char *text);     /* a status or string of exactly this text; false for NULL */
/* The item of an array; NULL when there is none. */
const neap_redis_value *neap_redis_item(const neap_redis_value *v, size_t i);
/* What follows the name in a flat list of names and values (CONFIG GET, COMMAND's maps); NULL when it is not there. */
const neap_redis_value *neap_redis_member(const neap_redis_value *v, const char *name);

/* One command, length-safe: whatever bytes the words hold. */
void neap_redis_format(neap_buf *out, int argc, const char *const *argv, const size_t *lens);

typedef struct neap_redis_reader neap_redis_reader;
neap_redis_reader *neap_redis_reader_new(size_t most_bytes);
/* False and err (PROTOCOL) once the far end said what it must not. */
bool neap_redis_reader_feed(neap_redis_reader *r, const char *data, size_t len, neap_err *err);
/* The next whole reply in *out, the caller's; NULL when more bytes are needed. */
bool neap_redis_reader_next(neap_redis_reader *r, neap_redis_value **out, neap_err *err);
void neap_redis_reader_free(neap_redis_reader *r);

#endif
