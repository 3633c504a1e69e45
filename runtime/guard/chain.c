/* chain.c -- the hash chain and its anchor; chain.h says what they promise.
 *
 * Rejected: a checksum in the anchor line. Every field of it is compared with the evidence, so a flipped
 * byte in it is found like a flipped byte anywhere else. Rejected too: syncing the anchor with each commit; it would
 * double the price of a record to protect against a power cut, in which nobody has cut anything. */
#include "guard/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SEQ_DIGITS = 18, HEX = NEAP_HASH_HEX_SIZE - 1, LINE = SEQ_DIGITS + 1 + HEX + 1 + HEX + 1 };

static void add_number(neap_hash *h, uint64_t n) {
    unsigned char bytes[8];
    for (int i = 7; i >= 0; i--, n >>= 8) bytes[i] = (unsigned char)n;
    neap_hash_add(h, bytes, sizeof bytes);
}

static void add_text(neap_hash *h, const char *text, size_t len) {
    add_number(h, len);
    neap_hash_add(h, text, len);
}

void neap_chain_begin(unsigned char hash[NEAP_HASH_SIZE], const char *run) {
    static const char label[] = "neap journal 1\n";
    neap_hash *h = neap_hash_new();
    neap_hash_add(h, label, sizeof label - 1);
    neap_hash_add(h, run, strlen(run));
    neap_hash_end(h, hash);
}

void neap_chain_add(unsigned char hash[NEAP_HASH_SIZE], const neap_record *r, size_t body_len) {
    neap_hash *h = neap_hash_new();
    neap_hash_add(h, hash, NEAP_HASH_SIZE);
    add_number(h, (uint64_t)r->seq);
    add_number(h, (uint64_t)r->at_ms);
    add_text(h, r->kind, strlen(r->kind));
    add_text(h, r->step, strlen(r->step));
    add_text(h, r->body, body_len);
    neap_hash_end(h, hash);
}

bool neap_anchor_write(int fd, const neap_anchor *a, bool durable, neap_err *err) {
    char line[LINE + 1], head[NEAP_HASH_HEX_SIZE], file[NEAP_HASH_HEX_SIZE];
    neap_hash_hex(a->head, head);
    neap_hash_hex(a->file, file);
    if (!a->sealed) memset(file, '-', HEX);
    snprintf(line, sizeof line, "%0*lld %s %s\n", SEQ_DIGITS, (long long)a->seq, head, file);
    if (pwrite(fd, line, LINE, 0) == LINE && (!durable || fdatasync(fd) == 0)) return true;
    return neap_err_set(err, NEAP_E_JOURNAL, "cannot write the anchor of the journal: %s", strerror(errno));
}

static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool to_hash(const char *hex, unsigned char out[NEAP_HASH_SIZE]) {
    for (int i = 0; i < NEAP_HASH_SIZE; i++) {
        int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

static bool parse(neap_anchor *a, const char *line) {
    const char *head = line + SEQ_DIGITS + 1, *file = head + HEX + 1;
    for (int i = 0; i < SEQ_DIGITS; i++) {
        if (line[i] < '0' || line[i] > '9') return false;
        a->seq = a->seq * 10 + (line[i] - '0');
    }
    a->known = true;
    a->sealed = *file != '-';
    if (line[SEQ_DIGITS] != ' ' || file[-1] != ' ' || file[HEX] != '\n' || !to_hash(head, a->head)) return false;
    return a->sealed ? to_hash(file, a->file) : strspn(file, "-") == HEX;
}

/* After a power cut a line that was never synced reads as nothing or as zeros. */
static bool is_blank(const char *line, ssize_t len) {
    for (ssize_t i = 0; i < len; i++) if (line[i]) return false;
    return true;
}

bool neap_anchor_read(int dir, neap_anchor *a, neap_err *err) {
    char line[LINE + 1] = "";
    memset(a, 0, sizeof *a);
    int fd = openat(dir, "anchor", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return neap_err_set(err, NEAP_E_INVALID, "the anchor of the journal cannot be read: %s", strerror(errno));
    ssize_t len = read(fd, line, sizeof line);
    close(fd);
    if (len >= 0 && is_blank(line, len)) return true;
    if (len == LINE && parse(a, line)) return true;
    return neap_err_set(err, NEAP_E_INVALID, "the anchor of the journal is damaged");
}
