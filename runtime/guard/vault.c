/* vault.c -- pages of their own for secrets.
 *
 * Promises: a piece is never in a core file (MADV_DONTDUMP) and is overwritten before its pages go back;
 * it is not swapped as long as the limit for locked memory allows. A refused mlock is not an error: a
 * laptop with a small limit must still run, and the other two promises hold there too.
 * Rejected: a shared arena (one leak of an offset would show a neighbour, and freeing could not unmap).
 */
#include "guard/vault.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct vault_head { size_t mapped; size_t size; } vault_head;

_Static_assert(sizeof(vault_head) % 16 == 0, "what follows the head stays aligned");

static size_t whole_pages(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

void *neap_vault_alloc(size_t size) {
    size_t mapped = whole_pages(size + sizeof(vault_head));
    vault_head *head = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (head == MAP_FAILED) {
        fputs("neap: not enough memory\n", stderr);
        _exit(71);
    }
    (void)madvise(head, mapped, MADV_DONTDUMP);
    (void)mlock(head, mapped);
    head->mapped = mapped;
    head->size = size;
    return head + 1;
}

void *neap_vault_grow(void *piece, size_t size) {
    void *larger = neap_vault_alloc(size);
    if (piece) {
        size_t old = ((vault_head *)piece - 1)->size;
        memcpy(larger, piece, old < size ? old : size);
        neap_vault_free(piece);
    }
    return larger;
}

void neap_vault_free(void *piece) {
    if (!piece) return;
    vault_head *head = (vault_head *)piece - 1;
    size_t mapped = head->mapped;
    explicit_bzero(head, mapped);
    munmap(head, mapped);          /* unlocks too */
}
