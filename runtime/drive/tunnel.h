/* tunnel.h -- a unix socket in a private directory, each connection to which is dialed and pumped both ways. For who wants a
 * descriptor and speaks to nothing but sockets: libpq, and programs we start.
 *
 *     peer connects --> DIALING --> PUMPING --each end's end is passed on as a half-close, after both--> gone
 *                          \--refused: the peer is closed, and the reason kept
 *
 * The directory is new and 0700, the peer's user is checked besides. A connection may be idle for as long as it likes. */
#ifndef NEAP_DRIVE_TUNNEL_H
#define NEAP_DRIVE_TUNNEL_H

#include "loop/dial.h"

typedef struct neap_tunnel neap_tunnel;

/* Holds the dialer. `name` is that of the socket (".s.PGSQL.5432"). The directory is made below TMPDIR, XDG_RUNTIME_DIR or /tmp, the
 * first in which the whole path fits a socket's address. NULL and err. */
neap_tunnel *neap_tunnel_open(neap_dialer *d, const char *name, neap_err *err);
const char *neap_tunnel_dir(const neap_tunnel *t);
const char *neap_tunnel_path(const neap_tunnel *t);
/* Why the last dial failed; NULL when it did not. A later dial that succeeds makes it forgotten. */
const neap_err *neap_tunnel_failure(const neap_tunnel *t);
int neap_tunnel_count(const neap_tunnel *t);         /* connections now */
/* Every connection is closed, the socket and the directory are removed. NULL allowed. */
void neap_tunnel_free(neap_tunnel *t);

#endif
