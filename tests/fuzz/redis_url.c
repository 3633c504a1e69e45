/* redis_url.c -- Redis URLs: what is accepted names one place, and its numbers are in their ranges. */
#include "base/buf.h"
#include "drive/redis_url.h"
#include "fuzz.h"

NEAP_FUZZ(redis_url) {
    neap_err err = NEAP_ERR_INIT;
    neap_redis_url u;
    char *text = neap_strndup((const char *)data, size);
    if (neap_redis_url_read(&u, text, &err)) {
        NEAP_FUZZ_CHECK(!u.host != !u.path);
        NEAP_FUZZ_CHECK(u.path ? u.port == 0 : u.port > 0 && u.port < 65536);
        NEAP_FUZZ_CHECK(u.db >= -1 && u.db < NEAP_REDIS_MOST_DATABASES);
        neap_redis_url_close(&u);
    } else NEAP_FUZZ_CHECK(err.code != NEAP_OK && err.message);
    neap_err_close(&err);
    free(text);
    return 0;
}
