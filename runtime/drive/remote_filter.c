/* remote_filter.c -- see remote_filter.h. `held` is either empty or begins with \036 and agrees with the head of a word so far. */
#include "drive/remote_filter.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MARK = 0x1e };

void neap_remote_filter_init(neap_remote_filter *f, const char *nonce, void (*on_word)(void *arg, const char *word, size_t len), void *arg) {
    *f = (neap_remote_filter){.on_word = on_word, .arg = arg};
    snprintf(f->nonce, sizeof f->nonce, "%s ", nonce);
}

static void let_go(neap_remote_filter *f, neap_buf *out) {
    neap_buf_add(out, f->held, f->len);
    f->len = 0;
}

/* One more byte while something is held. */
static void hold(neap_remote_filter *f, neap_buf *out, char c) {
    size_t head = 1 + strlen(f->nonce);
    bool in_head = f->len < head;
    if ((in_head && c != f->nonce[f->len - 1]) || f->len == sizeof f->held) {
        let_go(f, out);
        if (c == MARK) f->held[f->len++] = c;
        else neap_buf_addc(out, c);
    } else if (!in_head && c == '\n') {
        size_t len = f->len - head;
        f->len = 0;
        f->on_word(f->arg, f->held + head, len);
    } else {
        f->held[f->len++] = c;
    }
}

void neap_remote_filter_add(neap_remote_filter *f, neap_buf *out, const char *data, size_t len) {
    for (size_t at = 0; at < len; ) {
        if (f->len) { hold(f, out, data[at++]); continue; }
        const char *mark = memchr(data + at, MARK, len - at);
        size_t plain = mark ? (size_t)(mark - data) - at : len - at;
        neap_buf_add(out, data + at, plain);
        at += plain;
        if (mark) f->held[f->len++] = data[at++];
    }
}

void neap_remote_filter_end(neap_remote_filter *f, neap_buf *out) { let_go(f, out); }
