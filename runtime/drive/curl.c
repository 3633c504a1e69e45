/* curl.c -- libcurl, loaded when it is first used (base/forward.h).
 *
 * It brings some thirty libraries (HTTP/2, LDAP, Kerberos, librtmp) into a process that mostly asks nobody by HTTP. Its functions with
 * `...` cannot be forwarded as they are; each use of theirs has a name and types here, which the compiler checks. */
#define CURL_DISABLE_TYPECHECK
#include "drive/curl.h"

#include "base/forward.h"

#define LIBRARY "libcurl.so.4"

FORWARD(CURLcode, curl_global_init, (long flags), (flags))
FORWARD_VOID(curl_free, (void *p), (p))
FORWARD(CURL *, curl_easy_init, (void), ())
FORWARD_VOID(curl_easy_cleanup, (CURL *curl), (curl))
FORWARD_VOID(curl_easy_reset, (CURL *curl), (curl))
FORWARD(CURLcode, curl_easy_pause, (CURL *handle, int bitmask), (handle, bitmask))
FORWARD(const char *, curl_easy_strerror, (CURLcode code), (code))
FORWARD(CURLM *, curl_multi_init, (void), ())
FORWARD(CURLMcode, curl_multi_cleanup, (CURLM *multi), (multi))
FORWARD(CURLMcode, curl_multi_add_handle, (CURLM *multi, CURL *easy), (multi, easy))
FORWARD(CURLMcode, curl_multi_remove_handle, (CURLM *multi, CURL *easy), (multi, easy))
FORWARD(CURLMcode, curl_multi_socket_action, (CURLM *multi, curl_socket_t s, int mask, int *running), (multi, s, mask, running))
FORWARD(CURLMsg *, curl_multi_info_read, (CURLM *multi, int *left), (multi, left))
FORWARD(struct curl_slist *, curl_slist_append, (struct curl_slist *list, const char *text), (list, text))
FORWARD_VOID(curl_slist_free_all, (struct curl_slist *list), (list))
FORWARD(CURLU *, curl_url, (void), ())
FORWARD_VOID(curl_url_cleanup, (CURLU *handle), (handle))
FORWARD(CURLUcode, curl_url_set, (CURLU *handle, CURLUPart what, const char *part, unsigned int flags), (handle, what, part, flags))

/* Its first parameter is const in some versions. */
CURLUcode neap_curl_url_get(CURLU *url, CURLUPart what, char **part, unsigned int flags) {
    NEAP_FORWARD_NAMESAKE(curl_url_get);
    return namesake(url, what, part, flags);
}

#define SETTER(name, type)                                                                \
    void name(CURL *easy, CURLoption option, type value) {                                \
        NEAP_FORWARD_NAMESAKE(curl_easy_setopt);                                          \
        namesake(easy, option, value);                                                    \
    }
SETTER(neap_curl_set_long, long)
SETTER(neap_curl_set_size, curl_off_t)
SETTER(neap_curl_set_text, const char *)
SETTER(neap_curl_set_data, void *)
SETTER(neap_curl_set_list, struct curl_slist *)
SETTER(neap_curl_on_bytes, neap_curl_bytes_fn)

#define CALLBACK(name, type, option)                                                      \
    void name(CURL *easy, type fn) {                                                      \
        NEAP_FORWARD_NAMESAKE(curl_easy_setopt);                                          \
        namesake(easy, option, fn);                                                       \
    }
CALLBACK(neap_curl_on_open, neap_curl_open_fn, CURLOPT_OPENSOCKETFUNCTION)
CALLBACK(neap_curl_on_close, neap_curl_close_fn, CURLOPT_CLOSESOCKETFUNCTION)
CALLBACK(neap_curl_before, neap_curl_before_fn, CURLOPT_PREREQFUNCTION)

void neap_curl_on_socket(CURLM *multi, neap_curl_socket_fn fn, void *self) {
    NEAP_FORWARD_NAMESAKE(curl_multi_setopt);
    namesake(multi, CURLMOPT_SOCKETFUNCTION, fn);
    namesake(multi, CURLMOPT_SOCKETDATA, self);
}

void neap_curl_on_timer(CURLM *multi, neap_curl_timer_fn fn, void *self) {
    NEAP_FORWARD_NAMESAKE(curl_multi_setopt);
    namesake(multi, CURLMOPT_TIMERFUNCTION, fn);
    namesake(multi, CURLMOPT_TIMERDATA, self);
}

#define GETTER(name, type)                                                                \
    type name(CURL *easy, CURLINFO info) {                                                \
        NEAP_FORWARD_NAMESAKE(curl_easy_getinfo);                                         \
        type value = 0;                                                                   \
        namesake(easy, info, &value);                                                     \
        return value;                                                                     \
    }
GETTER(neap_curl_get_long, long)
GETTER(neap_curl_get_text, char *)
GETTER(neap_curl_get_data, void *)
