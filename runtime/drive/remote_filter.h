/* remote_filter.h -- takes the words of a remote script (remote_script.h) out of its stderr. Pure.
 *
 * A word is a run "\036NONCE …\n", anywhere in a line, split over pieces anywhere. What only begins like one passes as it came, and so
 * does a word that has no end: nothing is lost and nothing is kept back for longer than it may still become a word. */
#ifndef NEAP_DRIVE_REMOTE_FILTER_H
#define NEAP_DRIVE_REMOTE_FILTER_H

#include <stddef.h>
#include "base/buf.h"

typedef struct neap_remote_filter {
    char nonce[40];
    void (*on_word)(void *arg, const char *word, size_t len);      /* without nonce and line end */
    void *arg;
    char held[160];                  /* what may become a word */
    size_t len;
} neap_remote_filter;

void neap_remote_filter_init(neap_remote_filter *f, const char *nonce, void (*on_word)(void *arg, const char *word, size_t len), void *arg);
/* What is no word is appended to `out`. */
void neap_remote_filter_add(neap_remote_filter *f, neap_buf *out, const char *data, size_t len);
/* The stream has ended: what was held is plain text. */
void neap_remote_filter_end(neap_remote_filter *f, neap_buf *out);

#endif
