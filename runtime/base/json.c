/* json.c -- see json.h. A writer of sixty lines instead of jansson's object tree: records are written far more
 * often than read, and their order of keys is fixed by the writer. */
#include "base/json.h"

#include <string.h>

/* Length of the valid UTF-8 sequence at text, 0 when there is none. */
static size_t sequence(const unsigned char *t, size_t len) {
    unsigned char c = t[0];
    if (c < 0x80) return 1;
    size_t want = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || want > len) return 0;
    for (size_t i = 1; i < want; i++)
        if ((t[i] & 0xC0) != 0x80) return 0;
    if ((c == 0xE0 && t[1] < 0xA0) || (c == 0xED && t[1] > 0x9F)) return 0;
    if ((c == 0xF0 && t[1] < 0x90) || (c == 0xF4 && t[1] > 0x8F)) return 0;
    return want;
}

bool neap_json_is_utf8(const char *text, size_t len) {
    const unsigned char *t = (const unsigned char *)text;
    while (len > 0) {
        size_t n = *t < 0x80 ? 1 : sequence(t, len);
        if (n == 0) return false;
        t += n;
        len -= n;
    }
    return true;
}

static void escape_ascii(neap_buf *out, unsigned char c) {
    switch (c) {
    case '"': neap_buf_adds(out, "\\\""); break;
    case '\\': neap_buf_adds(out, "\\\\"); break;
    case '\n': neap_buf_adds(out, "\\n"); break;
    case '\r': neap_buf_adds(out, "\\r"); break;
    case '\t': neap_buf_adds(out, "\\t"); break;
    default:
        if (c < 0x20 || c == 0x7F) neap_buf_addf(out, "\\u%04x", c);
        else neap_buf_addc(out, (char)c);
    }
}

/* C1 controls, which some terminals obey, and what turns the direction of text: JSON may be read by people. 0: the sequence is harmless. */
static unsigned harmful(const unsigned char *t, size_t n) {
    if (n == 2 && t[0] == 0xC2 && t[1] < 0xA0) return t[1];
    if (n != 3 || t[0] != 0xE2) return 0;
    unsigned c = 0x2000u | (t[1] & 0x3Fu) << 6 | (t[2] & 0x3Fu);
    bool turns = c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
    return turns ? c : 0;
}

/* How many bytes from here on go out as they are. */
static size_t plain(const unsigned char *t, size_t len) {
    size_t n = 0;
    while (n < len && t[n] >= 0x20 && t[n] < 0x7F && t[n] != '"' && t[n] != '\\') n++;
    return n;
}

void neap_json_string(neap_buf *out, const char *text, size_t len) {
    const unsigned char *t = (const unsigned char *)text;
    neap_buf_addc(out, '"');
    while (len > 0) {
        size_t n = plain(t, len);
        if (n) {
            neap_buf_add(out, t, n);
            t += n;
            len -= n;
            continue;
        }
        n = sequence(t, len);
        unsigned bad = harmful(t, n);
        if (bad) neap_buf_addf(out, "\\u%04x", bad);
        else if (n > 1) neap_buf_add(out, t, n);
        else if (n == 1) escape_ascii(out, *t);
        else neap_buf_adds(out, "\xEF\xBF\xBD"), n = 1;
        t += n;
        len -= n;
    }
    neap_buf_addc(out, '"');
}

static void member_name(neap_buf *out, const char *name) {
    if (out->len > 0 && out->data[out->len - 1] != '{') neap_buf_addc(out, ',');
    neap_json_string(out, name, strlen(name));
    neap_buf_addc(out, ':');
}

void neap_json_member(neap_buf *out, const char *name, const char *text) {
    if (!text) return;
    member_name(out, name);
    neap_json_string(out, text, strlen(text));
}

void neap_json_member_int(neap_buf *out, const char *name, long long value) {
    member_name(out, name);
    neap_buf_addi(out, value);
}
