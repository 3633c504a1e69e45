/* buf.h -- a growing run of bytes. Always NUL-terminated behind `len`, so that text in it can be
 * handed to C; it may hold NULs itself. Memory failure ends the process (71): there is nothing
 * sensible to do with half a message, and the journal already has the intent. */
#ifndef NEAP_BASE_BUF_H
#define NEAP_BASE_BUF_H

#include <stddef.h>
#include <stdbool.h>
#include <stdarg.h>

typedef struct neap_buf {
    char  *data;              /* NULL while nothing was ever added */
    size_t len, cap;
} neap_buf;

#define NEAP_BUF_INIT {NULL, 0, 0}

void  neap_buf_add(neap_buf *b, const void *data, size_t len);
void  neap_buf_adds(neap_buf *b, const char *text);
void  neap_buf_addc(neap_buf *b, char c);
void  neap_buf_addf(neap_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void  neap_buf_addv(neap_buf *b, const char *format, va_list args);
void  neap_buf_addi(neap_buf *b, long long number);  /* in decimal */
void  neap_buf_reserve(neap_buf *b, size_t len);     /* memory for len bytes in all, and not for twice as many */
char *neap_buf_room(neap_buf *b, size_t len);        /* writable room for len bytes behind data+len; then b->len += used */
void  neap_buf_drop(neap_buf *b, size_t len);        /* forget the first len bytes */
void  neap_buf_cut(neap_buf *b, size_t len);         /* forget all but the first len bytes */
void  neap_buf_clear(neap_buf *b);                   /* len = 0, memory kept */
char *neap_buf_take(neap_buf *b);                    /* the text, now the caller's to free; b is empty */
void  neap_buf_close(neap_buf *b);                   /* free */
void  neap_buf_wipe(neap_buf *b);                    /* overwrite, then free: for secrets */

/* malloc, calloc, strdup, asprintf that never return NULL: they end the process with 71 and one line. */
void *neap_alloc(size_t size);
void *neap_zalloc(size_t size);
char *neap_strdup(const char *text);
char *neap_strndup(const char *text, size_t len);
char *neap_asprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
