/* pattern.c -- the listed forms of a secret.
 *
 * Two kinds of encoding exist. Escapes (URL, JSON, C) leave the choice of what to escape and in which
 * case to the writer, so listing results would never be complete: redact.c undoes them while it reads. The
 * others have few results and are listed here: quoting, hexadecimal, base64.
 *
 * Base64 inside a longer text depends on the position modulo 3 and, at both ends, on the neighbours. The
 * characters that the secret alone decides are the pattern; where nothing or a newline follows the
 * secret, the last one is known too and belongs to it. Up to four bits at an end that touches foreign bytes
 * stay visible; that is said in the manual.
 */
#include "guard/pattern.h"

#include <stdbool.h>
#include <string.h>
#include "base/buf.h"

enum { LEAST = 6 };

typedef struct sink { neap_pattern_fn each; void *arg; neap_buf buf; } sink;

static void emit(sink *s) {
    if (s->buf.len >= LEAST) s->each(s->arg, s->buf.data, s->buf.len);
    if (s->buf.len) explicit_bzero(s->buf.data, s->buf.len);
    neap_buf_clear(&s->buf);
}

/* The value with every byte of `from` replaced by its partner in `to` (NULL-terminated list in step with it). */
static void replaced(sink *s, const char *v, size_t n, const char *from, const char *const *to) {
    bool changed = false;
    for (size_t i = 0; i < n; i++) {
        const char *hit = v[i] ? strchr(from, v[i]) : NULL;
        if (hit) { neap_buf_adds(&s->buf, to[hit - from]); changed = true; }
        else neap_buf_addc(&s->buf, v[i]);
    }
    if (!changed) neap_buf_clear(&s->buf);
    emit(s);
}

static void hex(sink *s, const char *v, size_t n, const char *digits) {
    for (size_t i = 0; i < n; i++) {
        neap_buf_addc(&s->buf, digits[(unsigned char)v[i] >> 4]);
        neap_buf_addc(&s->buf, digits[v[i] & 15]);
    }
    emit(s);
}

/* The characters of base64(`lead` unknown bytes, value) that the value decides. `last`: also the final one, whose
 * missing bits are zero at the end of the data. */
static void base64(sink *s, const char *v, size_t n, int lead, bool last, bool url) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char safe[] =  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t bits = ((size_t)lead + n) * 8, first = lead ? (size_t)lead + 1 : 0, end = bits / 6;
    if (last && bits % 6) end++;
    for (size_t c = first; c < end; c++) {
        unsigned six = 0;
        for (size_t b = c * 6; b < c * 6 + 6; b++) {
            size_t at = b / 8 - (size_t)lead;
            unsigned bit = b < bits ? ((unsigned char)v[at] >> (7 - b % 8)) & 1 : 0;
            six = six << 1 | bit;
        }
        neap_buf_addc(&s->buf, (url ? safe : plain)[six]);
    }
    emit(s);
}

static void base64_forms(sink *s, const char *v, size_t n) {
    neap_buf line = NEAP_BUF_INIT;
    memcpy(neap_buf_room(&line, n + 1), v, n);             /* one allocation: growing would leave a copy behind */
    line.data[n] = '\n';
    line.len = n + 1;
    for (int lead = 0; lead < 3; lead++)
        for (int url = 0; url < 2; url++) {
            base64(s, v, n, lead, false, url);
            base64(s, v, n, lead, true, url);
            base64(s, line.data, line.len, lead, true, url);
        }
    neap_buf_wipe(&line);
}

static void forms(sink *s, const char *v, size_t n) {
    static const char *const joined[] = { "", "" }, *const plus[] = { "+" };
    static const char *const shell[] = { "'\\''" }, *const shell_double[] = { "'\"'\"'" }, *const sql[] = { "''" };
    static const char *const html[] = { "&amp;", "&lt;", "&gt;", "&quot;", "&#39;" };
    neap_buf_add(&s->buf, v, n);
    emit(s);
    replaced(s, v, n, "\n\r", joined);          /* wrapped anew by whoever shows it */
    replaced(s, v, n, " ", plus);               /* a form's space */
    replaced(s, v, n, "'", shell);
    replaced(s, v, n, "'", shell_double);
    replaced(s, v, n, "'", sql);
    replaced(s, v, n, "&<>\"'", html);
    hex(s, v, n, "0123456789abcdef");
    hex(s, v, n, "0123456789ABCDEF");
    base64_forms(s, v, n);
}

static void line_forms(sink *s, const char *v, size_t n) {
    const char *blank = " \t\r";
    while (n && memchr(blank, v[n - 1], 3)) n--;
    while (n && memchr(blank, *v, 3)) v++, n--;
    if (n < LEAST || strncmp(v, "-----", 5) == 0) return;      /* the frame of a PEM file is public */
    forms(s, v, n);
}

void neap_pattern_each(const char *bytes, size_t len, neap_pattern_fn each, void *arg) {
    sink s = { each, arg, NEAP_BUF_INIT };
    neap_buf_room(&s.buf, len * 6 + 64);                   /* the longest form fits: the buffer never moves */
    forms(&s, bytes, len);
    const char *end = bytes + len, *line = bytes;
    if (memchr(bytes, '\n', len))
        while (line < end) {
            const char *stop = memchr(line, '\n', (size_t)(end - line));
            if (!stop) stop = end;
            line_forms(&s, line, (size_t)(stop - line));
            line = stop + 1;
        }
    neap_buf_wipe(&s.buf);
}
