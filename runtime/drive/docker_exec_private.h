/* docker_exec_private.h -- what the units of an exec share: docker_exec.c (its life), docker_exec_stream.c (its bytes),
 * docker_exec_end.c (how it ended, and ending it). */
#ifndef NEAP_DRIVE_DOCKER_EXEC_PRIVATE_H
#define NEAP_DRIVE_DOCKER_EXEC_PRIVATE_H

#include "drive/docker_exec.h"
#include "drive/docker_frames.h"
#include "loop/timer.h"

typedef struct exec_output {
    neap_stream face;                 /* first */
    neap_docker_exec *x;
    neap_buf queue;
    neap_stream_read_fn got;          /* NULL: nobody waits */
    void *got_arg;
    size_t most;
    bool gone;                        /* freed by its reader, or writer */
} exec_output;

typedef enum { LOOKING, CREATING, CREATED, GREETING, HELD, RUNNING, ASKING, COMPARING, OVER } exec_state;

struct neap_docker_exec {
    neap_docker *engine;
    neap_docker_exec_events events;
    void *arg;
    exec_state state;
    int told;                         /* events that were told: 1 created, 2 begun, 3 ended */
    int holds;                        /* itself, each stream handed out, each frame that calls back */
    bool freed;

    char *container, *id, *started, *user;
    neap_buf wrapped, bare;           /* bodies of the two ways to create it */
    char token[33];
    bool plain, reads, input;
    long long created;                /* when, by the Engine's clock: seconds since 1970, 0: it did not say */
    bool unborn;                      /* it ended while it was held: nothing of the command has run */
    int pid;
    long long ticks;

    neap_docker_call *call;           /* the question under way */
    neap_stream *wire;                /* NULL: not there yet, or ended */
    bool pulling, stopping, breathing;
    long long pulled;                 /* bytes that came over the wire */
    bool open;                        /* stdin may be written: the command is there */
    neap_buf early;                   /* what was written before */
    neap_stream_done_fn early_done;   /* NULL: nothing was */
    void *early_arg;
    neap_stream_done_fn wrote;        /* of the write under way; NULL: none is */
    void *wrote_arg;
    bool early_shut;
    neap_docker_frames frames;
    neap_buf greeting, system;        /* what came before the greeting; an error of the Engine's own */
    neap_err lost;                    /* how the wire broke */
    exec_output out[3];               /* [0].face is stdin */
    neap_timer *turn, *pause, *late, *silence, *breath;
    int64_t asked, patience;          /* since when the Engine has no status; how long until it is asked again */

    int status;                       /* -1: not known */
    neap_err failure;                 /* why */
    neap_docker_exec *killer;
    int kills;
    int64_t grace_ms;
};

enum { NEAP_EXEC_WINDOW = 256 * 1024, NEAP_EXEC_GREETING = 8 * 1024 };

/* docker_exec.c */
/* Tell whoever is awaited that it will not come. */
void neap_exec_refuse(neap_docker_exec *x, const neap_err *err);
void neap_exec_hold(neap_docker_exec *x);
void neap_exec_release(neap_docker_exec *x);
/* The wire ended before the command was begun: another try without the wrapper, or the error. */
void neap_exec_greeted(neap_docker_exec *x);
void neap_exec_ungreeted(neap_docker_exec *x, int status);

/* docker_exec_stream.c */
void neap_exec_open_streams(neap_docker_exec *x);
void neap_exec_pull(neap_docker_exec *x);
void neap_exec_serve(neap_docker_exec *x);           /* tell the readers what there is; may free x unless it is held */
void neap_exec_close_wire(neap_docker_exec *x);
void neap_exec_open_input(neap_docker_exec *x);      /* the command reads now */

/* docker_exec_end.c */
void neap_exec_ask(neap_docker_exec *x);             /* the wire has ended */
void neap_exec_finish(neap_docker_exec *x, int status, neap_err *failure);

#endif
