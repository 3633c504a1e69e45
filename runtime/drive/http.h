/* http.h -- HTTP requests on the loop. No Lua.
 *
 *     start ──► done(answer, NULL)     the answer is whole; any status counts as an answer
 *           └─► done(NULL or answer, err)
 *           └─► free                   nobody is called any more
 *
 * What is kept, whatever is asked: no signals, http and https only, no environment (proxies, ~/.netrc, cookies), the server's certificate
 * and name are proved, one connection for one request, HTTP/1.1, nothing compressed. A redirect is an answer unless `follow`
 * allows some; then it stays within its protocol, and what may be a secret stays with the host it was given for. */
#ifndef NEAP_DRIVE_HTTP_H
#define NEAP_DRIVE_HTTP_H

#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "loop/dial.h"
#include "loop/loop.h"

typedef struct neap_http neap_http;                    /* what all requests of a loop share: libcurl's view of it */
typedef struct neap_http_request neap_http_request;

neap_http *neap_http_new(neap_loop *loop);
void neap_http_release(neap_http *h);                  /* a running request holds it too */

typedef struct neap_http_header { const char *name, *value; } neap_http_header;

typedef struct neap_http_ask {
    const char *method, *url;
    const neap_http_header *headers;                   /* the last one has no name */
    const char *body;                                  /* NULL: none. Lives until the request is freed; the rest is copied */
    size_t      body_len;
    const char *ca;                                    /* file of certificates instead of the system's */
    const char *unix_path;                             /* a socket instead of the host's address */
    const char *proxy;                                 /* NULL: none, whatever the environment says */
    neap_dialer *dialer;                               /* how the host is reached; NULL: directly */
    int         follow;                                /* most redirects of a GET or HEAD; 0: none */
    size_t      limit;                                 /* most bytes of an answer's body */
    int64_t     within_ms, connect_ms;                 /* 0: no limit of its own */
} neap_http_ask;

typedef struct neap_http_answer {
    int       status;                                  /* 0: none came */
    neap_buf  headers;                                 /* "name: value\n", names in lower case */
    neap_buf  body;
    char      address[64];                             /* "127.0.0.1:443"; "" when it was not reached */
    bool      sent;                                    /* from then on the server may have the request */
} neap_http_answer;

/* `answer` is the request's. */
typedef void (*neap_http_fn)(void *arg, neap_http_answer *answer, const neap_err *err);

/* NULL and err (USAGE) when it cannot be asked. `done` comes from the loop, never inside the call. */
neap_http_request *neap_http_start(neap_http *h, const neap_http_ask *ask, neap_http_fn done, void *arg, neap_err *err);
/* What came so far, valid until free. */
neap_http_answer *neap_http_answer_of(neap_http_request *r);
/* NULL allowed. What runs is cut. */
void neap_http_request_free(neap_http_request *r);

/* Ask for the body as a stream instead: `head` is called when an answer has begun (or will not), the stream is the receiver's, reads as
 * fast as it is read, and ends with an error when the body is cut. Freeing it ends the request. */
typedef void (*neap_http_head_fn)(void *arg, neap_http_answer *answer, neap_stream *body, const neap_err *err);
neap_http_request *neap_http_open(neap_http *h, const neap_http_ask *ask, neap_http_head_fn head, void *arg, neap_err *err);

#endif
