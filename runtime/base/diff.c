/* diff.c -- lines that differ.
 *
 *     equal head │ the middle, where the longest common subsequence is looked for │ equal tail
 *
 * Most edits of a configuration file change a few lines, so the head and the tail do nearly all the work and the
 * quadratic table stays small. A middle beyond CELLS_MOST cells is shown as "all of these for all of those": true, if
 * not short. Output stops after LINES_MOST lines and says how many it left out. Rejected: Myers' algorithm, twice the code for
 * texts that nobody would read.
 */
#include "base/diff.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS_MOST = 1 << 22, LINES_MOST = 200, LINE_BYTES_MOST = 500, CONTEXT = 3 };

typedef struct line { const char *text; size_t len; bool ended; } line;
typedef struct lines { line *all; size_t count; } lines;
typedef struct edit { char sign; const line *line; } edit;      /* ' ' kept, '-' old, '+' new */
typedef struct script { edit *all; size_t count; } script;

static lines split(const char *text, size_t len) {
    size_t count = 0, at = 0;
    for (size_t i = 0; i < len; i++) count += text[i] == '\n';
    lines l = {neap_alloc(sizeof(line) * (count + 1)), 0};
    while (at < len) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t size = end ? (size_t)(end - text) - at : len - at;
        l.all[l.count++] = (line){text + at, size, end != NULL};
        at += size + (end != NULL);
    }
    return l;
}

static bool same(const line *a, const line *b) {
    return a->len == b->len && a->ended == b->ended && memcmp(a->text, b->text, a->len) == 0;
}

static void add(script *s, char sign, const line *l) { s->all[s->count++] = (edit){sign, l}; }

/* table[i][j]: length of the longest common subsequence of a[i..] and b[j..]. */
static uint32_t *measure(const line *a, size_t n, const line *b, size_t m) {
    uint32_t *table = neap_zalloc(sizeof *table * (n + 1) * (m + 1));
    for (size_t i = n; i-- > 0; ) {
        uint32_t *row = table + i * (m + 1), *below = row + m + 1;
        for (size_t j = m; j-- > 0; )
            row[j] = same(a + i, b + j) ? below[j + 1] + 1 : below[j] > row[j + 1] ? below[j] : row[j + 1];
    }
    return table;
}

static void add_middle(script *s, const line *a, size_t n, const line *b, size_t m) {
    size_t i = 0, j = 0;
    if (n && m && (n + 1) * (m + 1) <= CELLS_MOST) {
        uint32_t *table = measure(a, n, b, m);
        while (i < n && j < m) {
            const uint32_t *at = table + i * (m + 1) + j;
            if (same(a + i, b + j)) { add(s, ' ', a + i); i++; j++; }
            else if (at[m + 1] >= at[1]) add(s, '-', a + i++);
            else add(s, '+', b + j++);
        }
        free(table);
    }
    while (i < n) add(s, '-', a + i++);
    while (j < m) add(s, '+', b + j++);
}

static script compare(const lines *a, const lines *b) {
    script s = {neap_alloc(sizeof(edit) * (a->count + b->count + 1)), 0};
    size_t head = 0, tail = 0, least = a->count < b->count ? a->count : b->count;
    while (head < least && same(a->all + head, b->all + head)) add(&s, ' ', a->all + head++);
    while (tail < least - head && same(a->all + a->count - 1 - tail, b->all + b->count - 1 - tail)) tail++;
    add_middle(&s, a->all + head, a->count - head - tail, b->all + head, b->count - head - tail);
    for (size_t i = a->count - tail; i < a->count; i++) add(&s, ' ', a->all + i);
    return s;
}

static void show_line(neap_buf *out, const edit *e) {
    size_t len = e->line->len > LINE_BYTES_MOST ? LINE_BYTES_MOST : e->line->len;
    neap_buf_addc(out, e->sign);
    neap_buf_add(out, e->line->text, len);
    if (len < e->line->len) neap_buf_adds(out, "…");
    neap_buf_addc(out, '\n');
    if (!e->line->ended) neap_buf_adds(out, "\\ no line break at the end\n");
}

/* The end of the hunk that begins at `from`: where more than twice the context is equal, or the script ends. */
static size_t hunk_end(const script *s, size_t from) {
    size_t end = from, equal = 0;
    for (size_t i = from; i < s->count && equal <= 2 * CONTEXT; i++) {
        equal = s->all[i].sign == ' ' ? equal + 1 : 0;
        if (!equal) end = i + 1;
    }
    return end + CONTEXT < s->count ? end + CONTEXT : s->count;
}

static void show_hunk(neap_buf *out, const script *s, size_t from, size_t to, size_t old_line, size_t new_line, int *room) {
    size_t olds = 0, news = 0;
    for (size_t i = from; i < to; i++) {
        olds += s->all[i].sign != '+';
        news += s->all[i].sign != '-';
    }
    neap_buf_addf(out, "@@ -%zu,%zu +%zu,%zu @@\n", olds ? old_line : old_line - 1, olds, news ? new_line : new_line - 1, news);
    for (size_t i = from; i < to && *room > 0; i++, --*room) show_line(out, s->all + i);
}

static void show(neap_buf *out, const script *s) {
    size_t old_line = 1, new_line = 1, at = 0, changes = 0;
    int room = LINES_MOST;
    for (size_t i = 0; i < s->count; i++) changes += s->all[i].sign != ' ';
    while (at < s->count && room > 0) {
        size_t first = at;
        while (first < s->count && s->all[first].sign == ' ') first++;
        if (first == s->count) break;
        size_t from = first - at > CONTEXT ? first - CONTEXT : at, to = hunk_end(s, first);
        old_line += from - at;
        new_line += from - at;
        show_hunk(out, s, from, to, old_line, new_line, &room);
        for (at = from; at < to; at++) {
            old_line += s->all[at].sign != '+';
            new_line += s->all[at].sign != '-';
        }
    }
    if (room <= 0) neap_buf_addf(out, "… cut here: %zu lines change in all\n", changes);
}

static bool is_text(const char *text, size_t len) { return !len || !memchr(text, 0, len); }

void neap_diff(neap_buf *out, const char *old_text, size_t old_len, const char *new_text, size_t new_len) {
    if (old_len == new_len && (!old_len || memcmp(old_text, new_text, old_len) == 0)) return;
    if (!is_text(old_text, old_len) || !is_text(new_text, new_len)) {
        neap_buf_addf(out, "binary: %zu bytes become %zu\n", old_len, new_len);
        return;
    }
    lines a = split(old_text, old_len), b = split(new_text, new_len);
    script s = compare(&a, &b);
    show(out, &s);
    free(s.all);
    free(a.all);
    free(b.all);
}
