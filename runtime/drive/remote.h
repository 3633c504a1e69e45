/* remote.h -- a command on another host while its connection lasts: neap_ssh's raw channel, with what the remote shell says of the
 * command told apart from what the command says.
 *
 *     NEW ──► on_started ──► on_begun ──► on_ended      on_ended comes once, also when it never began
 *                  └ held: neap_remote_release ┘
 *
 * A job that outlives the connection is remote_job.h. */
#ifndef NEAP_DRIVE_REMOTE_H
#define NEAP_DRIVE_REMOTE_H

#include "drive/remote_script.h"
#include "drive/ssh.h"

typedef enum {
    NEAP_REMOTE_EXITED,              /* by its own will: `status` */
    NEAP_REMOTE_SIGNALLED,           /* `status` is the signal */
    NEAP_REMOTE_NOT_BEGUN,           /* and `err` says why */
    NEAP_REMOTE_UNTOLD               /* it began, or may have begun, and nobody said how it ended; `err` says why */
} neap_remote_how;
typedef struct neap_remote_end { neap_remote_how how; int status; } neap_remote_end;
/* Between the word ENDED and what it says. */
neap_remote_end neap_remote_end_of(const neap_remote_word *ended);
neap_remote_word neap_remote_word_of(const neap_remote_end *end);
/* Does a word speak of the job, and not of the script that was to begin or follow it? */
bool neap_remote_is_about_job(const neap_remote_word *w);

typedef struct neap_remote neap_remote;
typedef struct neap_remote_events {
    void (*on_started)(void *arg, long long pid, long long started);           /* it exists; may be NULL */
    void (*on_shell)(void *arg, neap_remote_shell shell);                      /* what was asked of it; may be NULL */
    void (*on_begun)(void *arg);                                               /* it runs, and stream 0 may be taken; may be NULL */
    void (*on_word)(void *arg, const neap_remote_word *word);                  /* words but STARTED and ENDED; may be NULL */
    void (*on_ended)(void *arg, const neap_remote_end *end, const neap_err *err);
} neap_remote_events;

/* Say this to the remote shell. The text is taken (and empty afterwards). Unless it `feeds`, stdin ends behind the prologue. `place`
 * and `program` name host and program in errors, `sudo` as in neap_remote_command; `user` is who logs in, for a hint. The names
 * must live as long as the remote. */
typedef struct neap_remote_names { const char *place, *program, *cwd, *sudo, *user; } neap_remote_names;
neap_remote *neap_remote_new(neap_ssh *ssh, neap_remote_text *text, bool feeds, const neap_remote_names *names, const neap_remote_events *events, void *arg);

/* Streams 0 (to write; from on_begun on, NULL before and when it broke), 1 and 2 (to read), each once, the receiver's to free. Errors (2)
 * are read from the far end whether somebody takes them or not; the newest 64 KiB wait for who comes late. */
neap_stream *neap_remote_stream(neap_remote *r, int n);
/* Of a held command: let it begin. */
void neap_remote_release(neap_remote *r);
/* Close the channel and never call back. Does not end the command. Streams that were handed out stay valid and say "closed". */
void neap_remote_free(neap_remote *r);

/* A short talk without streams of its own (end, ask, forget): one word is the answer. */
typedef struct neap_remote_talk neap_remote_talk;
typedef void (*neap_remote_talk_fn)(void *arg, const neap_remote_word *word, const neap_err *err);      /* once; err or word */
neap_remote_talk *neap_remote_talk_new(neap_ssh *ssh, neap_remote_text *text, const neap_remote_names *names, neap_remote_talk_fn done, void *arg);
void neap_remote_talk_free(neap_remote_talk *t);                               /* NULL allowed */

#endif
