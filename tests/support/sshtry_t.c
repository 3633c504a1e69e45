/* sshtry_t.c -- T.ssh_ask and T.ssh_session: the SSH floors beneath the bindings, each on a loop of its own, for the specs.
 *
 *     T.ssh_ask{ name=, file=, within_ms= } -> what neap_ssh_config makes of a name | nil, {code, message, hint}
 *     local s = T.ssh_session{ name=, file=, backend= }  -> session | nil, {…}      backend: "program", "native", "auto" (as neap will choose)
 *     s:card()  s:exec(command, stdin) -> {how, status, signal, out, err, why}  s:dial(host, port | path, text) -> bytes | nil, {…}
 *     s:many({commands}) -> {results, in their order}, all at once    s:lost(ms) -> message | nil     s:close() -> handles left open */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "drive/ssh_config.h"
#include "loop/timer.h"
#include "testlib.h"

#pragma weak neap_ssh_native_open                 /* a build without that back end takes the program for every host */
#define SESSION_META "neap.test.ssh_session"
enum { PATIENCE_MS = 120000, CLOSING_MS = 60000, RUNS_MAX = 64 };           /* nets: who is late for them never comes */

static void on_tick(void *arg) { *(bool *)arg = true; }

/* Turn until *flag, or until `ms` have passed. */
static bool wait_for(neap_loop *loop, const bool *flag, int64_t ms) {
    bool late = false;
    neap_timer *timer = neap_timer_new(loop, on_tick, &late);
    neap_timer_start(timer, ms);
    while (!*flag && !late) neap_loop_turn(loop, true);
    neap_timer_free(timer);
    return *flag;
}

/* [-0, +2, m] nil and the error as a table; it is closed. */
static int push_err(lua_State *L, neap_err *err) {
    lua_pushnil(L);
    lua_newtable(L);
    lua_pushstring(L, neap_code_name(err->code)), lua_setfield(L, -2, "code");
    lua_pushstring(L, err->message), lua_setfield(L, -2, "message");
    lua_pushstring(L, err->hint), lua_setfield(L, -2, "hint");
    neap_err_close(err);
    return 2;
}

static void copy_err(neap_err *to, const neap_err *from) {
    if (!from) return;
    neap_err_set(to, from->code, "%s", from->message);
    if (from->hint) neap_err_hint(to, "%s", from->hint);
}

/* Asking ---------------------------------------------------------------------------------------------------------------------------- */

typedef struct answer { bool done; neap_ssh_host *host; neap_err err; } answer;

static void on_answer(void *arg, neap_ssh_host *host, const neap_err *err) {
    answer *a = arg;
    a->host = host;
    a->done = true;
    copy_err(&a->err, err);
}

static void ask_for(neap_loop *loop, lua_State *L, answer *a) {
    lua_getfield(L, 1, "name"), lua_getfield(L, 1, "file"), lua_getfield(L, 1, "within_ms");
    *a = (answer){.err = NEAP_ERR_INIT};
    neap_ssh_config_ask(loop, luaL_checkstring(L, -3), luaL_optstring(L, -2, NULL), luaL_optinteger(L, -1, 0), on_answer, a);
    wait_for(loop, &a->done, PATIENCE_MS);
    lua_pop(L, 3);
}

static void set_list(lua_State *L, const char *name, char **list) {
    lua_newtable(L);
    for (int i = 0; list && list[i]; i++) lua_pushstring(L, list[i]), lua_rawseti(L, -2, i + 1);
    lua_setfield(L, -2, name);
}

static void push_host(lua_State *L, const neap_ssh_host *h) {
    const struct { const char *name, *value; } texts[] = {
        {"name", h->name}, {"hostname", h->hostname}, {"user", h->user}, {"alias", h->key_alias}, {"agent", h->agent}, {"needs_program", h->needs_program},
        {"config_file", h->config_file}, {"bind_address", h->bind_address},
    };
    const struct { const char *name; int value; } numbers[] = {
        {"port", h->port}, {"strict", h->strict}, {"family", h->family}, {"connect_ms", h->connect_ms}, {"alive_ms", h->alive_ms}, {"alive_count", h->alive_count},
    };
    lua_newtable(L);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) lua_pushstring(L, texts[i].value), lua_setfield(L, -2, texts[i].name);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) lua_pushinteger(L, numbers[i].value), lua_setfield(L, -2, numbers[i].name);
    lua_pushboolean(L, h->identities_only), lua_setfield(L, -2, "identities_only");
    lua_pushboolean(L, h->own_ciphers), lua_setfield(L, -2, "own_ciphers");
    set_list(L, "identities", h->identities);
    set_list(L, "certificates", h->certificates);
    set_list(L, "known_hosts", h->known_hosts);
    lua_newtable(L);
    for (int i = 0; h->jumps && h->jumps[i]; i++) push_host(L, h->jumps[i]), lua_rawseti(L, -2, i + 1);
    lua_setfield(L, -2, "jumps");
}

/* Let everything close; how many handles somebody forgot. */
static int end_loop(neap_loop *loop) {
    bool late = false;
    neap_timer *timer = neap_timer_new(loop, on_tick, &late);
    neap_timer_start(timer, CLOSING_MS);
    while (!late && neap_loop_handles(loop) > 1) neap_loop_turn(loop, true);
    neap_timer_free(timer);
    neap_loop_turn(loop, false);
    return neap_loop_close(loop);
}

static int ssh_ask(lua_State *L) {
    answer a;
    neap_loop *loop = neap_loop_new();
    luaL_checktype(L, 1, LUA_TTABLE);
    ask_for(loop, L, &a);
    int left = end_loop(loop);
    if (left) luaL_error(L, "%d handles are left", left);
    if (!a.host) return push_err(L, &a.err);
    push_host(L, a.host);
    neap_ssh_host_free(a.host);
    return 1;
}

static int identity_type(lua_State *L) { return lua_pushstring(L, neap_ssh_identity_type(luaL_checkstring(L, 1))), 1; }

/* Sessions -------------------------------------------------------------------------------------------------------------------------- */

typedef struct session {
    neap_loop *loop;
    neap_ssh *ssh;
    neap_ssh_host *host;
    bool opened, lost;
    neap_err err;
} session;

static void on_opened(void *arg, const neap_err *err) {
    session *s = arg;
    s->opened = true;
    copy_err(&s->err, err);
}

static void on_lost(void *arg, const neap_err *err) {
    session *s = arg;
    s->lost = true;
    copy_err(&s->err, err);
}

static int close_session(session *s) {
    if (!s->loop) return 0;
    neap_ssh_free(s->ssh);
    int left = end_loop(s->loop);
    neap_ssh_host_free(s->host);
    neap_err_close(&s->err);
    s->loop = NULL, s->ssh = NULL, s->host = NULL;
    return left;
}

static session *check_session(lua_State *L) { return luaL_checkudata(L, 1, SESSION_META); }

static int session_close(lua_State *L) { return lua_pushinteger(L, close_session(check_session(L))), 1; }

typedef neap_ssh *(*opener)(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg);

static void try_open(session *s, opener open) {
    s->opened = false;
    neap_err_close(&s->err);
    s->ssh = open(s->loop, s->host, on_opened, s);
    if (!wait_for(s->loop, &s->opened, PATIENCE_MS)) neap_err_set(&s->err, NEAP_E_TIMEOUT, "nobody called back");
    if (s->err.code == NEAP_OK) return;
    neap_ssh_free(s->ssh);
    s->ssh = NULL;
}

/* As neap chooses: libssh2 unless something needs the program or libssh2 says it cannot. */
static void open_session(session *s, const char *backend) {
    bool native = neap_ssh_native_open && (strcmp(backend, "native") == 0 || (strcmp(backend, "auto") == 0 && !s->host->needs_program));
    if (native) try_open(s, neap_ssh_native_open);
    if (native && (s->ssh || s->err.code != NEAP_E_UNSUPPORTED || strcmp(backend, "auto") != 0)) return;
    try_open(s, neap_ssh_program_open);
}

static int ssh_session(lua_State *L) {
    answer a;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "backend");
    const char *backend = luaL_optstring(L, -1, "program");
    session *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (session){.loop = neap_loop_new(), .err = NEAP_ERR_INIT};
    luaL_setmetatable(L, SESSION_META);
    ask_for(s->loop, L, &a);
    s->host = a.host;
    if (a.host) open_session(s, backend);
    else neap_err_move(&s->err, &a.err);
    if (s->ssh) return neap_ssh_on_lost(s->ssh, on_lost, s), 1;
    neap_err err = NEAP_ERR_INIT;
    neap_err_move(&err, &s->err);
    int left = close_session(s);
    if (left) luaL_error(L, "%d handles are left", left);
    return push_err(L, &err);
}

static int session_card(lua_State *L) {
    session *s = check_session(L);
    const neap_ssh_card *c = neap_ssh_card_of(s->ssh);
    const char *const names[] = {"backend", "banner", "key_type", "fingerprint", "user", "address", "authenticated"};
    if (!c) return 0;
    const char *const values[] = {c->backend, c->banner, c->key_type, c->fingerprint, c->user, c->address, c->authenticated};
    lua_newtable(L);
    for (int i = 0; i < 7; i++) lua_pushstring(L, values[i]), lua_setfield(L, -2, names[i]);
    return 1;
}

/* Commands -------------------------------------------------------------------------------------------------------------------------- */

typedef struct run {
    neap_ssh_exec *exec;
    neap_stream *streams[3];
    neap_buf texts[3];
    bool ended;
    int *open;
    neap_ssh_end end;
    neap_err err;
} run;

static void on_ended(void *arg, const neap_ssh_end *end, const neap_err *err) {
    run *r = arg;
    r->ended = true;
    r->end = *end;
    --*r->open;
    copy_err(&r->err, err);
}

static void read_on(run *r, int n);
static void on_out(void *arg, const char *data, ssize_t len, const neap_err *err) {
    run *r = arg;
    (void)err;
    if (len <= 0) return;
    neap_buf_add(&r->texts[1], data, (size_t)len);
    read_on(r, 1);
}
static void on_err(void *arg, const char *data, ssize_t len, const neap_err *err) {
    run *r = arg;
    (void)err;
    if (len <= 0) return;
    neap_buf_add(&r->texts[2], data, (size_t)len);
    read_on(r, 2);
}
static void read_on(run *r, int n) { neap_stream_read(r->streams[n], 65536, n == 1 ? on_out : on_err, r); }

static void on_shut(void *arg, const neap_err *err) { (void)arg, (void)err; }
static void on_written(void *arg, const neap_err *err) {
    run *r = arg;
    if (!err) neap_stream_shut(r->streams[0], on_shut, r);
}

static void begin(session *s, run *r, const char *command, const char *input, size_t len, int *open) {
    *r = (run){.err = NEAP_ERR_INIT, .open = open};
    ++*open;
    r->exec = neap_ssh_exec_start(s->ssh, command, on_ended, r);
    for (int n = 0; n < 3; n++) r->streams[n] = neap_ssh_exec_stream(r->exec, n);
    for (int n = 1; n < 3; n++) if (r->streams[n]) read_on(r, n);
    if (r->streams[0] && len) neap_stream_write(r->streams[0], input, len, on_written, r);
    else if (r->streams[0]) neap_stream_shut(r->streams[0], on_shut, r);
}

static void push_run(lua_State *L, run *r) {
    static const char *const hows[] = {"exited", "signalled", "untold", "refused"};
    lua_newtable(L);
    lua_pushstring(L, r->ended ? hows[r->end.how] : "running"), lua_setfield(L, -2, "how");
    lua_pushinteger(L, r->end.status), lua_setfield(L, -2, "status");
    lua_pushstring(L, r->end.signal), lua_setfield(L, -2, "signal");
    lua_pushlstring(L, r->texts[1].data ? r->texts[1].data : "", r->texts[1].len), lua_setfield(L, -2, "out");
    lua_pushlstring(L, r->texts[2].data ? r->texts[2].data : "", r->texts[2].len), lua_setfield(L, -2, "err");
    lua_pushstring(L, r->err.message), lua_setfield(L, -2, "why");
}

static void end_run(run *r) {
    neap_ssh_exec_free(r->exec);
    for (int n = 0; n < 3; n++) neap_stream_free(r->streams[n]), neap_buf_close(&r->texts[n]);
    neap_err_close(&r->err);
}

static void wait_all(session *s, const int *open, int64_t ms) {
    bool late = false;
    neap_timer *timer = neap_timer_new(s->loop, on_tick, &late);
    neap_timer_start(timer, ms);
    while (*open && !late) neap_loop_turn(s->loop, true);
    neap_timer_free(timer);
}

/* s:exec(command, stdin, ms): after ms it is freed as it is, "running" */
static int session_exec(lua_State *L) {
    session *s = check_session(L);
    size_t len = 0;
    const char *command = luaL_checkstring(L, 2), *input = luaL_optlstring(L, 3, "", &len);
    run r;
    int open = 0;
    begin(s, &r, command, input, len, &open);
    wait_all(s, &open, luaL_optinteger(L, 4, PATIENCE_MS));
    push_run(L, &r);
    end_run(&r);
    return 1;
}

static int session_many(lua_State *L) {
    session *s = check_session(L);
    static run runs[RUNS_MAX];
    int count = (int)luaL_len(L, 2), open = 0;
    luaL_argcheck(L, count <= RUNS_MAX, 2, "too many");
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        begin(s, &runs[i], luaL_checkstring(L, -1), "", 0, &open);
        lua_pop(L, 1);
    }
    wait_all(s, &open, PATIENCE_MS);
    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        push_run(L, &runs[i]);
        lua_rawseti(L, -2, i + 1);
        end_run(&runs[i]);
    }
    return 1;
}

static int session_lost(lua_State *L) {
    session *s = check_session(L);
    if (!wait_for(s->loop, &s->lost, luaL_optinteger(L, 2, PATIENCE_MS))) return 0;
    return lua_pushstring(L, s->err.message), 1;
}

/* Dials ----------------------------------------------------------------------------------------------------------------------------- */

typedef struct call { bool done, over; neap_stream *stream; neap_buf text; neap_err err; } call;

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    call *c = arg;
    c->done = true;
    c->stream = stream;
    copy_err(&c->err, err);
}

static void on_heard(void *arg, const char *data, ssize_t len, const neap_err *err) {
    call *c = arg;
    (void)err;
    if (len <= 0) { c->over = true; return; }
    neap_buf_add(&c->text, data, (size_t)len);
    neap_stream_read(c->stream, 65536, on_heard, c);
}

static void on_sent(void *arg, const neap_err *err) {
    call *c = arg;
    if (!err) neap_stream_shut(c->stream, on_shut, c);
}

static int session_dial(lua_State *L) {
    session *s = check_session(L);
    size_t len;
    call c = {.err = NEAP_ERR_INIT};
    const char *place = luaL_checkstring(L, 2), *text = luaL_optlstring(L, 4, "", &len);
    neap_dialer *d = *place == '/' ? neap_ssh_dial_unix(s->ssh, place) : neap_ssh_dial_tcp(s->ssh, place, (int)luaL_checkinteger(L, 3));
    neap_dialing *g = neap_dial(d, on_dialed, &c);
    if (!wait_for(s->loop, &c.done, PATIENCE_MS)) neap_dial_cancel(g);
    if (c.stream) {
        neap_stream_read(c.stream, 65536, on_heard, &c);
        neap_stream_write(c.stream, text, len, on_sent, &c);
        wait_for(s->loop, &c.over, PATIENCE_MS);
        neap_stream_free(c.stream);
    }
    neap_dialer_release(d);
    if (c.err.code != NEAP_OK) return push_err(L, &c.err);
    lua_pushlstring(L, c.text.data ? c.text.data : "", c.text.len);
    neap_buf_close(&c.text);
    return 1;
}

static int session_gc(lua_State *L) { return close_session(check_session(L)), 0; }

static const luaL_Reg methods[] = {{"card", session_card}, {"exec", session_exec}, {"many", session_many}, {"dial", session_dial},
                                   {"lost", session_lost}, {"close", session_close}, {NULL, NULL}};

static int first_session(lua_State *L) {
    if (luaL_newmetatable(L, SESSION_META)) {
        lua_pushcfunction(L, session_gc), lua_setfield(L, -2, "__gc");
        luaL_newlib(L, methods), lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    return ssh_session(L);
}

static const luaL_Reg ssh[] = {{"ssh_ask", ssh_ask}, {"ssh_session", first_session}, {"identity_type", identity_type}, {NULL, NULL}};
NEAP_TEST_LIBRARY(ssh)
