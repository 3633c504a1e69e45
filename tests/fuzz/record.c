/* record.c -- what a journal record is made of and judged by: JSON text of any bytes, the anchor's line, the chain.
 *
 * The input is used three times: as a text that becomes JSON, as an anchor file, and as the kind, step and body of a record. */
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "fuzz.h"
#include "guard/chain.h"

/* Any bytes become one JSON string that a JSON reader takes; valid UTF-8 comes back as it was. */
static void check_json(const char *text, size_t size) {
    neap_buf out = NEAP_BUF_INIT;
    neap_json_string(&out, text, size);
    json_t *value = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    NEAP_FUZZ_CHECK(json_is_string(value));
    if (neap_json_is_utf8(text, size))
        NEAP_FUZZ_CHECK(json_string_length(value) == size && memcmp(json_string_value(value), text, size) == 0);
    json_decref(value);
    neap_buf_close(&out);
}

/* A directory of its own for each input, below TMPDIR. */
static int open_directory(char *path, size_t size) {
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/fuzz-XXXXXX", base ? base : "/tmp");
    NEAP_FUZZ_CHECK(mkdtemp(path));
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What is read from a line was written as that line. */
static void check_anchor(const uint8_t *data, size_t size) {
    char path[512];
    int dir = open_directory(path, sizeof path);
    neap_anchor a, again;
    neap_err err = NEAP_ERR_INIT;
    int fd = openat(dir, "anchor", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    NEAP_FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    if (neap_anchor_read(dir, &a, &err) && a.known) {
        NEAP_FUZZ_CHECK(neap_anchor_write(fd, &a, false, &err) && neap_anchor_read(dir, &again, &err));
        NEAP_FUZZ_CHECK(again.seq == a.seq && again.sealed == a.sealed && memcmp(again.head, a.head, sizeof a.head) == 0);
        struct stat st;
        NEAP_FUZZ_CHECK(fstat(fd, &st) == 0 && st.st_size == (off_t)size);
        uint8_t back[512];
        NEAP_FUZZ_CHECK(size <= sizeof back && pread(fd, back, size, 0) == (ssize_t)size && memcmp(back, data, size) == 0);
    }
    neap_err_close(&err);
    close(fd);
    unlinkat(dir, "anchor", 0);
    close(dir);
    rmdir(path);
}

static void hash_split(unsigned char hash[NEAP_HASH_SIZE], const char *text, size_t first, size_t second) {
    char *kind = neap_strndup(text, first), *step = neap_strndup(text + first, second);
    neap_chain_begin(hash, "7f3a00000000");
    neap_record r = {.seq = 1, .at_ms = 2, .kind = kind, .step = step, .body = text + first + second};
    neap_chain_add(hash, &r, strlen(r.body));
    free(kind);
    free(step);
}

/* The same bytes divided otherwise among kind, step and body are another record. */
static void check_chain(const uint8_t *data, size_t size) {
    unsigned char a[NEAP_HASH_SIZE], b[NEAP_HASH_SIZE];
    if (size < 3) return;
    char *text = neap_strndup((const char *)data + 2, size - 2);
    size_t len = strlen(text), first = data[0] % (len + 1), second = data[1] % (len - first + 1);
    hash_split(a, text, first, second);
    for (int step = -1; step <= 1; step += 2) {            /* the border between kind and step, one to either side */
        if (step < 0 ? first == 0 : second == 0) continue;
        hash_split(b, text, first + (size_t)step, second - (size_t)step);
        NEAP_FUZZ_CHECK(memcmp(a, b, sizeof a) != 0);
    }
    free(text);
}

NEAP_FUZZ(record) {
    check_json((const char *)data, size);
    check_anchor(data, size);
    check_chain(data, size);
    return 0;
}
