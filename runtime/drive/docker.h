/* docker.h -- a Docker Engine, spoken to in its own API over whatever a dialer reaches: a socket, TLS, SSH.
 *
 *     new ──► open: GET /_ping, the version is agreed ──► calls
 *
 * What a preview may say is a matter of type: neap_docker_get can only GET, and it is what every read uses; POST, PUT and DELETE have
 * a function of their own, which the bindings reach behind the gate alone.
 *
 * The version spoken is the Engine's own (header Api-Version of the ping), at most NEAP_DOCKER_NEWEST; an Engine below 1.24 or one
 * that has left our newest behind is UNSUPPORTED, with its own words. */
#ifndef NEAP_DRIVE_DOCKER_H
#define NEAP_DRIVE_DOCKER_H

#include <jansson.h>
#include "base/err.h"
#include "drive/http1.h"
#include "loop/dial.h"
#include "loop/stream.h"

#define NEAP_DOCKER_OLDEST "1.24"
#define NEAP_DOCKER_NEWEST "1.47"

enum { NEAP_DOCKER_BODY = 32 << 20 };                /* more than any inspect; an answer beyond it is PROTOCOL */

typedef struct neap_docker neap_docker;
typedef struct neap_docker_call neap_docker_call;

/* What came back. Lives until the callback returns, less the stream, which is the receiver's. */
typedef struct neap_docker_answer {
    int status;
    const char *body;                                /* NUL-terminated; "" where a stream is asked for */
    size_t len;
    neap_stream *stream;                             /* of a call that asks for one */
    const neap_http1_parse *head;
} neap_docker_answer;

/* Once. err: refused (code by the status, the Engine's own message, err->status), unreachable, cut short. */
typedef void (*neap_docker_fn)(void *arg, const neap_docker_answer *a, const neap_err *err);
typedef void (*neap_docker_open_fn)(void *arg, const neap_err *err);

/* Counted as a dialer is: a new engine has one hold, which is the caller's. */
neap_docker *neap_docker_new(neap_dialer *d);
neap_docker *neap_docker_hold(neap_docker *e);
void neap_docker_release(neap_docker *e);

/* Agree on a version. The call may be freed to give up. */
neap_docker_call *neap_docker_open(neap_docker *e, neap_docker_open_fn done, void *arg);
const char *neap_docker_version(const neap_docker *e);      /* "1.41"; "" before it is open */
neap_loop *neap_docker_loop(const neap_docker *e);
const char *neap_docker_label(const neap_docker *e);

/* GET /v1.41TARGET, with everything after the version given and encoded. An Engine that says nothing for 30 s is UNREACHABLE. */
neap_docker_call *neap_docker_get(neap_docker *e, const char *target, neap_docker_fn done, void *arg);
/* The same, but an answer of 2xx comes as a stream. */
neap_docker_call *neap_docker_get_stream(neap_docker *e, const char *target, neap_docker_fn done, void *arg);

typedef enum { NEAP_DOCKER_POST, NEAP_DOCKER_PUT, NEAP_DOCKER_DELETE } neap_docker_verb;
/* `json` is the body, or NULL. */
neap_docker_call *neap_docker_change(neap_docker *e, neap_docker_verb verb, const char *target, const char *json, neap_docker_fn done, void *arg);
/* POST that turns its connection into a stream of both directions. */
neap_docker_call *neap_docker_hijack(neap_docker *e, const char *target, const char *json, neap_docker_fn done, void *arg);
/* PUT of a tar whose bytes are written piece by piece (neap_docker_write, the last of length 0); `done` as ever, perhaps early. */
neap_docker_call *neap_docker_put(neap_docker *e, const char *target, neap_docker_fn done, void *arg);
void neap_docker_write(neap_docker_call *c, const char *data, size_t len, neap_stream_done_fn done, void *arg);

/* Give up; never calls back. Once `done` runs, the call is no longer the caller's to free. NULL allowed. */
void neap_docker_call_free(neap_docker_call *c);

/* Append text as part of a URL, everything but letters, digits and -._~ as %XX. */
void neap_docker_encode(neap_buf *out, const char *text);
/* Fill err from an answer of 400 and more: {"message": …}. Returns false, as neap_err_set. */
bool neap_docker_refusal(int status, const char *body, size_t len, neap_err *err);
/* The object a body holds; NULL and err (PROTOCOL) when it is none. */
json_t *neap_docker_object(const char *body, size_t len, neap_err *err);

#endif
