/* resp.c -- answers of a Redis server: however the bytes are cut, the same values come of them, within the bound.
 *
 * One way of cutting may show earlier than another that the bytes are no RESP (a length of forty digits that has not ended yet);
 * the values given until then are the same. */
#include <stdbool.h>
#include <string.h>

#include "drive/redis_value.h"
#include "fuzz.h"

enum { BOUND = 1 << 20 };

/* A value as text, so that two can be compared. */
static void describe(neap_buf *out, const neap_redis_value *v) {
    neap_buf_addf(out, "%d:%zu:%lld:", (int)v->type, v->len, v->integer);
    if (v->type != NEAP_REDIS_ARRAY) neap_buf_add(out, v->text, v->len);
    for (size_t i = 0; v->type == NEAP_REDIS_ARRAY && i < v->len; i++) describe(out, v->items[i]);
    neap_buf_addc(out, ';');
}

/* All values of the bytes, fed `piece` at a time. False when the reader gave up. */
static bool read_all(neap_buf *out, const char *data, size_t size, size_t piece) {
    neap_redis_reader *r = neap_redis_reader_new(BOUND);
    neap_err err = NEAP_ERR_INIT;
    bool ok = true;
    for (size_t at = 0; ok && at < size; at += piece) {
        neap_redis_value *v = NULL;
        ok = neap_redis_reader_feed(r, data + at, size - at < piece ? size - at : piece, &err);
        while (ok && (ok = neap_redis_reader_next(r, &v, &err)) && v) {
            describe(out, v);
            neap_redis_value_free(v);
        }
    }
    NEAP_FUZZ_CHECK(ok || (err.code != NEAP_OK && err.message));
    neap_err_close(&err);
    neap_redis_reader_free(r);
    return ok;
}

NEAP_FUZZ(resp) {
    if (size < 2) return 0;
    const char *bytes = (const char *)data + 1;
    neap_buf whole = NEAP_BUF_INIT, pieces = NEAP_BUF_INIT, command = NEAP_BUF_INIT;
    bool is_whole = read_all(&whole, bytes, size - 1, size), is_pieces = read_all(&pieces, bytes, size - 1, 1 + data[0] % 16);
    size_t common = whole.len < pieces.len ? whole.len : pieces.len;
    NEAP_FUZZ_CHECK(!common || memcmp(whole.data, pieces.data, common) == 0);
    NEAP_FUZZ_CHECK(!is_whole || pieces.len <= whole.len);
    NEAP_FUZZ_CHECK(!is_pieces || whole.len <= pieces.len);
    neap_redis_format(&command, 2, (const char *const[]){"ECHO", bytes}, (size_t[]){4, size - 1});
    NEAP_FUZZ_CHECK(command.len > size && memmem(command.data, command.len, bytes, size - 1));
    neap_buf_close(&whole);
    neap_buf_close(&pieces);
    neap_buf_close(&command);
    return 0;
}
