/* sql_walk.c -- the reader under sql.c.
 *
 * Promise: every key, string and literal of the JSON text is reported in order with the path that leads to it; memory grows
 * with the depth of the text, never with its length, and the C stack not at all.
 *
 * The text comes from libpg_query, not from a network, so the reader is strict about structure (a surprise is an error, since the
 * fence must not guess) but does not validate what it has no use for, such as the form of numbers. */
#include "guard/sql_walk.h"

#include <stdlib.h>
#include <string.h>

bool neap_sql_frame_is(const neap_sql_frame *frame, const char *key) {
    return strlen(key) == frame->len && memcmp(frame->key, key, frame->len) == 0;
}

bool neap_sql_walk_at(const neap_sql_walk *w, size_t up, const char *key) {
    return up < w->depth && neap_sql_frame_is(&w->frames[w->depth - 1 - up], key);
}

static void open_frame(neap_sql_walk *w, const neap_sql_frame *key) {
    if (w->depth == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 64;
        neap_sql_frame *frames = neap_alloc(cap * sizeof *frames);
        if (w->depth > 0) memcpy(frames, w->frames, w->depth * sizeof *frames);
        free(w->frames);
        w->frames = frames;
        w->cap = cap;
    }
    w->frames[w->depth++] = *key;
    w->enter(w);
}

static const char *skip_space(const char *at) {
    return at + strspn(at, " \t\r\n");
}

/* The character that \uXXXX stands for, as UTF-8. The parser writes it for control characters only; anything else is kept. */
static const char *decode_unicode(neap_buf *out, const char *at) {
    char digits[5] = "";
    for (int i = 0; i < 4 && at[i] != '\0'; i++) digits[i] = at[i];
    unsigned long code = strtoul(digits, NULL, 16);
    if (code < 0x80) {
        neap_buf_addc(out, (char)code);
    } else if (code < 0x800) {
        neap_buf_addc(out, (char)(0xc0 | code >> 6));
        neap_buf_addc(out, (char)(0x80 | (code & 0x3f)));
    } else {
        neap_buf_addc(out, (char)(0xe0 | code >> 12));
        neap_buf_addc(out, (char)(0x80 | (code >> 6 & 0x3f)));
        neap_buf_addc(out, (char)(0x80 | (code & 0x3f)));
    }
    return at + strlen(digits);
}

static const char *decode_escape(neap_buf *out, const char *at) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (*at == 'u') return decode_unicode(out, at + 1);
    const char *found = strchr(from, *at);
    neap_buf_addc(out, found ? to[found - from] : *at);
    return at + 1;
}

/* `at` is behind the opening quote. Returns the place behind the closing one, NULL when there is none. */
static const char *read_string(neap_buf *out, const char *at) {
    neap_buf_clear(out);
    for (;;) {
        size_t plain = strcspn(at, "\"\\");
        neap_buf_add(out, at, plain);
        at += plain;
        if (*at == '"') return at + 1;
        if (*at == '\0' || at[1] == '\0') return NULL;
        at = decode_escape(out, at + 1);
    }
}

/* A string: the key of what follows, or a value under the key that came before it. */
static const char *on_string(neap_sql_walk *w, const char *at, neap_sql_frame *key) {
    const char *end = read_string(&w->text, at + 1);
    if (end == NULL) return NULL;
    const char *next = skip_space(end);
    if (*next == ':') {
        *key = (neap_sql_frame){at + 1, (size_t)(end - at) - 2, false};
        return next + 1;
    }
    w->value(w, key, w->text.data ? w->text.data : "");
    *key = (neap_sql_frame){"", 0, false};
    return next;
}

static const char *on_literal(neap_sql_walk *w, const char *at, neap_sql_frame *key) {
    size_t len = strcspn(at, ",]} \t\r\n");
    if (len == 0) return NULL;
    neap_buf_clear(&w->text);
    neap_buf_add(&w->text, at, len);
    w->value(w, key, w->text.data);
    *key = (neap_sql_frame){"", 0, false};
    return at + len;
}

/* One token at `at`; NULL when it does not belong there. */
static const char *step(neap_sql_walk *w, const char *at, neap_sql_frame *key) {
    switch (*at) {
    case '\0':
        return NULL;
    case '{': case '[':
        open_frame(w, key);
        *key = (neap_sql_frame){"", 0, false};
        return at + 1;
    case '}': case ']':
        if (w->depth == 0) return NULL;
        w->leave(w);
        w->depth--;
        return at + 1;
    case ',':
        return at + 1;
    case '"':
        return on_string(w, at, key);
    default:
        return on_literal(w, at, key);
    }
}

bool neap_sql_walk_run(neap_sql_walk *w, const char *json) {
    neap_sql_frame key = {"", 0, false};
    const char *at = skip_space(json);
    bool sound = *at == '{';
    while (sound) {
        at = step(w, at, &key);
        sound = at != NULL;
        if (sound && w->depth == 0) break;
        if (sound) at = skip_space(at);
    }
    sound = sound && *skip_space(at) == '\0';
    free(w->frames);
    w->frames = NULL;
    w->depth = w->cap = 0;
    neap_buf_close(&w->text);
    return sound;
}
