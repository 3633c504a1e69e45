/* ssh_tidy.c -- what a session leaves: nothing. A job's directory goes when its outcome is durable, beside whatever the task does next;
 * close waits for that, PATIENCE_MS at most. What is left behind then (a connection that broke, a run that was killed) is removed by a
 * later job after seven days. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind/ssh_lua.h"
#include "loop/timer.h"
#include "script/raise.h"

enum { PATIENCE_MS = 2000 };

/* One directory. The journal holds it until it has answered; the session links it until then and until it is removed. */
typedef struct tidying {
    neap_list node;
    neap_session *session;           /* NULL: closed meanwhile */
    char job[NEAP_REMOTE_JOB_SIZE];
    char *sudo, *user, *place;
    bool flushing;
    neap_remote_ask *ask;
} tidying;

static void free_tidying(tidying *t) {
    neap_session *s = t->session;
    neap_list_remove(&t->node);
    neap_remote_ask_free(t->ask);
    free(t->sudo);
    free(t->user);
    free(t->place);
    free(t);
    if (s && s->closer && neap_list_is_empty(&s->tidying)) neap_op_finish(s->closer);
}

static void on_removed(void *arg, const neap_remote_word *word, const neap_err *err) {
    (void)word, (void)err;                           /* what could not be removed is swept later */
    free_tidying(arg);
}

static void remove_directory(tidying *t) {
    neap_remote_text text;
    neap_remote_names names = {t->place, "sh", NULL, t->sudo, t->user};
    if (!t->session || !t->session->link || !neap_ssh_link_now(t->session->link)) { free_tidying(t); return; }
    neap_remote_forget(&text, t->sudo, t->job);
    t->ask = neap_remote_ask_new(t->session->link, &text, false, &names, on_removed, t);
}

static void on_durable(void *arg, const neap_err *err) {
    tidying *t = arg;
    t->flushing = false;
    if (err) free_tidying(t);
    else remove_directory(t);
}

void neap_session_tidy(lua_State *L, neap_session *s, const neap_far *f, const char *job) {
    neap_recorder *recorder = &neap_host_of(L)->recorder;
    if (!s->link) return;
    tidying *t = neap_zalloc(sizeof *t);
    t->session = s;
    t->sudo = f->sudo ? neap_strdup(f->sudo) : NULL;
    t->user = neap_strdup(f->names.user ? f->names.user : "");
    t->place = neap_strdup(f->names.place);
    strcpy(t->job, job);
    neap_list_append(&s->tidying, &t->node);
    if (!recorder->append) { remove_directory(t); return; }
    t->flushing = true;
    recorder->flush(recorder->self, on_durable, t);
}

void neap_session_drop(neap_session *s) {
    while (!neap_list_is_empty(&s->tidying)) {
        tidying *t = NEAP_LIST_OF(s->tidying.next, tidying, node);
        neap_list_remove(&t->node);
        t->session = NULL;
        if (!t->flushing) free_tidying(t);           /* else on_durable frees it */
    }
    neap_stream *lock = s->lock;
    s->lock = NULL;
    neap_stream_free(lock);
    neap_ssh_link *link = s->link;
    s->link = NULL;
    if (link) neap_ssh_link_close(link);
    neap_ssh_link_release(link);
    free(s->role);
    free(s->sudo);
    free(s->subject);
    free(s->lock_words);
    s->lock_words = NULL;
    s->role = s->sudo = s->subject = NULL;
}

/* ---- close ---- */

typedef struct close_op { neap_op op; neap_session *session; neap_timer *late; } close_op;

static void let_go(close_op *c) {
    if (c->session && c->session->closer == &c->op) c->session->closer = NULL;
    neap_timer_free(c->late);
    c->late = NULL;
}

static void close_cancel(neap_op *op, bool force) {
    (void)force;
    neap_op_finish(op);
}

static int close_deliver(lua_State *L, neap_op *op) {
    close_op *c = (close_op *)op;
    let_go(c);
    neap_session_drop(c->session);
    lua_pushboolean(L, 1);
    return 1;
}

static void close_on_stop(lua_State *L, neap_op *op) {
    (void)L;
    close_op *c = (close_op *)op;
    let_go(c);
    neap_session_drop(c->session);
}

static void close_drop(neap_op *op) { let_go((close_op *)op); }

static const neap_op_class close_class = {"a host to be left tidy", close_cancel, close_deliver, close_drop};

static void on_late(void *arg) { neap_op_finish(&((close_op *)arg)->op); }

/* session:close() -> true; twice is harmless. Effect: that of open. */
int neap_ssh_close(lua_State *L) {
    neap_session *s = luaL_checkudata(L, 1, "neap.ssh");
    if (!s->link || s->closer || neap_list_is_empty(&s->tidying)) {
        if (s->link && !s->closer) neap_session_drop(s);
        lua_pushboolean(L, 1);
        return 1;
    }
    close_op *c = (close_op *)neap_op_new(L, sizeof *c, &close_class);
    c->session = s;
    c->op.on_stop = close_on_stop;
    s->closer = &c->op;
    c->late = neap_timer_new(s->loop, on_late, c);
    neap_timer_start(c->late, PATIENCE_MS);
    return neap_await(L, &c->op);
}
