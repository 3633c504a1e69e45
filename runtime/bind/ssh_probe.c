/* ssh_probe.c -- session:probe: what became of a command whose run died.
 *
 *     its job's directory:  ended with a status that counts → "done"; with another, or half made → "half"
 *                           none → "not begun", and it can never begin from now on (drive/remote_script.c)
 *                           its group lives → "running"       gone without a word → nil
 *     attached, by its pid: its group lives → "running"       gone → nil
 *     neither:              the pid was not durable, so it was never let begin → "not begun"
 *
 * A host that shows another key than the one in the evidence is not asked at all. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/ssh_lua.h"
#include "script/raise.h"

enum { GRACE_S = 5 };

typedef struct probe_op {
    neap_gate gate;                  /* first */
    neap_session *session;
    neap_remote_names names;
    char *sudo, *job, *subject;
    long long pid, started;
    int64_t within_ms;
    bool ends;
    unsigned char allow[256];
    neap_remote_ask *ask;
    neap_remote_word word;
    neap_err err;
} probe_op;

static void on_told(void *arg, const neap_remote_word *word, const neap_err *err) {
    probe_op *p = arg;
    neap_remote_ask *ask = p->ask;
    p->ask = NULL;
    if (word) {
        p->word = *word;
    } else {
        neap_err_copy(&p->err, err);
    }
    neap_op_finish(&p->gate.op);
    neap_remote_ask_free(ask);
}

static void let_go(probe_op *p) {
    neap_remote_ask *ask = p->ask;
    p->ask = NULL;
    neap_remote_ask_free(ask);
}

static void probe_cancel(neap_op *op, bool force) {
    (void)force;
    let_go((probe_op *)op);
    neap_op_finish(op);
}

static void probe_drop(neap_op *op) {
    probe_op *p = (probe_op *)op;
    let_go(p);
    free(p->sudo);
    free(p->job);
    free(p->subject);
    neap_err_close(&p->err);
}

static const char *answer_of(const probe_op *p) {
    switch (p->word.verb) {
    case NEAP_WORD_ENDED: return p->allow[p->word.first & 255] ? "done" : "half";
    case NEAP_WORD_VOID:
    case NEAP_WORD_REFUSED: return "not begun";
    case NEAP_WORD_HALF: return "half";
    case NEAP_WORD_RUNNING: return "running";
    default: return NULL;
    }
}

static int probe_deliver(lua_State *L, neap_op *op) {
    probe_op *p = (probe_op *)op;
    if (p->err.code) return neap_fail(L, &p->err);
    lua_pushstring(L, answer_of(p));
    if (p->word.verb == NEAP_WORD_ENDED) lua_pushinteger(L, p->word.first);
    else lua_pushnil(L);
    return 2;
}

static const neap_op_class probe_class = {"what became of a command on a host", probe_cancel, probe_deliver, probe_drop};

static int probe_start(lua_State *L, neap_gate *g) {
    probe_op *p = (probe_op *)g;
    neap_remote_text text;
    if (p->job && p->ends) neap_remote_end_job(&text, p->sudo, p->job, GRACE_S);
    else if (p->job) neap_remote_ask_job(&text, p->sudo, p->job, p->within_ms);
    else if (p->ends) neap_remote_end_group(&text, p->sudo, p->pid, p->started, GRACE_S);
    else neap_remote_ask_group(&text, p->sudo, p->pid, p->started, p->within_ms);
    p->ask = neap_remote_ask_new(p->session->link, &text, false, &p->names, on_told, p);
    return neap_await(L, &g->op);
}

/* ---- evidence ---- */

static char *opt_text(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    char *copy = text ? neap_strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

static lua_Integer opt_integer(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    lua_Integer value = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
    lua_pop(L, 1);
    return value;
}

static bool has_other_host(lua_State *L, const neap_session *s) {
    const neap_ssh_card *card = neap_ssh_link_card(s->link);
    lua_getfield(L, 2, "host");
    const char *host = lua_tostring(L, -1);
    bool other = host && card && strcmp(host, card->fingerprint) != 0;
    lua_pop(L, 1);
    return other;
}

static void read_allow(lua_State *L, probe_op *p) {
    p->allow[0] = 1;
    int type = lua_getfield(L, 2, "allow");
    for (lua_Integer i = 1, n = type == LUA_TTABLE ? luaL_len(L, -1) : 0; i <= n; i++) {
        lua_geti(L, -1, i);
        p->allow[lua_tointeger(L, -1) & 255] = 1;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static int push_known(lua_State *L, const char *answer) {
    lua_pushstring(L, answer);
    return 1;
}

/* session:probe(evidence, {within_ms=, end_it=}) -> "done"|"not begun"|"half"|"running"|nil, its status | nil, err. Effect: asks, and with
 * end_it ends what we began. */
int neap_ssh_probe(lua_State *L) {
    neap_session *s = neap_check_session(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    if (has_other_host(L, s)) return push_known(L, NULL);
    probe_op *p = (probe_op *)neap_op_new(L, sizeof *p, &probe_class);
    p->err = (neap_err)NEAP_ERR_INIT;
    p->session = s;
    p->job = opt_text(L, "job");
    p->sudo = opt_text(L, "sudo");
    p->pid = opt_integer(L, 2, "pid");
    p->started = opt_integer(L, 2, "started");
    p->within_ms = opt_integer(L, 3, "within_ms");
    lua_getfield(L, 3, "end_it");
    p->ends = lua_toboolean(L, -1);
    read_allow(L, p);
    if (p->job ? strchr(p->job, '/') || *p->job == '.' : p->pid <= 1) return push_known(L, p->job ? NULL : "not begun");
    const neap_ssh_host *host = neap_ssh_link_host(s->link);
    p->names = (neap_remote_names){host->name, p->job ? p->job : "the command", NULL, p->sudo, host->user};
    p->subject = neap_strdup(s->subject);
    p->gate.act = (neap_act){.primitive = NEAP_P_HOST_READ, .target = s->role, .host = host->hostname, .subject = p->subject, .text = "probe"};
    p->gate.start = probe_start;
    return neap_gate_enter(L, &p->gate);
}
