/* ssh_file.h -- shared by the files of native.ssh that are about files of a host. */
#ifndef NEAP_BIND_SSH_FILE_H
#define NEAP_BIND_SSH_FILE_H

#include "bind/ssh_lua.h"
#include "drive/remote_file_talk.h"

/* One call about one path; every text is owned. Head of the ops. */
typedef struct neap_far_file {
    neap_gate gate;                  /* first */
    neap_ssh_link *link;             /* held */
    neap_far_question *question;     /* under way */
    char *path, *role, *subject, *text, *doing, *sudo, *mode;
    int status;                      /* of the last question */
    neap_buf answer;
    neap_err err;
} neap_far_file;

/* [-0, +1, e] an op of this class about the path at `index`, with the options {role=, sudo=, mode=} at index `options`; `verb` is what
 * people read: "write". */
neap_far_file *neap_far_file_new(lua_State *L, size_t size, const neap_op_class *class, neap_primitive primitive, const char *verb, int index, int options);
/* The request of this file with one more argument after the path (NULL: none). */
neap_far_request neap_far_file_request(const neap_far_file *f, neap_far_verb verb, const char *more);
/* [-0, +n, e] ask, and wait: deliver comes with status, answer and err. */
int neap_far_file_ask(lua_State *L, neap_far_file *f, const neap_far_request *r);
/* For classes: end the question, and what the op owns. */
void neap_far_file_cancel(neap_op *op, bool force);
void neap_far_file_drop(neap_op *op);
/* The host's fingerprint, path and sudo into the evidence. */
void neap_far_file_evidence(neap_far_file *f);

/* Primitives of a session: ssh_file_lua.c, ssh_file_write.c, ssh_file_stream.c, ssh_lock_lua.c. */
int neap_ssh_stat(lua_State *L);
int neap_ssh_list(lua_State *L);
int neap_ssh_hash(lua_State *L);
int neap_ssh_hashes(lua_State *L);
int neap_ssh_space(lua_State *L);
int neap_ssh_read_file(lua_State *L);
int neap_ssh_remove(lua_State *L);
int neap_ssh_mkdir(lua_State *L);
int neap_ssh_rename(lua_State *L);
int neap_ssh_probe_file(lua_State *L);
int neap_ssh_write_file(lua_State *L);
int neap_ssh_open_file(lua_State *L);
int neap_ssh_create(lua_State *L);
int neap_ssh_lock(lua_State *L);
int neap_ssh_has_lock(lua_State *L);
int neap_ssh_hold_set(lua_State *L);
int neap_ssh_hold_get(lua_State *L);
int neap_ssh_hold_clear(lua_State *L);

#endif
