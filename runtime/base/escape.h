/* escape.h -- text from outside, made harmless for one sink. Nothing received is written to a
 * terminal, an HTML or a Markdown page without passing here. */
#ifndef NEAP_BASE_ESCAPE_H
#define NEAP_BASE_ESCAPE_H

#include "base/buf.h"

/* For a terminal: valid printable UTF-8 stays; C0 (tab and newline too, unless `lines`), DEL, C1,
 * bidi controls and invalid bytes become \x1b, \u{202e}, \xff. */
void neap_escape_terminal(neap_buf *out, const char *text, size_t len, bool lines);
void neap_escape_html(neap_buf *out, const char *text, size_t len);
void neap_escape_markdown(neap_buf *out, const char *text, size_t len);

/* Columns the text takes in a terminal (after escaping), by grapheme. */
size_t neap_escape_width(const char *text, size_t len);
/* Bytes of the longest prefix that fits `columns`. */
size_t neap_escape_fit(const char *text, size_t len, size_t columns);

#endif
