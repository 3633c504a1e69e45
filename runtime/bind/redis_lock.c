/* redis_lock.c -- keeping a database for one run: the lock while it lives (drive/redis_lease.h), the hold when it died in debt: a key that
 * does not expire, with the words of who left it.
 *
 * These are the engine's own bookkeeping and change nothing that a runbook is about; in a preview nothing is taken or set. */
#include <stdlib.h>
#include <string.h>

#include "bind/redis_private.h"

typedef struct lock_op {
    redis_op base;
    bool  ours, set;              /* set: an answer of OK is all that is wanted */
    char *holder;
} lock_op;

static void lock_drop(neap_op *o) {
    free(((lock_op *)o)->holder);
    neap_redis_op_drop(o);
}

static int push_true(lua_State *L) {
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- the lock ---- */

static int busy(lua_State *L, lock_op *op, const char *holder) {
    neap_err *err = &op->base.err;
    if (holder) neap_err_set(err, NEAP_E_BUSY, "held by %s", holder);
    else neap_err_set(err, NEAP_E_BUSY, "somebody held the lock a moment ago");
    neap_err_hint(err, "Wait until that run has ended; a lock nobody renews is gone after %d s.", NEAP_LEASE_MS / 1000);
    err->retry = true;
    return neap_fail(L, err);
}

static void on_lease(void *arg, bool ours, const char *holder, const neap_err *err) {
    lock_op *op = arg;
    op->ours = ours;
    if (holder) op->holder = neap_strdup(holder);
    if (err) neap_redis_op_error(&op->base, err);
    neap_op_finish(&op->base.gate.op);
}

static int take_deliver(lua_State *L, neap_op *o) {
    lock_op *op = (lock_op *)o;
    if (op->base.err.code) return neap_fail(L, &op->base.err);
    return op->ours ? push_true(L) : busy(L, op, op->holder);
}

static int flag_deliver(lua_State *L, neap_op *o) {
    lock_op *op = (lock_op *)o;
    if (op->base.err.code) return neap_fail(L, &op->base.err);
    lua_pushboolean(L, op->ours);
    return 1;
}

static int look_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    if (op->err.code || neap_redis_refusal(&op->err, op->values[0])) return neap_fail(L, &op->err);
    return op->values[0]->type == NEAP_REDIS_STRING ? busy(L, (lock_op *)op, op->values[0]->text) : push_true(L);
}

static const neap_op_class take_class = {"the target's lock", neap_redis_op_cancel, take_deliver, lock_drop};
static const neap_op_class flag_class = {"the target's lock", neap_redis_op_cancel, flag_deliver, lock_drop};
static const neap_op_class look_class = {"the target's lock", neap_redis_op_cancel, look_deliver, lock_drop};

static lock_op *new_op(lua_State *L, const neap_op_class *class, const char *text) {
    lock_op *op = (lock_op *)neap_redis_op_new(L, sizeof *op, class, neap_redis_check_handle(L, 1), NEAP_P_REDIS_LOCK);
    op->base.gate.act.subject = NULL;              /* no preview withholds a lock */
    op->base.gate.act.text = text;
    return op;
}

/* The words of the one command. */
static void say(redis_op *op, int argc, const char *const *words) {
    op->commands = neap_zalloc(sizeof *op->commands);
    op->values = neap_zalloc(sizeof *op->values);
    op->count = 1;
    redis_command *c = op->commands;
    c->argv = neap_zalloc((size_t)argc * sizeof *c->argv);
    c->lens = neap_zalloc((size_t)argc * sizeof *c->lens);
    for (c->argc = 0; c->argc < argc; c->argc++) c->argv[c->argc] = neap_strdup(words[c->argc]), c->lens[c->argc] = strlen(words[c->argc]);
}

static int send_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    neap_redis_op_send(op);
    return neap_await(L, &g->op);
}

static int take_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!neap_redis_op_alive(op)) return neap_fail(L, &op->err);
    neap_lease_take(op->h->lease, on_lease, op);
    return neap_await(L, &g->op);
}

/* conn:lock(key, words) -> true | nil, {code="busy"} naming the holder. The connection is the lock's alone. In a preview it only
 * looks. Effect: read. */
static int conn_lock(lua_State *L) {
    redis_handle *h = neap_redis_check_handle(L, 1);
    const char *key = luaL_checkstring(L, 2), *value = luaL_checkstring(L, 3);
    if (neap_redis_is_preview(L)) {
        lock_op *op = new_op(L, &look_class, "lock");
        say(&op->base, 2, (const char *const[]){"GET", key});
        op->base.gate.start = send_start;
        return neap_gate_enter(L, &op->base.gate);
    }
    lock_op *op = new_op(L, &take_class, "lock");
    neap_lease_free(h->lease);
    h->lease = neap_lease_new(h->loop, h->redis, key, value);
    op->base.gate.start = take_start;
    return neap_gate_enter(L, &op->base.gate);
}

static int prove_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!op->h->lease || !neap_redis_is_alive(op->h->redis)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    neap_lease_prove(op->h->lease, on_lease, op);
    return neap_await(L, &g->op);
}

/* conn:has_lock() -> boolean | nil, err: proved by asking the server, and renewed. Effect: read. */
static int conn_has_lock(lua_State *L) {
    lock_op *op = new_op(L, &flag_class, "prove the lock");
    op->base.gate.start = prove_start;
    return neap_gate_enter(L, &op->base.gate);
}

static int release_start(lua_State *L, neap_gate *g) {
    redis_op *op = (redis_op *)g;
    if (!op->h->lease || !neap_redis_is_alive(op->h->redis)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    neap_lease_release(op->h->lease, on_lease, op);
    return neap_await(L, &g->op);
}

/* conn:unlock() -> was it held | nil, err. Effect: read. */
static int conn_unlock(lua_State *L) {
    lock_op *op = new_op(L, &flag_class, "unlock");
    op->base.gate.start = release_start;
    return neap_gate_enter(L, &op->base.gate);
}

/* ---- the hold ---- */

static int hold_deliver(lua_State *L, neap_op *o) {
    redis_op *op = (redis_op *)o;
    if (op->err.code || neap_redis_refusal(&op->err, op->values[0])) return neap_fail(L, &op->err);
    if (((lock_op *)op)->set) return push_true(L);
    neap_redis_push_value(L, op->values[0]);
    return 1;
}

static const neap_op_class hold_class = {"the target's hold", neap_redis_op_cancel, hold_deliver, lock_drop};

static int hold(lua_State *L, bool set, int argc, const char *const *words, const char *text) {
    lock_op *op = new_op(L, &hold_class, text);
    op->set = set;
    say(&op->base, argc, words);
    op->base.gate.start = send_start;
    if (set && neap_redis_is_preview(L)) return push_true(L);
    return neap_gate_enter(L, &op->base.gate);
}

/* conn:hold_set(key, words) -> true | nil, err. Effect: read (the engine's bookkeeping; nothing in a preview). */
static int conn_hold_set(lua_State *L) {
    return hold(L, true, 3, (const char *const[]){"SET", luaL_checkstring(L, 2), luaL_checkstring(L, 3)}, "hold");
}

/* conn:hold_get(key) -> words | nil, or nil, err. Effect: read. */
static int conn_hold_get(lua_State *L) { return hold(L, false, 2, (const char *const[]){"GET", luaL_checkstring(L, 2)}, "ask for a hold"); }

/* conn:hold_clear(key) -> true | nil, err: whoever set it. Effect: read (see hold_set). */
static int conn_hold_clear(lua_State *L) { return hold(L, true, 2, (const char *const[]){"DEL", luaL_checkstring(L, 2)}, "clear a hold"); }

const luaL_Reg neap_redis_lock_methods[] = {{"lock", conn_lock}, {"has_lock", conn_has_lock}, {"unlock", conn_unlock}, {"hold_set", conn_hold_set},
                                            {"hold_get", conn_hold_get}, {"hold_clear", conn_hold_clear}, {NULL, NULL}};
