/* ssh_lock_lua.c -- keeping a host for one run: the lock while it lives (flock(1), held by a shell that lives as long as the connection),
 * the hold when it died in debt: a file with the words of who left it.
 *
 * These are the engine's own bookkeeping, in a private directory of who logs in: two accounts of one host do not see each other's. In a
 * preview nothing is taken or set, and not even the directory is made. */
#include <ctype.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/ssh_file.h"
#include "script/raise.h"

enum { WORDS_LIMIT = 4096 };

typedef struct lock_op {
    neap_far_file file;              /* first; its path is the key */
    neap_session *session;
    char *words;
    neap_far_verb verb;
    neap_stream *opening;
    bool proves;
} lock_op;

static void let_go(lock_op *o) {
    neap_stream *s = o->opening;
    o->opening = NULL;
    neap_stream_free(s);
}

static void lock_cancel(neap_op *op, bool force) {
    lock_op *o = (lock_op *)op;
    let_go(o);
    if (o->file.question) neap_far_file_cancel(op, force);
    else neap_op_finish(op);
}

static void lock_drop(neap_op *op) {
    lock_op *o = (lock_op *)op;
    let_go(o);
    free(o->words);
    neap_far_file_drop(op);
}

static int push_true(lua_State *L) {
    lua_pushboolean(L, 1);
    return 1;
}

static const char *answer_of(lock_op *o) {
    neap_buf *a = &o->file.answer;
    while (a->len && a->data[a->len - 1] == '\n') a->data[--a->len] = 0;
    return a->data ? a->data : "";
}

/* ---- the lock ---- */

static int take_deliver(lua_State *L, neap_op *op) {
    lock_op *o = (lock_op *)op;
    neap_session *s = o->session;
    if (o->file.err.code) return neap_fail(L, &o->file.err);
    neap_stream *old = s->lock;
    s->lock = o->opening;
    o->opening = NULL;
    neap_stream_free(old);
    free(s->lock_words);
    s->lock_words = neap_strdup(o->words);
    return push_true(L);
}

/* In a preview: is it free? For a proof: is it ours? */
static int look_deliver(lua_State *L, neap_op *op) {
    lock_op *o = (lock_op *)op;
    bool is_free = o->file.status == NEAP_FAR_NOTHING;
    if (o->file.err.code && !is_free) return neap_fail(L, &o->file.err);
    neap_err_close(&o->file.err);
    if (o->proves) {
        const char *ours = o->session->lock_words;
        lua_pushboolean(L, !is_free && ours && strcmp(answer_of(o), ours) == 0);
        return 1;
    }
    if (is_free) return push_true(L);
    neap_err_set(&o->file.err, NEAP_E_BUSY, "held by %s", answer_of(o));
    o->file.err.retry = true;
    return neap_fail(L, &o->file.err);
}

static int hold_deliver(lua_State *L, neap_op *op) {
    lock_op *o = (lock_op *)op;
    bool asks = o->verb == NEAP_FAR_HOLD_GET;
    if (asks && o->file.status == NEAP_FAR_NOTHING) { lua_pushnil(L); return 1; }
    if (o->file.err.code) return neap_fail(L, &o->file.err);
    if (!asks) return push_true(L);
    lua_pushstring(L, answer_of(o));
    return 1;
}

static const neap_op_class take_class = {"the lock of a host", lock_cancel, take_deliver, lock_drop};
static const neap_op_class look_class = {"the lock of a host", lock_cancel, look_deliver, lock_drop};
static const neap_op_class hold_class = {"the hold on a host", lock_cancel, hold_deliver, lock_drop};

static void on_opened(void *arg, const char *line, const neap_err *err) {
    lock_op *o = arg;
    (void)line;
    neap_err_keep(&o->file.err, err);
    neap_op_finish(&o->file.gate.op);
}

static int lock_start(lua_State *L, neap_gate *g) {
    lock_op *o = (lock_op *)g;
    neap_far_request r = neap_far_file_request(&o->file, o->verb, o->words);
    if (o->verb != NEAP_FAR_LOCK) return neap_far_file_ask(L, &o->file, &r);
    o->opening = neap_far_open(o->file.link, &r, on_opened, o);
    return neap_await(L, &g->op);
}

/* [-0, +1, e] an op about the key at index 2, with the words at index 3 where there are some. */
static lock_op *new_op(lua_State *L, const neap_op_class *class, neap_far_verb verb, const char *text) {
    neap_session *s = neap_check_session(L);
    const char *key = luaL_checkstring(L, 2);
    for (const char *c = key; *c; c++) luaL_argcheck(L, isalnum((unsigned char)*c), 2, "a key has letters and digits only");
    luaL_argcheck(L, *key, 2, "a key is empty");
    const char *words = luaL_optstring(L, 3, NULL);
    luaL_argcheck(L, !words || (strlen(words) < WORDS_LIMIT && !strchr(words, '\n')), 3, "the words are one line");
    lock_op *o = (lock_op *)neap_op_new(L, sizeof *o, class);
    const neap_ssh_host *host = neap_ssh_link_host(s->link);
    o->file.err = (neap_err)NEAP_ERR_INIT;
    o->file.path = neap_strdup(key);
    o->file.doing = neap_strdup(text);
    o->file.sudo = s->sudo ? neap_strdup(s->sudo) : NULL;
    o->file.role = neap_strdup(s->role);
    o->file.link = neap_ssh_link_hold(s->link);
    o->session = s;
    o->words = words ? neap_strdup(words) : NULL;
    o->verb = verb;
    o->file.gate.act = (neap_act){.primitive = NEAP_P_HOST_LOCK, .target = o->file.role, .host = host->hostname, .text = o->file.doing};
    o->file.gate.start = lock_start;
    return o;
}

/* session:lock(key, words) -> true | nil, {code="busy"} naming the holder. In a preview it only looks. Effect: read. */
int neap_ssh_lock(lua_State *L) {
    lua_settop(L, 3);
    luaL_checkstring(L, 3);
    bool previews = neap_guard_get_mode(neap_host_of(L)->guard) == NEAP_MODE_PLAN;
    lock_op *o = new_op(L, previews ? &look_class : &take_class, previews ? NEAP_FAR_HELD : NEAP_FAR_LOCK, "take the lock");
    return neap_gate_enter(L, &o->file.gate);
}

/* session:has_lock(key) -> is it still ours? Asks the host. Effect: read. */
int neap_ssh_has_lock(lua_State *L) {
    lua_settop(L, 2);
    neap_session *s = neap_check_session(L);
    if (!s->lock || neap_far_is_over(s->lock)) { lua_pushboolean(L, 0); return 1; }
    lock_op *o = new_op(L, &look_class, NEAP_FAR_HELD, "prove the lock");
    o->proves = true;
    return neap_gate_enter(L, &o->file.gate);
}

static int hold(lua_State *L, int arguments, neap_far_verb verb, const char *text) {
    lua_settop(L, arguments);
    if (arguments == 3) luaL_checkstring(L, 3);
    return neap_gate_enter(L, &new_op(L, &hold_class, verb, text)->file.gate);
}

/* session:hold_set(key, words) -> true | nil, err; hold_get(key) -> words | nil (none) | nil, err; hold_clear(key) -> true | nil, err.
 * Effect: read: nothing a runbook is about. */
int neap_ssh_hold_set(lua_State *L) { return hold(L, 3, NEAP_FAR_HOLD_SET, "leave a hold"); }
int neap_ssh_hold_get(lua_State *L) { return hold(L, 2, NEAP_FAR_HOLD_GET, "look for a hold"); }
int neap_ssh_hold_clear(lua_State *L) { return hold(L, 2, NEAP_FAR_HOLD_CLEAR, "take the hold away"); }
