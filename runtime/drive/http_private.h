/* http_private.h -- what the files http*.c of this folder share. Nobody else includes it.
 *
 *   http.c          libcurl's sockets and its clock on our loop      http_request.c  one request: names, hops, its end
 *   http_options.c  what libcurl is told, what it tells              http_stream.c   an answer's body as a stream
 *   http_bridge.c   a dialed stream behind a socket                  http_url.c      URLs
 *   http_error.c    libcurl's words as neap_err
 */
#ifndef NEAP_DRIVE_HTTP_PRIVATE_H
#define NEAP_DRIVE_HTTP_PRIVATE_H

#include "base/list.h"
#include "drive/curl.h"
#include "drive/http.h"
#include "drive/http_url.h"
#include "loop/timer.h"

enum { HTTP_HEAD_MOST = 256 * 1024, HTTP_STREAM_KEPT = 512 * 1024, HTTP_BRIDGE_NAME = 48 };

struct neap_http {
    neap_loop  *loop;
    CURLM      *multi;
    neap_timer *timer;            /* libcurl's; there while requests run */
    neap_list   sockets;          /* of http_socket (http.c) */
    neap_list   requests;         /* those libcurl has */
    int         holds;
};

typedef struct http_question http_question;
typedef struct http_body http_body;
typedef struct http_bridge http_bridge;

struct neap_http_request {
    neap_list   node;
    neap_http  *http;
    CURL       *easy;             /* NULL: libcurl does not have it (resolving, or ended) */
    struct curl_slist *lines, *addresses;
    char       *method, *ca, *unix_path, *proxy;
    neap_http_header *headers;    /* copies */
    neap_http_url url;            /* of this hop */
    const char *body;
    size_t      body_len, limit;
    int         follow, hops;     /* most, and so far */
    bool        strange;          /* another origin than the one that was asked for: no secrets any more */
    int64_t     within_ms, connect_ms;
    neap_dialer *dialer;          /* held */
    neap_dialing *dialing;
    http_bridge *bridge;          /* of a dialed stream */
    char        bridge_name[HTTP_BRIDGE_NAME];
    http_question *question;      /* a name being looked up */
    neap_timer *late;
    neap_http_answer answer;
    bool        whole_head, too_large, paused, ended;
    bool        news;             /* bytes or an end of which the stream was not told */
    char        words[CURL_ERROR_SIZE];
    neap_http_fn done;
    void       *arg;
    neap_http_head_fn on_head;    /* a stream was asked for */
    http_body  *stream;           /* and is there */
};

/* http.c */
void http_add(neap_http *h, neap_http_request *r);               /* hand r->easy to libcurl */
void http_remove(neap_http *h, neap_http_request *r);            /* take it back; harmless twice */
int  http_close_socket(void *self, curl_socket_t fd);

/* http_options.c */
void http_configure(neap_http_request *r);                       /* a fresh r->easy for r->url */

/* http_request.c */
void http_ended(neap_http_request *r, CURLcode code);            /* libcurl has done with it */
void http_finish(neap_http_request *r, const neap_err *err);
bool http_is_hop(const neap_http_request *r);                    /* an answer nobody gets to see: it is followed */

/* http_stream.c */
void http_stream_news(neap_http_request *r);                     /* after every turn of libcurl: bytes may have come */
void http_stream_end(neap_http_request *r, const neap_err *err); /* NULL: whole */

/* http_bridge.c */
/* Takes `far`. `name` is set to the abstract unix socket libcurl finds it behind. */
http_bridge *http_bridge_new(neap_loop *loop, neap_stream *far, char name[HTTP_BRIDGE_NAME], neap_err *err);
void http_bridge_free(http_bridge *b);

/* http_error.c */
void http_explain(const neap_http_request *r, CURLcode code, neap_err *err);

#endif
