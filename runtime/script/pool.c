/* pool.c -- see pool.h.
 *
 * Lua says the size of what it frees, so a small block needs no header and no search: one list of spare blocks for each size, cut from
 * chunks. malloc must find both out by itself, which was a fifth of the processor's time of reading rows (measured).
 *
 * What was once small stays small: chunks go back when the state closes. Blocks above NEAP_POOL_MOST are malloc's, as
 * everything is under AddressSanitizer, which could not see into a chunk.
 */
#include "script/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum { CHUNK = 32 * 1024 };

#ifdef __SANITIZE_ADDRESS__
static bool is_small(size_t size) { return (void)size, false; }
#else
static bool is_small(size_t size) { return size <= NEAP_POOL_MOST; }
#endif

static size_t class_of(size_t size) { return (size - 1) / NEAP_POOL_STEP; }

/* What is left of the chunk before is of some size, and is spare. */
static void keep_rest(neap_pool *p) {
    size_t rest = (size_t)(p->end - p->at);
    if (rest < NEAP_POOL_STEP) return;
    void **block = (void **)p->at;
    *block = p->spare[class_of(rest)];
    p->spare[class_of(rest)] = block;
}

static void *cut(neap_pool *p, size_t class, bool must) {
    size_t size = (class + 1) * NEAP_POOL_STEP;
    if ((size_t)(p->end - p->at) < size) {
        void **chunk = must ? neap_alloc(CHUNK) : malloc(CHUNK);
        if (!chunk) return NULL;
        if (p->at) keep_rest(p);
        *chunk = p->chunks;
        p->chunks = chunk;
        p->at = (char *)chunk + NEAP_POOL_STEP;
        p->end = (char *)chunk + CHUNK;
    }
    void *block = p->at;
    p->at += size;
    return block;
}

static void *take(neap_pool *p, size_t size, bool must) {
    if (!is_small(size)) return must ? neap_alloc(size) : malloc(size);
    size_t class = class_of(size);
    void **block = p->spare[class];
    if (!block) return cut(p, class, must);
    p->spare[class] = *block;
    return block;
}

static void give(neap_pool *p, void *block, size_t size) {
    if (!is_small(size)) {
        free(block);
        return;
    }
    *(void **)block = p->spare[class_of(size)];
    p->spare[class_of(size)] = block;
}

void *neap_pool_resize(neap_pool *p, void *block, size_t old_size, size_t new_size) {
    if (!block) return new_size ? take(p, new_size, false) : NULL;
    if (new_size == 0) {
        give(p, block, old_size);
        return NULL;
    }
    bool small = is_small(old_size);
    if (!small && !is_small(new_size)) return realloc(block, new_size);
    if (small && is_small(new_size) && class_of(old_size) == class_of(new_size)) return block;
    void *fresh = take(p, new_size, new_size < old_size);
    if (!fresh) return NULL;
    memcpy(fresh, block, old_size < new_size ? old_size : new_size);
    give(p, block, old_size);
    return fresh;
}

void neap_pool_close(neap_pool *p) {
    for (void **chunk = p->chunks, **next; chunk; chunk = next) {
        next = *chunk;
        free(chunk);
    }
    memset(p, 0, sizeof *p);
}
