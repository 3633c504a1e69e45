/* remote_attached.h -- a command on a host for as long as its connection lasts, from the opening of the connection to the end of its
 * process group.
 *
 *     OPENING ──► on_channel ──► on_started ──► on_begun ──► on_ended        on_ended comes once, in any case
 *                                    └ end ─► TERM, grace, KILL ─┘ */
#ifndef NEAP_DRIVE_REMOTE_ATTACHED_H
#define NEAP_DRIVE_REMOTE_ATTACHED_H

#include "drive/remote.h"
#include "drive/ssh_link.h"

typedef struct neap_attached neap_attached;
typedef struct neap_attached_events {
    void (*on_channel)(void *arg);                                         /* streams 1 and 2 are there */
    void (*on_started)(void *arg, long long pid, long long started);
    void (*on_begun)(void *arg);                                           /* stream 0 is there */
    void (*on_ended)(void *arg, const neap_remote_end *end, const neap_err *err);
} neap_attached_events;

/* The command, its texts and the names must live as long. Unless it `feeds`, its stdin is empty. */
neap_attached *neap_attached_new(neap_ssh_link *link, const neap_remote_command *command, bool feeds, const neap_remote_names *names,
                                 const neap_attached_events *events, void *arg);
neap_stream *neap_attached_stream(neap_attached *a, int n);                /* each once, the receiver's */
void neap_attached_release(neap_attached *a);                              /* of a held command: let it begin */
/* End its group; on_ended comes when that is seen, or cannot be. */
void neap_attached_end(neap_attached *a, int grace_s);
/* Never calls back. Does not end the command. NULL allowed. */
void neap_attached_free(neap_attached *a);

#endif
