/* command.h -- the table that describes a child process, taken apart once for run and start. */
#ifndef NEAP_BIND_COMMAND_H
#define NEAP_BIND_COMMAND_H

#include "loop/child.h"
#include "script/gate.h"

typedef struct neap_command {
    char **argv, **env, *cwd;
    char **secrets;               /* for a shell elsewhere: assignments that must not stand in an argv; else they are in env */
    char *role, *subject, *text;
    char *changes;                /* the subject that a write changes, where it is known to be less than the place it runs on; NULL: all of that */
    char *spelled[3];             /* for policy: argv joined by single spaces; behind sudo; NULL */
    bool reads;
    int64_t within_ms;            /* 0: no limit of its own */
    unsigned char allow[256];     /* exit statuses that count as done */
} neap_command;

/* [-0, +0, e] read the table at `index` into a zeroed command that the op on the stack owns. */
void neap_command_read(lua_State *L, int index, neap_command *c);
/* [-0, +0, e] the same for a command that runs elsewhere: nothing of our environment goes with it. */
void neap_command_read_far(lua_State *L, int index, neap_command *c);
/* [-0, +0, e] the same for one that a shell elsewhere begins: names are what a shell can set, secrets are apart. */
void neap_command_read_shell(lua_State *L, int index, neap_command *c);
void neap_command_close(neap_command *c);
/* The words joined by single spaces, behind `before`. */
char *neap_command_join(const char *before, const char *const *argv);
/* Describe it to the gate. */
void neap_command_act(const neap_command *c, neap_gate *g);

/* Start it, held when there is a journal that has to know it first. NULL and err. */
neap_child *neap_command_start(lua_State *L, const neap_gate *g, const neap_command *c, int pipes, neap_child_exit_fn on_exit, void *arg, neap_err *err);

/* "ended with status 3", or by which signal; outcome "ok" or "failed" in the gate's journal. */
void neap_command_outcome(lua_State *L, neap_gate *g, const neap_command *c, int status, int signal, bool on_request);

/* The pid of a child must be durable before it does anything; meanwhile it is held, and who waits releases it. The note lives until
 * the journal has answered; who waits may leave earlier. */
typedef struct neap_command_note neap_command_note;
struct neap_command_note {
    void (*on_durable)(void *arg, const neap_err *err);      /* NULL: nobody waits any more */
    void *arg;
};
/* [-0, +0, m] append "started" and have it flushed; false when there is no journal (nothing will call back). */
bool neap_command_note_start(lua_State *L, neap_gate *g, const neap_child *child, neap_command_note **note,
                             void (*on_durable)(void *arg, const neap_err *err), void *arg);
/* [-0, +0, m] the same with any evidence (JSON members): of a command that is no child of ours. */
bool neap_command_note_evidence(lua_State *L, neap_gate *g, const char *members, neap_command_note **note,
                       void (*on_durable)(void *arg, const neap_err *err), void *arg);

#endif
