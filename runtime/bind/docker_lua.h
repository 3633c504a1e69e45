/* docker_lua.h -- what the units of native.docker share: docker_lua.c (engines), docker_call_lua.c (questions and changes),
 * docker_exec_lua.c and docker_start_lua.c (commands), docker_log_lua.c, docker_archive_lua.c. */
#ifndef NEAP_BIND_DOCKER_LUA_H
#define NEAP_BIND_DOCKER_LUA_H

#include <lua.h>
#include "drive/docker.h"
#include "script/gate.h"

typedef struct docker_handle {
    neap_docker *engine;              /* NULL: not open */
    char *id;                         /* of the Engine */
    char *role, *host;                /* for the gate; NULL: none */
} docker_handle;

/* The head of every op on an engine. The engine's handle is argument 1, which keeps it. */
typedef struct docker_op {
    neap_gate gate;                   /* first */
    docker_handle *h;
    char *container, *subject, *text;
    neap_err err;
} docker_op;

/* [-0, +0, e] the engine at argument 1, open. */
docker_handle *neap_docker_check(lua_State *L);
/* [-0, +1, m] an op of this primitive: subject and text are taken over (subject NULL: the Engine, or its `container`). */
docker_op *neap_docker_op_new(lua_State *L, size_t size, const neap_op_class *class, neap_primitive primitive, docker_handle *h, char *container, char *text);
/* For an op's drop. */
void neap_docker_op_drop(docker_op *op);
/* Keep the first error. */
void neap_docker_op_error(docker_op *op, const neap_err *err);
/* [-0, +2, m] record the outcome of a write by op->err, then nil and the error. */
int neap_docker_op_fail(lua_State *L, docker_op *op);
/* What is left in doubt when it fails so? The request may have arrived. */
bool neap_docker_in_doubt(const neap_err *err);

/* [-0, +0, e] a copy of the text at `index`; of field `name` of the table at `index`, NULL when it is not given. */
char *neap_docker_text(lua_State *L, int index, const char *what);
char *neap_docker_field(lua_State *L, int index, const char *name);
lua_Integer neap_docker_integer(lua_State *L, int index, const char *name, lua_Integer otherwise);
bool neap_docker_flag(lua_State *L, int index, const char *name);
/* [-0, +0, e] the same for `container`, which must be a full id. */
char *neap_docker_container(lua_State *L, int index);
char *neap_docker_check_id(lua_State *L, int index);

/* Members of native.docker and methods, by unit. */
int neap_docker_info(lua_State *L);
int neap_docker_list(lua_State *L);
int neap_docker_find_one(lua_State *L);
int neap_docker_inspect(lua_State *L);
int neap_docker_start_container(lua_State *L);
int neap_docker_stop_container(lua_State *L);
int neap_docker_restart_container(lua_State *L);
int neap_docker_remove_container(lua_State *L);
int neap_docker_create_container(lua_State *L);
int neap_docker_read_command(lua_State *L);
int neap_docker_run(lua_State *L);
int neap_docker_probe(lua_State *L);
int neap_docker_start(lua_State *L);
int neap_docker_logs(lua_State *L);
int neap_docker_wait_log(lua_State *L);
int neap_docker_wait_healthy(lua_State *L);
int neap_docker_archive_get(lua_State *L);
int neap_docker_archive_put(lua_State *L);

#endif
