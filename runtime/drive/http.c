/* http.c -- libcurl's multi interface on our loop.
 *
 * libcurl says which descriptors it watches and when it wants to be woken; we say which are ready. It may open and close descriptors
 * inside any call of ours, and libuv aborts when a watched one is closed under it. So libcurl closes none: it asks
 * us to, and the watch goes first (CURLOPT_CLOSESOCKETFUNCTION). A "remove" that comes after the close finds nothing, which
 * is no error.
 *
 * libcurl is never called from within one of its own callbacks: what a request's owner is told, it is told from `drain`.
 *
 * Each request has a connection of its own. On one that is used again libcurl repeats a request whose answer did not come, which is
 * right for a browser and would do a write twice. What is shared is the system's certificate store, which takes 20 ms to read. */
#include "drive/http_private.h"

#include <stdlib.h>
#include <unistd.h>

#include "loop/watch.h"

typedef struct http_socket {
    neap_list node;
    neap_http *http;
    int fd;
    neap_watch *watch;
} http_socket;

/* libcurl's turn --------------------------------------------------------------------------------- */

static void idle(neap_http *h) {
    if (!neap_list_is_empty(&h->requests)) return;
    neap_timer_free(h->timer);
    h->timer = NULL;
}

/* Tell the owners, who may free their requests or make new ones. */
static void drain(neap_http *h) {
    int left;
    CURLMsg *message;
    for (neap_list *n = h->requests.next; n != &h->requests; n = n->next) {
        neap_http_request *r = NEAP_LIST_OF(n, neap_http_request, node);
        if (!r->news) continue;
        r->news = false;
        http_stream_news(r);
        n = &h->requests;                               /* anything may have gone: from the beginning */
    }
    while ((message = curl_multi_info_read(h->multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        neap_http_request *r = neap_curl_get_data(message->easy_handle, CURLINFO_PRIVATE);
        http_ended(r, code);
    }
}

static void turn(neap_http *h, curl_socket_t fd, int mask) {
    int running;
    h->holds++;
    curl_multi_socket_action(h->multi, fd, mask, &running);
    drain(h);
    neap_http_release(h);
}

static void on_ready(void *arg, int events) {
    http_socket *s = arg;
    turn(s->http, s->fd, (events & NEAP_WATCH_READ ? CURL_CSELECT_IN : 0) | (events & NEAP_WATCH_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_time(void *arg) { turn(arg, CURL_SOCKET_TIMEOUT, 0); }

/* What libcurl asks for -------------------------------------------------------------------------- */

static http_socket *find(neap_http *h, int fd) {
    for (neap_list *n = h->sockets.next; n != &h->sockets; n = n->next)
        if (NEAP_LIST_OF(n, http_socket, node)->fd == fd) return NEAP_LIST_OF(n, http_socket, node);
    return NULL;
}

static void unwatch(neap_http *h, int fd) {
    http_socket *s = find(h, fd);
    if (!s) return;
    neap_list_remove(&s->node);
    neap_watch_free(s->watch);
    free(s);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *self, void *slot) {
    (void)easy;
    (void)slot;
    neap_http *h = self;
    int events = (what & CURL_POLL_IN ? NEAP_WATCH_READ : 0) | (what & CURL_POLL_OUT ? NEAP_WATCH_WRITE : 0);
    if (what == CURL_POLL_REMOVE) {
        unwatch(h, fd);
        return 0;
    }
    http_socket *s = find(h, fd);
    if (s) {
        neap_watch_set(s->watch, events);
        return 0;
    }
    s = neap_zalloc(sizeof *s);
    s->http = h;
    s->fd = fd;
    neap_list_append(&h->sockets, &s->node);
    s->watch = neap_watch_new(h->loop, fd, events, on_ready, s);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *self) {
    (void)multi;
    neap_http *h = self;
    if (!h->timer) return 0;
    if (ms < 0) neap_timer_stop(h->timer);
    else neap_timer_start(h->timer, ms);
    return 0;
}

int http_close_socket(void *self, curl_socket_t fd) {
    unwatch(self, fd);
    return close(fd);
}

/* Life ------------------------------------------------------------------------------------------- */

void http_add(neap_http *h, neap_http_request *r) {
    if (!h->timer) h->timer = neap_timer_new(h->loop, on_time, h);
    neap_list_append(&h->requests, &r->node);
    curl_multi_add_handle(h->multi, r->easy);
}

void http_remove(neap_http *h, neap_http_request *r) {
    if (!r->easy) return;
    CURL *easy = r->easy;
    r->easy = NULL;
    curl_multi_remove_handle(h->multi, easy);
    curl_easy_cleanup(easy);
    neap_list_remove(&r->node);
    idle(h);
}

neap_http *neap_http_new(neap_loop *loop) {
    static bool begun;
    if (!begun) begun = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    neap_http *h = neap_zalloc(sizeof *h);
    h->loop = loop;
    h->holds = 1;
    neap_list_init(&h->sockets);
    neap_list_init(&h->requests);
    h->multi = curl_multi_init();
    neap_curl_on_socket(h->multi, on_socket, h);
    neap_curl_on_timer(h->multi, on_timer, h);
    return h;
}

void neap_http_release(neap_http *h) {
    if (!h || --h->holds > 0) return;
    curl_multi_cleanup(h->multi);
    while (!neap_list_is_empty(&h->sockets)) unwatch(h, NEAP_LIST_OF(h->sockets.next, http_socket, node)->fd);
    neap_timer_free(h->timer);
    free(h);
}
