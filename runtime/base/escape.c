/* escape.c -- text from outside, made harmless for one sink.
 *
 * The rule for a terminal is positive: a code point stays only when it is valid UTF-8 and printable. Everything
 * that can move the cursor, change a mode, reorder what is read or leave no trace is spelled out instead: C0, DEL, C1,
 * bidi controls, line and paragraph separators, invisible format characters, private and unassigned ones,
 * bytes that are not UTF-8. Joiners and variation selectors stay, because writing systems and emoji need them.
 *
 * HTML and Markdown get the same treatment first (a page is pasted into a terminal sooner or later), with line breaks
 * kept, and then their own metacharacters.
 *
 * Rejected: removing what is harmful. An operator must be able to see that a name holds an escape character.
 */
#include "base/escape.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* One step through the text: its code point, or -1 for a byte that is not UTF-8. Returns the bytes taken. */
static size_t next(const char *text, size_t len, utf8proc_int32_t *rune) {
    if ((unsigned char)*text < 0x80) { *rune = (unsigned char)*text; return 1; }
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len, rune);
    if (n > 0) return (size_t)n;
    *rune = -1;
    return 1;
}

static bool is_joiner(utf8proc_int32_t c) {
    return c == 0x200c || c == 0x200d || (c >= 0xfe00 && c <= 0xfe0f) || (c >= 0xe0100 && c <= 0xe01ef) || (c >= 0xe0020 && c <= 0xe007f);
}

static bool is_plain(utf8proc_int32_t c) {
    if (c < 0x80) return c >= 0x20 && c != 0x7f;
    if (is_joiner(c)) return c == 0x200c || c == 0x200d || c < 0x10000;      /* tag characters can hide text */
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF: case UTF8PROC_CATEGORY_CS: case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN: case UTF8PROC_CATEGORY_ZL: case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

enum { SPELLED_SIZE = 16 };

/* How a code point (or, when -1, the byte) is written out. Returns the length. */
static int spell(utf8proc_int32_t c, unsigned char byte, char out[SPELLED_SIZE]) {
    if (c == '\n') return snprintf(out, SPELLED_SIZE, "\\n");
    if (c == '\t') return snprintf(out, SPELLED_SIZE, "\\t");
    if (c == '\r') return snprintf(out, SPELLED_SIZE, "\\r");
    if (c < 0) return snprintf(out, SPELLED_SIZE, "\\x%02x", byte);
    if (c < 0x80) return snprintf(out, SPELLED_SIZE, "\\x%02x", (unsigned)c);
    return snprintf(out, SPELLED_SIZE, "\\u{%x}", (unsigned)c);
}

void neap_escape_terminal(neap_buf *out, const char *text, size_t len, bool lines) {
    for (size_t at = 0, n; at < len; at += n) {
        utf8proc_int32_t c;
        n = next(text + at, len - at, &c);
        if ((c >= 0 && is_plain(c)) || (lines && (c == '\n' || c == '\t'))) {
            neap_buf_add(out, text + at, n);
            continue;
        }
        char spelled[SPELLED_SIZE];
        neap_buf_add(out, spelled, (size_t)spell(c, (unsigned char)text[at], spelled));
    }
}

void neap_escape_html(neap_buf *out, const char *text, size_t len) {
    neap_buf plain = NEAP_BUF_INIT;
    neap_escape_terminal(&plain, text, len, true);
    for (size_t i = 0; i < plain.len; i++)
        switch (plain.data[i]) {
        case '&':  neap_buf_adds(out, "&amp;"); break;
        case '<':  neap_buf_adds(out, "&lt;"); break;
        case '>':  neap_buf_adds(out, "&gt;"); break;
        case '"':  neap_buf_adds(out, "&quot;"); break;
        case '\'': neap_buf_adds(out, "&#39;"); break;
        default:   neap_buf_addc(out, plain.data[i]);
        }
    neap_buf_close(&plain);
}

/* Every ASCII punctuation mark may be escaped in Markdown, and an escaped one never means anything. "<" and "&" become
 * entities, because some renderers pass HTML through. A line break becomes a space: text is put into cells and headings. */
void neap_escape_markdown(neap_buf *out, const char *text, size_t len) {
    neap_buf plain = NEAP_BUF_INIT;
    neap_escape_terminal(&plain, text, len, true);
    for (size_t i = 0; i < plain.len; i++) {
        char c = plain.data[i];
        if (c == '<') neap_buf_adds(out, "&lt;");
        else if (c == '&') neap_buf_adds(out, "&amp;");
        else if (c == '\n' || c == '\t') neap_buf_addc(out, ' ');
        else {
            if (strchr("\\`*_{}[]()#+-.!|>~:@\"'$=", c)) neap_buf_addc(out, '\\');
            neap_buf_addc(out, c);
        }
    }
    neap_buf_close(&plain);
}

/* The grapheme at the front: its bytes, and its columns as a terminal shows it after escaping. */
static size_t grapheme(const char *text, size_t len, size_t *columns) {
    utf8proc_int32_t before, c, state = 0;
    size_t at = next(text, len, &before);
    if (before < 0 || !is_plain(before)) {
        char spelled[SPELLED_SIZE];
        *columns = (size_t)spell(before, (unsigned char)*text, spelled);
        return at;
    }
    int wide = utf8proc_charwidth(before);
    while (at < len) {
        size_t n = next(text + at, len - at, &c);
        if (c < 0 || !is_plain(c) || utf8proc_grapheme_break_stateful(before, c, &state)) break;
        int w = c == 0xfe0f ? 2 : utf8proc_charwidth(c);         /* "show as emoji" makes the sign two columns wide */
        if (w > wide) wide = w;
        before = c;
        at += n;
    }
    *columns = (size_t)(wide > 0 ? wide : 0);
    return at;
}

size_t neap_escape_width(const char *text, size_t len) {
    size_t total = 0, columns;
    for (size_t at = 0; at < len; total += columns) at += grapheme(text + at, len - at, &columns);
    return total;
}

size_t neap_escape_fit(const char *text, size_t len, size_t columns) {
    size_t at = 0, used = 0, one;
    while (at < len) {
        size_t n = grapheme(text + at, len - at, &one);
        if (used + one > columns) break;
        used += one;
        at += n;
    }
    return at;
}
