/* filter.h -- compressing and expanding, piece by piece, in memory that does not grow.
 *
 * An expander wants whole input: what ends within a frame was cut, what goes on after one must be another frame. */
#ifndef NEAP_DRIVE_FILTER_H
#define NEAP_DRIVE_FILTER_H

#include <sys/types.h>
#include "base/err.h"

typedef enum { NEAP_FILTER_NONE, NEAP_FILTER_ZSTD, NEAP_FILTER_GZIP } neap_filter_format;
typedef struct neap_filter neap_filter;

neap_filter *neap_filter_new(neap_filter_format format, bool expand);
/* Take from *in (it advances) and give up to `room` bytes: how many there are, 0: it wants more input, or with `last` there is nothing
 * left; -1 and err (INVALID): the input is corrupt or cut short. */
ssize_t neap_filter_run(neap_filter *f, const char **in, size_t *len, bool last, char *out, size_t room, neap_err *err);
void neap_filter_free(neap_filter *f);               /* NULL allowed */

#endif
