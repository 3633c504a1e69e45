/* net.h -- sockets: reaching a TCP port or a unix socket, and listening on a unix socket. Dialers over them are in dial.h's sense;
 * drivers that need the descriptor itself (libssh2) take it here.
 *
 * Every TCP connection has TCP_NODELAY, keepalive (after 10 s, every 5 s, 3 times) and TCP_USER_TIMEOUT 20 s (alive.h): a peer that vanished is
 * noticed within 30 s, busy or idle. */
#ifndef NEAP_LOOP_NET_H
#define NEAP_LOOP_NET_H

#include <sys/un.h>
#include "loop/dial.h"

enum { NEAP_NET_PORT_MOST = 65535 };

typedef enum { NEAP_NET_ANY, NEAP_NET_INET, NEAP_NET_INET6 } neap_net_family;
/* Where to, and with which restrictions. Texts are copied. */
typedef struct neap_net_place {
    const char *host;              /* a name or a number, IPv6 without brackets */
    int port;
    neap_net_family family;
    const char *from;              /* numeric address to bind to, or NULL */
} neap_net_place;

/* Connect to a TCP port: the name is looked up off the loop, all of its addresses are tried, the families by turns, the next one as
 * soon as one refuses or has not answered for 250 ms; the first that answers is kept. `done` gets a connected, non-blocking
 * descriptor, or -1 and err; always from the loop. No deadline: cancel. */
typedef struct neap_connecting neap_connecting;
typedef void (*neap_net_fn)(void *arg, int fd, const neap_err *err);
neap_connecting *neap_net_connect(neap_loop *loop, const neap_net_place *place, neap_net_fn done, void *arg);
void neap_net_cancel(neap_connecting *c);                 /* before `done` only */

/* "127.0.0.1:6379", "[::1]:6379" of the far end of a connected socket; false when it has none. */
enum { NEAP_NET_TEXT_SIZE = 64 };
bool neap_net_peer(int fd, char out[NEAP_NET_TEXT_SIZE]);

/* Dialers, with one hold, which is the caller's. */
neap_dialer *neap_dialer_tcp(neap_loop *loop, const neap_net_place *place);
neap_dialer *neap_dialer_unix(neap_loop *loop, const char *path);
/* The host a dialer of neap_dialer_tcp goes to; NULL for every other kind. For TLS: the name to be proven. */
const char *neap_dialer_host(const neap_dialer *d);

/* A connected, non-blocking unix socket, at once; -1 and err (`retry` set: nobody accepts fast enough, ask again). A path may be longer
 * than the 107 bytes an address holds; its last name may not. */
int neap_unix_connect(const char *path, neap_err *err);
/* The address of a path, relative to its directory, which stays open as `dir` until the caller closes it. */
typedef struct neap_unix_place { int dir; struct sockaddr_un address; } neap_unix_place;
bool neap_unix_place_open(neap_unix_place *p, const char *path, neap_err *err);
/* The user at the other end of a unix socket. */
bool neap_unix_peer(int fd, uid_t *uid);

/* Listen on a new unix socket, mode 0600. Peers of other users are turned away before anybody hears of them. `accepted` owns the
 * stream. NULL and err when it cannot be made; a path that exists is not replaced. */
typedef struct neap_listener neap_listener;
typedef void (*neap_accept_fn)(void *arg, neap_stream *peer);
neap_listener *neap_listener_new(neap_loop *loop, const char *path, neap_accept_fn accepted, void *arg, neap_err *err);
void neap_listener_free(neap_listener *l);                /* removes the socket; NULL allowed; also from within `accepted` */

#endif
