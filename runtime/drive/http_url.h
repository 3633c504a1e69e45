/* http_url.h -- http and https URLs taken apart. */
#ifndef NEAP_DRIVE_HTTP_URL_H
#define NEAP_DRIVE_HTTP_URL_H

#include <stdbool.h>
#include "base/buf.h"
#include "base/err.h"

typedef struct neap_http_url {
    char *scheme, *host, *port;   /* "https", "example.org" or "[::1]", "443" (filled in where the URL has none) */
    char *path, *query;           /* "/a/b"; "a=b", NULL without one */
    char *user, *password;        /* decoded; NULL without one */
    char *plain;                  /* the whole without user, password and fragment: what is connected to */
    bool  usual;                  /* the port is the scheme's own */
} neap_http_url;

/* Only "http://" and "https://", said in full. False and USAGE. The text itself is not in the message: it may hold a secret. */
bool neap_http_url_parse(const char *text, neap_http_url *url, neap_err *err);
/* Overwrites what it frees. */
void neap_http_url_close(neap_http_url *url);

/* "https://example.org:8443"; the port only where it is not the usual one. */
void neap_http_url_origin(const neap_http_url *url, neap_buf *out);
/* The origin, the path and the names of the query; values whose names sound like secrets are left out. */
void neap_http_url_shown(const neap_http_url *url, neap_buf *out);
bool neap_http_url_is_same_origin(const neap_http_url *a, const neap_http_url *b);

#endif
