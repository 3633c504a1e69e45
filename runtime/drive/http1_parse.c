/* http1_parse.c -- see http1_parse.h.
 *
 *     HEAD ──► BODY_LENGTH ─────────────────────────► DONE
 *       │ └──► CHUNK_LINE ──► CHUNK ──► CHUNK_END ─┐    ▲
 *       │          ▲└── size 0 ──► TRAILERS ───────┼────┤
 *       │          └───────────────────────────────┘    │
 *       ├────► BODY_CLOSE ──(the server closes)─────────┤
 *       └──────────────(101, 204, 304, HEAD)────────────┘        any ──► BROKEN, which is final
 *
 * The head is gathered whole before it is read: it is small, and one place then decides about it. The lines of chunks are
 * gathered too, because they may come one byte at a time; the bytes of the body never are. */
#include "drive/http1_parse.h"

#include <string.h>
#include <strings.h>

enum { HEAD, BODY_LENGTH, BODY_CLOSE, CHUNK_LINE, CHUNK, CHUNK_END, TRAILERS, DONE, BROKEN };

void neap_http1_parse_init(neap_http1_parse *p, bool bodiless) {
    memset(p, 0, sizeof *p);
    p->bodiless = bodiless;
}

void neap_http1_parse_close(neap_http1_parse *p) {
    neap_buf_wipe(&p->head);
    neap_buf_close(&p->line);
}

static neap_http1_event bad(neap_http1_parse *p, const char *why) {
    p->state = BROKEN;
    p->why = why;
    return NEAP_HTTP1_BAD;
}

/* The head ----------------------------------------------------------------------------------------- */

static bool is_token(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 127 || strchr("()<>@,;:\\\"/[]?={}", text[i])) return false;
    return len > 0;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* "HTTP/1.1 200 OK"; the reason may be missing, and is never read. */
static const char *read_status(neap_http1_parse *p, const char *line, size_t len) {
    if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !is_digit(line[7]) || line[8] != ' ') return "the answer is not HTTP/1";
    for (int i = 9; i < 12; i++) if (!is_digit(line[i])) return "the status is no number";
    if (len > 12 && line[12] != ' ') return "the status is no number";
    p->minor = line[7] - '0';
    p->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0';
    return p->status < 100 ? "the status is below 100" : NULL;
}

static const char *read_header(neap_http1_parse *p, size_t start, size_t len) {
    const char *line = p->head.data + start, *colon = memchr(line, ':', len);
    if (!colon || !is_token(line, (size_t)(colon - line))) return "a header has no name";
    if (memchr(line, 0, len) || memchr(line, '\r', len)) return "a header holds a control character";
    if (p->header_count == NEAP_HTTP1_HEADERS) return "there are more than 100 headers";
    size_t from = (size_t)(colon - line) + 1, to = len;
    while (from < to && (line[from] == ' ' || line[from] == '\t')) from++;
    while (to > from && (line[to - 1] == ' ' || line[to - 1] == '\t')) to--;
    int n = p->header_count++;
    p->headers[n].name = start, p->headers[n].name_len = (size_t)(colon - line);
    p->headers[n].value = start + from, p->headers[n].value_len = to - from;
    return NULL;
}

static const char *header_at(const neap_http1_parse *p, int n, const char *name, size_t *len) {
    if (p->headers[n].name_len != strlen(name) || strncasecmp(p->head.data + p->headers[n].name, name, p->headers[n].name_len) != 0) return NULL;
    *len = p->headers[n].value_len;
    return p->head.data + p->headers[n].value;
}

const char *neap_http1_header(const neap_http1_parse *p, const char *name, size_t *len) {
    const char *found = NULL;
    for (int i = 0; i < p->header_count && !found; i++) found = header_at(p, i, name, len);
    return found;
}

static bool read_number(const char *text, size_t len, uint64_t *out) {
    uint64_t value = 0;
    if (!len || len > 18) return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i])) return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *out = value;
    return true;
}

static bool says(const char *value, size_t len, const char *word) { return len == strlen(word) && strncasecmp(value, word, len) == 0; }

/* What the head says about the length, all headers of it together. */
static const char *read_length(neap_http1_parse *p) {
    bool chunked = false, counted = false;
    p->close = p->minor == 0;
    for (int i = 0; i < p->header_count; i++) {
        size_t len;
        uint64_t count;
        const char *value = header_at(p, i, "Connection", &len);
        if (value && says(value, len, "close")) p->close = true;
        if (value && says(value, len, "keep-alive")) p->close = false;
        if ((value = header_at(p, i, "Transfer-Encoding", &len))) {
            if (chunked || !says(value, len, "chunked")) return "the body is coded in a way that is not understood";
            chunked = true;
        }
        if (!(value = header_at(p, i, "Content-Length", &len))) continue;
        if (!read_number(value, len, &count)) return "the length of the body is no number";
        if (counted && count != p->left) return "the head names two lengths";
        counted = true;
        p->left = count;
    }
    if (chunked && counted) return "the head names a length and chunks";
    p->length = chunked ? NEAP_HTTP1_CHUNKED : counted ? NEAP_HTTP1_LENGTH : NEAP_HTTP1_UNTIL_CLOSE;
    if (p->bodiless || p->status == 101 || p->status == 204 || p->status == 304) p->length = NEAP_HTTP1_NONE;
    return NULL;
}

static const char *read_head(neap_http1_parse *p) {
    const char *why = NULL, *at = p->head.data, *end = at + p->head.len;
    bool first = true;
    while (at < end && !why) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)(stop - at);
        if (len && at[len - 1] == '\r') len--;
        if (first) why = read_status(p, at, len);
        else if (len) why = read_header(p, (size_t)(at - p->head.data), len);
        first = false;
        at = stop + 1;
    }
    return why ? why : read_length(p);
}

static neap_http1_event begin_body(neap_http1_parse *p) {
    static const int next[] = {[NEAP_HTTP1_NONE] = DONE, [NEAP_HTTP1_LENGTH] = BODY_LENGTH, [NEAP_HTTP1_CHUNKED] = CHUNK_LINE,
                               [NEAP_HTTP1_UNTIL_CLOSE] = BODY_CLOSE};
    const char *why = read_head(p);
    if (why) return bad(p, why);
    if (p->status < 200 && p->status != 101) {       /* 100 Continue and its kind: the real answer follows */
        bool bodiless = p->bodiless;
        neap_http1_parse_close(p);
        neap_http1_parse_init(p, bodiless);
        return NEAP_HTTP1_MORE;
    }
    p->state = next[p->length];
    return NEAP_HTTP1_GOT_HEAD;
}

/* Is the head complete with this line end? An empty line, in either convention. */
static bool ends_head(const neap_buf *head) {
    size_t n = head->len;
    return (n >= 2 && head->data[n - 2] == '\n') || (n >= 3 && head->data[n - 2] == '\r' && head->data[n - 3] == '\n');
}

static size_t take_head(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event) {
    size_t at = 0;
    while (at < len && *event == NEAP_HTTP1_MORE) {
        const char *stop = memchr(data + at, '\n', len - at);
        size_t piece = stop ? (size_t)(stop - data) + 1 - at : len - at;
        if (p->head.len + piece > NEAP_HTTP1_HEAD) { *event = bad(p, "the head is longer than 64 KiB"); break; }
        neap_buf_add(&p->head, data + at, piece);
        at += piece;
        if (p->head.len >= 5 && memcmp(p->head.data, "HTTP/", 5) != 0) *event = bad(p, "the answer is not HTTP/1");
        else if (stop && ends_head(&p->head)) *event = begin_body(p);
    }
    return at;
}

/* The body ----------------------------------------------------------------------------------------- */

static size_t take_bytes(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event) {
    if (p->state != BODY_CLOSE && len > p->left) len = (size_t)p->left;
    if (p->state != BODY_CLOSE) p->left -= len;
    p->body = data;
    p->body_len = len;
    *event = NEAP_HTTP1_BODY;
    return len;
}

/* One line into p->line, without its end. True when it is complete. */
static bool take_line(neap_http1_parse *p, const char *data, size_t len, size_t most, size_t *took, neap_http1_event *event) {
    const char *stop = memchr(data, '\n', len);
    *took = stop ? (size_t)(stop - data) + 1 : len;
    if (p->line.len + *took > most) { *event = bad(p, "a line between chunks is too long"); return false; }
    neap_buf_add(&p->line, data, *took);
    if (!stop) return false;
    p->line.len--;
    if (p->line.len && p->line.data[p->line.len - 1] == '\r') p->line.len--;
    return true;
}

static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "1a2b;extension" */
static bool read_chunk_size(neap_http1_parse *p) {
    size_t n = 0;
    p->left = 0;
    while (n < p->line.len && hex_digit(p->line.data[n]) >= 0 && n < 16) p->left = p->left * 16 + (uint64_t)hex_digit(p->line.data[n++]);
    bool ends = n == p->line.len || p->line.data[n] == ';' || p->line.data[n] == ' ' || p->line.data[n] == '\t';
    return n > 0 && n < 16 && ends;
}

static size_t take_chunk_line(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event) {
    size_t took;
    if (!take_line(p, data, len, NEAP_HTTP1_CHUNK_LINE, &took, event)) return took;
    if (!read_chunk_size(p)) *event = bad(p, "the size of a chunk is no number");
    else p->state = p->left ? CHUNK : TRAILERS;
    neap_buf_clear(&p->line);
    return took;
}

static size_t take_chunk_end(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event) {
    size_t took;
    if (!take_line(p, data, len, 2, &took, event)) return took;
    if (p->line.len) *event = bad(p, "a chunk is longer than it said");
    else p->state = CHUNK_LINE;
    neap_buf_clear(&p->line);
    return took;
}

static size_t take_trailer(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event) {
    size_t took;
    bool whole = take_line(p, data, len, NEAP_HTTP1_TRAILERS - p->trailers, &took, event);
    if (!whole) return took;
    p->trailers += took;
    if (!p->line.len) p->state = DONE;
    neap_buf_clear(&p->line);
    return took;
}

size_t neap_http1_step(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event) {
    size_t took = 0;
    *event = NEAP_HTTP1_MORE;
    while (*event == NEAP_HTTP1_MORE) {
        const char *at = data + took;
        size_t left = len - took;
        if (p->state == CHUNK && !p->left) p->state = CHUNK_END;
        if (p->state == BROKEN) *event = NEAP_HTTP1_BAD;
        else if (p->state == DONE || (p->state == BODY_LENGTH && !p->left)) *event = p->status == 101 ? NEAP_HTTP1_UPGRADED : NEAP_HTTP1_END;
        else if (!left) break;
        else if (p->state == HEAD) took += take_head(p, at, left, event);
        else if (p->state == CHUNK_LINE) took += take_chunk_line(p, at, left, event);
        else if (p->state == CHUNK_END) took += take_chunk_end(p, at, left, event);
        else if (p->state == TRAILERS) took += take_trailer(p, at, left, event);
        else took += take_bytes(p, at, left, event);
    }
    return took;
}

neap_http1_event neap_http1_step_end(neap_http1_parse *p) {
    neap_http1_event event;
    neap_http1_step(p, "", 0, &event);
    if (event != NEAP_HTTP1_MORE) return event;
    if (p->state == BODY_CLOSE) { p->state = DONE; return NEAP_HTTP1_END; }
    return bad(p, p->state == HEAD && !p->head.len ? "the server closed without an answer" : "the answer was cut short");
}
