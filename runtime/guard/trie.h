/* trie.h -- many byte strings found in one pass (Aho-Corasick). The nodes spell the strings, which are
 * secrets, so they live in the vault. Built once: add, add, seal; then only stepped. */
#ifndef NEAP_GUARD_TRIE_H
#define NEAP_GUARD_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct neap_trie neap_trie;

neap_trie *neap_trie_new(void);
/* The first owner of a string keeps it. Not after seal. */
void neap_trie_add(neap_trie *t, const void *bytes, size_t len, int owner);
void neap_trie_seal(neap_trie *t);
void neap_trie_free(neap_trie *t);                            /* NULL allowed; overwrites */

/* 0 is the start state. The state after a text says which is its longest suffix that begins a string. */
uint32_t neap_trie_step(const neap_trie *t, uint32_t state, unsigned char byte);
/* Length of that suffix. */
size_t neap_trie_depth(const neap_trie *t, uint32_t state);
/* Length of the longest string that ends here, and its owner; 0 when none does. */
size_t neap_trie_match(const neap_trie *t, uint32_t state, int *owner);
size_t neap_trie_longest(const neap_trie *t);                 /* length of the longest string */

#endif
