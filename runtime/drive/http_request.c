/* http_request.c -- one request, from its name to its answer.
 *
 *     LOOKING UP ──► RUNNING ──► ENDED (done was called)
 *          ▲            │
 *          └── a hop ◄──┘  a redirect that is followed: GET and HEAD only
 *
 * Names are looked up on our own pool and handed to libcurl. Its own resolver has threads too, but it waits for them when a request
 * is cut: a dead name server would then hold up everything else for as long as it is dead.
 *
 * Redirects are followed here and not by libcurl, which would take headers of ours along to another host (it knows Authorization
 * and Cookie, and no X-Api-Key). */
#include "drive/http_private.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "loop/work.h"

struct http_question { neap_http_request *request; char *host, *port; };

/* The end ---------------------------------------------------------------------------------------- */

static void forget(neap_http_request *r) {
    if (r->question) r->question->request = NULL;
    r->question = NULL;
    neap_timer_free(r->late);
    r->late = NULL;
    if (r->dialing) neap_dial_cancel(r->dialing);
    r->dialing = NULL;
    http_remove(r->http, r);
    http_bridge_free(r->bridge);
    r->bridge = NULL;
}

void http_finish(neap_http_request *r, const neap_err *err) {
    if (r->ended) return;
    r->ended = true;
    forget(r);
    if (r->stream) http_stream_end(r, err);
    else if (r->on_head) r->on_head(r->arg, &r->answer, NULL, err);
    else r->done(r->arg, &r->answer, err);
}

static void fail(neap_http_request *r, neap_err *err) {
    http_finish(r, err);
    neap_err_close(err);
}

static void on_late(void *arg) {
    neap_http_request *r = arg;
    neap_err err = NEAP_ERR_INIT;
    neap_buf origin = NEAP_BUF_INIT;
    neap_http_url_origin(&r->url, &origin);
    neap_err_set(&err, NEAP_E_TIMEOUT, "%s: %s within %lld ms", origin.data,
                 r->answer.status ? "the answer was not whole" : r->answer.sent ? "no answer" : "no connection", (long long)r->within_ms);
    err.retry = true;
    neap_buf_close(&origin);
    fail(r, &err);
}

/* Names ------------------------------------------------------------------------------------------ */

static void launch(neap_http_request *r) {
    http_configure(r);
    http_add(r->http, r);
}

static bool is_address(const char *host) {
    struct in_addr v4;
    return host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1;
}

static void keep_address(neap_http_request *r, const http_question *q, char *const *addresses) {
    neap_buf line = NEAP_BUF_INIT;
    neap_buf_addf(&line, "%s:%s:", q->host, q->port);
    for (int i = 0; addresses[i]; i++)
        neap_buf_addf(&line, strchr(addresses[i], ':') ? "%s[%s]" : "%s%s", i ? "," : "", addresses[i]);
    curl_slist_free_all(r->addresses);
    r->addresses = curl_slist_append(NULL, line.data);
    neap_buf_close(&line);
}

static void on_names(void *arg, char *const *addresses, const char *reason) {
    http_question *q = arg;
    neap_http_request *r = q->request;
    if (r) {
        r->question = NULL;
        if (addresses) {
            keep_address(r, q, addresses);
            launch(r);
        } else {
            neap_err err = NEAP_ERR_INIT;
            neap_err_set(&err, NEAP_E_UNREACHABLE, "cannot find the host \"%s\": %s", q->host, reason);
            neap_err_hint(&err, "Is the name right? Look it up with: getent hosts %s", q->host);
            err.retry = true;
            fail(r, &err);
        }
    }
    free(q->host);
    free(q->port);
    free(q);
}

static void ask_name(neap_http_request *r, const char *host, const char *port) {
    http_question *q = neap_zalloc(sizeof *q);
    *q = (http_question){r, neap_strdup(host), neap_strdup(port)};
    r->question = q;
    neap_resolve_start(r->http->loop, host, on_names, q);
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *refused) {
    neap_http_request *r = arg;
    neap_err err = NEAP_ERR_INIT;
    r->dialing = NULL;
    if (refused) {
        neap_err_copy(&err, refused);
    } else {
        r->bridge = http_bridge_new(r->http->loop, stream, r->bridge_name, &err);
    }
    if (!r->bridge) {
        fail(r, &err);
        return;
    }
    launch(r);
}

/* Whose address is needed: the host's, or the proxy's, which then looks for the host itself. */
static void begin_hop(neap_http_request *r) {
    neap_http_url proxy = {0};
    bool by_proxy = r->proxy && neap_http_url_parse(r->proxy, &proxy, NULL);
    const char *host = by_proxy ? proxy.host : r->url.host, *port = by_proxy ? proxy.port : r->url.port;
    if (r->dialer) r->dialing = neap_dial(r->dialer, on_dialed, r);
    else if (!r->unix_path && !is_address(host)) ask_name(r, host, port);
    else launch(r);
    neap_http_url_close(&proxy);
}

/* Redirects -------------------------------------------------------------------------------------- */

static bool is_redirect(int status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

static bool is_plain_read(const neap_http_request *r) { return strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0; }

bool http_is_hop(const neap_http_request *r) {
    const char *headers = r->answer.headers.data;
    if (r->follow <= 0 || !is_plain_read(r) || !is_redirect(r->answer.status) || !headers) return false;
    return strncmp(headers, "location: ", 10) == 0 || strstr(headers, "\nlocation: ") != NULL;
}

static bool check_hop(neap_http_request *r, const char *to, neap_http_url *next, neap_err *err) {
    if (r->hops >= r->follow) return neap_err_set(err, NEAP_E_REMOTE, "redirected more than %d times", r->follow);
    if (!neap_http_url_parse(to, next, NULL)) return neap_err_set(err, NEAP_E_PROTOCOL, "redirected to what is no http or https URL");
    bool same = strcmp(next->scheme, r->url.scheme) == 0, led = r->dialer || r->unix_path;
    if (same && (!led || neap_http_url_is_same_origin(&r->url, next))) return true;
    if (same) neap_err_set(err, NEAP_E_REMOTE, "redirected to %s, where this way does not lead", next->host);
    else neap_err_set(err, NEAP_E_REMOTE, "redirected from %s to %s, which is another protocol", r->url.scheme, next->scheme);
    neap_http_url_close(next);
    return neap_err_hint(err, "Write the address it leads to into the inventory, if that is meant.");
}

static void hop(neap_http_request *r, const char *to) {
    neap_err err = NEAP_ERR_INIT;
    neap_http_url next;
    if (!check_hop(r, to, &next, &err)) {
        fail(r, &err);
        return;
    }
    http_remove(r->http, r);
    http_bridge_free(r->bridge);
    r->bridge = NULL;
    curl_slist_free_all(r->lines);
    r->lines = NULL;
    r->hops++;
    r->strange = r->strange || !neap_http_url_is_same_origin(&r->url, &next);
    char *user = next.user, *password = next.password;
    next.user = r->url.user, next.password = r->url.password;
    r->url.user = user, r->url.password = password;
    neap_http_url_close(&r->url);
    r->url = next;
    neap_buf_clear(&r->answer.headers);
    neap_buf_clear(&r->answer.body);
    r->answer.status = 0;
    r->whole_head = r->too_large = false;
    begin_hop(r);
}

void http_ended(neap_http_request *r, CURLcode code) {
    if (code != CURLE_OK) {
        neap_err err = NEAP_ERR_INIT;
        http_explain(r, code, &err);
        fail(r, &err);
        return;
    }
    char *to = http_is_hop(r) ? neap_curl_get_text(r->easy, CURLINFO_REDIRECT_URL) : NULL;
    if (!to) {
        http_finish(r, NULL);
        return;
    }
    char *copy = neap_strdup(to);
    hop(r, copy);
    free(copy);
}

/* Asking ----------------------------------------------------------------------------------------- */

static bool is_token(const char *text) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    if (!*text) return false;
    for (; *text; text++)
        if (!strchr(others, *text) && !(*text >= '0' && *text <= '9') && !(*text >= 'A' && *text <= 'Z') && !(*text >= 'a' && *text <= 'z')) return false;
    return true;
}

/* A line break in a value would be another header, or another request. A method in a header would be another one than what was judged and
 * shown. */
static bool check_headers(const neap_http_header *headers, neap_err *err) {
    static const char *const ours[] = {"content-length", "transfer-encoding", "connection", "upgrade", "expect",
                                       "x-http-method-override", "x-http-method", "x-method-override", NULL};
    for (; headers && headers->name; headers++) {
        if (!is_token(headers->name)) return neap_err_set(err, NEAP_E_USAGE, "\"%s\" is no name of a header", headers->name);
        for (const char *c = headers->value; *c; c++)
            if ((unsigned char)*c < ' ' && *c != '\t') return neap_err_set(err, NEAP_E_USAGE, "the header \"%s\" has a control character in it", headers->name);
        for (const char *const *name = ours; *name; name++)
            if (strcasecmp(*name, headers->name) == 0) return neap_err_set(err, NEAP_E_USAGE, "the header \"%s\" is neap's own to set", headers->name);
    }
    return true;
}

static neap_http_header *copy_headers(const neap_http_header *from) {
    size_t count = 0;
    while (from && from[count].name) count++;
    neap_http_header *to = neap_zalloc(sizeof *to * (count + 1));
    for (size_t i = 0; i < count; i++) to[i] = (neap_http_header){neap_strdup(from[i].name), neap_strdup(from[i].value)};
    return to;
}

static char *copy_text(const char *text) { return text ? neap_strdup(text) : NULL; }

static neap_http_request *new_request(neap_http *h, const neap_http_ask *ask, void *arg, neap_err *err) {
    neap_http_url url;
    if (!is_token(ask->method)) return neap_err_set(err, NEAP_E_USAGE, "\"%s\" is no method", ask->method), NULL;
    if (!check_headers(ask->headers, err) || !neap_http_url_parse(ask->url, &url, err)) return NULL;
    neap_http_request *r = neap_zalloc(sizeof *r);
    neap_list_init(&r->node);
    r->http = h;
    h->holds++;
    r->url = url;
    r->method = neap_strdup(ask->method);
    r->ca = copy_text(ask->ca);
    r->unix_path = copy_text(ask->unix_path);
    r->proxy = copy_text(ask->proxy);
    r->dialer = ask->dialer ? neap_dialer_hold(ask->dialer) : NULL;
    r->headers = copy_headers(ask->headers);
    r->body = ask->body;
    r->body_len = ask->body_len;
    r->limit = ask->limit;
    r->follow = ask->follow;
    r->within_ms = ask->within_ms;
    r->connect_ms = ask->connect_ms;
    r->arg = arg;
    return r;
}

static neap_http_request *begin(neap_http_request *r) {
    if (r->within_ms > 0) {
        r->late = neap_timer_new(r->http->loop, on_late, r);
        neap_timer_start(r->late, r->within_ms);
    }
    begin_hop(r);
    return r;
}

neap_http_request *neap_http_start(neap_http *h, const neap_http_ask *ask, neap_http_fn done, void *arg, neap_err *err) {
    neap_http_request *r = new_request(h, ask, arg, err);
    if (!r) return NULL;
    r->done = done;
    return begin(r);
}

neap_http_request *neap_http_open(neap_http *h, const neap_http_ask *ask, neap_http_head_fn head, void *arg, neap_err *err) {
    neap_http_request *r = new_request(h, ask, arg, err);
    if (!r) return NULL;
    r->on_head = head;
    return begin(r);
}

neap_http_answer *neap_http_answer_of(neap_http_request *r) { return &r->answer; }

static void wipe_text(char *text) {
    if (text) explicit_bzero(text, strlen(text));
    free(text);
}

void neap_http_request_free(neap_http_request *r) {
    if (!r) return;
    r->ended = true;
    forget(r);
    for (neap_http_header *h = r->headers; h->name; h++) {
        free((char *)h->name);
        wipe_text((char *)h->value);
    }
    free(r->headers);
    for (struct curl_slist *l = r->lines; l; l = l->next) explicit_bzero(l->data, strlen(l->data));
    if (r->lines) curl_slist_free_all(r->lines);
    if (r->addresses) curl_slist_free_all(r->addresses);
    neap_http_url_close(&r->url);
    free(r->method);
    free(r->ca);
    free(r->unix_path);
    wipe_text(r->proxy);
    neap_buf_wipe(&r->answer.headers);
    neap_buf_wipe(&r->answer.body);
    neap_dialer_release(r->dialer);
    neap_http_release(r->http);
    free(r);
}
