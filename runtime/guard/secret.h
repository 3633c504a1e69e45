/* secret.h -- bytes that Lua can hold and pass but never read, and the redactor that knows them.
 *
 * Every secret of the process is registered here when it is made; its pages are mlocked and
 * MADV_DONTDUMP where the system allows, and overwritten when freed. The redactor replaces every
 * known secret, in every encoding reliability.md section 9 names, by ‹secret NAME›, over chunk
 * boundaries. It sits between the drivers and everything that is shown or written. */
#ifndef NEAP_GUARD_SECRET_H
#define NEAP_GUARD_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/err.h"

typedef struct neap_secret neap_secret;

/* A counted reference. Shorter than 6 bytes is refused (CONFIG): it would blank out the output. */
neap_secret *neap_secret_new(const char *name, const void *bytes, size_t len, neap_err *err);
neap_secret *neap_secret_keep(neap_secret *s);
void neap_secret_free(neap_secret *s);                     /* drop one reference */
const char *neap_secret_name(const neap_secret *s);
/* The bytes, NUL-terminated: only for C that hands them to a client library or a child's environment. */
const char *neap_secret_bytes(const neap_secret *s, size_t *len);

/* Append `text` to `out` with every known secret replaced. For whole texts (messages, JSON values). */
void neap_redact(neap_buf *out, const char *text, size_t len);

/* For streams: text in pieces of any size; what may be the beginning of a secret is kept back until it is decided. */
typedef struct neap_redactor neap_redactor;
neap_redactor *neap_redactor_new(void);
void neap_redactor_add(neap_redactor *r, neap_buf *out, const char *text, size_t len);
void neap_redactor_end(neap_redactor *r, neap_buf *out);   /* and free */

#endif
