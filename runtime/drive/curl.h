/* curl.h -- libcurl with the types of each option spelled out, so that it can be loaded when it is first used. */
#ifndef NEAP_DRIVE_CURL_H
#define NEAP_DRIVE_CURL_H

#include <stdbool.h>
#include <curl/curl.h>

typedef int (*neap_curl_socket_fn)(CURL *easy, curl_socket_t fd, int what, void *self, void *slot);
typedef int (*neap_curl_timer_fn)(CURLM *multi, long ms, void *self);
typedef size_t (*neap_curl_bytes_fn)(char *data, size_t size, size_t count, void *self);
typedef curl_socket_t (*neap_curl_open_fn)(void *self, curlsocktype purpose, struct curl_sockaddr *address);
typedef int (*neap_curl_close_fn)(void *self, curl_socket_t fd);
typedef int (*neap_curl_before_fn)(void *self, char *to, char *from, int to_port, int from_port);

void neap_curl_set_long(CURL *easy, CURLoption option, long value);
void neap_curl_set_size(CURL *easy, CURLoption option, curl_off_t value);
void neap_curl_set_text(CURL *easy, CURLoption option, const char *value);
void neap_curl_set_data(CURL *easy, CURLoption option, void *value);
void neap_curl_set_list(CURL *easy, CURLoption option, struct curl_slist *value);
void neap_curl_on_bytes(CURL *easy, CURLoption option, neap_curl_bytes_fn fn);
void neap_curl_on_open(CURL *easy, neap_curl_open_fn fn);
void neap_curl_on_close(CURL *easy, neap_curl_close_fn fn);
void neap_curl_before(CURL *easy, neap_curl_before_fn fn);
void neap_curl_on_socket(CURLM *multi, neap_curl_socket_fn fn, void *self);
void neap_curl_on_timer(CURLM *multi, neap_curl_timer_fn fn, void *self);
long neap_curl_get_long(CURL *easy, CURLINFO info);
char *neap_curl_get_text(CURL *easy, CURLINFO info);      /* borrowed; NULL when there is none */
void *neap_curl_get_data(CURL *easy, CURLINFO info);
CURLUcode neap_curl_url_get(CURLU *url, CURLUPart what, char **part, unsigned int flags);

#endif
