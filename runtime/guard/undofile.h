/* undofile.h -- rows that an act took away, kept so that undo can put them back: runs/<run>/<name>, 0600, beside the evidence.
 *
 * They are secrets of the people they are about: never in a journal, which has only their hash, and gone before the journal goes.
 * Written once: durable when `write` returns, so that a COMMIT may follow. Blocking, of bounded size; for the engine's own use. */
#ifndef NEAP_GUARD_UNDOFILE_H
#define NEAP_GUARD_UNDOFILE_H

#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"

enum { NEAP_UNDOFILE_MOST = 64 * 1024 * 1024 };

/* "rows-" and then lower-case letters, digits and dashes, at most 64 in all. */
bool neap_undofile_is_name(const char *name);
/* Refuses a name that is taken (JOURNAL) and more bytes than MOST (REFUSED). */
bool neap_undofile_write(const char *state, const char *run, const char *name, const char *data, size_t len, char hex[NEAP_HASH_HEX_SIZE], neap_err *err);
/* INVALID when it is not there, JOURNAL when anybody else could have reached it. */
bool neap_undofile_read(const char *state, const char *run, const char *name, neap_buf *out, char hex[NEAP_HASH_HEX_SIZE], neap_err *err);
/* Nothing there is an answer, not an error: `gone` false. */
bool neap_undofile_remove(const char *state, const char *run, const char *name, bool *gone, neap_err *err);

#endif
