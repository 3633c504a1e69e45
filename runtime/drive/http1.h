/* http1.h -- one HTTP/1.1 exchange over one connection that a dialer gives. For servers that are reached by a stream rather than by an
 * address (an Engine behind a socket, TLS, SSH); ordinary URLs go through http.h.
 *
 *     DIALING ──► SENDING ──► HEAD ──► BODY ──► the stream of the body is freed
 *        │           │          └────► UPGRADED: the raw stream, beginning with what came behind the head
 *        └───────────┴──► FAILED (told once through `on_head`)
 *
 * The head is read from the moment the connection is there, so a server that answers before it has read everything is heard.
 * A connection serves one exchange: an Engine is local or a channel of an open session, and a connection that is never used twice
 * cannot be half dead when an act is sent through it. */
#ifndef NEAP_DRIVE_HTTP1_H
#define NEAP_DRIVE_HTTP1_H

#include "base/err.h"
#include "drive/http1_parse.h"
#include "loop/dial.h"
#include "loop/stream.h"

enum { NEAP_HTTP1_DIAL_MS = 30000 };

typedef struct neap_http1 neap_http1;
/* Once, from the loop. err NULL: the head is there, and neap_http1_head answers. CLOSED and PROTOCOL: the request may have arrived; every
 * other error comes from the dialer, and nothing was sent. */
typedef void (*neap_http1_head_fn)(void *arg, const neap_err *err);

typedef struct neap_http1_request {
    const char *method, *target;                /* "GET", "/v1.41/info": already encoded */
    const char *type;                           /* Content-Type of the body, or NULL */
    const char *body;                           /* NULL: none */
    size_t body_len;
    bool chunked;                               /* the body is written piece by piece instead */
    bool upgrade;                               /* ask for "tcp" in place of HTTP */
    int64_t head_ms;                            /* how long the head may take, the dial included; 0: the dial alone has a limit */
} neap_http1_request;

/* Begin. The request is copied; the dialer is held. Never NULL: a refusal comes through `on_head`. */
neap_http1 *neap_http1_start(neap_dialer *d, const neap_http1_request *r, neap_http1_head_fn on_head, void *arg);
const neap_http1_parse *neap_http1_head(const neap_http1 *h);

/* A piece of a chunked body; the last one is of no length. One at a time. Before the connection is there it waits for it. */
void neap_http1_write(neap_http1 *h, const char *data, size_t len, neap_stream_done_fn done, void *arg);

/* Of an exchange whose head is there: the body, or after a 101 both directions of what follows. The exchange belongs to the stream
 * from now on: freeing the stream frees it. */
neap_stream *neap_http1_stream(neap_http1 *h);

/* Give it up and close the connection; never calls back again. NULL allowed. */
void neap_http1_free(neap_http1 *h);

#endif
