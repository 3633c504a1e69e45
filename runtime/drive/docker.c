/* docker.c -- see docker.h. One call is one exchange over a connection of its own (http1.h); the answer is gathered whole unless the
 * caller wants it as a stream, and a refusal is gathered in either case, because its body says why. */
#include "drive/docker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct neap_docker {
    neap_dialer *dialer;
    int holds;
    char version[16];                 /* "" until it is agreed */
};

struct neap_docker_call {
    neap_docker *engine;
    neap_http1 *http;                 /* owned until it is handed out as a stream */
    neap_stream *reading;             /* its body, while that is gathered */
    bool streamed;
    neap_buf body;
    neap_docker_fn done;
    void *arg;
    neap_docker_open_fn opened;       /* of a ping */
    void *opened_arg;
};

enum { PIECE_SIZE = 64 * 1024, HEAD_MS = 30000 };

/* The engine --------------------------------------------------------------------------------------- */

neap_docker *neap_docker_new(neap_dialer *d) {
    neap_docker *e = neap_zalloc(sizeof *e);
    e->dialer = neap_dialer_hold(d);
    e->holds = 1;
    return e;
}

neap_docker *neap_docker_hold(neap_docker *e) {
    e->holds++;
    return e;
}

void neap_docker_release(neap_docker *e) {
    if (!e || --e->holds) return;
    neap_dialer_release(e->dialer);
    free(e);
}

const char *neap_docker_version(const neap_docker *e) { return e->version; }
neap_loop *neap_docker_loop(const neap_docker *e) { return e->dialer->loop; }
const char *neap_docker_label(const neap_docker *e) { return e->dialer->label; }

/* Words -------------------------------------------------------------------------------------------- */

void neap_docker_encode(neap_buf *out, const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("-._~", *c);
        if (plain) neap_buf_addc(out, (char)*c);
        else neap_buf_addf(out, "%%%02X", *c);
    }
}

static neap_code code_of(int status) {
    switch (status) {
    case 401: case 403: return NEAP_E_AUTH;
    case 501: return NEAP_E_UNSUPPORTED;
    default: return NEAP_E_REMOTE;
    }
}

bool neap_docker_refusal(int status, const char *body, size_t len, neap_err *err) {
    json_t *answer = json_loadb(body, len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *message = json_string_value(json_object_get(answer, "message"));
    neap_code code = code_of(status);
    bool aged = status == 400 && message && strstr(message, "client version");
    if (aged) code = NEAP_E_UNSUPPORTED;
    if (message) neap_err_set(err, code, "the Engine refuses (%d): %s", status, message);
    else neap_err_set(err, code, "the Engine refuses with status %d: %.*s", status, (int)(len < 200 ? len : 200), body);
    if (aged) neap_err_hint(err, "neap speaks versions %s to %s of the Engine API.", NEAP_DOCKER_OLDEST, NEAP_DOCKER_NEWEST);
    if (err) err->status = status;
    json_decref(answer);
    return false;
}

json_t *neap_docker_object(const char *body, size_t len, neap_err *err) {
    json_error_t where;
    json_t *answer = json_loadb(body, len, JSON_ALLOW_NUL, &where);
    if (json_is_object(answer)) return answer;
    neap_err_set(err, NEAP_E_PROTOCOL, "the Engine's answer is no JSON object%s%s", answer ? "" : ": ", answer ? "" : where.text);
    json_decref(answer);
    return NULL;
}

/* Calls -------------------------------------------------------------------------------------------- */

void neap_docker_call_free(neap_docker_call *c) {
    if (!c) return;
    neap_http1_free(c->http);
    neap_buf_wipe(&c->body);
    neap_docker_release(c->engine);
    free(c);
}

/* Tell and be gone: `done` may start the next call, or release the engine. */
static void finish(neap_docker_call *c, neap_docker_answer *a, const neap_err *err) {
    neap_docker_fn done = c->done;
    void *arg = c->arg;
    if (a) a->body = c->body.data ? c->body.data : "", a->len = c->body.len;
    if (a && a->stream) c->http = NULL;
    c->done = NULL;
    done(arg, err ? NULL : a, err);
    neap_docker_call_free(c);
}

static void finish_whole(neap_docker_call *c) {
    neap_err err = NEAP_ERR_INIT;
    neap_docker_answer a = {.head = neap_http1_head(c->http)};
    a.status = a.head->status;
    if (a.status >= 400) neap_docker_refusal(a.status, c->body.data ? c->body.data : "", c->body.len, &err);
    finish(c, &a, err.code ? &err : NULL);
    neap_err_close(&err);
}

static void on_body(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_docker_call *c = arg;
    neap_err large = NEAP_ERR_INIT;
    if (len < 0) { finish(c, NULL, err); return; }
    if (len == 0) { finish_whole(c); return; }
    neap_buf_add(&c->body, data, (size_t)len);
    if (c->body.len <= NEAP_DOCKER_BODY) { neap_stream_read(c->reading, PIECE_SIZE, on_body, c); return; }
    neap_err_set(&large, NEAP_E_PROTOCOL, "an answer of the Engine is larger than 32 MiB");
    finish(c, NULL, &large);
    neap_err_close(&large);
}

static void on_head(void *arg, const neap_err *err) {
    neap_docker_call *c = arg;
    if (err) { finish(c, NULL, err); return; }
    neap_docker_answer a = {.head = neap_http1_head(c->http)};
    a.status = a.head->status;
    if (c->streamed && a.status < 400) {
        a.stream = neap_http1_stream(c->http);
        finish(c, &a, NULL);
        return;
    }
    c->reading = neap_http1_stream(c->http);
    neap_stream_read(c->reading, PIECE_SIZE, on_body, c);
}

static neap_docker_call *start(neap_docker *e, neap_http1_request *r, const char *target, bool streamed, neap_docker_fn done, void *arg) {
    neap_docker_call *c = neap_zalloc(sizeof *c);
    neap_buf path = NEAP_BUF_INIT;
    if (*e->version) neap_buf_addf(&path, "/v%s", e->version);
    neap_buf_adds(&path, target);
    r->target = path.data;
    if (r->body) r->type = "application/json", r->body_len = strlen(r->body);
    *c = (neap_docker_call){.engine = neap_docker_hold(e), .streamed = streamed, .done = done, .arg = arg};
    c->http = neap_http1_start(e->dialer, r, on_head, c);
    neap_buf_close(&path);
    return c;
}

neap_docker_call *neap_docker_get(neap_docker *e, const char *target, neap_docker_fn done, void *arg) {
    neap_http1_request r = {.method = "GET", .head_ms = HEAD_MS};
    return start(e, &r, target, false, done, arg);
}

neap_docker_call *neap_docker_get_stream(neap_docker *e, const char *target, neap_docker_fn done, void *arg) {
    neap_http1_request r = {.method = "GET", .head_ms = HEAD_MS};
    return start(e, &r, target, true, done, arg);
}

neap_docker_call *neap_docker_change(neap_docker *e, neap_docker_verb verb, const char *target, const char *json, neap_docker_fn done, void *arg) {
    static const char *const verbs[] = {[NEAP_DOCKER_POST] = "POST", [NEAP_DOCKER_PUT] = "PUT", [NEAP_DOCKER_DELETE] = "DELETE"};
    neap_http1_request r = {.method = verbs[verb], .body = json};
    return start(e, &r, target, false, done, arg);
}

neap_docker_call *neap_docker_hijack(neap_docker *e, const char *target, const char *json, neap_docker_fn done, void *arg) {
    neap_http1_request r = {.method = "POST", .body = json, .upgrade = true};
    return start(e, &r, target, true, done, arg);
}

neap_docker_call *neap_docker_put(neap_docker *e, const char *target, neap_docker_fn done, void *arg) {
    neap_http1_request r = {.method = "PUT", .type = "application/x-tar", .chunked = true};
    return start(e, &r, target, false, done, arg);
}

void neap_docker_write(neap_docker_call *c, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_http1_write(c->http, data, len, done, arg);
}

/* Opening ------------------------------------------------------------------------------------------ */

/* "1.41" as 1041; 0 for what is no version. */
static int rank(const char *version, size_t len) {
    char text[16], *end;
    if (len >= sizeof text) return 0;
    memcpy(text, version, len);
    text[len] = 0;
    long major = strtol(text, &end, 10);
    if (end == text || *end != '.' || major < 1 || major > 99) return 0;
    long minor = strtol(end + 1, &end, 10);
    return *end || minor < 0 || minor > 999 ? 0 : (int)(major * 1000 + minor);
}

/* An Engine that names no version is older than the header, which came with 1.24's time: then the floor is tried. */
static bool agree(neap_docker *e, const neap_http1_parse *head, neap_err *err) {
    size_t len = 0;
    const char *theirs = neap_http1_header(head, "Api-Version", &len);
    if (!theirs) theirs = NEAP_DOCKER_OLDEST, len = strlen(theirs);
    int wanted = rank(theirs, len), newest = rank(NEAP_DOCKER_NEWEST, strlen(NEAP_DOCKER_NEWEST));
    if (!wanted) return neap_err_set(err, NEAP_E_PROTOCOL, "%s is no Engine: its API version is \"%.*s\"", e->dialer->label, (int)(len < 40 ? len : 40), theirs);
    if (wanted < rank(NEAP_DOCKER_OLDEST, strlen(NEAP_DOCKER_OLDEST)))
        return neap_err_set(err, NEAP_E_UNSUPPORTED, "the Engine at %s speaks API version %.*s; neap needs %s", e->dialer->label, (int)len, theirs, NEAP_DOCKER_OLDEST);
    if (wanted > newest) snprintf(e->version, sizeof e->version, "%s", NEAP_DOCKER_NEWEST);
    else snprintf(e->version, sizeof e->version, "%d.%d", wanted / 1000, wanted % 1000);
    return true;
}

static void on_ping(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_call *c = arg;                       /* itself: it lives until `finish` returns */
    neap_err refused = NEAP_ERR_INIT;
    if (!err) agree(c->engine, a->head, &refused);
    c->opened(c->opened_arg, err ? err : refused.code ? &refused : NULL);
    neap_err_close(&refused);
}

neap_docker_call *neap_docker_open(neap_docker *e, neap_docker_open_fn done, void *arg) {
    neap_docker_call *c = neap_docker_get(e, "/_ping", on_ping, NULL);
    c->arg = c;
    c->opened = done;
    c->opened_arg = arg;
    return c;
}
