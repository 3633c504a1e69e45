/* trie.c -- Aho-Corasick over sparse nodes.
 *
 * Most states have one child, so children are a linked list and only the root has a table of 256: a
 * 3 KB private key in all its encodings costs about 2 MB instead of 90 MB for a dense automaton. Text that
 * is no secret stays at the root or one step below it, where the table answers at once.
 */
#include "guard/trie.h"

#include <stdlib.h>
#include "base/buf.h"
#include "guard/vault.h"

typedef struct node {
    uint32_t fail;        /* state of the longest proper suffix that begins a string */
    uint32_t end;         /* this node or the nearest suffix at which a string ends; 0: none */
    uint32_t child, next; /* first child, next sibling; 0: none */
    uint32_t depth;
    int32_t  owner;       /* -1: no string ends exactly here */
    unsigned char byte;
} node;

struct neap_trie {
    uint32_t root[256];
    node    *nodes;       /* in the vault; nodes[0] is the root */
    uint32_t count, cap;
    uint32_t longest;
};

static uint32_t add_node(neap_trie *t, unsigned char byte, uint32_t depth) {
    if (t->count == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 128;
        t->nodes = neap_vault_grow(t->nodes, t->cap * sizeof *t->nodes);
    }
    t->nodes[t->count] = (node){ .depth = depth, .owner = -1, .byte = byte };
    return t->count++;
}

neap_trie *neap_trie_new(void) {
    neap_trie *t = neap_vault_alloc(sizeof *t);
    add_node(t, 0, 0);
    return t;
}

static uint32_t child_of(const neap_trie *t, uint32_t state, unsigned char byte) {
    if (state == 0) return t->root[byte];
    uint32_t c = t->nodes[state].child;
    while (c && t->nodes[c].byte != byte) c = t->nodes[c].next;
    return c;
}

void neap_trie_add(neap_trie *t, const void *bytes, size_t len, int owner) {
    const unsigned char *p = bytes;
    uint32_t state = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t c = child_of(t, state, p[i]);
        if (!c) {
            c = add_node(t, p[i], (uint32_t)i + 1);
            t->nodes[c].next = t->nodes[state].child;      /* the root keeps its list for seal */
            t->nodes[state].child = c;
            if (state == 0) t->root[p[i]] = c;
        }
        state = c;
    }
    if (state && t->nodes[state].owner < 0) t->nodes[state].owner = owner;
    if (len > t->longest) t->longest = (uint32_t)len;
}

/* Breadth first: every fail link points to a shallower node, which is finished by then. */
void neap_trie_seal(neap_trie *t) {
    uint32_t *queue = neap_alloc(t->count * sizeof *queue), head = 0, tail = 0;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t s = queue[head++];
        for (uint32_t c = t->nodes[s].child; c; c = t->nodes[c].next) {
            node *n = &t->nodes[c];
            n->fail = s ? neap_trie_step(t, t->nodes[s].fail, n->byte) : 0;
            n->end = n->owner >= 0 ? c : t->nodes[n->fail].end;
            queue[tail++] = c;
        }
    }
    free(queue);
}

void neap_trie_free(neap_trie *t) {
    if (!t) return;
    neap_vault_free(t->nodes);
    neap_vault_free(t);
}

uint32_t neap_trie_step(const neap_trie *t, uint32_t state, unsigned char byte) {
    while (state) {
        uint32_t c = child_of(t, state, byte);
        if (c) return c;
        state = t->nodes[state].fail;
    }
    return t->root[byte];
}

size_t neap_trie_depth(const neap_trie *t, uint32_t state) { return t->nodes[state].depth; }

size_t neap_trie_match(const neap_trie *t, uint32_t state, int *owner) {
    uint32_t end = t->nodes[state].end;
    if (!end) return 0;
    *owner = t->nodes[end].owner;
    return t->nodes[end].depth;
}

size_t neap_trie_longest(const neap_trie *t) { return t->longest; }
