/* escape.c -- text for a terminal or a page: nothing comes out that moves a cursor, changes a mode or opens a tag. */
#include <stdbool.h>
#include <string.h>

#include "base/escape.h"
#include "base/json.h"
#include "fuzz.h"

/* Valid UTF-8 without control characters; line breaks and tabs where they are allowed. */
static void check_harmless(const neap_buf *out, bool lines) {
    if (!out->len) return;
    NEAP_FUZZ_CHECK(neap_json_is_utf8(out->data, out->len));
    for (size_t i = 0; i < out->len; i++) {
        unsigned char c = (unsigned char)out->data[i];
        NEAP_FUZZ_CHECK(c >= 0x20 || (lines && (c == '\n' || c == '\t')));
        NEAP_FUZZ_CHECK(c != 0x7f);
        NEAP_FUZZ_CHECK(c != 0xc2 || (unsigned char)out->data[i + 1] >= 0xa0);       /* C1 */
    }
    NEAP_FUZZ_CHECK(!memmem(out->data, out->len, "\xe2\x80\xae", 3) && !memmem(out->data, out->len, "\xe2\x81\xa6", 3));
}

static void check_terminal(const char *text, size_t size, bool lines) {
    neap_buf out = NEAP_BUF_INIT, again = NEAP_BUF_INIT;
    neap_escape_terminal(&out, text, size, lines);
    check_harmless(&out, lines);
    if (out.len) neap_escape_terminal(&again, out.data, out.len, lines);
    NEAP_FUZZ_CHECK(again.len == out.len && (!out.len || memcmp(again.data, out.data, out.len) == 0));
    neap_buf_close(&out);
    neap_buf_close(&again);
}

NEAP_FUZZ(escape) {
    const char *text = (const char *)data;
    neap_buf page = NEAP_BUF_INIT;
    check_terminal(text, size, false);
    check_terminal(text, size, true);
    neap_escape_html(&page, text, size);
    NEAP_FUZZ_CHECK(!page.len || !memchr(page.data, '<', page.len));
    neap_buf_clear(&page);
    neap_escape_markdown(&page, text, size);
    NEAP_FUZZ_CHECK(!page.len || !memchr(page.data, '<', page.len));
    neap_buf_close(&page);
    size_t width = neap_escape_width(text, size);
    for (size_t columns = 0; columns < 12; columns++) {
        size_t fits = neap_escape_fit(text, size, columns);
        NEAP_FUZZ_CHECK(fits <= size && neap_escape_width(text, fits) <= columns);
        NEAP_FUZZ_CHECK(width > columns || fits == size);
    }
    return 0;
}
