/* secret.h -- bytes that Lua can hold and pass but never read, and the redactor that knows them.
 *
 * Every secret of the process is registered here when it is made; its pages are mlocked and
 * MADV_DONTDUMP where the system allows, and overwritten before they are given back. The redactor
 * replaces every known secret, in all the forms of pattern.h and through percent and backslash escapes, by
 * ‹secret NAME›, over chunk boundaries. It sits between the drivers and everything that is shown or written.
 * All of it belongs to the loop's thread. */
#ifndef NEAP_GUARD_SECRET_H
#define NEAP_GUARD_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/err.h"

typedef struct neap_secret neap_secret;

/* A counted reference: the same bytes under the same name are one secret. Refused (CONFIG) because it would blank out the output: fewer than 6 bytes, a word every log is
 * full of; also more than 16 KiB, a NUL inside, and a name that gives the secret away. */
neap_secret *neap_secret_new(const char *name, const void *bytes, size_t len, neap_err *err);
void neap_secret_free(neap_secret *s);                     /* drop one reference */
const char *neap_secret_name(const neap_secret *s);
/* The bytes, NUL-terminated: only for C that hands them to a client library or a child's environment. */
const char *neap_secret_bytes(const neap_secret *s, size_t *len);

/* The end of the process: overwrite every secret, also those still referenced. No neap_secret may be used afterwards. */
void neap_secret_close(void);

/* Append `text` to `out` with every known secret replaced. For whole texts (messages, JSON values). */
void neap_redact(neap_buf *out, const char *text, size_t len);

/* For streams: text in pieces of any size; what may be the beginning of a secret is kept back until it is decided. */
typedef struct neap_redactor neap_redactor;
neap_redactor *neap_redactor_new(void);
void neap_redactor_add(neap_redactor *r, neap_buf *out, const char *text, size_t len);
void neap_redactor_end(neap_redactor *r, neap_buf *out);   /* and free */

/* For redact.c: the automaton over every known secret, NULL when there is none; `version` changes with it. The name of the
 * secret with this owner number stays valid until neap_secret_close. */
struct neap_trie;
const struct neap_trie *neap_secret_trie(unsigned long *version);
const char *neap_secret_owner(int owner);

#endif
