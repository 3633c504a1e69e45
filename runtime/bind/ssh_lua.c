/* ssh_lua.c -- native.ssh: a host.
 *
 *     local host <close> = ssh.open { name = "hermes", role = "hermes" }
 *     local disk = host:read { argv = { "df", "-P", "/srv" } }       -- declared: runs in previews, over this connection
 *     host:run { argv = { "systemctl", "stop", "app" } }             -- a job: outlives a lost connection, is never begun twice
 *     local dump <close> = host:start { argv = { "pg_dump", … }, read = true }      -- beside the task, with streams
 *
 * What is told about a host is told about its key: the subject is "host:<fingerprint>", so two names of one machine are one subject.
 * A lost connection is opened again by whoever needs it next; one that then shows another key is refused (drive/ssh_link.c). */
#include "bind/ssh_lua.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/net_lua.h"
#include "bind/ssh_file.h"
#include "script/function.h"
#include "script/raise.h"

#define SESSION_META "neap.ssh"

static void push_meta(lua_State *L);

neap_session *neap_ssh_push_session(lua_State *L, neap_ssh_link *link, const char *role, const char *sudo) {
    neap_session *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (neap_session){.loop = neap_host_of(L)->loop};
    neap_list_init(&s->tidying);
    s->link = link;
    s->role = neap_strdup(role);
    s->sudo = sudo ? neap_strdup(sudo) : NULL;
    push_meta(L);
    lua_setmetatable(L, -2);
    return s;
}

static neap_session *to_session(lua_State *L) { return luaL_checkudata(L, 1, SESSION_META); }

/* What is known of a host that was not reached yet is its name. */
static void set_subject(neap_session *s) {
    const neap_ssh_card *card = neap_ssh_link_card(s->link);
    neap_buf subject = NEAP_BUF_INIT;
    neap_buf_addf(&subject, "host:%s", card ? card->fingerprint : neap_ssh_link_host(s->link)->name);
    free(s->subject);
    s->subject = neap_buf_take(&subject);
}

neap_session *neap_check_session(lua_State *L) {
    neap_session *s = to_session(L);
    if (!s->link) neap_raisef(L, NEAP_E_USAGE, "the session with host \"%s\" is closed", s->role);
    set_subject(s);
    return s;
}

/* What is to run ----------------------------------------------------------------------------------- */

/* "allow":[1,2], for whoever judges the status later. */
static void add_allowed(neap_buf *to, const unsigned char allow[256]) {
    int count = 0;
    for (int i = 1; i < 256; i++) {
        if (!allow[i]) continue;
        if (!count) neap_buf_adds(to, to->len ? ",\"allow\":[" : "\"allow\":[");
        neap_buf_addf(to, count++ ? ",%d" : "%d", i);
    }
    if (count) neap_buf_addc(to, ']');
}

/* [-0, +0, e] `sudo` of the call, or that of the session. */
static void read_sudo(lua_State *L, const neap_session *s, neap_far *f) {
    int type = lua_getfield(L, 2, "sudo");
    const char *user = s->sudo;
    if (type == LUA_TBOOLEAN) user = lua_toboolean(L, -1) ? "" : NULL;
    else if (type == LUA_TSTRING) user = lua_tostring(L, -1);
    else if (type != LUA_TNIL) neap_raisef(L, NEAP_E_USAGE, "sudo is true or the name of a user");
    if (user && (*user == '-' || strpbrk(user, " \n\t"))) neap_raisef(L, NEAP_E_USAGE, "sudo has a name that is none: \"%s\"", user);
    if (user) f->sudo = neap_strdup(user);
    lua_pop(L, 1);
}

/* As people type it, for those who read it and for rules: "sudo systemctl stop", "sudo -u postgres dropdb". */
static void spell_sudo(neap_far *f) {
    neap_command *c = &f->command;
    neap_buf before = NEAP_BUF_INIT;
    neap_buf_adds(&before, "sudo");
    if (*f->sudo) neap_buf_addf(&before, " -u %s", f->sudo);
    c->spelled[1] = neap_command_join(before.data, (const char *const *)c->argv);
    neap_buf_addf(&before, " %s", c->text);
    free(c->text);
    c->text = neap_buf_take(&before);
}

void neap_far_read(lua_State *L, neap_session *s, neap_far *f, neap_gate *g) {
    neap_command *c = &f->command;
    const neap_ssh_host *host = neap_ssh_link_host(s->link);
    neap_command_read_shell(L, 2, c);
    read_sudo(L, s, f);
    free(c->subject);
    c->subject = neap_strdup(c->changes && !c->reads ? c->changes : s->subject);
    if (!c->role) c->role = neap_strdup(s->role);
    f->what = (neap_remote_command){.argv = (const char *const *)c->argv, .env = (const char *const *)c->env,
                                    .secrets = (const char *const *)c->secrets, .cwd = c->cwd, .sudo = f->sudo};
    f->names = (neap_remote_names){host->name, c->argv[0], c->cwd, f->sudo, host->user};
    if (f->sudo) spell_sudo(f);
    g->act = (neap_act){.primitive = c->reads ? NEAP_P_HOST_READ : NEAP_P_HOST_RUN, .target = c->role, .host = host->hostname,
                        .subject = c->subject, .text = c->text, .spelled = (const char *const *)c->spelled};
    g->declared = c->reads;
    if (strcmp(c->role, host->name) == 0) return;
    g->plan = f->where = neap_asprintf("on %s", host->name);
}

void neap_far_close(neap_far *f) {
    neap_command_close(&f->command);
    free(f->sudo);
    free(f->where);
    f->sudo = f->where = NULL;
}

void neap_far_evidence(const neap_session *s, const neap_far *f, const char *job, neap_gate *g) {
    const neap_ssh_card *card = neap_ssh_link_card(s->link);
    neap_json_member(&g->evidence, "job", job);
    neap_json_member(&g->evidence, "host", card ? card->fingerprint : NULL);
    neap_json_member(&g->evidence, "ssh", neap_ssh_link_host(s->link)->name);
    neap_json_member(&g->evidence, "sudo", f->sudo);
    add_allowed(&g->evidence, f->command.allow);
}

bool neap_far_note_started(neap_gate *g, long long pid, long long started, neap_command_note **note,
                           void (*on_durable)(void *arg, const neap_err *err), void *arg) {
    neap_buf members = NEAP_BUF_INIT;
    if (!g->op.task) return false;
    neap_json_member_int(&members, "pid", pid);
    neap_json_member_int(&members, "started", started);
    bool noted = neap_command_note_evidence(neap_task_thread(g->op.task), g, members.data, note, on_durable, arg);
    neap_buf_close(&members);
    return noted;
}

/* How it ended ------------------------------------------------------------------------------------- */

static int push_result(lua_State *L, const neap_remote_end *end, neap_capture *out, neap_capture *errors) {
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, end->status);
    lua_setfield(L, -2, end->how == NEAP_REMOTE_SIGNALLED ? "signal" : "status");
    long long dropped = neap_capture_push(L, out, "out");
    neap_capture_push_missing(L, dropped + neap_capture_push(L, errors, "err"));
    return 1;
}

/* Nobody said how it ended: for a write that is {unknown}; a read may be asked again. */
static int deliver_untold(lua_State *L, neap_gate *g, const neap_far *f, neap_err *err) {
    neap_err told = NEAP_ERR_INIT;
    neap_gate_outcome(L, g, "unknown", NULL, err);
    if (f->command.reads) {
        err->retry = true;
        return neap_fail(L, err);
    }
    neap_err_set(&told, NEAP_E_UNKNOWN, "nobody can say how \"%s\" on %s ended: %s", f->command.argv[0], f->names.place, err->message);
    neap_err_hint(&told, "%s", err->hint ? err->hint : "It was begun, and it is not begun again before that is settled.");
    neap_err_close(err);
    return neap_fail(L, &told);
}

void neap_far_stopped(lua_State *L, neap_gate *g, const neap_remote_end *end) {
    neap_buf members = NEAP_BUF_INIT;
    bool begun = !end || end->how != NEAP_REMOTE_NOT_BEGUN;
    neap_json_member(&members, "message", !begun ? "stopped before it began" : end ? "stopped before it was done" : "stopped, and not seen to end");
    if (end && end->how == NEAP_REMOTE_SIGNALLED) neap_json_member_int(&members, "signal", end->status);
    if (end && end->how == NEAP_REMOTE_EXITED) neap_json_member_int(&members, "exit", end->status);
    neap_gate_outcome(L, g, begun ? "unknown" : "failed", members.data, NULL);
    neap_buf_close(&members);
}

int neap_far_deliver(lua_State *L, neap_gate *g, neap_far *f, const neap_remote_end *end, neap_err *err, neap_err *failure, neap_capture *out,
                     neap_capture *errors) {
    if (end->how == NEAP_REMOTE_NOT_BEGUN) {
        neap_err *why = failure->code ? failure : err;
        neap_gate_outcome(L, g, "failed", "\"note\":\"not begun\"", why);
        if (why->code == NEAP_E_JOURNAL) return neap_raise(L, why);
        return neap_fail(L, why);
    }
    if (failure->code) {
        neap_gate_outcome(L, g, "unknown", NULL, failure);
        if (failure->code == NEAP_E_JOURNAL) return neap_raise(L, failure);
        return neap_fail(L, failure);
    }
    if (end->how == NEAP_REMOTE_UNTOLD) return deliver_untold(L, g, f, err);
    bool signalled = end->how == NEAP_REMOTE_SIGNALLED;
    neap_command_outcome(L, g, &f->command, signalled ? 0 : end->status, signalled ? end->status : 0, false);
    return push_result(L, end, out, errors);
}

/* The session -------------------------------------------------------------------------------------- */

static void set_text(lua_State *L, const char *name, const char *text) {
    if (!text || !*text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* session:card() -> {id, hostname, backend, banner, key_type, fingerprint, user, address, authenticated, why}: what opening it learnt. Effect: pure. */
static int session_card(lua_State *L) {
    neap_session *s = neap_check_session(L);
    const neap_ssh_card *card = neap_ssh_link_card(s->link);
    lua_createtable(L, 0, 10);
    set_text(L, "id", s->subject);
    set_text(L, "hostname", neap_ssh_link_host(s->link)->hostname);
    set_text(L, "why", neap_ssh_link_why(s->link));
    if (!card) return 1;
    set_text(L, "backend", card->backend);
    set_text(L, "banner", card->banner);
    set_text(L, "key_type", card->key_type);
    set_text(L, "fingerprint", card->fingerprint);
    set_text(L, "user", card->user);
    set_text(L, "address", card->address);
    set_text(L, "authenticated", card->authenticated);
    return 1;
}

/* session:lost() -> is there no connection at the moment? Effect: pure. */
static int session_lost(lua_State *L) {
    neap_session *s = to_session(L);
    lua_pushboolean(L, !s->link || !neap_ssh_link_now(s->link));
    return 1;
}

/* session:dial_tcp(host, port) -> dialer. Effect: pure; who dials asks the gate. */
static int session_dial_tcp(lua_State *L) {
    neap_session *s = neap_check_session(L);
    const char *host = luaL_checkstring(L, 2);
    lua_Integer port = luaL_checkinteger(L, 3);
    luaL_argcheck(L, port > 0 && port < 65536, 3, "a port is 1 to 65535");
    neap_push_dialer(L, neap_ssh_link_dial_tcp(s->link, host, (int)port));
    return 1;
}

/* session:dial_unix(path) -> dialer. Effect: pure. */
static int session_dial_unix(lua_State *L) {
    neap_session *s = neap_check_session(L);
    const char *path = luaL_checkstring(L, 2);
    luaL_argcheck(L, *path == '/', 2, "the path of a socket begins with /");
    neap_push_dialer(L, neap_ssh_link_dial_unix(s->link, path));
    return 1;
}

/* session:dial_docker() -> dialer to the Engine of the host through its docker program, with the session's sudo. Effect: pure; who dials
 * asks the gate, and of the Engine each call again. */
static int session_dial_docker(lua_State *L) {
    neap_session *s = neap_check_session(L);
    neap_push_dialer(L, neap_ssh_link_dial_docker(s->link, s->sudo));
    return 1;
}

/* session:run{argv=, env=, cwd=, stdin=, within_ms=, allow=, sudo=} -> {status=|signal=, out=, err=, truncated=} | nil, err. Effect:
 * write. A job, unless its stdin is a stream: nobody could send that twice. */
static int session_run(lua_State *L) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "stdin");
    bool streams = neap_to_stream_handle(L, -1) != NULL;
    lua_settop(L, 2);
    return streams ? neap_ssh_run_attached(L) : neap_ssh_run(L);
}

static int session_gc(lua_State *L) {
    neap_session_drop(to_session(L));
    return 0;
}

static int session_tostring(lua_State *L) {
    neap_session *s = to_session(L);
    lua_pushfstring(L, "host \"%s\" (%s)", s->role ? s->role : "", !s->link ? "closed" : neap_ssh_link_now(s->link) ? "open" : "lost");
    return 1;
}

static const luaL_Reg module[] = {{"open", neap_ssh_open}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"card", session_card}, {"lost", session_lost}, {"read", neap_ssh_read}, {"run", session_run},
                                   {"start", neap_ssh_start}, {"probe", neap_ssh_probe}, {"dial_tcp", session_dial_tcp},
                                   {"dial_unix", session_dial_unix}, {"dial_docker", session_dial_docker}, {"stat", neap_ssh_stat},
                                   {"list", neap_ssh_list}, {"hash", neap_ssh_hash}, {"hashes", neap_ssh_hashes}, {"space", neap_ssh_space}, {"read_file", neap_ssh_read_file},
                                   {"open_file", neap_ssh_open_file}, {"create", neap_ssh_create}, {"write_file", neap_ssh_write_file},
                                   {"remove", neap_ssh_remove}, {"mkdir", neap_ssh_mkdir}, {"rename", neap_ssh_rename},
                                   {"probe_file", neap_ssh_probe_file}, {"lock", neap_ssh_lock}, {"has_lock", neap_ssh_has_lock},
                                   {"hold_set", neap_ssh_hold_set}, {"hold_get", neap_ssh_hold_get}, {"hold_clear", neap_ssh_hold_clear},
                                   {"close", neap_ssh_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", neap_ssh_close}, {"__gc", session_gc}, {"__tostring", session_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (!luaL_newmetatable(L, SESSION_META)) return;
    neap_function_set(L, "ssh:", meta, 0);
    neap_function_table(L, "ssh:", methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

int neap_open_ssh(lua_State *L) {
    neap_function_table(L, "native.ssh.", module);
    return 1;
}
