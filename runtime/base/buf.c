/* buf.c -- growing bytes, and memory that is never NULL.
 *
 * Promises: data[len] is a NUL whenever data exists; growth doubles, so a million single bytes cost
 * twenty copies; a size that would overflow ends the process like a refused allocation does.
 *
 * Rejected: reporting a failed allocation to the caller. Half a message cannot be sent and half a record
 * cannot be journalled; the intent is on disk already, so ending at once with 71 is the honest way out.
 * (The memory of runbooks is limited separately, by the Lua state's own allocator, which does report.)
 */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_MEMORY = 71, FIRST_SIZE = 64 };

static _Noreturn void out_of_memory(void) {
    static const char text[] = "neap: out of memory\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(EXIT_MEMORY);
}

void *neap_alloc(size_t size) {
    void *p = malloc(size ? size : 1);
    if (!p) out_of_memory();
    return p;
}

void *neap_zalloc(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p) out_of_memory();
    return p;
}

char *neap_strdup(const char *text) { return neap_strndup(text, strlen(text)); }

char *neap_strndup(const char *text, size_t len) {
    const char *end = memchr(text, 0, len);
    if (end) len = (size_t)(end - text);
    char *copy = neap_alloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

static void resize(neap_buf *b, size_t cap) {
    char *data = realloc(b->data, cap);
    if (!data) out_of_memory();
    b->data = data;
    b->cap = cap;
}

/* Room for `more` bytes and the NUL behind them. */
static void grow(neap_buf *b, size_t more) {
    if (more > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) out_of_memory();
    size_t need = b->len + more + 1;
    if (need <= b->cap) return;
    size_t cap = b->cap ? b->cap : FIRST_SIZE;
    while (cap < need) cap *= 2;
    resize(b, cap);
}

void neap_buf_reserve(neap_buf *b, size_t len) {
    if (len > SIZE_MAX / 4) out_of_memory();
    if (len < b->cap) return;
    resize(b, len + 1);
    b->data[b->len] = 0;
}

void neap_buf_add(neap_buf *b, const void *data, size_t len) {
    grow(b, len);
    if (len) memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

void neap_buf_adds(neap_buf *b, const char *text) { neap_buf_add(b, text, strlen(text)); }

void neap_buf_addc(neap_buf *b, char c) { neap_buf_add(b, &c, 1); }

void neap_buf_addf(neap_buf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    neap_buf_addv(b, format, args);
    va_end(args);
}

void neap_buf_addv(neap_buf *b, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    grow(b, 0);
    size_t room = b->cap - b->len;
    int len = vsnprintf(b->data + b->len, room, format, args);
    if (len >= 0 && (size_t)len >= room) {         /* most fit at once; this one did not */
        grow(b, (size_t)len);
        vsnprintf(b->data + b->len, (size_t)len + 1, format, again);
    }
    if (len >= 0) b->len += (size_t)len;
    b->data[b->len] = 0;
    va_end(again);
}

void neap_buf_addi(neap_buf *b, long long number) {
    char digits[24], *at = digits + sizeof digits;
    unsigned long long rest = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number;
    do *--at = (char)('0' + rest % 10); while (rest /= 10);
    if (number < 0) *--at = '-';
    neap_buf_add(b, at, (size_t)(digits + sizeof digits - at));
}

/* Cleared, so that the promise of a NUL behind `len` holds however much of the room is used. */
char *neap_buf_room(neap_buf *b, size_t len) {
    grow(b, len);
    memset(b->data + b->len, 0, len + 1);
    return b->data + b->len;
}

void neap_buf_drop(neap_buf *b, size_t len) {
    if (!b->data || !len) return;
    if (len > b->len) len = b->len;
    memmove(b->data, b->data + len, b->len - len + 1);
    b->len -= len;
}

void neap_buf_cut(neap_buf *b, size_t len) {
    if (len >= b->len) return;
    b->len = len;
    b->data[len] = 0;
}

void neap_buf_clear(neap_buf *b) { neap_buf_cut(b, 0); }

char *neap_buf_take(neap_buf *b) {
    if (!b->data) neap_buf_add(b, "", 0);
    char *text = b->data;
    *b = (neap_buf)NEAP_BUF_INIT;
    return text;
}

char *neap_asprintf(const char *format, ...) {
    neap_buf text = NEAP_BUF_INIT;
    va_list args;
    va_start(args, format);
    neap_buf_addv(&text, format, args);
    va_end(args);
    return neap_buf_take(&text);
}

void neap_buf_close(neap_buf *b) {
    free(b->data);
    *b = (neap_buf)NEAP_BUF_INIT;
}

/* The whole capacity: bytes that were dropped or cleared may still lie behind len. */
void neap_buf_wipe(neap_buf *b) {
    if (b->data) explicit_bzero(b->data, b->cap);
    neap_buf_close(b);
}
