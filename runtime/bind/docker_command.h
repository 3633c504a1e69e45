/* docker_command.h -- a command in a container, up to the moment it is let go: shared by run (docker_exec_lua.c) and start
 * (docker_start_lua.c).
 *
 *     [write: prepare] the exec is created (nothing runs) ─► intent with container, started, exec, durable ─► started, held
 *     ─► "started" with pid and ticks, durable ─► released ─► go()
 */
#ifndef NEAP_BIND_DOCKER_COMMAND_H
#define NEAP_BIND_DOCKER_COMMAND_H

#include "bind/command.h"
#include "bind/docker_lua.h"
#include "drive/docker_exec.h"

/* The exec, and who hears of it. Lives in the op of run, in the handle of start. */
typedef struct docker_slot {
    neap_docker_exec *exec;           /* NULL: not there, or closed */
    bool ended;
    int status;                       /* -1: unknown */
    neap_err err;                     /* why; or why it did not begin */
    void (*changed)(void *arg);       /* created, begun or ended */
    void *arg;
} docker_slot;

typedef struct docker_command {
    docker_op base;                   /* first */
    neap_command command;
    char *user, *workdir;
    docker_slot *slot;
    neap_command_note *note;          /* the journal has not answered yet */
    int stage;
    bool released, input;
    int (*go)(lua_State *L, struct docker_command *c);        /* the command runs now; ends with neap_await or pushes results */
} docker_command;

enum { DOCKER_LOOKING, DOCKER_GREETING, DOCKER_NOTING, DOCKER_RUNNING };

/* [-0, +1, e] the op for the table at argument 2; the slot is set by the caller. */
docker_command *neap_docker_command_new(lua_State *L, size_t size, const neap_op_class *class, bool reads);
/* [-0, +n, e] through the gate; `changed` of the slot must finish the op until it is released. */
int neap_docker_command_enter(lua_State *L, docker_command *c);
/* [-0, +n, e] for the op's deliver while stage < DOCKER_RUNNING. */
int neap_docker_command_step(lua_State *L, docker_command *c);
/* For on_stop and drop. */
void neap_docker_command_on_stop(lua_State *L, neap_op *op);
void neap_docker_command_drop(docker_command *c);
void neap_docker_slot_close(docker_slot *s);
/* [-0, +0, m] how it ended becomes the outcome. */
void neap_docker_command_outcome(lua_State *L, docker_command *c, bool on_request);

#endif
