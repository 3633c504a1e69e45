/* ssh.h -- one connection to one host, whichever back end speaks: libssh2 on the loop (ssh_native*.c), or the ssh program
 * (ssh_program.c) for what libssh2 cannot. Callers see neither.
 *
 *     OPENING ──► OPEN ──► LOST      LOST is final; every channel is told, then on_lost
 *        └──────────────────► (opened(err)) final too
 *
 * What happens here is raw: bytes of a channel, and what the far end said of its exit. An exit status of 0 proves nothing (libssh2
 * gives 0 before any status came, after a signal and after a lost connection): remote.h wraps each command so that success is a
 * received token. */
#ifndef NEAP_DRIVE_SSH_H
#define NEAP_DRIVE_SSH_H

#include <stdbool.h>
#include "base/err.h"
#include "loop/dial.h"
#include "loop/stream.h"

/* A host as the user's own ssh knows it: `ssh -G NAME`, parsed by ssh_config.c. Lists are NULL-terminated; everything is owned. */
typedef struct neap_ssh_host neap_ssh_host;
struct neap_ssh_host {
    char *name;                     /* as it was asked for: "hermes" */
    char *hostname, *user;
    int port;
    char *key_alias;                /* HostKeyAlias, or NULL */
    char *agent;                    /* path of the agent's socket; NULL: none */
    char **identities;              /* key files that exist, in order */
    bool identities_only;
    char **certificates;
    char **known_hosts;             /* the user's files, then the global ones */
    char *host_key_algorithms;      /* HostKeyAlgorithms as evaluated, or NULL */
    enum { NEAP_SSH_STRICT, NEAP_SSH_ACCEPT_NEW, NEAP_SSH_LAX } strict;   /* "ask" is STRICT here: nobody is asked */
    enum { NEAP_SSH_ANY, NEAP_SSH_INET, NEAP_SSH_INET6 } family;
    char *bind_address;             /* or NULL */
    int connect_ms;                 /* 0: our default */
    int alive_ms, alive_count;      /* 0: our default */
    bool own_ciphers;               /* the user's configuration chooses ciphers */
    neap_ssh_host **jumps;          /* ProxyJump, in the order they are passed; NULL or empty: none */
    char *needs_program;            /* a sentence why libssh2 cannot reach it ("ProxyCommand is set"), or NULL */
    char *config_file;              /* -F, or NULL: the user's own */
};
void neap_ssh_host_free(neap_ssh_host *h);

/* What is known of a connection that is open. Texts belong to the connection. */
typedef struct neap_ssh_card {
    const char *backend;            /* "libssh2 1.10.0", "ssh program (OpenSSH_9.2p1)" */
    const char *banner;             /* "SSH-2.0-OpenSSH_9.2p1 Debian-2" */
    const char *key_type;           /* "ssh-ed25519" */
    const char *fingerprint;        /* "SHA256:…" without padding, as ssh-keygen prints it */
    const char *user, *address;     /* address: numeric, with the port: "127.0.0.2:2222" */
    const char *authenticated;      /* "publickey (agent)", "publickey (~/.ssh/id_ed25519)" */
} neap_ssh_card;

typedef enum { NEAP_SSH_EXITED, NEAP_SSH_SIGNALLED, NEAP_SSH_UNTOLD, NEAP_SSH_REFUSED } neap_ssh_how;
/* How a channel ended: an exit status, a signal, nobody said (the connection broke, or the far end closed without a word), or it was
 * certainly not begun (UNREACHABLE: the far end has no room, and may have some later; CLOSED: the connection broke before it was asked to). */
typedef struct neap_ssh_end {
    neap_ssh_how how;
    int status;
    char signal[16];                /* "KILL" */
} neap_ssh_end;

typedef struct neap_ssh neap_ssh;
typedef struct neap_ssh_exec neap_ssh_exec;
typedef void (*neap_ssh_opened_fn)(void *arg, const neap_err *err);           /* err NULL: open; once */
typedef void (*neap_ssh_lost_fn)(void *arg, const neap_err *err);             /* once, after every channel was told */
/* Once, after both outputs were read to their end or given up. err says why when `how` is UNTOLD or REFUSED. */
typedef void (*neap_ssh_end_fn)(void *arg, const neap_ssh_end *end, const neap_err *err);

typedef struct neap_ssh_class {
    const char *name;               /* "libssh2", "ssh" */
    const neap_ssh_card *(*card)(neap_ssh *s);                                /* NULL while not open */
    void (*on_lost)(neap_ssh *s, neap_ssh_lost_fn fn, void *arg);
    neap_ssh_exec *(*exec)(neap_ssh *s, const char *command, neap_ssh_end_fn ended, void *arg);
    neap_stream *(*exec_stream)(neap_ssh_exec *e, int n);
    void (*exec_free)(neap_ssh_exec *e);
    neap_dialer *(*dial_tcp)(neap_ssh *s, const char *host, int port);
    neap_dialer *(*dial_unix)(neap_ssh *s, const char *path);
    void (*free)(neap_ssh *s);
} neap_ssh_class;

struct neap_ssh { const neap_ssh_class *class; neap_loop *loop; };
struct neap_ssh_exec { const neap_ssh_class *class; };

/* Begin to open; at most 64 handshakes are under way in the process, others wait their turn. Freeing before `opened` cancels it.
 * `host` must live as long as the connection. `native` is asked first; an RSA-only key or host that libssh2 cannot do is
 * UNSUPPORTED, with the sentence, and the caller opens with the program. */
neap_ssh *neap_ssh_native_open(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg);
neap_ssh *neap_ssh_program_open(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg);

static inline const neap_ssh_card *neap_ssh_card_of(neap_ssh *s) { return s->class->card(s); }
static inline void neap_ssh_on_lost(neap_ssh *s, neap_ssh_lost_fn fn, void *arg) { s->class->on_lost(s, fn, arg); }
/* Start a command for the remote shell: one string, already quoted. Never a terminal. Never NULL: a refusal comes through `ended`.
 * Streams 0 (to write), 1 and 2 (to read) exist at once and are handed out once each; an output that nobody asks for stops the far
 * end when its window is full. */
static inline neap_ssh_exec *neap_ssh_exec_start(neap_ssh *s, const char *command, neap_ssh_end_fn ended, void *arg) { return s->class->exec(s, command, ended, arg); }
static inline neap_stream *neap_ssh_exec_stream(neap_ssh_exec *e, int n) { return e->class->exec_stream(e, n); }
/* Close the channel (the streams that were not handed out too) and never call back again. It does not end the remote command. */
static inline void neap_ssh_exec_free(neap_ssh_exec *e) { if (e) e->class->exec_free(e); }
/* From the host to another address, or to a unix socket on it. The dialers must be released before the connection is freed or after;
 * a dial through a freed or lost connection is CLOSED. */
static inline neap_dialer *neap_ssh_dial_tcp(neap_ssh *s, const char *host, int port) { return s->class->dial_tcp(s, host, port); }
static inline neap_dialer *neap_ssh_dial_unix(neap_ssh *s, const char *path) { return s->class->dial_unix(s, path); }
/* Two seconds of politeness in the background, then the socket is shut. Never calls back. NULL allowed. */
static inline void neap_ssh_free(neap_ssh *s) { if (s) s->class->free(s); }

#endif
