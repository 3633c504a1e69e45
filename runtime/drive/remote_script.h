/* remote_script.h -- what is said to a remote shell, as text: the command line that is handed to SSH and the prologue that follows on
 * stdin. Pure: no loop, no connection. remote_script.c explains the words that come back. */
#ifndef NEAP_DRIVE_REMOTE_SCRIPT_H
#define NEAP_DRIVE_REMOTE_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

enum { NEAP_REMOTE_NONCE_SIZE = 33, NEAP_REMOTE_JOB_SIZE = 80 };

/* A command for another host. Lists are NULL-terminated; nothing is owned. */
typedef struct neap_remote_command {
    const char *const *argv;
    const char *const *env;          /* "NAME=value" added to what the far end has; NULL: nothing */
    const char *const *secrets;      /* the same, for values that must not stand in any argv: they travel by stdin */
    const char *cwd;                 /* NULL: where the login begins */
    const char *sudo;                /* NULL: no; "": as root; else as that user */
    bool holds;                      /* attached only: it waits for the line neap_remote_go makes before it begins */
    bool marks;                      /* attached only: its stdout has an end of its own (remote_output.h) */
} neap_remote_command;

/* What to send. `input` is secret where the command has secrets. */
typedef struct neap_remote_text {
    char nonce[NEAP_REMOTE_NONCE_SIZE];
    neap_buf line;                   /* for the remote shell */
    neap_buf input;                  /* the prologue: first bytes of stdin */
    bool holds;                      /* and the go line is to follow */
    bool marks;                      /* the outputs end where the command did */
    bool brief;                      /* the command is a child of the shell at the other end of the channel */
} neap_remote_text;

/* What is known of the shell at the other end of a channel. */
typedef enum {
    NEAP_SHELL_UNKNOWN,              /* or nothing that would help */
    NEAP_SHELL_LEADS,                /* it leads the process group of its channel */
    NEAP_SHELL_PLAIN                 /* and the login shell is one that reads no file of the user's before our line */
} neap_remote_shell;

/* The words that came back on stderr behind the nonce. */
typedef enum {
    NEAP_WORD_NONE, NEAP_WORD_STARTED, NEAP_WORD_ENDED, NEAP_WORD_REFUSED, NEAP_WORD_VOID, NEAP_WORD_HALF, NEAP_WORD_RUNNING,
    NEAP_WORD_GONE, NEAP_WORD_SKIPPED, NEAP_WORD_WHOLE, NEAP_WORD_BEGINS
} neap_remote_verb;
typedef struct neap_remote_word {
    neap_remote_verb verb;
    long long first, second;         /* pid and start time; exit status, and 1 when it is the program's own; bytes skipped */
    int stream;                      /* of SKIPPED: 1 or 2 */
    neap_remote_shell shell;         /* of STARTED, where it was asked for */
    char why[16];                    /* of REFUSED: "cd", "program", "cut", "state", "setsid" */
} neap_remote_word;

/* May a name stand in `env`? Letters, digits and _, no digit first, and not one of the script's own. */
bool neap_remote_is_name(const char *name);

/* Run it while the connection lasts. `looks`: and tell what the shell is. */
void neap_remote_attached(neap_remote_text *out, const neap_remote_command *c, bool looks);
/* The same with as few processes as can be, for a command without stdin that nobody holds; false, and nothing made, for one that
 * cannot be run so (secrets, sudo, long), or by a shell that we do not know. */
bool neap_remote_briefly(neap_remote_text *out, const neap_remote_command *c, neap_remote_shell shell);
/* Begin the job of this name, or follow it when it was begun, from these offsets of its outputs. Its stdin follows the prologue:
 * `input_len` bytes; -1: it has none; -2: it was begun for certain and is only followed. */
void neap_remote_launch(neap_remote_text *out, const neap_remote_command *c, const char *job, long long input_len, const long long told[2]);
/* End a process group: TERM, so many seconds, KILL; by pid and start time, or by the name of its job. */
void neap_remote_end_group(neap_remote_text *out, const char *sudo, long long pid, long long started, int grace_s);
void neap_remote_end_job(neap_remote_text *out, const char *sudo, const char *job, int grace_s);
/* The same for a brief command, by its pid and the nonce of its text. */
void neap_remote_end_brief(neap_remote_text *out, long long pid, const char *nonce, int grace_s);
/* What became of a job (or of a group), waiting so long for it. A job that nobody began can never begin afterwards. */
void neap_remote_ask_job(neap_remote_text *out, const char *sudo, const char *job, int64_t within_ms);
void neap_remote_ask_group(neap_remote_text *out, const char *sudo, long long pid, long long started, int64_t within_ms);
/* Remove what a job left; and what jobs of more than seven days ago left. */
void neap_remote_forget(neap_remote_text *out, const char *sudo, const char *job);

/* The line that lets a held command begin. */
void neap_remote_go(neap_buf *out, const neap_remote_text *text);
/* Read one word, without its nonce and line end. */
neap_remote_word neap_remote_read_word(const char *text, size_t len);
/* A new name for a job: what a person recognises (may be empty), then 64 random bits. */
void neap_remote_name_job(char out[NEAP_REMOTE_JOB_SIZE], const char *hint);
void neap_remote_text_close(neap_remote_text *t);

#endif
