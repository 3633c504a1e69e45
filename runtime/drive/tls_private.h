/* tls_private.h -- shared by tls_trust.c (settings, and what is wrong with a certificate) and tls.c (the stream). */
#ifndef NEAP_DRIVE_TLS_PRIVATE_H
#define NEAP_DRIVE_TLS_PRIVATE_H

#include <openssl/ssl.h>
#include "drive/tls.h"

struct neap_tls {
    SSL_CTX *context;
    char *name;                    /* NULL: nobody asked for one */
    bool lax;
    int holds;
};

/* What became of a certificate: the first flaw that was found (empty: none). */
typedef struct neap_tls_verdict { neap_tls *tls; neap_err flaw; } neap_tls_verdict;

/* A new session of verdict->tls, which will say whom it wants to talk to. The verdict must live as long. NULL: no memory. */
SSL *neap_tls_session(neap_tls_verdict *verdict);
/* What OpenSSL's queue of errors (empty afterwards) and the verdict say about a session that failed. */
void neap_tls_explain(neap_tls_verdict *verdict, neap_err *err);

#endif
