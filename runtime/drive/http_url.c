/* http_url.c -- URLs, by libcurl's own parser: what is shown, allowed and connected to is then the same host. A parser of our own
 * beside it would disagree one day, and the difference is where attacks live.
 *
 * A host that is not ASCII is refused: what a reader of the plan sees could be another one than what is asked. */
#include "drive/http_url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "drive/curl.h"

static char *part_of(CURLU *parser, CURLUPart part, unsigned flags) {
    char *found = NULL, *copy = NULL;
    if (neap_curl_url_get(parser, part, &found, flags) == CURLUE_OK && found) copy = neap_strdup(found);
    if (found) explicit_bzero(found, strlen(found));
    curl_free(found);
    return copy;
}

static bool is_ascii(const char *text) {
    for (; *text; text++)
        if (*text <= ' ' || *text > '~') return false;
    return true;
}

static bool refuse(neap_err *err, const char *why) {
    neap_err_set(err, NEAP_E_USAGE, "this is no URL that can be asked: %s", why);
    return neap_err_hint(err, "A URL is written in full: https://example.org/path, or http:// where nothing secret travels.");
}

static const char *fault_of(const neap_http_url *url) {
    if (!url->scheme || (strcmp(url->scheme, "https") != 0 && strcmp(url->scheme, "http") != 0)) return "it is neither https nor http";
    if (!url->host || !*url->host) return "it names no host";
    if (!is_ascii(url->host)) return "its host has letters that are not ASCII; write it as xn--…";
    if (!url->plain || !is_ascii(url->plain)) return "it has spaces or letters that are not ASCII; write them as %20…";
    return NULL;
}

bool neap_http_url_parse(const char *text, neap_http_url *url, neap_err *err) {
    *url = (neap_http_url){0};
    CURLU *parser = curl_url();
    bool parsed = parser && curl_url_set(parser, CURLUPART_URL, text, 0) == CURLUE_OK;
    if (parsed) {
        url->scheme = part_of(parser, CURLUPART_SCHEME, 0);
        url->host = part_of(parser, CURLUPART_HOST, 0);
        char *given = part_of(parser, CURLUPART_PORT, 0);
        url->port = part_of(parser, CURLUPART_PORT, CURLU_DEFAULT_PORT);
        url->path = part_of(parser, CURLUPART_PATH, 0);
        url->query = part_of(parser, CURLUPART_QUERY, 0);
        url->user = part_of(parser, CURLUPART_USER, CURLU_URLDECODE);
        url->password = part_of(parser, CURLUPART_PASSWORD, CURLU_URLDECODE);
        const char *usual = url->scheme && strcmp(url->scheme, "http") == 0 ? "80" : "443";
        url->usual = !given || strcmp(given, usual) == 0;
        free(given);
        curl_url_set(parser, CURLUPART_USER, NULL, 0);
        curl_url_set(parser, CURLUPART_PASSWORD, NULL, 0);
        curl_url_set(parser, CURLUPART_FRAGMENT, NULL, 0);
        url->plain = part_of(parser, CURLUPART_URL, 0);
    }
    curl_url_cleanup(parser);
    const char *fault = parsed ? fault_of(url) : "it cannot be read";
    if (!fault) return true;
    neap_http_url_close(url);
    return refuse(err, fault);
}

static void wipe(char *text) {
    if (text) explicit_bzero(text, strlen(text));
    free(text);
}

void neap_http_url_close(neap_http_url *url) {
    wipe(url->scheme);
    wipe(url->host);
    wipe(url->port);
    wipe(url->path);
    wipe(url->query);
    wipe(url->user);
    wipe(url->password);
    wipe(url->plain);
    *url = (neap_http_url){0};
}

/* Shown ------------------------------------------------------------------------------------------ */

void neap_http_url_origin(const neap_http_url *url, neap_buf *out) {
    neap_buf_addf(out, "%s://%s", url->scheme, url->host);
    if (!url->usual) neap_buf_addf(out, ":%s", url->port);
}

static bool sounds_secret(const char *name, size_t len) {
    static const char *const words[] = {"token", "key", "secret", "password", "passwd", "sig", "auth", "access", "code", "credential", NULL};
    for (const char *const *word = words; *word; word++)
        for (size_t i = 0; i + strlen(*word) <= len; i++)
            if (strncasecmp(name + i, *word, strlen(*word)) == 0) return true;
    return false;
}

void neap_http_url_shown(const neap_http_url *url, neap_buf *out) {
    neap_http_url_origin(url, out);
    neap_buf_adds(out, url->path ? url->path : "/");
    for (const char *at = url->query; at && *at; ) {
        size_t len = strcspn(at, "&"), name = strcspn(at, "=&");
        neap_buf_addc(out, at == url->query ? '?' : '&');
        if (name < len && sounds_secret(at, name)) neap_buf_add(out, at, name + 1), neap_buf_adds(out, "…");
        else neap_buf_add(out, at, len);
        at += len + (at[len] == '&');
    }
}

bool neap_http_url_is_same_origin(const neap_http_url *a, const neap_http_url *b) {
    return strcmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 && strcmp(a->port, b->port) == 0;
}
