/* list.h -- an intrusive doubly linked list. A node is embedded in what it links; a node that
 * is in no list points to itself, so removing twice is harmless. */
#ifndef NEAP_BASE_LIST_H
#define NEAP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct neap_list { struct neap_list *next, *prev; } neap_list;

#define NEAP_LIST_OF(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

static inline void neap_list_init(neap_list *n) { n->next = n->prev = n; }
static inline bool neap_list_is_empty(const neap_list *n) { return n->next == n; }
static inline void neap_list_append(neap_list *head, neap_list *n) {
    n->prev = head->prev; n->next = head; head->prev->next = n; head->prev = n;
}
static inline void neap_list_remove(neap_list *n) {
    n->prev->next = n->next; n->next->prev = n->prev; neap_list_init(n);
}

#endif
