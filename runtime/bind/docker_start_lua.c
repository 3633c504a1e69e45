/* docker_start_lua.c -- engine:start: a command in a container that lives beside the task.
 *
 *     local dump <close> = engine:start { container = id, argv = { "pg_dump", "-Fc", "app" }, read = true }
 *     local copied = dump:stdout():pipe(file)
 *     local result = dump:wait()                     -- {status=} | nil, err: nobody knows
 *
 * The handle (started.h) is made before the exec; its pid is durable before start returns. A handle that is collected closes its connection and
 * leaves the process alone: the API ends nothing with a connection.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "bind/docker_command.h"
#include "bind/started.h"
#include "script/raise.h"

enum { OP_INDEX = 3, HANDLE_INDEX = 4, ENGINE_VALUE = NEAP_STARTED_VALUES + 1 };

typedef struct handle {
    neap_started started;             /* first */
    docker_slot slot;
    docker_command *origin;           /* kept by the handle's user value */
} handle;

/* Created, begun, or ended: start waits for the first two. */
static void on_change(void *arg) {
    handle *h = arg;
    if (h->slot.ended) neap_started_end(&h->started);
    else if (h->started.waiter) neap_op_finish(h->started.waiter);
}

/* start -------------------------------------------------------------------------------------------- */

static void start_cancel(neap_op *op, bool force) {
    docker_command *c = (docker_command *)op;
    if (c->stage == DOCKER_NOTING && !force) return;
    if (c->note) c->note->on_durable = NULL;
    c->note = NULL;
    neap_op_finish(op);
}

static int start_deliver(lua_State *L, neap_op *op) { return neap_docker_command_step(L, (docker_command *)op); }
static void start_drop(neap_op *op) { neap_docker_command_drop((docker_command *)op); }

static const neap_op_class start_class = {"a command in a container to begin", start_cancel, start_deliver, start_drop};

/* It runs: the three streams become user values of the handle. */
static int go(lua_State *L, docker_command *c) {
    handle *h = lua_touserdata(L, HANDLE_INDEX);
    (void)c;
    h->started.waiter = NULL;
    h->started.open = true;
    neap_started_open_streams(L, HANDLE_INDEX);
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

/* The handle ---------------------------------------------------------------------------------------- */

static neap_stream *exec_stream(neap_started *s, int n) { return neap_docker_exec_stream(((handle *)s)->slot.exec, n); }
static void exec_let_go(neap_started *s) { neap_docker_slot_close(&((handle *)s)->slot); }

static void exec_end(neap_started *s, lua_Integer grace_ms) {
    if (!s->over) neap_docker_exec_end(((handle *)s)->slot.exec, grace_ms);
}

static void exec_drop(neap_started *s) {
    exec_let_go(s);                                  /* it may have been created and never begun */
    neap_err_close(&((handle *)s)->slot.err);
}

static int exec_result(lua_State *L, neap_started *s) {
    handle *h = (handle *)s;
    neap_docker_command_outcome(L, h->origin, s->on_request);
    if (h->slot.status < 0) {
        neap_err err = NEAP_ERR_INIT;                /* asked for again, it is the same */
        neap_err_copy(&err, &h->slot.err);
        return neap_fail(L, &err);
    }
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, h->slot.status);
    lua_setfield(L, -2, "status");
    return 1;
}

/* nil: the image has no shell. */
static void exec_pid(lua_State *L, neap_started *s) {
    int pid = neap_docker_exec_pid(((handle *)s)->slot.exec);
    if (pid) lua_pushinteger(L, pid);
    else lua_pushnil(L);
}

static void exec_tell(lua_State *L, neap_started *s) {
    const docker_command *c = ((handle *)s)->origin;
    const char *role = c->base.gate.act.target;
    lua_pushfstring(L, "%s in %s", c->command.argv[0], role ? role : "a container");
}

static const neap_started_class exec_class = {.meta = "neap.docker.exec", .prefix = "docker.exec:", .stream = exec_stream, .end = exec_end,
                                              .result = exec_result, .pid = exec_pid, .tell = exec_tell, .let_go = exec_let_go, .drop = exec_drop,
                                              .closes = true};

/* start{… as run, read=} -> command | nil, err. Effect: write; with read=true a declared read. */
int neap_docker_start(lua_State *L) {
    docker_command *c = neap_docker_command_new(L, sizeof *c, &start_class, neap_docker_flag(L, 2, "read"));
    if (c->command.within_ms) neap_raisef(L, NEAP_E_USAGE, "start has no within_ms: stop the command, or wait under a deadline");
    handle *h = neap_started_new(L, sizeof *h, &exec_class, &c->base.gate, OP_INDEX, 1);
    h->origin = c;
    h->started.waiter = &c->base.gate.op;
    h->slot.changed = on_change;
    h->slot.arg = h;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, HANDLE_INDEX, ENGINE_VALUE);
    c->slot = &h->slot;
    c->go = go;
    c->input = true;
    return neap_docker_command_enter(L, c);
}

