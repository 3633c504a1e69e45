/* docker_command.c -- see docker_command.h. Creating an exec is part of preparing: the Engine keeps a description, nothing in the
 * container changes, and its id can so be in the intent before anything runs. */
#include "bind/docker_command.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/json.h"
#include "script/raise.h"

/* What the exec tells ------------------------------------------------------------------------------ */

static void on_step(void *arg, const neap_err *err) {
    docker_slot *s = arg;
    neap_err_keep(&s->err, err);
    if (err) s->ended = true;
    s->changed(s->arg);
}

static void on_ended(void *arg, int status, const neap_err *err) {
    docker_slot *s = arg;
    neap_err_keep(&s->err, err);
    s->status = status;
    s->ended = true;
    s->changed(s->arg);
}

void neap_docker_slot_close(docker_slot *s) {
    neap_docker_exec *x = s->exec;
    s->exec = NULL;
    neap_docker_exec_free(x);
}

/* Up to the release -------------------------------------------------------------------------------- */

static int look(lua_State *L, neap_gate *g) {
    static const neap_docker_exec_events events = {on_step, on_step, on_ended};
    docker_command *c = (docker_command *)g;
    neap_docker_exec_options o = {.container = c->base.container, .argv = (const char *const *)c->command.argv,
                                  .env = (const char *const *)c->command.env, .user = c->user, .workdir = c->workdir,
                                  .reads = c->command.reads};
    c->stage = DOCKER_LOOKING;
    c->slot->status = -1;
    c->slot->err = (neap_err)NEAP_ERR_INIT;
    c->slot->exec = neap_docker_exec_new(c->base.h->engine, &o, &events, c->slot);
    return neap_await(L, &g->op);
}

static int begin(lua_State *L, neap_gate *g) {
    docker_command *c = (docker_command *)g;
    c->stage = DOCKER_GREETING;
    neap_op_rearm(&g->op);
    neap_docker_exec_start(c->slot->exec);
    return neap_await(L, &g->op);
}

static int looked(lua_State *L, docker_command *c) {
    if (c->command.reads) return begin(L, &c->base.gate);
    neap_buf *evidence = &c->base.gate.evidence;
    neap_json_member(evidence, "container", c->base.container);
    neap_json_member(evidence, "started", neap_docker_exec_started(c->slot->exec));
    neap_json_member(evidence, "exec", neap_docker_exec_id(c->slot->exec));
    neap_json_member(evidence, "user", c->user);
    return neap_gate_intend(L, &c->base.gate);
}

static void on_durable(void *arg, const neap_err *err) {
    docker_command *c = arg;
    c->note = NULL;
    neap_docker_op_error(&c->base, err);
    neap_op_finish(&c->base.gate.op);
}

static int release(lua_State *L, docker_command *c) {
    c->stage = DOCKER_RUNNING;
    c->released = true;
    neap_op_rearm(&c->base.gate.op);
    neap_docker_exec_release(c->slot->exec, c->input);
    return c->go(L, c);
}

static int begun(lua_State *L, docker_command *c) {
    neap_buf members = NEAP_BUF_INIT;
    neap_json_member(&members, "exec", neap_docker_exec_id(c->slot->exec));
    neap_json_member_int(&members, "pid", neap_docker_exec_pid(c->slot->exec));
    neap_json_member_int(&members, "ticks", neap_docker_exec_ticks(c->slot->exec));
    c->stage = DOCKER_NOTING;
    neap_op_rearm(&c->base.gate.op);               /* a journal that has failed answers at once */
    bool noted = neap_command_note_evidence(L, &c->base.gate, members.data, &c->note, on_durable, c);
    neap_buf_close(&members);
    if (!noted) return release(L, c);
    return neap_await(L, &c->base.gate.op);
}

int neap_docker_command_step(lua_State *L, docker_command *c) {
    if (c->slot->ended || c->base.err.code) {        /* it did not begin, or the journal failed while it was held */
        neap_docker_op_error(&c->base, &c->slot->err);
        neap_docker_slot_close(c->slot);
        neap_gate_outcome(L, &c->base.gate, "failed", NULL, &c->base.err);
        if (c->base.err.code == NEAP_E_JOURNAL) return neap_raise(L, &c->base.err);
        return neap_fail(L, &c->base.err);
    }
    if (c->stage == DOCKER_LOOKING) return looked(L, c);
    return c->stage == DOCKER_GREETING ? begun(L, c) : release(L, c);
}

/* The op ------------------------------------------------------------------------------------------- */

docker_command *neap_docker_command_new(lua_State *L, size_t size, const neap_op_class *class, bool reads) {
    docker_handle *h = neap_docker_check(L);
    char *container = neap_docker_container(L, 2);
    lua_settop(L, 2);
    docker_command *c = (docker_command *)neap_docker_op_new(L, size, class, reads ? NEAP_P_DOCKER_ASK : NEAP_P_DOCKER_EXEC, h, container, NULL);
    neap_command_read_far(L, 2, &c->command);
    if (c->command.cwd) neap_raisef(L, NEAP_E_USAGE, "a command in a container has a workdir, not a cwd");
    c->command.reads = reads;
    c->base.gate.act.text = c->command.text;
    if (c->command.changes && !reads) c->base.gate.act.subject = c->command.changes;
    c->base.gate.act.spelled = (const char *const *)c->command.spelled;
    c->user = neap_docker_field(L, 2, "user");
    c->workdir = neap_docker_field(L, 2, "workdir");
    c->base.gate.declared = reads;
    c->base.gate.start = reads ? look : begin;
    c->base.gate.prepare = reads ? NULL : look;
    return c;
}

int neap_docker_command_enter(lua_State *L, docker_command *c) {
    c->base.gate.op.on_stop = neap_docker_command_on_stop;
    return neap_gate_enter(L, &c->base.gate);
}

void neap_docker_command_on_stop(lua_State *L, neap_op *op) {
    docker_command *c = (docker_command *)op;
    if (!c->released) neap_gate_outcome(L, &c->base.gate, "failed", "\"message\":\"stopped before it began\"", NULL);
    else if (c->slot->ended) neap_gate_outcome(L, &c->base.gate, "unknown", "\"message\":\"stopped before it was done\"", NULL);
    else neap_gate_outcome(L, &c->base.gate, "unknown", "\"message\":\"stopped, and not seen to end\"", NULL);
    neap_docker_slot_close(c->slot);
}

void neap_docker_command_drop(docker_command *c) {
    if (c->note) c->note->on_durable = NULL;
    c->note = NULL;
    free(c->user), free(c->workdir);
    neap_command_close(&c->command);
    neap_docker_op_drop(&c->base);
}

void neap_docker_command_outcome(lua_State *L, docker_command *c, bool on_request) {
    if (c->slot->status >= 0) neap_command_outcome(L, &c->base.gate, &c->command, c->slot->status, 0, on_request);
    else neap_gate_outcome(L, &c->base.gate, neap_docker_in_doubt(&c->slot->err) ? "unknown" : "failed", NULL, &c->slot->err);
}
