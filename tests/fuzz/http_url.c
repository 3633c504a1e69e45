/* http_url.c -- http and https URLs: what is accepted has its parts, and its plain form is accepted again with the same origin. */
#include <string.h>

#include "drive/http_url.h"
#include "fuzz.h"

NEAP_FUZZ(http_url) {
    neap_err err = NEAP_ERR_INIT;
    neap_http_url u, again;
    char *text = neap_strndup((const char *)data, size);
    if (neap_http_url_parse(text, &u, &err)) {
        neap_buf shown = NEAP_BUF_INIT;
        NEAP_FUZZ_CHECK(u.scheme && u.host && u.port && u.path && u.plain);
        bool ok = neap_http_url_parse(u.plain, &again, &err);
        NEAP_FUZZ_CHECK(ok && neap_http_url_is_same_origin(&u, &again) && !again.user && !again.password);
        NEAP_FUZZ_CHECK(strcmp(again.plain, u.plain) == 0);
        neap_http_url_origin(&u, &shown);
        neap_http_url_shown(&u, &shown);
        neap_buf_close(&shown);
        neap_http_url_close(&again);
        neap_http_url_close(&u);
    } else NEAP_FUZZ_CHECK(err.code != NEAP_OK && err.message);
    neap_err_close(&err);
    free(text);
    return 0;
}
