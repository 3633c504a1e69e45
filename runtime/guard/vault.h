/* vault.h -- memory for bytes nobody may find later: locked against swapping, left out of core dumps,
 * overwritten before it is given back. Each piece has pages of its own. */
#ifndef NEAP_GUARD_VAULT_H
#define NEAP_GUARD_VAULT_H

#include <stddef.h>

/* Zeroed. Never NULL: without memory the process ends with 71. Locking is best effort (RLIMIT_MEMLOCK). */
void *neap_vault_alloc(size_t size);
/* A larger piece with the old contents; the old piece is overwritten and gone. `piece` may be NULL. */
void *neap_vault_grow(void *piece, size_t size);
/* Overwrite and unmap. NULL allowed. */
void  neap_vault_free(void *piece);

#endif
