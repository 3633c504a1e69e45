/* http_error.c -- what libcurl says went wrong, as one of ours. Its number decides the code; its sentence, which knows the details, is the
 * message. */
#include "drive/http_private.h"

#include <string.h>

static neap_code code_of(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: case CURLE_COULDNT_RESOLVE_PROXY: case CURLE_COULDNT_CONNECT: return NEAP_E_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT: return NEAP_E_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_CERTPROBLEM: case CURLE_SSL_ISSUER_ERROR: return NEAP_E_AUTH;
    case CURLE_SSL_CACERT_BADFILE: return NEAP_E_CONFIG;
    case CURLE_GOT_NOTHING: case CURLE_SEND_ERROR: case CURLE_RECV_ERROR: case CURLE_PARTIAL_FILE: return NEAP_E_CLOSED;
    case CURLE_OUT_OF_MEMORY: return NEAP_E_MEMORY;
    case CURLE_NOT_BUILT_IN: return NEAP_E_UNSUPPORTED;
    default: return NEAP_E_PROTOCOL;
    }
}

static const char *hint_of(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_CONNECT: return "Is it running, and is the port right?";
    case CURLE_PEER_FAILED_VERIFICATION: return "Is it the right host? A certificate of your own authority is given with ca = \"file\".";
    case CURLE_SSL_CACERT_BADFILE: return "ca is a file of PEM certificates that we may read.";
    case CURLE_SSL_CONNECT_ERROR: return "Does that port speak TLS?";
    default: return NULL;
    }
}

static void too_large(const neap_http_request *r, const char *origin, neap_err *err) {
    neap_err_set(err, NEAP_E_REMOTE, "the answer of %s is larger than %zu bytes", origin, r->limit);
    neap_err_hint(err, "Ask for less, allow more with limit, or read it as a stream.");
}

void http_explain(const neap_http_request *r, CURLcode code, neap_err *err) {
    neap_buf origin = NEAP_BUF_INIT;
    neap_http_url_origin(&r->url, &origin);
    if (r->too_large || code == CURLE_FILESIZE_EXCEEDED) {
        too_large(r, origin.data, err);
    } else {
        const char *words = *r->words ? r->words : curl_easy_strerror(code);
        size_t len = strcspn(words, "\r\n");
        while (len && (words[len - 1] == '.' || words[len - 1] == ' ')) len--;
        neap_err_set(err, code_of(code), "%s: %.*s", origin.data, (int)len, words);
        if (hint_of(code)) neap_err_hint(err, "%s", hint_of(code));
        err->retry = err->code == NEAP_E_UNREACHABLE || err->code == NEAP_E_CLOSED || err->code == NEAP_E_TIMEOUT;
    }
    neap_buf_close(&origin);
}
