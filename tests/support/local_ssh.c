/* local_ssh.c -- T.local_host{…}: a session of native.ssh whose far end is this machine, so that what is said to a remote shell can be
 * proved without a server.
 *
 * Each exec is `SHELL -c COMMAND` in a child of ours. T.local_lose() breaks every connection there is; the children at our end of a
 * channel are killed with it, what they started in sessions of its own lives on, as with sshd. T.local_away(n) refuses the next n openings,
 * T.local_key(text) is the host key from now on, T.local_room(n) how many commands a connection has at a time (0: any number). */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "bind/ssh_lua.h"
#include "drive/ssh_link.h"
#include "local_ssh.h"
#include "loop/child.h"
#include "loop/timer.h"
#include "testlib.h"

typedef struct connection {
    neap_ssh ssh;                    /* first */
    neap_list node, execs;
    neap_timer *timer;
    neap_ssh_opened_fn opened;
    neap_ssh_lost_fn lost;
    void *arg, *lost_arg;
    bool open, dead;
} connection;

typedef struct tap tap;
typedef struct channel {
    neap_ssh_exec exec;              /* first */
    neap_list node;
    neap_loop *loop;
    neap_child *child;
    tap *taps[3];
    bool handed[3], over[3], exited, told;
    int status, signal;
    neap_ssh_end_fn ended;
    void *arg;
    neap_timer *late;                /* tells a refusal */
    neap_err err;
} channel;

/* A stream of the channel that notes its end. It outlives the channel when it was handed out. */
struct tap {
    neap_stream stream;              /* first */
    neap_stream *inner;
    channel *owner;
    int n;
    neap_stream_read_fn got;
    void *arg;
};

static neap_list connections = {&connections, &connections};
static int away, room, opened_count;
static char key[80] = "SHA256:local", shell[256] = "sh";
static char *path, *home, *login;

/* ---- channels ---- */

static void check_end(channel *c) {
    if (c->told || !c->exited || !c->over[1] || !c->over[2]) return;
    c->told = true;
    neap_ssh_end end = {.how = c->signal ? NEAP_SSH_SIGNALLED : NEAP_SSH_EXITED, .status = c->status};
    strcpy(end.signal, c->signal == 9 ? "KILL" : "TERM");
    c->ended(c->arg, &end, NULL);
}

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    tap *t = arg;
    channel *owner = t->owner;
    neap_stream_read_fn got = t->got;
    int n = t->n;
    t->got = NULL;
    if (!got) return;                                /* freed while it was read */
    got(t->arg, data, len, err);
    if (len > 0 || !owner) return;
    for (neap_list *at = connections.next; at != &connections; at = at->next) {      /* the callback may have freed it */
        connection *s = NEAP_LIST_OF(at, connection, node);
        for (neap_list *e = s->execs.next; e != &s->execs; e = e->next)
            if (NEAP_LIST_OF(e, channel, node) == owner) { owner->over[n] = true; check_end(owner); return; }
    }
}

static void fail_read(neap_stream_read_fn got, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the connection was lost");
    got(arg, NULL, -1, &err);
    neap_err_close(&err);
}

static void tap_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    tap *t = (tap *)s;
    if (!t->inner) { fail_read(got, arg); return; }
    t->got = got;
    t->arg = arg;
    neap_stream_read(t->inner, most, on_got, t);
}

static void tap_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    tap *t = (tap *)s;
    neap_err err = NEAP_ERR_INIT;
    if (t->inner) { neap_stream_write(t->inner, data, len, done, arg); return; }
    neap_err_set(&err, NEAP_E_CLOSED, "the connection was lost");
    done(arg, &err);
    neap_err_close(&err);
}

static void tap_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    tap *t = (tap *)s;
    if (t->inner) neap_stream_shut(t->inner, done, arg);
    else done(arg, NULL);
}

static void tap_stop(neap_stream *s) {
    tap *t = (tap *)s;
    if (t->inner) neap_stream_stop(t->inner);
}

static void tap_free(neap_stream *s) {
    tap *t = (tap *)s;
    channel *c = t->owner;
    neap_stream_free(t->inner);
    if (c) {
        c->taps[t->n] = NULL;
        c->over[t->n] = true;
    }
    free(t);
    if (c) check_end(c);
}

static const neap_stream_class tap_class = {"local channel", tap_read, tap_write, tap_shut, tap_stop, tap_free};

static void on_exit_status(void *arg, int status, int signal) {
    channel *c = arg;
    c->exited = true;
    c->status = status;
    c->signal = signal;
    check_end(c);
}

static void on_refused(void *arg) {
    channel *c = arg;
    neap_ssh_end end = {.how = c->err.code == NEAP_E_UNREACHABLE ? NEAP_SSH_REFUSED : NEAP_SSH_UNTOLD};
    c->told = true;
    c->ended(c->arg, &end, &c->err);
}

static neap_ssh_exec *local_exec(neap_ssh *ssh, const char *command, neap_ssh_end_fn ended, void *arg);

/* The streams that are out say CLOSED from now on; the others go. */
static void cut(channel *c) {
    for (int n = 0; n < 3; n++) {
        tap *t = c->taps[n];
        c->taps[n] = NULL;
        if (!t) continue;
        t->owner = NULL;
        if (!c->handed[n]) { tap_free(&t->stream); continue; }
        neap_stream *inner = t->inner;
        neap_stream_read_fn got = t->got;
        t->inner = NULL;
        t->got = NULL;
        neap_stream_free(inner);
        if (got) fail_read(got, t->arg);
    }
    neap_child_free(c->child);
    c->child = NULL;
}

static void local_exec_free(neap_ssh_exec *e) {
    channel *c = (channel *)e;
    neap_list_remove(&c->node);
    c->told = true;
    cut(c);
    neap_timer_free(c->late);
    neap_err_close(&c->err);
    free(c);
}

static neap_stream *local_exec_stream(neap_ssh_exec *e, int n) {
    channel *c = (channel *)e;
    if (c->handed[n] || !c->taps[n]) return NULL;
    c->handed[n] = true;
    return &c->taps[n]->stream;
}

/* ---- connections ---- */

static const neap_ssh_card *local_card(neap_ssh *s) {
    static neap_ssh_card card = {"local", "SSH-2.0-local", "ssh-local", key, "me", "127.0.0.1:0", "none"};
    return ((connection *)s)->open ? &card : NULL;
}

static void local_on_lost(neap_ssh *s, neap_ssh_lost_fn fn, void *arg) {
    connection *c = (connection *)s;
    c->lost = fn;
    c->lost_arg = arg;
}

static void local_free(neap_ssh *ssh) {
    connection *s = (connection *)ssh;
    for (neap_list *e = s->execs.next; e != &s->execs; e = e->next) cut(NEAP_LIST_OF(e, channel, node));
    while (!neap_list_is_empty(&s->execs)) neap_list_remove(s->execs.next);
    neap_list_remove(&s->node);
    neap_timer_free(s->timer);
    free(s);
}

static const neap_ssh_class local_class = {"local", local_card, local_on_lost, local_exec, local_exec_stream, local_exec_free, NULL, NULL, local_free};

static bool has_room(const connection *s) {
    int count = 0;
    for (const neap_list *n = s->execs.next; n != &s->execs; n = n->next) count++;
    return !room || count <= room;
}

static neap_ssh_exec *local_exec(neap_ssh *ssh, const char *command, neap_ssh_end_fn ended, void *arg) {
    connection *s = (connection *)ssh;
    channel *c = neap_zalloc(sizeof *c);
    const char *argv[] = {shell, "-c", command, NULL};
    if (strcmp(shell, "busybox") == 0) argv[0] = "/bin/busybox";
    const char *busybox[] = {"/bin/busybox", "sh", "-c", command, NULL};
    const char *env[] = {path, home, "LANG=C", login, NULL};
    neap_child_options o = {.argv = strcmp(shell, "busybox") ? argv : busybox, .env = env, .cwd = "/", .pipes = 7};
    *c = (channel){.exec.class = &local_class, .loop = ssh->loop, .ended = ended, .arg = arg, .err = NEAP_ERR_INIT};
    neap_list_append(&s->execs, &c->node);
    if (s->dead) neap_err_set(&c->err, NEAP_E_CLOSED, "the connection was lost");
    else if (!has_room(s)) neap_err_set(&c->err, NEAP_E_UNREACHABLE, "there is no room for another command");
    else c->child = neap_child_new(ssh->loop, &o, on_exit_status, c, &c->err);
    for (int n = 0; n < 3; n++) {
        c->taps[n] = neap_zalloc(sizeof *c->taps[n]);
        *c->taps[n] = (tap){.stream.class = &tap_class, .owner = c, .n = n, .inner = c->child ? neap_child_stream(c->child, n) : NULL};
    }
    if (!c->child) {
        c->late = neap_timer_new(ssh->loop, on_refused, c);
        neap_timer_start(c->late, 0);
    }
    return &c->exec;
}

static void on_time(void *arg) {
    connection *s = arg;
    neap_err err = NEAP_ERR_INIT;
    if (away == 0) {
        s->open = true;
        opened_count++;
        s->opened(s->arg, NULL);
        return;
    }
    away--;
    neap_err_set(&err, NEAP_E_UNREACHABLE, "nobody answers at 127.0.0.1");
    s->opened(s->arg, &err);
    neap_err_close(&err);
}

neap_ssh *neap_test_local_open(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg) {
    connection *s = neap_zalloc(sizeof *s);
    (void)host;
    s->ssh = (neap_ssh){&local_class, loop};
    s->opened = opened;
    s->arg = arg;
    neap_list_append(&connections, &s->node);
    neap_list_init(&s->execs);
    s->timer = neap_timer_new(loop, on_time, s);
    neap_timer_start(s->timer, 0);
    return &s->ssh;
}

/* A lost connection: every channel is told, then who listens. */
static void lose(connection *s) {
    neap_ssh_end end = {.how = NEAP_SSH_UNTOLD};
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "the connection was lost");
    s->dead = true;
    s->open = false;
    while (!neap_list_is_empty(&s->execs)) {
        channel *c = NEAP_LIST_OF(s->execs.next, channel, node);
        neap_list_remove(&c->node);
        bool told = c->told;
        c->told = true;
        neap_ssh_end_fn ended = c->ended;
        void *arg = c->arg;
        cut(c);
        if (!told) ended(arg, &end, &err);
    }
    if (s->lost) s->lost(s->lost_arg, &err);
    neap_err_close(&err);
}

/* ---- Lua ---- */

/* T.local_host{shell=, path=, home=, sudo=, login=} -> session. login: what SHELL says there */
static int local_host(lua_State *L) {
    static const neap_ssh_backends backends = {neap_test_local_open, NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "shell");
    snprintf(shell, sizeof shell, "%s", luaL_optstring(L, -1, "sh"));
    lua_getfield(L, 1, "path");
    free(path), free(home), free(login);
    neap_buf text = NEAP_BUF_INIT;
    neap_buf_addf(&text, "PATH=%s", luaL_optstring(L, -1, getenv("PATH")));
    path = neap_buf_take(&text);
    lua_getfield(L, 1, "home");
    neap_buf_addf(&text, "HOME=%s", luaL_checkstring(L, -1));
    home = neap_buf_take(&text);
    lua_getfield(L, 1, "login");
    login = NULL;
    if (lua_isstring(L, -1)) neap_buf_addf(&text, "SHELL=%s", lua_tostring(L, -1)), login = neap_buf_take(&text);
    lua_getfield(L, 1, "sudo");
    const char *sudo = lua_isboolean(L, -1) ? "" : lua_tostring(L, -1);
    neap_ssh_host *host = neap_zalloc(sizeof *host);
    host->name = neap_strdup("here");
    host->hostname = neap_strdup("127.0.0.1");
    host->user = neap_strdup("me");
    opened_count = 0;
    away = room = 0;
    strcpy(key, "SHA256:local");
    neap_ssh_push_session(L, neap_ssh_link_new(neap_host_of(L)->loop, host, &backends), "here", sudo);
    return 1;
}

/* T.local_lose() -> connections broken */
static int local_lose(lua_State *L) {
    int count = 0;
    for (neap_list *at = connections.next; at != &connections; ) {
        connection *s = NEAP_LIST_OF(at, connection, node);
        at = at->next;
        if (s->open && !s->dead) lose(s), count++;
    }
    lua_pushinteger(L, count);
    return 1;
}

/* T.local_away(n) */
static int local_away(lua_State *L) {
    away = (int)luaL_checkinteger(L, 1);
    return 0;
}

/* T.local_room(n) */
static int local_room(lua_State *L) {
    room = (int)luaL_checkinteger(L, 1);
    return 0;
}

/* T.local_key(text) */
static int local_key(lua_State *L) {
    snprintf(key, sizeof key, "%s", luaL_checkstring(L, 1));
    return 0;
}

/* T.local_opened() -> connections made since T.local_host */
static int local_opened(lua_State *L) {
    lua_pushinteger(L, opened_count);
    return 1;
}

static const luaL_Reg local[] = {{"local_host", local_host}, {"local_lose", local_lose}, {"local_away", local_away}, {"local_key", local_key}, {"local_room", local_room},
                                 {"local_opened", local_opened}, {NULL, NULL}};
NEAP_TEST_LIBRARY(local)
