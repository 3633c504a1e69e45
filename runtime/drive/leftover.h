/* leftover.h -- directories of sockets that a neap which was killed has left: tunnels (tunnel.h) and control sockets of ssh
 * (ssh_program.h), all "neap.XXXXXX", 0700, in TMPDIR, XDG_RUNTIME_DIR or /tmp. */
#ifndef NEAP_DRIVE_LEFTOVER_H
#define NEAP_DRIVE_LEFTOVER_H

#include <stdbool.h>

/* Called for each; with `remove` it is gone by then. */
typedef void (*neap_leftover_fn)(void *arg, const char *path);
void neap_leftovers(bool remove, neap_leftover_fn fn, void *arg);

#endif
