/* ssh_t.c -- a raw session of the libssh2 back end, for its specs: no quoting, no token, no ssh_config.
 *
 *     local s = T.ssh_open{ host="127.0.0.2", port=, user=, identities={…}, known_hosts={…}, agent=, strict="accept-new", jumps={ {…} }, connect_ms=, alive_ms= }
 *     s:card()  s:lost() -> err|nil  s:close()
 *     local e = s:exec("command")   e:stream(n) -> stream handle   e:wait() -> {how=, status=, signal=}, err|nil   e:free()
 *     s:dial("127.0.0.1", 6379) | s:dial("/path") -> stream handle | nil, err
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/stream_lua.h"
#include "drive/ssh.h"
#include "script/op.h"
#include "script/raise.h"
#include "script/state.h"
#include "testlib.h"

#define SESSION_META "neap.test.ssh"
#define EXEC_META "neap.test.ssh_exec"

/* The host ------------------------------------------------------------------------------------- */

static void free_list(char **list) {
    for (char **at = list; at && *at; at++) free(*at);
    free(list);
}

static void free_host(neap_ssh_host *h) {
    for (neap_ssh_host **j = h->jumps; j && *j; j++) free_host(*j);
    free(h->jumps);
    free(h->name), free(h->hostname), free(h->user), free(h->key_alias), free(h->agent), free(h->host_key_algorithms);
    free_list(h->identities), free_list(h->certificates), free_list(h->known_hosts);
    free(h);
}

static char *field_text(lua_State *L, int t, const char *name) {
    lua_getfield(L, t, name);
    char *text = lua_isnil(L, -1) ? NULL : neap_strdup(luaL_checkstring(L, -1));
    lua_pop(L, 1);
    return text;
}

static int field_int(lua_State *L, int t, const char *name, int otherwise) {
    lua_getfield(L, t, name);
    int n = (int)luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return n;
}

static char **field_list(lua_State *L, int t, const char *name) {
    lua_getfield(L, t, name);
    int n = lua_istable(L, -1) ? (int)luaL_len(L, -1) : 0;
    char **list = neap_zalloc(sizeof *list * (size_t)(n + 1));
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, -1, i + 1);
        list[i] = neap_strdup(luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return list;
}

static neap_ssh_host *read_host(lua_State *L, int t) {
    static const char *const policies[] = {"yes", "accept-new", "no", NULL};
    neap_ssh_host *h = neap_zalloc(sizeof *h);
    h->hostname = field_text(L, t, "host");
    h->name = field_text(L, t, "name");
    if (!h->name) h->name = neap_strdup(h->hostname);
    h->user = field_text(L, t, "user");
    h->agent = field_text(L, t, "agent");
    h->key_alias = field_text(L, t, "alias");
    h->port = field_int(L, t, "port", 22);
    h->connect_ms = field_int(L, t, "connect_ms", 0);
    h->alive_ms = field_int(L, t, "alive_ms", 0);
    h->identities = field_list(L, t, "identities");
    h->certificates = field_list(L, t, "certificates");
    h->known_hosts = field_list(L, t, "known_hosts");
    lua_getfield(L, t, "identities_only");
    h->identities_only = lua_toboolean(L, -1);
    lua_getfield(L, t, "strict");
    h->strict = lua_isnil(L, -1) ? NEAP_SSH_STRICT : (unsigned)luaL_checkoption(L, -1, NULL, policies);
    lua_getfield(L, t, "jumps");
    int n = lua_istable(L, -1) ? (int)luaL_len(L, -1) : 0;
    h->jumps = neap_zalloc(sizeof *h->jumps * (size_t)(n + 1));
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, -1, i + 1);
        h->jumps[i] = read_host(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_pop(L, 3);
    return h;
}

/* Waiting -------------------------------------------------------------------------------------- */

typedef struct session { neap_ssh *ssh; neap_ssh_host *host; neap_err lost; neap_op *waiter; } session;
typedef struct command { neap_ssh_exec *exec; neap_ssh_end end; neap_err err; bool over; neap_op *waiter; } command;

static void copy_err(neap_err *to, const neap_err *from) {
    if (to->code) return;
    neap_err_set(to, from->code, "%s", from->message);
    if (from->hint) neap_err_hint(to, "%s", from->hint);
    to->retry = from->retry;
}

/* Opening: the userdata of the session is the op's user value's business; it stays on the stack. */
typedef struct opening { neap_op op; session *s; neap_err err; } opening;

static void on_opened(void *arg, const neap_err *err) {
    opening *o = arg;
    if (err) copy_err(&o->err, err);
    neap_op_finish(&o->op);
}

static void close_session(session *s) {
    neap_ssh_free(s->ssh);
    s->ssh = NULL;
    if (s->host) free_host(s->host);
    s->host = NULL;
    neap_err_close(&s->lost);
}

static void opening_cancel(neap_op *op, bool force) {
    (void)force;
    close_session(((opening *)op)->s);
    neap_op_finish(op);
}

static int opening_deliver(lua_State *L, neap_op *op) {
    opening *o = (opening *)op;
    if (o->err.code) {
        close_session(o->s);
        return neap_fail(L, &o->err);
    }
    lua_pushvalue(L, 2);
    return 1;
}

static void opening_drop(neap_op *op) { neap_err_close(&((opening *)op)->err); }

static const neap_op_class opening_class = {"an SSH connection", opening_cancel, opening_deliver, opening_drop};

static void on_lost(void *arg, const neap_err *err) {
    session *s = arg;
    copy_err(&s->lost, err);
    if (s->waiter) neap_op_finish(s->waiter);
}

static int session_gc(lua_State *L) {
    session *s = luaL_checkudata(L, 1, SESSION_META);
    if (s->ssh) close_session(s);
    return 0;
}

static int ssh_open(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    session *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (session){.lost = NEAP_ERR_INIT};
    luaL_setmetatable(L, SESSION_META);
    s->host = read_host(L, 1);
    opening *o = (opening *)neap_op_new(L, sizeof *o, &opening_class);
    o->err = (neap_err)NEAP_ERR_INIT;
    o->s = s;
    s->ssh = neap_ssh_native_open(neap_host_of(L)->loop, s->host, on_opened, o);
    neap_ssh_on_lost(s->ssh, on_lost, s);
    return neap_await(L, &o->op);
}

static session *check_session(lua_State *L) {
    session *s = luaL_checkudata(L, 1, SESSION_META);
    luaL_argcheck(L, s->ssh, 1, "the session is closed");
    return s;
}

static int session_close(lua_State *L) {
    session *s = luaL_checkudata(L, 1, SESSION_META);
    if (s->ssh) close_session(s);
    return 0;
}

static int session_card(lua_State *L) {
    const neap_ssh_card *card = neap_ssh_card_of(check_session(L)->ssh);
    if (!card) return 0;
    const char *const fields[] = {"backend", card->backend, "banner", card->banner, "key_type", card->key_type, "fingerprint", card->fingerprint,
                                  "user", card->user, "address", card->address, "authenticated", card->authenticated};
    lua_newtable(L);
    for (int i = 0; i < 14; i += 2) {
        lua_pushstring(L, fields[i + 1]);
        lua_setfield(L, -2, fields[i]);
    }
    return 1;
}

/* session:lost() -> the error's message, or nothing; with true: wait for it */
typedef struct waiting { neap_op op; session *s; } waiting;

static void waiting_cancel(neap_op *op, bool force) {
    (void)force;
    ((waiting *)op)->s->waiter = NULL;
    neap_op_finish(op);
}

static int waiting_deliver(lua_State *L, neap_op *op) {
    waiting *w = (waiting *)op;
    w->s->waiter = NULL;
    if (!w->s->lost.code) return 0;
    lua_pushstring(L, w->s->lost.message);
    return 1;
}

static const neap_op_class waiting_class = {"a loss", waiting_cancel, waiting_deliver, NULL};

static int session_lost(lua_State *L) {
    session *s = check_session(L);
    lua_settop(L, 2);
    waiting *w = (waiting *)neap_op_new(L, sizeof *w, &waiting_class);
    w->s = s;
    if (s->lost.code || !lua_toboolean(L, 2)) return waiting_deliver(L, &w->op);
    s->waiter = &w->op;
    return neap_await(L, &w->op);
}

/* Commands ------------------------------------------------------------------------------------- */

static void on_ended(void *arg, const neap_ssh_end *end, const neap_err *err) {
    command *c = arg;
    c->end = *end;
    c->over = true;
    if (err) copy_err(&c->err, err);
    if (c->waiter) neap_op_finish(c->waiter);
}

static int session_exec(lua_State *L) {
    session *s = check_session(L);
    const char *text = luaL_checkstring(L, 2);
    command *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (command){.err = NEAP_ERR_INIT};
    luaL_setmetatable(L, EXEC_META);
    c->exec = neap_ssh_exec_start(s->ssh, text, on_ended, c);
    return 1;
}

static int exec_free(lua_State *L) {
    command *c = luaL_checkudata(L, 1, EXEC_META);
    neap_ssh_exec_free(c->exec);
    c->exec = NULL;
    neap_err_close(&c->err);
    return 0;
}

static int exec_stream(lua_State *L) {
    command *c = luaL_checkudata(L, 1, EXEC_META);
    neap_stream_handle *h = neap_stream_new_handle(L, 0);
    h->stream = neap_ssh_exec_stream(c->exec, (int)luaL_checkinteger(L, 2));
    luaL_argcheck(L, h->stream, 2, "handed out already");
    return 1;
}

typedef struct ending { neap_op op; command *c; } ending;

static void ending_cancel(neap_op *op, bool force) {
    (void)force;
    ((ending *)op)->c->waiter = NULL;
    neap_op_finish(op);
}

static int ending_deliver(lua_State *L, neap_op *op) {
    static const char *const words[] = {"exited", "signalled", "untold", "refused"};
    command *c = ((ending *)op)->c;
    c->waiter = NULL;
    if (!c->over) return 0;
    lua_newtable(L);
    lua_pushstring(L, words[c->end.how]);
    lua_setfield(L, -2, "how");
    lua_pushinteger(L, c->end.status);
    lua_setfield(L, -2, "status");
    lua_pushstring(L, c->end.signal);
    lua_setfield(L, -2, "signal");
    if (!c->err.code) return 1;
    lua_pushstring(L, c->err.message);
    return 2;
}

static const neap_op_class ending_class = {"the end of a remote command", ending_cancel, ending_deliver, NULL};

static int exec_wait(lua_State *L) {
    command *c = luaL_checkudata(L, 1, EXEC_META);
    ending *e = (ending *)neap_op_new(L, sizeof *e, &ending_class);
    e->c = c;
    if (c->over) return ending_deliver(L, &e->op);
    c->waiter = &e->op;
    return neap_await(L, &e->op);
}

/* Tunnels -------------------------------------------------------------------------------------- */

typedef struct dialing { neap_op op; neap_dialer *dialer; neap_dialing *dial; neap_stream *stream; neap_err err; } dialing;

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    dialing *d = arg;
    d->dial = NULL;
    d->stream = stream;
    if (err) copy_err(&d->err, err);
    neap_op_finish(&d->op);
}

static void dialing_cancel(neap_op *op, bool force) {
    dialing *d = (dialing *)op;
    (void)force;
    if (d->dial) neap_dial_cancel(d->dial);
    d->dial = NULL;
    neap_op_finish(op);
}

static int dialing_deliver(lua_State *L, neap_op *op) {
    dialing *d = (dialing *)op;
    if (d->err.code) return neap_fail(L, &d->err);
    neap_stream_handle *h = neap_stream_new_handle(L, 0);
    h->stream = d->stream;
    d->stream = NULL;
    return 1;
}

static void dialing_drop(neap_op *op) {
    dialing *d = (dialing *)op;
    if (d->dial) neap_dial_cancel(d->dial);
    neap_stream_free(d->stream);
    neap_dialer_release(d->dialer);
    neap_err_close(&d->err);
}

static const neap_op_class dialing_class = {"a tunnel", dialing_cancel, dialing_deliver, dialing_drop};

static int session_dial(lua_State *L) {
    session *s = check_session(L);
    const char *to = luaL_checkstring(L, 2);
    int port = (int)luaL_optinteger(L, 3, 0);
    dialing *d = (dialing *)neap_op_new(L, sizeof *d, &dialing_class);
    d->err = (neap_err)NEAP_ERR_INIT;
    d->dialer = port ? neap_ssh_dial_tcp(s->ssh, to, port) : neap_ssh_dial_unix(s->ssh, to);
    d->dial = neap_dial(d->dialer, on_dialed, d);
    return neap_await(L, &d->op);
}

/* The library ---------------------------------------------------------------------------------- */

static void make_meta(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
    if (luaL_newmetatable(L, name)) {
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

static const luaL_Reg session_methods[] = {{"close", session_close}, {"card", session_card}, {"lost", session_lost}, {"exec", session_exec},
                                           {"dial", session_dial}, {NULL, NULL}};
static const luaL_Reg exec_methods[] = {{"stream", exec_stream}, {"wait", exec_wait}, {"free", exec_free}, {NULL, NULL}};

static int ssh_open_first(lua_State *L) {
    make_meta(L, SESSION_META, session_methods, session_gc);
    make_meta(L, EXEC_META, exec_methods, exec_free);
    return ssh_open(L);
}

static const luaL_Reg ssh_functions[] = {{"ssh_open", ssh_open_first}, {NULL, NULL}};
NEAP_TEST_LIBRARY(ssh_functions)
