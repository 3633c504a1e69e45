/* child.h -- a child process in a session and process group of its own.
 *
 * The handle is closed only after the exit callback (libuv leaves a zombie otherwise). Ending is
 * TERM to the group, `grace_ms`, then KILL to the group. Standard streams are neap_streams that
 * belong to the caller. */
#ifndef NEAP_LOOP_CHILD_H
#define NEAP_LOOP_CHILD_H

#include <stdint.h>
#include "loop/stream.h"

typedef struct neap_child neap_child;

typedef struct neap_child_options {
    const char *const *argv;       /* NULL-terminated; argv[0] is looked up in the PATH of `env`, else in ours */
    const char *const *env;        /* NULL-terminated "NAME=value"; exactly this, nothing inherited */
    const char *cwd;               /* NULL: ours */
    int pipes;                     /* bit n set: descriptor n (0..2) is a pipe to us; else /dev/null */
    bool held;                     /* it exists, and becomes its program only when it is released; it ends when we die before that */
    bool leashed;                  /* the kernel sends it TERM when we die, of kill -9 too; not to what it has started */
} neap_child_options;

/* status: exit code, or -1 when a signal ended it; signal: its number or 0. */
typedef void (*neap_child_exit_fn)(void *arg, int status, int signal);

/* NULL and err when it could not be started (no such program, no such directory). */
neap_child *neap_child_new(neap_loop *loop, const neap_child_options *o, neap_child_exit_fn on_exit, void *arg, neap_err *err);
/* Let a held child become its program. False and err when it could not; on_exit comes all the same. */
bool neap_child_release(neap_child *c, neap_err *err);
neap_stream *neap_child_stream(neap_child *c, int n);     /* hands descriptor n's stream to the caller, once */
int  neap_child_pid(const neap_child *c);
neap_loop *neap_child_loop(const neap_child *c);
void neap_child_end(neap_child *c, int64_t grace_ms);     /* TERM the group, later KILL it */
/* The same, for an owner that goes before it: from now on the child is nobody's but its exit callback's, which is called in any case, when
 * the loop closes too, and must touch nothing but `arg` and free the child. */
void neap_child_disown(neap_child *c, int64_t grace_ms);
/* After on_exit: free. Before: KILL the group at once, free when it is gone, no callback. */
void neap_child_free(neap_child *c);

/* For the loop that closes: the child behind a forgotten handle is killed; its handle closes when it is gone. */
struct uv_handle_s;
void neap_child_forget(struct uv_handle_s *handle);

/* Clock ticks after boot at which process `pid` started (/proc/PID/stat field 22), 0 when it is gone.
 * pid + start time names a process for ever. */
int64_t neap_child_started(int pid);
/* Does anything of the group live that process `pid`, started at `started`, led? The leader itself or what outlived it; zombies do not
 * count. The number of a group is not given to anybody else while the group lasts. */
bool neap_child_group_lives(int pid, int64_t started);

#endif
