/* http1_parse.h -- the answer of an HTTP/1.1 server, taken apart as its bytes come. No socket, no memory beyond the head: whoever
 * has bytes offers them and is told what they were.
 *
 *     while ((n = neap_http1_step(&p, data, len, &event)) …) by event:
 *        MORE    everything offered was taken and nothing is complete; offer more
 *        HEAD    status and headers are there (once)
 *        BODY    p.body, p.body_len: some bytes of the body, inside what was offered
 *        END     the message is complete; what was not taken belongs to somebody else
 *        UPGRADED as END, after a 101: what follows is not HTTP any more
 *        BAD     not HTTP, or beyond a limit; p.why says what
 *
 * Limits: 64 KiB of head, 100 headers, 1 KiB for the line of a chunk, 16 KiB of trailers. A 1xx answer other than 101 is passed over.
 *
 * A server that says two things about the length of one body is BAD rather than believed (RFC 9112, 6.3): between two readers of
 * such a message lies request smuggling. Chunked counts as chunked only when it is the last and only coding. */
#ifndef NEAP_DRIVE_HTTP1_PARSE_H
#define NEAP_DRIVE_HTTP1_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

enum { NEAP_HTTP1_HEAD = 64 * 1024, NEAP_HTTP1_HEADERS = 100, NEAP_HTTP1_CHUNK_LINE = 1024, NEAP_HTTP1_TRAILERS = 16 * 1024 };

typedef enum { NEAP_HTTP1_MORE, NEAP_HTTP1_GOT_HEAD, NEAP_HTTP1_BODY, NEAP_HTTP1_END, NEAP_HTTP1_UPGRADED, NEAP_HTTP1_BAD } neap_http1_event;

/* How long the body is, by the head. */
typedef enum { NEAP_HTTP1_NONE, NEAP_HTTP1_LENGTH, NEAP_HTTP1_CHUNKED, NEAP_HTTP1_UNTIL_CLOSE } neap_http1_length;

typedef struct neap_http1_parse {
    int status;                                 /* 0 before the head is there */
    int minor;                                  /* HTTP/1.minor */
    neap_http1_length length;
    const char *body;                           /* of the last BODY event */
    size_t body_len;
    const char *why;                            /* of BAD: a sentence without a full stop */
    bool close;                                 /* the server will close after this message */

    /* the rest is the parser's own */
    bool bodiless;                              /* the answer to a HEAD */
    int state;
    uint64_t left;                              /* of the body, or of the chunk */
    size_t trailers;
    neap_buf head, line;
    int header_count;
    struct { size_t name, name_len, value, value_len; } headers[NEAP_HTTP1_HEADERS];
} neap_http1_parse;

/* `bodiless`: the request was a HEAD. */
void neap_http1_parse_init(neap_http1_parse *p, bool bodiless);
void neap_http1_parse_close(neap_http1_parse *p);

/* How many of the bytes were taken. Ask again with the rest after HEAD and BODY, with more after MORE, no more after the others. */
size_t neap_http1_step(neap_http1_parse *p, const char *data, size_t len, neap_http1_event *event);

/* The server closed: END when that is how the body ends, BAD when something is missing. */
neap_http1_event neap_http1_step_end(neap_http1_parse *p);

/* The first header of this name (case does not matter): its value without surrounding blanks, len bytes; NULL when there is none. */
const char *neap_http1_header(const neap_http1_parse *p, const char *name, size_t *len);

#endif
