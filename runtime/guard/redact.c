/* redact.c -- a stream of bytes in, the same stream without secrets out.
 *
 * Promise. Every byte of every occurrence of every form of every known secret is replaced, whatever the sizes of the
 * pieces it arrives in; what is not part of one comes out unchanged and in order. Occurrences that overlap become
 * one ‹secret NAME›, named after the longest.
 *
 * The text is read through four views at once, each stepping the same automaton:
 *
 *   PLAIN      the bytes as they are
 *   WRAPPED    line breaks left out where the line is as wide as encoders wrap (56 to 80, a multiple of 4)
 *   PERCENT    %41 read as A
 *   BACKSLASH  \n \" \/ \x41 \101 \u00e9 read as what they stand for (JSON, C, $'…', E'…', printf %q)
 *
 * so that every choice of what to escape, and in which case, is covered without listing it. A view remembers
 * where in the text each of its recent bytes began; a match covers the text from there to here.
 *
 * Why nothing escapes: the automaton's depth is the length of the longest suffix that could still become a
 * secret. Bytes before the first byte of that suffix, in every view, can belong to no later match: only those are let
 * go. Memory is bounded by the longest form: covered bytes are forgotten as soon as they are decided, even while
 * the occurrence they belong to may still grow.
 *
 * Rejected: replacing in whole lines (a line may be endless), one pass per form (forms overlap, and the second pass
 * would not see what the first has broken up), listing URL and JSON forms (libraries differ in what they escape).
 */
#include "guard/secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "guard/trie.h"

enum view_kind { PLAIN, WRAPPED, PERCENT, BACKSLASH, VIEWS };
enum { TOKEN_MOST = 12, PIECE = 16 * 1024, WRAP_LEAST = 56, WRAP_MOST = 80 };

typedef struct view {
    uint32_t  state;
    uint64_t  count;                /* bytes this view has produced */
    uint64_t *starts;               /* ring: where in the text the recent ones began */
    char      token[TOKEN_MOST];    /* an escape that is not complete yet, as it stands in the text */
    int       token_len;
    uint64_t  token_start;
} view;

typedef struct interval { uint64_t start, end; size_t longest; int owner; } interval;

struct neap_redactor {
    const neap_trie *trie;
    unsigned long version;
    uint64_t  mask;                 /* of the rings */
    view      views[VIEWS];
    uint64_t  column;               /* of the plain text, for WRAPPED */
    bool      matters[256];         /* bytes that can begin a form or an escape, or break a line */
    neap_buf  text;                 /* bytes [base, base + text.len) are not decided */
    uint64_t  base, seen;           /* seen: the views have read up to here */
    interval *covered;              /* disjoint, in order; what is not let go yet */
    size_t    covered_len, covered_cap;
};

/* --- what a match covers ---------------------------------------------------------------------- */

static void insert(neap_redactor *r, size_t at, interval v) {
    if (r->covered_len == r->covered_cap) {
        size_t cap = r->covered_cap ? r->covered_cap * 2 : 16;
        interval *more = neap_alloc(cap * sizeof *more);
        if (r->covered_len) memcpy(more, r->covered, r->covered_len * sizeof *more);
        free(r->covered);
        r->covered = more;
        r->covered_cap = cap;
    }
    memmove(r->covered + at + 1, r->covered + at, (r->covered_len - at) * sizeof *r->covered);
    r->covered[at] = v;
    r->covered_len++;
}

static void cover(neap_redactor *r, interval v) {
    size_t last = r->covered_len;                             /* first one wholly behind v */
    while (last && r->covered[last - 1].start >= v.end) last--;
    size_t first = last;
    while (first && r->covered[first - 1].end > v.start) {
        interval *old = &r->covered[--first];
        if (old->start < v.start) v.start = old->start;
        if (old->end > v.end) v.end = old->end;
        if (old->longest >= v.longest) v.longest = old->longest, v.owner = old->owner;
    }
    if (first == last) { insert(r, first, v); return; }
    r->covered[first] = v;
    memmove(r->covered + first + 1, r->covered + last, (r->covered_len - last) * sizeof *r->covered);
    r->covered_len -= last - first - 1;
}

/* --- views ------------------------------------------------------------------------------------ */

/* The view produced `byte`, which stands in the text from start to end. */
static void step(neap_redactor *r, view *v, unsigned char byte, uint64_t start, uint64_t end) {
    v->state = neap_trie_step(r->trie, v->state, byte);
    v->starts[v->count++ & r->mask] = start;
    int owner = 0;
    size_t len = v->state ? neap_trie_match(r->trie, v->state, &owner) : 0;
    if (len) cover(r, (interval){ v->starts[(v->count - len) & r->mask], end, len, owner });
}

/* The token turned out to be no escape: its bytes stand for themselves, from `from` on. */
static void literal(neap_redactor *r, view *v, int from) {
    for (int i = from; i < v->token_len; i++)
        step(r, v, (unsigned char)v->token[i], v->token_start + (uint64_t)(i > from ? i : 0), v->token_start + (uint64_t)i + 1);
    v->token_len = 0;
}

static void produce(neap_redactor *r, view *v, unsigned code, bool is_rune) {
    uint64_t start = v->token_start, end = start + (uint64_t)v->token_len;
    v->token_len = 0;
    if (!is_rune || code < 0x80) { step(r, v, (unsigned char)code, start, end); return; }
    if (code < 0x800) step(r, v, (unsigned char)(0xc0 | code >> 6), start, end);
    else {
        if (code < 0x10000) step(r, v, (unsigned char)(0xe0 | code >> 12), start, end);
        else {
            step(r, v, (unsigned char)(0xf0 | code >> 18), start, end);
            step(r, v, (unsigned char)(0x80 | (code >> 12 & 63)), start, end);
        }
        step(r, v, (unsigned char)(0x80 | (code >> 6 & 63)), start, end);
    }
    step(r, v, (unsigned char)(0x80 | (code & 63)), start, end);
}

static int hex_value(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static unsigned token_hex(const view *v, int from, int digits) {
    unsigned value = 0;
    for (int i = 0; i < digits; i++) value = value * 16 + (unsigned)hex_value((unsigned char)v->token[from + i]);
    return value;
}

static void push(view *v, unsigned char byte, uint64_t at) {
    if (v->token_len == 0) v->token_start = at;
    v->token[v->token_len++] = (char)byte;
}

/* Each of these takes the next byte and says whether it belongs to the token; if not, the token has been
 * settled and the byte is to be offered again. */

static bool take_percent(neap_redactor *r, view *v, unsigned char byte, uint64_t at) {
    if (v->token_len && hex_value(byte) < 0) { literal(r, v, 0); return false; }
    push(v, byte, at);
    if (v->token_len == 3) produce(r, v, token_hex(v, 1, 2), false);
    return true;
}

/* \uXXXX, and \uD8XX\uDCXX as one. */
static bool take_rune(neap_redactor *r, view *v, unsigned char byte, uint64_t at) {
    int n = v->token_len;
    bool fits = n == 6 ? byte == '\\' : n == 7 ? byte == 'u' : hex_value(byte) >= 0;
    if (!fits && n < 6) { literal(r, v, 1); return false; }
    if (!fits) {                                   /* a lone surrogate, and what follows it is another token */
        char rest[TOKEN_MOST];
        uint64_t rest_start = v->token_start + 6;
        int rest_len = n - 6;
        memcpy(rest, v->token + 6, (size_t)rest_len);
        v->token_len = 6;
        produce(r, v, token_hex(v, 2, 4), true);
        memcpy(v->token, rest, (size_t)rest_len);
        v->token_len = rest_len;
        v->token_start = rest_start;
        return false;
    }
    push(v, byte, at);
    if (v->token_len == 6) {
        unsigned high = token_hex(v, 2, 4);
        if (high < 0xd800 || high > 0xdbff) produce(r, v, high, true);
    } else if (v->token_len == 12) {
        produce(r, v, 0x10000 + ((token_hex(v, 2, 4) & 0x3ff) << 10 | (token_hex(v, 8, 4) & 0x3ff)), true);
    }
    return true;
}

static bool take_octal(neap_redactor *r, view *v, unsigned char byte, uint64_t at) {
    bool digit = byte >= '0' && byte <= '7';
    if (digit) push(v, byte, at);
    if (digit && v->token_len < 4) return true;
    unsigned value = 0;
    for (int i = 1; i < v->token_len; i++) value = value * 8 + (unsigned)(v->token[i] - '0');
    produce(r, v, value & 255, false);
    return digit;
}

static bool take_backslash(neap_redactor *r, view *v, unsigned char byte, uint64_t at) {
    static const char letters[] = "nrtbfvaeE", meaning[] = "\n\r\t\b\f\v\a\033\033";
    if (v->token_len == 0) { push(v, byte, at); return true; }
    char kind = v->token_len > 1 ? v->token[1] : 0;
    if (kind == 'u') return take_rune(r, v, byte, at);
    if (kind == 'x') {
        if (hex_value(byte) < 0) { literal(r, v, 1); return false; }
        push(v, byte, at);
        if (v->token_len == 4) produce(r, v, token_hex(v, 2, 2), false);
        return true;
    }
    if (kind) return take_octal(r, v, byte, at);
    push(v, byte, at);
    if (byte == 'u' || byte == 'x' || (byte >= '0' && byte <= '7')) return true;
    const char *letter = byte ? strchr(letters, byte) : NULL;
    produce(r, v, letter ? (unsigned char)meaning[letter - letters] : byte, false);
    return true;
}

static void offer_escaped(neap_redactor *r, view *v, unsigned char byte, uint64_t at, char lead,
                          bool (*take)(neap_redactor *, view *, unsigned char, uint64_t)) {
    bool taken = false;
    while (!taken && (v->token_len || byte == (unsigned char)lead)) taken = take(r, v, byte, at);
    if (!taken) step(r, v, byte, at, at + 1);
}

static void offer_wrapped(neap_redactor *r, view *v, unsigned char byte, uint64_t at) {
    if (byte == '\n') {
        bool wide = r->column >= WRAP_LEAST && r->column <= WRAP_MOST && r->column % 4 == 0;
        if (!wide) v->state = 0;
        r->column = 0;
    } else if (byte != '\r') {
        step(r, v, byte, at, at + 1);
        r->column++;
    }
}

static void offer(neap_redactor *r, unsigned char byte, uint64_t at) {
    step(r, &r->views[PLAIN], byte, at, at + 1);
    offer_wrapped(r, &r->views[WRAPPED], byte, at);
    offer_escaped(r, &r->views[PERCENT], byte, at, '%', take_percent);
    offer_escaped(r, &r->views[BACKSLASH], byte, at, '\\', take_backslash);
}

/* --- reading and letting go --------------------------------------------------------------------- */

static bool is_quiet(const neap_redactor *r) {
    for (int i = 0; i < VIEWS; i++)
        if (r->views[i].state || r->views[i].token_len) return false;
    return true;
}

/* Let every view read what is in `text` and not yet seen. Most bytes begin nothing: they are only counted. */
static void look(neap_redactor *r) {
    while (r->seen < r->base + r->text.len) {
        unsigned char byte = (unsigned char)r->text.data[r->seen - r->base];
        if (!r->matters[byte] && is_quiet(r)) r->column++;
        else offer(r, byte, r->seen);
        r->seen++;
    }
}

/* Where the first byte stands that a later match could still cover. */
static uint64_t decided(const neap_redactor *r) {
    uint64_t until = r->seen;
    for (int i = 0; i < VIEWS; i++) {
        const view *v = &r->views[i];
        if (v->token_len && v->token_start < until) until = v->token_start;
        size_t depth = v->state ? neap_trie_depth(r->trie, v->state) : 0;
        uint64_t start = depth ? v->starts[(v->count - depth) & r->mask] : until;
        if (start < until) until = start;
    }
    return until;
}

static void release(neap_redactor *r, neap_buf *out, uint64_t until) {
    uint64_t at = r->base;
    size_t gone = 0;
    while (at < until) {
        const interval *v = gone < r->covered_len ? &r->covered[gone] : NULL;
        uint64_t stop = v && v->start < until ? v->start : until;
        if (stop > at) {
            neap_buf_add(out, r->text.data + (at - r->base), stop - at);
            at = stop;
        } else if (v->end <= until) {
            neap_buf_addf(out, "‹secret %s›", neap_secret_owner(v->owner));
            at = v->end;
            gone++;
        } else {
            at = until;                    /* inside an occurrence that may still grow: forget the bytes, keep the interval */
        }
    }
    neap_buf_drop(&r->text, at - r->base);
    r->base = at;
    if (!gone) return;
    memmove(r->covered, r->covered + gone, (r->covered_len - gone) * sizeof *r->covered);
    r->covered_len -= gone;
}

/* Take up a register that has changed: what is undecided is read again with the new automaton. */
static void refresh(neap_redactor *r) {
    unsigned long version;
    const neap_trie *trie = neap_secret_trie(&version);
    if (r->version == version) return;
    r->version = version;
    r->trie = trie;
    uint64_t size = 16;
    while (trie && size <= neap_trie_longest(trie)) size *= 2;
    for (int i = 0; i < VIEWS; i++) {
        free(r->views[i].starts);
        r->views[i] = (view){ .starts = trie ? neap_alloc(size * sizeof(uint64_t)) : NULL };
    }
    r->mask = size - 1;
    for (int c = 0; c < 256; c++)
        r->matters[c] = (trie && neap_trie_step(trie, 0, (unsigned char)c)) || (c && strchr("\n\r%\\", c));
    r->seen = r->base;
    if (trie) look(r);
}

static void finish(neap_redactor *r, neap_buf *out) {
    if (r->trie) {
        view *v = &r->views[BACKSLASH];
        literal(r, &r->views[PERCENT], 0);
        if (v->token_len > 1 && v->token[1] >= '0' && v->token[1] <= '7') take_octal(r, v, 0, r->seen);
        if (v->token_len) literal(r, v, 1);
    }
    release(r, out, r->base + r->text.len);
    for (int i = 0; i < VIEWS; i++) r->views[i].state = 0, r->views[i].count = 0;
    r->column = 0;
    r->covered_len = 0;
}

neap_redactor *neap_redactor_new(void) { return neap_zalloc(sizeof(neap_redactor)); }

void neap_redactor_add(neap_redactor *r, neap_buf *out, const char *text, size_t len) {
    refresh(r);
    if (!r->trie) {
        release(r, out, r->base + r->text.len);
        neap_buf_add(out, text, len);
        r->base += len;
        r->seen = r->base;
        return;
    }
    while (len) {
        size_t piece = len < PIECE ? len : PIECE;
        neap_buf_add(&r->text, text, piece);
        look(r);
        release(r, out, decided(r));
        text += piece;
        len -= piece;
    }
}

static void redactor_free(neap_redactor *r) {
    for (int i = 0; i < VIEWS; i++) free(r->views[i].starts);
    free(r->covered);
    neap_buf_wipe(&r->text);
    free(r);
}

void neap_redactor_end(neap_redactor *r, neap_buf *out) {
    refresh(r);
    finish(r, out);
    redactor_free(r);
}

/* One redactor serves all whole texts: its rings are large where a key is long. */
void neap_redact(neap_buf *out, const char *text, size_t len) {
    static neap_redactor whole;
    neap_redactor_add(&whole, out, text, len);
    finish(&whole, out);
}
