/* tls.h -- TLS as a client, over any byte stream.
 *
 * The chain and the name are verified unless the settings say otherwise; an error names the certificate and what is wrong with it.
 * Half-closing sends close_notify and nothing else; a far end that goes without its own close_notify was cut off, which is an error
 * and not an end.
 *
 * `shut` is done when the stream below took our close_notify. Who must know that the far end has everything reads on until its end,
 * before the stream is freed: a server may still send something unasked (session tickets), and a kernel that gets bytes for a
 * socket which was closed gives up what that socket had yet to send. */
#ifndef NEAP_DRIVE_TLS_H
#define NEAP_DRIVE_TLS_H

#include "loop/dial.h"

typedef struct neap_tls_options {
    const char *name;              /* host name or number to be proven; NULL only with `lax` */
    const char *ca;                /* PEM file of the authorities that are trusted instead of the system's; NULL: the system's */
    const char *cert, *key;        /* the client's own, PEM, key without passphrase; `key` NULL: in the file of `cert` */
    bool lax;                      /* encrypt, but believe whoever answers */
} neap_tls_options;

/* Settings that many connections share; counted. NULL and err (CONFIG) when a file cannot be used. */
typedef struct neap_tls neap_tls;
neap_tls *neap_tls_new(const neap_tls_options *o, neap_err *err);
neap_tls *neap_tls_hold(neap_tls *t);
void neap_tls_release(neap_tls *t);

/* Shake hands over `below`, which belongs to the result from now on. As a dial: `done` comes from the loop. Holds the settings. */
neap_dialing *neap_tls_open(neap_tls *t, neap_loop *loop, neap_stream *below, neap_dial_fn done, void *arg);
void neap_tls_cancel(neap_dialing *p);

/* A dialer that does so over each stream of another. Holds both. */
neap_dialer *neap_dialer_tls(neap_dialer *below, neap_tls *t);

#endif
