/* pool.h -- memory for Lua's small objects: rows, strings, closures by the million. */
#ifndef NEAP_SCRIPT_POOL_H
#define NEAP_SCRIPT_POOL_H

#include <stdbool.h>
#include <stddef.h>

enum { NEAP_POOL_STEP = 16, NEAP_POOL_MOST = 256 };

typedef struct neap_pool {
    void *spare[NEAP_POOL_MOST / NEAP_POOL_STEP];  /* given back, by size */
    void *chunks;                                  /* all of them, chained by their first word */
    char *at, *end;                                /* what is left of the newest */
} neap_pool;

/* As realloc, with the old size, which must be the true one (0 for NULL). Size 0 frees and gives NULL. NULL: no memory, and the block is
 * as it was; never when it shrinks. */
void *neap_pool_resize(neap_pool *p, void *block, size_t old_size, size_t new_size);

/* Free every chunk; no small block may be in use. */
void neap_pool_close(neap_pool *p);

#endif
