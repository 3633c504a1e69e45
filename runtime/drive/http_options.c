/* http_options.c -- what libcurl is told about a request, and what it tells us of the answer.
 *
 * A handle is made anew for every hop of a redirect, so that nothing of the last one stays in it: with `strange` set, credentials and
 * headers that could hold a secret are not in it at all. Which header could, nobody can say in general (X-Api-Key, a header of the
 * house); those that cannot are listed. */
#include "drive/http_private.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* What libcurl tells ----------------------------------------------------------------------------- */

static size_t on_head(char *data, size_t size, size_t count, void *self) {
    neap_http_request *r = self;
    size_t len = size * count, name = 0;
    neap_buf *out = &r->answer.headers;
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {      /* another head: after 100 Continue */
        neap_buf_clear(out);
        r->whole_head = false;
        return len;
    }
    while (len && (data[len - 1] == '\r' || data[len - 1] == '\n')) len--;
    if (len == 0) {
        long status = neap_curl_get_long(r->easy, CURLINFO_RESPONSE_CODE);
        r->whole_head = status >= 200;
        if (r->whole_head) r->answer.status = (int)status;
        r->news = r->whole_head && r->on_head;
        return size * count;
    }
    if (out->len + len > HTTP_HEAD_MOST) return 0;
    while (name < len && data[name] != ':') name++;
    if (r->whole_head || name == len) return size * count; /* a trailer, or what is none */
    size_t value = name + 1;
    while (value < len && (data[value] == ' ' || data[value] == '\t')) value++;
    for (size_t i = 0; i < name; i++) neap_buf_addc(out, (char)tolower((unsigned char)data[i]));
    neap_buf_adds(out, ": ");
    neap_buf_add(out, data + value, len - value);
    neap_buf_addc(out, '\n');
    return size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *self) {
    neap_http_request *r = self;
    size_t len = size * count;
    neap_buf *out = &r->answer.body;
    if (r->on_head) {
        r->news = true;
        if (out->len + len > HTTP_STREAM_KEPT && out->len) {
            r->paused = true;
            return CURL_WRITEFUNC_PAUSE;
        }
    } else if (out->len + len > r->limit) {
        r->too_large = true;
        return 0;
    }
    neap_buf_add(out, data, len);
    return len;
}

static int before_sending(void *self, char *to, char *from, int to_port, int from_port) {
    neap_http_request *r = self;
    (void)from;
    (void)from_port;
    const char *otherwise = r->dialer ? r->dialer->label : r->unix_path;
    if (otherwise) snprintf(r->answer.address, sizeof r->answer.address, "%s", otherwise);
    else snprintf(r->answer.address, sizeof r->answer.address, strchr(to, ':') ? "[%s]:%d" : "%s:%d", to, to_port);
    r->answer.sent = true;
    return CURL_PREREQFUNC_OK;
}

static curl_socket_t open_socket(void *self, curlsocktype purpose, struct curl_sockaddr *a) {
    (void)self;
    (void)purpose;
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* What libcurl is told --------------------------------------------------------------------------- */

static bool is_harmless(const char *name) {
    static const char *const known[] = {"accept", "accept-language", "cache-control", "content-type", "user-agent", NULL};
    for (const char *const *k = known; *k; k++)
        if (strcasecmp(*k, name) == 0) return true;
    return false;
}

static bool has_header(const neap_http_request *r, const char *name) {
    for (const neap_http_header *h = r->headers; h->name; h++)
        if (strcasecmp(h->name, name) == 0) return true;
    return false;
}

static void set_headers(neap_http_request *r) {
    neap_buf line = NEAP_BUF_INIT;
    for (const neap_http_header *h = r->headers; h->name; h++) {
        if (r->strange && !is_harmless(h->name)) continue;
        neap_buf_clear(&line);
        neap_buf_addf(&line, *h->value ? "%s: %s" : "%s;", h->name, h->value);   /* libcurl spells an empty value so */
        r->lines = curl_slist_append(r->lines, line.data);
    }
    neap_buf_wipe(&line);
    r->lines = curl_slist_append(r->lines, "Expect:");
    if (r->body && !has_header(r, "content-type")) r->lines = curl_slist_append(r->lines, "Content-Type: text/plain; charset=utf-8");
    neap_curl_set_list(r->easy, CURLOPT_HTTPHEADER, r->lines);
}

static void set_method(neap_http_request *r) {
    if (strcmp(r->method, "GET") == 0 && !r->body) {
        neap_curl_set_long(r->easy, CURLOPT_HTTPGET, 1);
    } else if (strcmp(r->method, "HEAD") == 0) {
        neap_curl_set_long(r->easy, CURLOPT_NOBODY, 1);
    } else {
        if (r->body || strcmp(r->method, "DELETE") != 0) {
            neap_curl_set_size(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
            neap_curl_set_text(r->easy, CURLOPT_POSTFIELDS, r->body ? r->body : "");
        }
        neap_curl_set_text(r->easy, CURLOPT_CUSTOMREQUEST, r->method);
    }
}

static void set_trust(neap_http_request *r) {
    neap_curl_set_text(r->easy, CURLOPT_PROTOCOLS_STR, r->url.scheme);
    neap_curl_set_text(r->easy, CURLOPT_REDIR_PROTOCOLS_STR, r->url.scheme);
    neap_curl_set_long(r->easy, CURLOPT_FOLLOWLOCATION, 0);
    neap_curl_set_long(r->easy, CURLOPT_NETRC, CURL_NETRC_IGNORED);
    neap_curl_set_text(r->easy, CURLOPT_PROXY, r->proxy ? r->proxy : "");
    neap_curl_set_text(r->easy, CURLOPT_NOPROXY, "");
    neap_curl_set_long(r->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1);
    neap_curl_set_long(r->easy, CURLOPT_SSL_VERIFYPEER, 1);
    neap_curl_set_long(r->easy, CURLOPT_SSL_VERIFYHOST, 2);
    neap_curl_set_long(r->easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    if (r->ca) {                                         /* a small file, which may be another one the next time */
        neap_curl_set_text(r->easy, CURLOPT_CAINFO, r->ca);
        neap_curl_set_text(r->easy, CURLOPT_CAPATH, NULL);
        neap_curl_set_long(r->easy, CURLOPT_CA_CACHE_TIMEOUT, 0);
    }
    if (r->strange || !r->url.user) return;
    neap_curl_set_long(r->easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    neap_curl_set_text(r->easy, CURLOPT_USERNAME, r->url.user);
    neap_curl_set_text(r->easy, CURLOPT_PASSWORD, r->url.password ? r->url.password : "");
}

static void set_connection(neap_http_request *r) {
    neap_curl_set_long(r->easy, CURLOPT_NOSIGNAL, 1);
    neap_curl_set_long(r->easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    neap_curl_set_long(r->easy, CURLOPT_FRESH_CONNECT, 1);
    neap_curl_set_long(r->easy, CURLOPT_FORBID_REUSE, 1);
    if (!r->dialer && !r->unix_path) neap_curl_set_long(r->easy, CURLOPT_TCP_KEEPALIVE, 1);
    neap_curl_set_long(r->easy, CURLOPT_CONNECTTIMEOUT_MS, r->connect_ms > 0 ? (long)r->connect_ms : 15000);
    if (r->on_head) {                                    /* a stream has no deadline of its own, but it may not stand still */
        neap_curl_set_long(r->easy, CURLOPT_LOW_SPEED_LIMIT, 1);
        neap_curl_set_long(r->easy, CURLOPT_LOW_SPEED_TIME, 60);
    } else if (strcmp(r->method, "HEAD") != 0) {
        neap_curl_set_size(r->easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)r->limit);
    }
    if (r->addresses) neap_curl_set_list(r->easy, CURLOPT_RESOLVE, r->addresses);
    if (r->dialer) neap_curl_set_text(r->easy, CURLOPT_ABSTRACT_UNIX_SOCKET, r->bridge_name);
    else if (r->unix_path) neap_curl_set_text(r->easy, CURLOPT_UNIX_SOCKET_PATH, r->unix_path);
    neap_curl_on_open(r->easy, open_socket);
    neap_curl_set_data(r->easy, CURLOPT_OPENSOCKETDATA, r);
    neap_curl_on_close(r->easy, http_close_socket);
    neap_curl_set_data(r->easy, CURLOPT_CLOSESOCKETDATA, r->http);
}

void http_configure(neap_http_request *r) {
    r->easy = curl_easy_init();
    neap_curl_set_data(r->easy, CURLOPT_PRIVATE, r);
    neap_curl_set_text(r->easy, CURLOPT_URL, r->url.plain);
    neap_curl_set_data(r->easy, CURLOPT_ERRORBUFFER, r->words);
    neap_curl_set_text(r->easy, CURLOPT_USERAGENT, "neap/" NEAP_VERSION);
    neap_curl_on_bytes(r->easy, CURLOPT_HEADERFUNCTION, on_head);
    neap_curl_set_data(r->easy, CURLOPT_HEADERDATA, r);
    neap_curl_on_bytes(r->easy, CURLOPT_WRITEFUNCTION, on_body);
    neap_curl_set_data(r->easy, CURLOPT_WRITEDATA, r);
    neap_curl_before(r->easy, before_sending);
    neap_curl_set_data(r->easy, CURLOPT_PREREQDATA, r);
    set_connection(r);
    set_trust(r);
    set_method(r);
    set_headers(r);
}
