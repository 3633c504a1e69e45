/* dial.h -- a way to reach somebody. Each dial gives one byte stream; who needs a connection is handed a dialer and does not know
 * whether a socket, TLS, an SSH channel or a remote program lies beneath.
 *
 *     dial ──► done(stream, NULL)      the stream is the receiver's
 *          └─► done(NULL, err)         refused, timed out, closed
 *          └─► cancel                  nobody is called any more
 *
 * A dialer is counted, not owned: a connection that needs to dial again holds it. `done` comes from the loop, never inside
 * `dial`. A dial has no deadline of its own; whoever waits has one, and cancels.
 *
 * Rejected: a descriptor as the common coin. TLS, an SSH channel and COPY have none, and a socketpair before each of them
 * copies every byte twice. */
#ifndef NEAP_LOOP_DIAL_H
#define NEAP_LOOP_DIAL_H

#include "loop/stream.h"

typedef struct neap_dialer neap_dialer;
typedef struct neap_dialing neap_dialing;          /* one dial under way */
typedef void (*neap_dial_fn)(void *arg, neap_stream *stream, const neap_err *err);

typedef struct neap_dialer_class {
    const char *name;                              /* "tcp", "unix", "tls", "ssh", "command" */
    neap_dialing *(*dial)(neap_dialer *d, neap_dial_fn done, void *arg);
    void (*cancel)(neap_dialing *p);               /* before `done` only */
    void (*free)(neap_dialer *d);                  /* the last hold was released */
} neap_dialer_class;

struct neap_dialer {
    const neap_dialer_class *class;
    neap_loop *loop;
    int holds;
    char *label;                                   /* "127.0.0.1:6379", "hermes, 10.0.3.4:5432"; for errors and cards; freed by `free` */
};

struct neap_dialing { const neap_dialer_class *class; };

static inline neap_dialing *neap_dial(neap_dialer *d, neap_dial_fn done, void *arg) { return d->class->dial(d, done, arg); }
static inline void neap_dial_cancel(neap_dialing *p) { p->class->cancel(p); }
static inline neap_dialer *neap_dialer_hold(neap_dialer *d) { d->holds++; return d; }
static inline void neap_dialer_release(neap_dialer *d) { if (d && --d->holds == 0) d->class->free(d); }

#endif
