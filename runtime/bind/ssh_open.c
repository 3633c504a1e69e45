/* ssh_open.c -- native.ssh.open: what the user's ssh says of the name, then the connection.
 *
 *     the gate → ssh -G → host key, login → session
 *
 * backend "auto" asks libssh2 first and the ssh program where that cannot do it; the card says why. */
#include <lauxlib.h>
#include <string.h>

#include "bind/ssh_lua.h"
#include "drive/ssh_config.h"
#include "script/raise.h"

typedef struct open_op {
    neap_gate gate;                  /* first */
    const char *name, *role, *config, *sudo;      /* texts that the stack keeps */
    char subject[300];
    int64_t connect_ms;
    neap_ssh_backends backends;
    neap_loop *loop;
    neap_ssh_config *question;
    neap_ssh_link *link;
    neap_ssh_wait *wait;
    neap_err err;
} open_op;

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err) {
    open_op *o = arg;
    o->wait = NULL;
    if (!ssh) neap_err_copy(&o->err, err);
    neap_op_finish(&o->gate.op);
}

static void on_host(void *arg, neap_ssh_host *host, const neap_err *err) {
    open_op *o = arg;
    o->question = NULL;
    if (!host) {
        neap_err_copy(&o->err, err);
        neap_op_finish(&o->gate.op);
        return;
    }
    if (o->connect_ms) host->connect_ms = (int)o->connect_ms;
    o->link = neap_ssh_link_new(o->loop, host, &o->backends);
    o->wait = neap_ssh_link_open(o->link, on_open, o);
}

static void let_go(open_op *o) {
    if (o->question) neap_ssh_config_cancel(o->question);
    o->question = NULL;
    neap_ssh_link_forgo(o->wait);
    o->wait = NULL;
}

static void open_cancel(neap_op *op, bool force) {
    (void)force;
    let_go((open_op *)op);
    neap_op_finish(op);
}

static void open_drop(neap_op *op) {
    open_op *o = (open_op *)op;
    let_go(o);
    neap_ssh_link_release(o->link);
    neap_err_close(&o->err);
}

static int open_deliver(lua_State *L, neap_op *op) {
    open_op *o = (open_op *)op;
    if (o->err.code) return neap_fail(L, &o->err);
    neap_session *s = neap_ssh_push_session(L, NULL, o->role, o->sudo);
    s->link = o->link;
    o->link = NULL;
    return 1;
}

static const neap_op_class open_class = {"a connection by SSH", open_cancel, open_deliver, open_drop};

static int open_start(lua_State *L, neap_gate *g) {
    open_op *o = (open_op *)g;
    o->question = neap_ssh_config_ask(o->loop, o->name, o->config, o->connect_ms, on_host, o);
    return neap_await(L, &g->op);
}

static neap_ssh_backends check_backends(lua_State *L, const char *name) {
    if (strcmp(name, "auto") == 0) return (neap_ssh_backends){neap_ssh_native_open, neap_ssh_program_open};
    if (strcmp(name, "libssh2") == 0) return (neap_ssh_backends){neap_ssh_native_open, NULL};
    if (strcmp(name, "program") == 0) return (neap_ssh_backends){neap_ssh_program_open, NULL};
    neap_raisef(L, NEAP_E_USAGE, "there is no back end \"%s\" for SSH; it is auto, libssh2 or program", name);
}

static const char *opt_text(lua_State *L, const char *name, const char *otherwise) {
    lua_getfield(L, 1, name);
    return luaL_optstring(L, -1, otherwise);         /* stays on the stack */
}

/* open{name=, role=, config=, backend=, connect_ms=, sudo=} -> session | nil, err. Effect: read: it connects. */
int neap_ssh_open(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    open_op *o = (open_op *)neap_op_new(L, sizeof *o, &open_class);
    o->err = (neap_err)NEAP_ERR_INIT;
    o->loop = neap_host_of(L)->loop;
    o->name = opt_text(L, "name", NULL);
    if (!o->name) neap_raisef(L, NEAP_E_USAGE, "a host needs its name, as ssh knows it");
    if (!neap_ssh_config_check_name(o->name, &err)) neap_raise(L, &err);
    o->role = opt_text(L, "role", o->name);
    o->config = opt_text(L, "config", NULL);
    o->backends = check_backends(L, opt_text(L, "backend", "auto"));
    lua_getfield(L, 1, "connect_ms");
    o->connect_ms = luaL_optinteger(L, -1, 0);
    lua_getfield(L, 1, "sudo");
    o->sudo = lua_isboolean(L, -1) ? (lua_toboolean(L, -1) ? "" : NULL) : luaL_optstring(L, -1, NULL);
    snprintf(o->subject, sizeof o->subject, "host:%s", o->name);
    o->gate.act = (neap_act){.primitive = NEAP_P_SSH_CONNECT, .target = o->role, .host = o->name, .subject = o->subject, .text = "connect"};
    o->gate.start = open_start;
    return neap_gate_enter(L, &o->gate);
}
