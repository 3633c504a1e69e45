/* http1.c -- answers of an HTTP/1.1 server: however the bytes are cut, the same head and the same body come of them. */
#include <stdbool.h>
#include <string.h>

#include "drive/http1_parse.h"
#include "fuzz.h"

/* Status, body and how it ended, of bytes offered `piece` at a time. */
static void read_all(neap_buf *out, const char *data, size_t size, size_t piece, bool bodiless) {
    neap_http1_parse p;
    neap_http1_event event = NEAP_HTTP1_MORE;
    size_t at = 0, offered = 0, len;
    neap_http1_parse_init(&p, bodiless);
    while (event == NEAP_HTTP1_MORE || event == NEAP_HTTP1_GOT_HEAD || event == NEAP_HTTP1_BODY) {
        if (at == offered) {
            if (offered == size) {
                event = neap_http1_step_end(&p);
                break;
            }
            offered = size - at < piece ? size : at + piece;
        }
        size_t taken = neap_http1_step(&p, data + at, offered - at, &event);
        NEAP_FUZZ_CHECK(taken <= offered - at);
        NEAP_FUZZ_CHECK(event != NEAP_HTTP1_MORE || taken == offered - at);
        if (event == NEAP_HTTP1_GOT_HEAD) neap_buf_addf(out, "%d %d %s|", p.status, (int)p.length, neap_http1_header(&p, "content-type", &len) ? "typed" : "");
        if (event == NEAP_HTTP1_BODY) {
            NEAP_FUZZ_CHECK(p.body >= data + at && p.body + p.body_len <= data + offered);
            neap_buf_add(out, p.body, p.body_len);
        }
        at += taken;
    }
    NEAP_FUZZ_CHECK(event != NEAP_HTTP1_BAD || p.why);
    neap_buf_addf(out, "|%d", (int)event);
    neap_http1_parse_close(&p);
}

NEAP_FUZZ(http1) {
    if (size < 1) return 0;
    const char *bytes = (const char *)data + 1;
    bool bodiless = data[0] & 128;
    neap_buf whole = NEAP_BUF_INIT, pieces = NEAP_BUF_INIT;
    read_all(&whole, bytes, size - 1, size, bodiless);
    read_all(&pieces, bytes, size - 1, 1 + data[0] % 16, bodiless);
    NEAP_FUZZ_CHECK(whole.len == pieces.len && memcmp(whole.data, pieces.data, whole.len) == 0);
    neap_buf_close(&whole);
    neap_buf_close(&pieces);
    return 0;
}
