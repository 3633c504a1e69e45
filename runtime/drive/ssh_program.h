/* ssh_program.h -- shared by the files of the second back end (ssh_program*.c), and by nobody else.
 *
 * words: what the master says on stderr at DEBUG1. Facts for the card come out of it, and why it could not connect. */
#ifndef NEAP_DRIVE_SSH_PROGRAM_H
#define NEAP_DRIVE_SSH_PROGRAM_H

#include "base/buf.h"
#include "base/list.h"
#include "drive/ssh.h"
#include "loop/child.h"
#include "loop/timer.h"

typedef struct neap_ssh_words {
    neap_buf line;                               /* the one that is not ended yet */
    neap_buf said;                               /* lines that are no debugging, the newest 4 KiB */
    neap_buf refused;                            /* why the newest channel could not be opened */
    char *banner, *version, *key_type, *fingerprint, *address, *method, *key;
    bool ready;                                  /* the connection is open and its socket listens */
} neap_ssh_words;

void neap_ssh_words_add(neap_ssh_words *w, const char *data, size_t len);
void neap_ssh_words_close(neap_ssh_words *w);
/* Why the program ended before it was ready. Returns false. */
bool neap_ssh_words_fail(const neap_ssh_words *w, const neap_ssh_host *host, neap_err *err);

typedef enum { NEAP_PROGRAM_QUEUED, NEAP_PROGRAM_OPENING, NEAP_PROGRAM_OPEN, NEAP_PROGRAM_LOST } neap_program_state;

/* The child that holds the connection. It outlives its owner by two seconds at most; its exit callback frees it. */
typedef struct neap_program_master { neap_child *child; struct neap_ssh_program *owner; } neap_program_master;

typedef struct neap_ssh_program {
    neap_ssh ssh;                                /* first */
    const neap_ssh_host *host;
    neap_program_state state;
    neap_ssh_opened_fn opened;
    neap_ssh_lost_fn on_lost;
    void *arg, *lost_arg;
    char *dir, *socket;                          /* private, 0700; the master's control socket in it */
    neap_program_master *master;
    neap_stream *stderr_of_master;
    neap_ssh_words words;
    neap_buf backend, authenticated, address;
    neap_ssh_card card;
    neap_list execs, dialers;                    /* what must hear of our end */
    neap_list node;                              /* in the queue of those that wait to open */
    int alive;                                   /* execs whose client runs */
    int serial;                                  /* names in dir */
    neap_timer *soon;                            /* what is told from the loop: a failure, the loss */
    neap_timer *late;                            /* opening takes too long */
    neap_err err;
} neap_ssh_program;

/* The words that begin every call of a client of the master, then `more`; argv is NULL-terminated and lives as long as p. */
enum { NEAP_PROGRAM_ARGS = 40 };
int neap_program_client(const neap_ssh_program *p, const char *argv[NEAP_PROGRAM_ARGS], const char *level);
char **neap_program_env(void);
void neap_program_env_free(char **env);
/* An exec's client has ended. */
void neap_program_client_ended(neap_ssh_program *p);

neap_ssh_exec *neap_program_exec(neap_ssh *s, const char *command, neap_ssh_end_fn ended, void *arg);
neap_stream *neap_program_exec_stream(neap_ssh_exec *e, int n);
void neap_program_exec_free(neap_ssh_exec *e);
void neap_program_execs_forget(neap_ssh_program *p);     /* the connection is freed */
neap_dialer *neap_program_dial_tcp(neap_ssh *s, const char *host, int port);
neap_dialer *neap_program_dial_unix(neap_ssh *s, const char *path);
void neap_program_dialers_forget(neap_ssh_program *p);

#endif
