/* remote_job.h -- a command that outlives its connection, followed to its end over as many connections as it takes.
 *
 *     STARTING ⇄ FOLLOWING ──► ENDED        a lost connection: opened again with growing pauses, and followed on
 *        └ end ─► ENDING ─────────┘
 *
 * It is begun once, whatever is lost: its name is a directory that only one launch can make. */
#ifndef NEAP_DRIVE_REMOTE_JOB_H
#define NEAP_DRIVE_REMOTE_JOB_H

#include "drive/remote.h"
#include "drive/ssh_link.h"

typedef struct neap_remote_job neap_remote_job;
typedef struct neap_remote_job_events {
    void (*on_started)(void *arg, long long pid, long long started);
    void (*on_output)(void *arg, int n, const char *data, size_t len);    /* of stream n: 1 or 2 */
    void (*on_skipped)(void *arg, int n, long long bytes);                 /* passed over: only the last of much is told */
    void (*on_lost)(void *arg, const neap_err *err);                       /* the connection was; may be NULL */
    void (*on_ended)(void *arg, const neap_remote_end *end, const neap_err *err);
} neap_remote_job_events;

/* The command, its texts and `input` (its stdin, NULL: none) must live as long as the job; holds nothing else. `patience_ms`: how long to try
 * to reach the host again. */
typedef struct neap_remote_job_options {
    const neap_remote_command *command;
    const char *name;
    const char *input;
    size_t input_len;
    neap_remote_names names;
    int64_t patience_ms;
} neap_remote_job_options;

neap_remote_job *neap_remote_job_new(neap_ssh_link *link, const neap_remote_job_options *o, const neap_remote_job_events *events, void *arg);
/* End it and everything of its group: TERM, the grace, KILL. on_ended comes when that is seen, or cannot be. */
void neap_remote_job_end(neap_remote_job *j, int grace_s);
/* Was it begun by us or may it have been? */
bool neap_remote_job_is_launched(const neap_remote_job *j);
/* Never calls back; the job goes on. NULL allowed. */
void neap_remote_job_free(neap_remote_job *j);

/* One talk about a job or a group, opening the connection when there is none. The text is taken. `urgent`: over a second connection when the first has
 * no room. */
typedef struct neap_remote_ask neap_remote_ask;
neap_remote_ask *neap_remote_ask_new(neap_ssh_link *link, neap_remote_text *text, bool urgent, const neap_remote_names *names,
                                     neap_remote_talk_fn done, void *arg);
void neap_remote_ask_free(neap_remote_ask *a);                             /* NULL allowed */

#endif
