/* ssh_link.h -- one host for as long as a run needs it: its connection, opened when first needed, opened again when it was lost.
 *
 *     CLOSED --open--> OPENING ──► OPEN --lost--> CLOSED …      close is final
 *
 * Counted: sessions, dialers and jobs hold it. */
#ifndef NEAP_DRIVE_SSH_LINK_H
#define NEAP_DRIVE_SSH_LINK_H

#include "drive/remote_script.h"
#include "drive/ssh.h"

typedef struct neap_ssh_link neap_ssh_link;
typedef struct neap_ssh_wait neap_ssh_wait;
typedef neap_ssh *(*neap_ssh_open_fn)(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg);
typedef void (*neap_ssh_link_fn)(void *arg, neap_ssh *ssh, const neap_err *err);       /* once, from the loop */

/* The back ends to try, in this order; the second is asked only when the first says UNSUPPORTED. `second` may be NULL. */
typedef struct neap_ssh_backends { neap_ssh_open_fn first, second; } neap_ssh_backends;

/* One hold, the caller's. The host is taken. */
neap_ssh_link *neap_ssh_link_new(neap_loop *loop, neap_ssh_host *host, const neap_ssh_backends *backends);
neap_ssh_link *neap_ssh_link_hold(neap_ssh_link *l);
void neap_ssh_link_release(neap_ssh_link *l);
/* Give up the connection for good: whoever waits or dials is told CLOSED. */
void neap_ssh_link_close(neap_ssh_link *l);

/* The connection; NULL when there is none now. */
neap_ssh *neap_ssh_link_now(const neap_ssh_link *l);
/* Have it opened (or take the one that is open). */
neap_ssh_wait *neap_ssh_link_open(neap_ssh_link *l, neap_ssh_link_fn done, void *arg);
void neap_ssh_link_forgo(neap_ssh_wait *w);                    /* before `done` only */

/* What a command told of the shell there; forgotten with the connection. */
void neap_ssh_link_learn(neap_ssh_link *l, neap_remote_shell shell);
neap_remote_shell neap_ssh_link_shell(const neap_ssh_link *l);

/* What was learnt when it was last open; NULL before. Texts belong to the link. */
const neap_ssh_card *neap_ssh_link_card(const neap_ssh_link *l);
/* Why the first back end could not do it, or NULL. */
const char *neap_ssh_link_why(const neap_ssh_link *l);
const neap_ssh_host *neap_ssh_link_host(const neap_ssh_link *l);
neap_loop *neap_ssh_link_loop(const neap_ssh_link *l);

/* The host beside: another connection to the same host by these back ends, for what moves many bytes. Made once; lives as long as the link. */
neap_ssh_link *neap_ssh_link_beside(neap_ssh_link *l, const neap_ssh_backends *backends);

/* The same by its own back ends, for what cannot wait for room in the first: it must show the host key that the first has seen. */
neap_ssh_link *neap_ssh_link_aside(neap_ssh_link *l);

/* From the host to somewhere else, over whichever connection is open then. The dialer holds the link. */
neap_dialer *neap_ssh_link_dial_tcp(neap_ssh_link *l, const char *host, int port);
neap_dialer *neap_ssh_link_dial_unix(neap_ssh_link *l, const char *path);
/* To the Engine of the host, through its docker program (ssh_stdio.c). `sudo` as in neap_remote_command. */
neap_dialer *neap_ssh_link_dial_docker(neap_ssh_link *l, const char *sudo);

#endif
