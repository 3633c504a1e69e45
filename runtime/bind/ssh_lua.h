/* ssh_lua.h -- shared by the files of native.ssh. */
#ifndef NEAP_BIND_SSH_LUA_H
#define NEAP_BIND_SSH_LUA_H

#include <lua.h>
#include "base/list.h"
#include "bind/capture.h"
#include "bind/command.h"
#include "bind/feed.h"
#include "drive/remote_job.h"
#include "script/gate.h"
#include "script/task.h"

/* A session is one host in one role. */
typedef struct neap_session {
    neap_ssh_link *link;             /* NULL: closed */
    neap_loop *loop;
    char *role, *sudo;               /* sudo as in neap_remote_command */
    char *subject;                   /* "host:SHA256:…" */
    neap_stream *lock;               /* held for as long as this stream lives; NULL: none */
    char *lock_words;
    neap_list tidying;               /* jobs whose directories are being removed */
    neap_op *closer;                 /* who waits for that */
} neap_session;

/* [-0, +1, m] a session over a link, whose hold is taken. */
neap_session *neap_ssh_push_session(lua_State *L, neap_ssh_link *link, const char *role, const char *sudo);
/* [-0, +0, e] argument 1, open. */
neap_session *neap_check_session(lua_State *L);

/* What is to run, in the words of the drivers; points into the command and the session. */
typedef struct neap_far {
    neap_command command;
    neap_remote_command what;
    neap_remote_names names;
    char *sudo;
    char *where;                     /* "on web1", for a preview: of a role that is many hosts; else NULL */
} neap_far;
/* [-0, +0, e] read the table at argument 2 into a zeroed neap_far that the op on the stack owns, and describe it to the gate. */
void neap_far_read(lua_State *L, neap_session *s, neap_far *f, neap_gate *g);
void neap_far_close(neap_far *f);
/* Intent evidence: the host, and how the far end is asked about it. `job` may be NULL. */
void neap_far_evidence(const neap_session *s, const neap_far *f, const char *job, neap_gate *g);
/* Append "started" from a callback, while the op waits, and have it flushed; false when there is no journal. */
bool neap_far_note_started(neap_gate *g, long long pid, long long started, neap_command_note **note,
                           void (*on_durable)(void *arg, const neap_err *err), void *arg);
/* [-0, +n, e] how it ended: outcome and results. `failure`: what ended it from our side; closed. */
int neap_far_deliver(lua_State *L, neap_gate *g, neap_far *f, const neap_remote_end *end, neap_err *err, neap_err *failure, neap_capture *out,
                     neap_capture *errors);
/* [-0, +0, m] the outcome of what was stopped: `end` is how it ended, NULL when nobody has said so. */
void neap_far_stopped(lua_State *L, neap_gate *g, const neap_remote_end *end);
/* Remove the job's directory once the journal has its outcome, in the background. */
void neap_session_tidy(lua_State *L, neap_session *s, const neap_far *f, const char *job);

int neap_ssh_open(lua_State *L);         /* ssh_open.c */
int neap_ssh_close(lua_State *L);        /* ssh_tidy.c */
void neap_session_drop(neap_session *s);
int neap_ssh_read(lua_State *L);         /* ssh_read.c: attached */
int neap_ssh_run(lua_State *L);          /* ssh_run.c: a job */
int neap_ssh_run_attached(lua_State *L);
int neap_ssh_start(lua_State *L);        /* ssh_start.c */
int neap_ssh_probe(lua_State *L);        /* ssh_probe.c */

#endif
