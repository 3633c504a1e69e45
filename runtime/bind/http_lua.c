/* http_lua.c -- native.http: requests through the gate.
 *
 * GET and HEAD are reads, declared ones: that they change nothing is a promise of the server's author. Everything else is a write:
 *
 *     intent durable ── not sent (no name, no connection, no trust) ──► failed
 *                    └─ sent ── an answer ──► ok, or failed from 400 on; 502 and 504 are a gateway that does not know: unknown
 *                            └─ no whole answer, or stopped ──► unknown
 *
 * There is one connection for one request, so nothing is ever sent twice.
 *
 * What people read of a request: method, origin, path and the names in its query. A URL that is a secret (a webhook's) shows its origin
 * and its name. A body is shown redacted, up to SHOWN_MOST bytes. What comes back passes the redactor before Lua sees
 * it: a server that is told a wrong token likes to repeat it. A stream is handed on as it is.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "bind/net_lua.h"
#include "bind/secret_lua.h"
#include "bind/stream_lua.h"
#include "drive/http.h"
#include "drive/http_url.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/raise.h"
#include "script/task.h"
#include "script/value.h"

#define ENGINE "neap.http"

enum { LIMIT = 16 << 20, HEADERS_MOST = 64, SHOWN_MOST = 2048, JSON_DEPTH = 64, OP_INDEX = 2, HANDLE_INDEX = 3 };

typedef struct http_op {
    neap_gate gate;                       /* first */
    neap_http_ask ask;
    neap_http_header headers[HEADERS_MOST + 1];
    int header_count;
    char *method, *url, *role, *text, *subject, *host, *plan;
    char *spelled[2];                     /* for policy: the text with %XX decoded */
    neap_buf json, clean;
    neap_http_request *request;
    neap_stream *stream;                  /* open: came, and nobody has it yet */
    bool opens, sent;
    neap_err err;
} http_op;

/* The engine of a state -------------------------------------------------------------------------- */

static int engine_gc(lua_State *L) {
    neap_http **engine = lua_touserdata(L, 1);
    neap_http_release(*engine);
    *engine = NULL;
    return 0;
}

static neap_http *engine_of(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, ENGINE) == LUA_TNIL) {
        neap_http **made = lua_newuserdatauv(L, sizeof *made, 0);
        *made = NULL;
        lua_createtable(L, 0, 1);
        neap_function_push(L, "http:__gc", engine_gc, 0);
        lua_setfield(L, -2, "__gc");
        lua_setmetatable(L, -2);
        *made = neap_http_new(neap_host_of(L)->loop);
        lua_setfield(L, LUA_REGISTRYINDEX, ENGINE);
        lua_getfield(L, LUA_REGISTRYINDEX, ENGINE);
        lua_replace(L, -2);
    }
    neap_http *engine = *(neap_http **)lua_touserdata(L, -1);
    lua_pop(L, 1);
    return engine;
}

/* What is asked ---------------------------------------------------------------------------------- */

static void wipe_text(const char *text) {
    if (text) explicit_bzero((char *)text, strlen(text));
    free((char *)text);
}

/* [-0, +0, e] the bytes on top, a string's or a secret's; NULL for nil. */
static const char *check_bytes(lua_State *L, const char *what, size_t *len) {
    neap_secret *secret = neap_to_secret(L, -1);
    if (secret) return neap_secret_bytes(secret, len);
    if (lua_isnil(L, -1)) return NULL;
    if (lua_isuserdata(L, -1)) luaL_tolstring(L, -1, NULL), lua_pop(L, 1);           /* raises {withheld} */
    if (lua_type(L, -1) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "%s is a %s, not a string", what, luaL_typename(L, -1));
    return lua_tolstring(L, -1, len);
}

/* [-0, +0, e] a copy of a field's text, NULL when it is not there. */
static char *opt_text(lua_State *L, const char *name) {
    size_t len;
    lua_getfield(L, 1, name);
    const char *text = check_bytes(L, name, &len);
    if (text && strlen(text) != len) neap_raisef(L, NEAP_E_USAGE, "%s holds a NUL byte", name);
    char *copy = text ? neap_strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

static int64_t opt_integer(lua_State *L, const char *name, int64_t otherwise) {
    lua_getfield(L, 1, name);
    int64_t value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    if (value < 0) neap_raisef(L, NEAP_E_USAGE, "%s is less than nothing", name);
    return value;
}

static void add_header(lua_State *L, http_op *h, const char *name, const char *value) {
    if (h->header_count == HEADERS_MOST) neap_raisef(L, NEAP_E_USAGE, "a request has at most %d headers", HEADERS_MOST);
    h->headers[h->header_count++] = (neap_http_header){neap_strdup(name), neap_strdup(value)};
}

static void read_headers(lua_State *L, http_op *h) {
    int type = lua_getfield(L, 1, "headers");
    if (type != LUA_TNIL && type != LUA_TTABLE) neap_raisef(L, NEAP_E_USAGE, "headers must be a table of names and values");
    if (type == LUA_TTABLE) for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        size_t len;
        if (lua_type(L, -2) != LUA_TSTRING) neap_raisef(L, NEAP_E_USAGE, "headers must be a table of names and values");
        const char *name = lua_tostring(L, -2), *value = check_bytes(L, name, &len);
        if (strlen(value) != len) neap_raisef(L, NEAP_E_USAGE, "the header \"%s\" holds a NUL byte", name);
        add_header(L, h, name, value);
    }
    lua_pop(L, 1);
}

/* A secret inside would be sent as the word that stands for it. */
static void refuse_secrets(lua_State *L, int depth) {
    if (neap_to_secret(L, -1)) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_USAGE, "a secret cannot be part of json");
        neap_err_hint(&err, "Send it in a header, or make the whole body a secret with a template.");
        neap_raise(L, &err);
    }
    if (!lua_istable(L, -1) || depth == JSON_DEPTH) return;
    luaL_checkstack(L, 4, "json is too deep");
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) refuse_secrets(L, depth + 1);
}

static bool has_header(const http_op *h, const char *name) {
    for (const neap_http_header *at = h->headers; at->name; at++)
        if (strcasecmp(at->name, name) == 0) return true;
    return false;
}

/* [-0, +1, e] the body stays on the stack, which keeps its bytes. */
static void read_body(lua_State *L, http_op *h) {
    neap_err err = NEAP_ERR_INIT;
    lua_getfield(L, 1, "body");
    h->ask.body = check_bytes(L, "body", &h->ask.body_len);
    if (lua_getfield(L, 1, "json") != LUA_TNIL) {
        if (h->ask.body) neap_raisef(L, NEAP_E_USAGE, "a request has a body or json, not both");
        refuse_secrets(L, 0);
        if (!neap_value_encode(L, -1, &h->json, &err)) neap_raise(L, &err);
        if (!has_header(h, "content-type")) add_header(L, h, "Content-Type", "application/json");
        h->ask.body = h->json.data;
        h->ask.body_len = h->json.len;
    }
    lua_pop(L, 1);
}

static void free_later(char **to, char *text) {
    free(*to);
    *to = text;
}

static void read_ask(lua_State *L, http_op *h) {
    free_later(&h->method, opt_text(L, "method"));
    if (!h->method) h->method = neap_strdup("GET");
    free_later(&h->role, opt_text(L, "role"));
    h->ask.ca = opt_text(L, "ca");
    h->ask.unix_path = opt_text(L, "unix");
    h->ask.proxy = opt_text(L, "proxy");
    h->ask.follow = (int)opt_integer(L, "follow", 0);
    h->ask.limit = (size_t)opt_integer(L, "limit", LIMIT);
    h->ask.within_ms = opt_integer(L, "within_ms", 0);
    h->ask.connect_ms = opt_integer(L, "connect_ms", 0);
    read_headers(L, h);
    read_body(L, h);
    if (lua_getfield(L, 1, "dialer") != LUA_TNIL) h->ask.dialer = neap_check_dialer(L, -1);    /* the table keeps it */
    lua_pop(L, 1);
    h->ask.method = h->method;
    h->ask.headers = h->headers;
}

/* Where, and what people read of it -------------------------------------------------------------- */

/* The URL, with `path` behind it. */
static void read_url(lua_State *L, http_op *h) {
    h->url = opt_text(L, "url");
    if (!h->url) neap_raisef(L, NEAP_E_USAGE, "a request needs a url");
    char *path = opt_text(L, "path");
    if (!path || !*path) {
        free(path);
        return;
    }
    bool clash = strpbrk(h->url, "?#") != NULL;
    size_t len = strlen(h->url);
    while (len && h->url[len - 1] == '/') len--;
    neap_buf url = NEAP_BUF_INIT;
    neap_buf_add(&url, h->url, len);
    neap_buf_addf(&url, *path == '/' ? "%s" : "/%s", path);
    free(path);
    wipe_text(h->url);
    h->url = neap_strdup(url.data);
    neap_buf_wipe(&url);
    if (clash) neap_raisef(L, NEAP_E_USAGE, "a url with a query cannot have a path behind it");
}

/* A secret URL shows no path: it is what is secret in it. */
static void describe_url(lua_State *L, const neap_http_url *url, neap_buf *out) {
    lua_getfield(L, 1, "url");
    neap_secret *secret = neap_to_secret(L, -1);
    if (secret) {
        neap_http_url_origin(url, out);
        neap_buf_addf(out, "/‹secret %s›", neap_secret_name(secret));
    } else {
        neap_buf shown = NEAP_BUF_INIT;
        neap_http_url_shown(url, &shown);
        neap_redact(out, shown.data, shown.len);
        neap_buf_close(&shown);
    }
    lua_pop(L, 1);
}

/* What a preview shows below the text: a body, as it may be shown. */
static char *describe_body(lua_State *L, const http_op *h) {
    neap_buf clean = NEAP_BUF_INIT, out = NEAP_BUF_INIT;
    lua_getfield(L, 1, "body");
    neap_secret *secret = neap_to_secret(L, -1);
    if (secret) {
        neap_buf_addf(&out, "‹secret %s›", neap_secret_name(secret));
    } else if (h->ask.body) {
        size_t most = h->ask.body_len;
        neap_redact(&clean, h->ask.body, most);
        if (!neap_json_is_utf8(clean.data ? clean.data : "", clean.len)) {
            neap_buf_addf(&out, "%zu bytes that are no text", most);
        } else {
            size_t len = clean.len < SHOWN_MOST ? clean.len : SHOWN_MOST;
            while (len < clean.len && len && (clean.data[len] & 0xc0) == 0x80) len--;
            neap_buf_add(&out, clean.data ? clean.data : "", len);
            if (len < clean.len) neap_buf_addf(&out, "… (%zu bytes)", most);
        }
    }
    lua_pop(L, 1);
    neap_buf_wipe(&clean);
    return out.len ? neap_buf_take(&out) : NULL;
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* Its server reads "/%61dmin" as "/admin". */
static char *decode(const char *text) {
    char *out = neap_strdup(text), *to = out;
    for (const char *c = text; *c; c++) {
        int high = *c == '%' ? digit(c[1]) : -1, low = high >= 0 ? digit(c[2]) : -1;
        bool coded = low >= 0 && (high || low);
        *to++ = coded ? (char)(high << 4 | low) : *c;
        if (coded) c += 2;
    }
    *to = '\0';
    return out;
}

/* A body makes of a GET whatever its server likes: a search, or a removal by query. What is asked in a preview has none. */
static void refuse_body(lua_State *L, const http_op *h) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_USAGE, "a %s has no body", h->method);
    neap_err_hint(&err, "What it asks belongs into the url; what needs a body is sent with POST, in act.");
    neap_raise(L, &err);
}

static void describe(lua_State *L, http_op *h) {
    neap_err err = NEAP_ERR_INIT;
    neap_http_url url;
    neap_buf text = NEAP_BUF_INIT, subject = NEAP_BUF_INIT;
    if (!neap_http_url_parse(h->url, &url, &err)) neap_raise(L, &err);
    neap_buf_addf(&text, "%s ", h->method);
    describe_url(L, &url, &text);
    char *through = opt_text(L, "through");
    neap_buf_addf(&subject, "url:%s%s%s://%s:%s", through ? through : "", through ? "/" : "", url.scheme, url.host, url.port);
    if (h->ask.unix_path) neap_buf_addf(&text, " by %s", h->ask.unix_path);
    if (through) neap_buf_addf(&text, " on %s", through);
    free(through);
    h->text = neap_buf_take(&text);
    h->subject = neap_buf_take(&subject);
    h->host = opt_text(L, "machine");
    if (!h->host && !h->ask.unix_path) h->host = neap_strdup(url.host);
    h->ask.url = h->url;
    neap_http_url_close(&url);
    bool reads = strcmp(h->method, "GET") == 0 || strcmp(h->method, "HEAD") == 0;
    if (reads && h->ask.body) refuse_body(L, h);
    if (!reads) h->plan = describe_body(L, h);
    h->gate.plan = h->plan;
    h->gate.declared = reads;
    h->gate.act = (neap_act){reads ? NEAP_P_HTTP_GET : NEAP_P_HTTP_SEND, h->role, h->host, h->subject, h->text, NULL};
    h->spelled[0] = decode(h->text);
    h->gate.act.spelled = (const char *const *)h->spelled;
}

/* The wait --------------------------------------------------------------------------------------- */

static void on_answer(void *arg, neap_http_answer *answer, const neap_err *err) {
    http_op *h = arg;
    h->sent = answer->sent;
    neap_err_keep(&h->err, err);
    neap_op_finish(&h->gate.op);
}

static void on_head(void *arg, neap_http_answer *answer, neap_stream *stream, const neap_err *err) {
    http_op *h = arg;
    h->stream = stream;
    on_answer(h, answer, err);
}

/* A request that became a stream belongs to it. */
static void let_go(http_op *h) {
    if (h->stream) neap_stream_free(h->stream);
    else neap_http_request_free(h->request);
    h->stream = NULL;
    h->request = NULL;
}

static void http_cancel(neap_op *op, bool force) {
    http_op *h = (http_op *)op;
    (void)force;
    if (h->request && !op->finished) h->sent = neap_http_answer_of(h->request)->sent;
    let_go(h);
    neap_op_finish(op);
}

static void http_drop(neap_op *op) {
    http_op *h = (http_op *)op;
    let_go(h);
    for (neap_http_header *at = h->headers; at->name; at++) {
        wipe_text(at->name);
        wipe_text(at->value);
    }
    wipe_text(h->url);
    wipe_text(h->ask.ca);
    wipe_text(h->ask.unix_path);
    wipe_text(h->ask.proxy);
    free(h->method);
    free(h->role);
    free(h->text);
    free(h->subject);
    free(h->host);
    free(h->plan);
    free(h->spelled[0]);
    neap_buf_wipe(&h->json);
    neap_buf_wipe(&h->clean);
    neap_buf_close(&h->gate.evidence);
    neap_err_close(&h->err);
}

/* Stopped: what was not sent was not done. */
static void http_on_stop(lua_State *L, neap_op *op) {
    http_op *h = (http_op *)op;
    neap_gate_outcome(L, &h->gate, h->sent ? "unknown" : "failed",
                      h->sent ? "\"message\":\"stopped while the answer was awaited\"" : "\"message\":\"stopped before it was sent\"", NULL);
}

/* The answer ------------------------------------------------------------------------------------- */

static void push_clean(lua_State *L, http_op *h, const char *data, size_t len) {
    neap_buf_wipe(&h->clean);
    neap_redact(&h->clean, data ? data : "", len);
    lua_pushlstring(L, h->clean.data ? h->clean.data : "", h->clean.len);
}

/* [-0, +1, m] a header that comes twice is joined with a comma, as the standard has it. */
static void push_headers(lua_State *L, http_op *h, const neap_buf *lines) {
    lua_newtable(L);
    for (const char *at = lines->data; at && *at; ) {
        size_t len = strcspn(at, "\n"), name = strcspn(at, ":");
        const char *value = at + name + 2;
        lua_pushlstring(L, at, name);
        lua_pushvalue(L, -1);
        bool twice = lua_rawget(L, -3) != LUA_TNIL;
        push_clean(L, h, value, len - name - 2);
        if (twice) lua_pushfstring(L, "%s, %s", lua_tostring(L, -2), lua_tostring(L, -1)), lua_replace(L, -2);
        lua_replace(L, -2);
        lua_rawset(L, -3);
        at += len + 1;
    }
}

static bool is_doubtful(const http_op *h, int status) {
    return h->gate.act.primitive == NEAP_P_HTTP_SEND && (status == 502 || status == 504);
}

/* [-0, +1, m] */
static void push_answer(lua_State *L, http_op *h, const neap_http_answer *answer) {
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, answer->status);
    lua_setfield(L, -2, "status");
    lua_pushstring(L, answer->address);
    lua_setfield(L, -2, "address");
    push_headers(L, h, &answer->headers);
    lua_setfield(L, -2, "headers");
    lua_pushboolean(L, is_doubtful(h, answer->status));
    lua_setfield(L, -2, "doubtful");
    if (h->opens) return;
    push_clean(L, h, answer->body.data, answer->body.len);
    lua_setfield(L, -2, "body");
}

static void record_outcome(lua_State *L, http_op *h, int status) {
    neap_buf members = NEAP_BUF_INIT;
    if (status) neap_json_member_int(&members, "answer", status);
    const char *how = h->err.code ? (h->sent ? "unknown" : "failed") : is_doubtful(h, status) ? "unknown" : status >= 400 ? "failed" : "ok";
    neap_gate_outcome(L, &h->gate, how, members.data, h->err.code ? &h->err : NULL);
    neap_buf_close(&members);
}

/* The server has the request and its answer is lost. */
static void doubt(http_op *h) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_UNKNOWN, "the answer to %s was lost: %s", h->text, h->err.message);
    neap_err_hint(&err, "It may have been done; look before it is done again.");
    neap_err_close(&h->err);
    neap_err_move(&h->err, &err);
}

static int http_deliver(lua_State *L, neap_op *op) {
    http_op *h = (http_op *)op;
    const neap_http_answer *answer = neap_http_answer_of(h->request);
    if (h->err.code && h->sent && h->gate.act.primitive == NEAP_P_HTTP_SEND) doubt(h);
    record_outcome(L, h, answer->status);
    if (h->err.code) return neap_fail(L, &h->err);
    push_answer(L, h, answer);
    if (!h->opens) {
        let_go(h);
        return 1;
    }
    neap_stream_handle *handle = lua_touserdata(L, HANDLE_INDEX);
    handle->stream = h->stream;
    h->stream = NULL;
    h->request = NULL;
    lua_pushvalue(L, HANDLE_INDEX);
    lua_insert(L, -2);
    return 2;
}

static const neap_op_class http_class = {"an HTTP server", http_cancel, http_deliver, http_drop};

static int http_start(lua_State *L, neap_gate *g) {
    http_op *h = (http_op *)g;
    neap_http *engine = engine_of(L);
    h->request = h->opens ? neap_http_open(engine, &h->ask, on_head, h, &h->err) : neap_http_start(engine, &h->ask, on_answer, h, &h->err);
    if (h->request) return neap_await(L, &g->op);
    neap_gate_outcome(L, g, "failed", NULL, &h->err);
    return neap_raise(L, &h->err);
}

static http_op *new_op(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    http_op *h = (http_op *)neap_op_new(L, sizeof *h, &http_class);
    h->err = (neap_err)NEAP_ERR_INIT;
    h->gate.start = http_start;
    h->gate.op.on_stop = http_on_stop;
    return h;
}

/* machine: whose policy is asked, where the url's host is only a name seen from elsewhere.
 * request{method="GET", url=string|secret, path=, headers=, body=string|secret, json=, within_ms=, connect_ms=, role=, through=, follow=, limit=,
 * ca=, proxy=, unix=, dialer=, machine=} -> {status=, headers=, body=, address=, doubtful=} | nil, err. Effect: read for GET and HEAD, else write. */
static int http_request(lua_State *L) {
    http_op *h = new_op(L);
    read_url(L, h);
    read_ask(L, h);
    describe(L, h);
    return neap_gate_enter(L, &h->gate);
}

/* open{the same, for GET} -> stream, {status=, headers=, address=} | nil, err. Effect: read. */
static int http_open(lua_State *L) {
    http_op *h = new_op(L);
    neap_stream_new_handle(L, 0);
    h->opens = true;
    read_url(L, h);
    read_ask(L, h);
    if (strcmp(h->method, "GET") != 0) neap_raisef(L, NEAP_E_USAGE, "only the answer to GET can be a stream");
    describe(L, h);
    return neap_gate_enter(L, &h->gate);
}

/* place(url) -> {scheme=, host=, port=, shown=}: what may be known of a URL, a secret one's too. Raises. Effect: pure. */
static int http_place(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_http_url url;
    size_t len;
    lua_settop(L, 1);
    const char *text = check_bytes(L, "url", &len);
    neap_secret *secret = neap_to_secret(L, 1);
    if (!neap_http_url_parse(text ? text : "", &url, &err)) return neap_raise(L, &err);
    neap_buf shown = NEAP_BUF_INIT;
    if (secret) neap_http_url_origin(&url, &shown), neap_buf_addf(&shown, "/‹secret %s›", neap_secret_name(secret));
    else neap_http_url_shown(&url, &shown);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, url.scheme), lua_setfield(L, -2, "scheme");
    lua_pushstring(L, url.host), lua_setfield(L, -2, "host");
    lua_pushinteger(L, strtol(url.port, NULL, 10)), lua_setfield(L, -2, "port");
    lua_pushstring(L, shown.data), lua_setfield(L, -2, "shown");
    neap_buf_close(&shown);
    neap_http_url_close(&url);
    return 1;
}

static const luaL_Reg module[] = {{"request", http_request}, {"open", http_open}, {"place", http_place}, {NULL, NULL}};

int neap_open_http(lua_State *L) {
    neap_function_table(L, "native.http.", module);
    return 1;
}
