/* docker_exec.h -- one command in one container.
 *
 *     LOOKING ─► CREATING ─► created() ─ start ─► GREETING ─► begun() ─ release ─► RUNNING ─► ASKING ─► COMPARING ─► ended()
 *        │           │                                │ no sh in the image: CREATING once more, without the wrapper
 *        └───────────┴────────────────────────────────┴─► whichever was awaited is told the error; nothing was begun
 *
 * The command is started through `sh`, which says its pid, waits for one line and becomes the command. So between created() and
 * release() the caller can make durable which exec and which process it is, and until release() nothing of the command has run. An
 * image without sh has neither: the pid stays 0, the start itself is what release() does, and `end` cannot reach the process (the
 * Engine knows a pid too, but of its own machine's numbering).
 *
 * The exit status: after the end of the stream the Engine is asked until it names a number for a process that does
 * not run, ten seconds at most after it stopped running. Null is no zero.
 *
 * A container that was started again, or ended, while the command ran: the status says nothing about the command, and is unknown. For that
 * it must be known when the container was started, which is asked before a write, and is evidence.
 *
 * A read leaves no evidence, and its exec is created at once. Of one that was killed the Engine's clock tells whether its container was started
 * before it; a container of the same second counts as started again. It is held all the same, for a moment: what has not begun before its
 * pid is known can always be ended (rejected: letting it go with its start, which saves 3 ms of 67 and leaves what is cancelled meanwhile running).
 *
 * There is never a terminal. The outputs end when the status is known: well, or with an error when nobody knows it, so that
 * half a dump is not taken for a whole one. */
#ifndef NEAP_DRIVE_DOCKER_EXEC_H
#define NEAP_DRIVE_DOCKER_EXEC_H

#include "drive/docker.h"

typedef struct neap_docker_exec neap_docker_exec;

typedef struct neap_docker_exec_options {
    const char *container;            /* full id */
    const char *const *argv, *const *env;       /* NULL-terminated; env NULL: none */
    const char *user, *workdir;       /* NULL: the image's */
    bool plain;                       /* without the wrapper */
    bool reads;                       /* it changes nothing: not knowing how it ended is a failure, and it may be asked again */
} neap_docker_exec_options;

typedef struct neap_docker_exec_events {
    void (*created)(void *arg, const neap_err *err);             /* the exec is known to the Engine, nothing runs */
    void (*begun)(void *arg, const neap_err *err);               /* the pid is known, nothing of the command runs */
    /* status 0..255, or -1 and err (UNKNOWN: it ran and nobody can say how it ended; with `reads`
     * that is UNREACHABLE or REMOTE; else it did not begin) */
    void (*ended)(void *arg, int status, const neap_err *err);
} neap_docker_exec_events;

/* Texts are copied; a refusal of the options (argv that is no UTF-8) comes through `created`. Each event at most once, in order, from
 * the loop; after one with err no other comes. An event may free the exec. */
neap_docker_exec *neap_docker_exec_new(neap_docker *e, const neap_docker_exec_options *o, const neap_docker_exec_events *events, void *arg);
void neap_docker_exec_start(neap_docker_exec *x);                /* after created */
void neap_docker_exec_release(neap_docker_exec *x, bool input);  /* after begun; without `input` its stdin ends at once */

const char *neap_docker_exec_id(const neap_docker_exec *x);      /* may be another one at begun than it was at created */
const char *neap_docker_exec_started(const neap_docker_exec *x); /* State.StartedAt of its container; "" where nobody asked: of a read */
int neap_docker_exec_pid(const neap_docker_exec *x);             /* in the container; 0: unknown */
long long neap_docker_exec_ticks(const neap_docker_exec *x);     /* when that process began, as its kernel counts; 0: unknown */

/* Streams 0 (to write), 1 and 2 (to read): once each, from created on. An output nobody reads stops the command when a quarter of a
 * mebibyte waits; one that is freed is thrown away. A stream may outlive the exec and then is closed. */
neap_stream *neap_docker_exec_stream(neap_docker_exec *x, int n);

/* TERM to its process group in the container, KILL after grace_ms; ended() tells as ever, at latest five seconds after the KILL. */
void neap_docker_exec_end(neap_docker_exec *x, int64_t grace_ms);

/* Close the connection and never call back. The process, if it runs, runs on. NULL allowed. */
void neap_docker_exec_free(neap_docker_exec *x);

/* Is a process that was begun so still there (it, or anything of its group)? A second exec asks; ended: 0 yes, 3 no, else unknown. With
 * a signal ("TERM") it is sent as well. */
neap_docker_exec *neap_docker_exec_signal(neap_docker *e, const char *container, const char *user, int pid, long long ticks, const char *signal,
                                          const neap_docker_exec_events *events, void *arg);

#endif
