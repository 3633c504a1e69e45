/* command.c -- argv, environment and the rest of a command.
 *
 * There is no shell and no string that would need one: argv is a list. A secret may go into the environment or
 * stdin of the child, never into argv, which every user of the machine can read. The environment is PATH, HOME, LANG and TZ
 * of ours, overridden and extended by what is given, and nothing else: what a child can see is what the runbook shows.
 */
#include "bind/command.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/quote.h"
#include "bind/secret_lua.h"
#include "drive/remote_script.h"
#include "script/raise.h"
#include "script/task.h"

static const char *const inherited[] = {"PATH", "HOME", "LANG", "TZ", NULL};

/* argv ------------------------------------------------------------------------------------------- */

char *neap_command_join(const char *before, const char *const *argv) {
    neap_buf out = NEAP_BUF_INIT;
    neap_buf_adds(&out, before);
    for (const char *const *word = argv; *word; word++) {
        if (out.len) neap_buf_addc(&out, ' ');
        neap_buf_adds(&out, *word);
    }
    return neap_buf_take(&out);
}

static void refuse_secret(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_USAGE, "a secret must not be an argument of a command");
    neap_err_hint(&err, "Every user of the machine can read arguments; give it in env or as stdin.");
    neap_raise(L, &err);
}

/* [-0, +0, e] the text on top, without NUL. */
static const char *check_word(lua_State *L, const char *what, int n) {
    size_t len;
    if (neap_to_secret(L, -1)) refuse_secret(L);
    if (lua_isuserdata(L, -1)) luaL_tolstring(L, -1, NULL), lua_pop(L, 1);       /* raises {withheld} */
    if (!lua_isstring(L, -1)) neap_raisef(L, NEAP_E_USAGE, "%s %d is a %s, not a string", what, n, luaL_typename(L, -1));
    const char *word = lua_tolstring(L, -1, &len);
    if (strlen(word) != len) neap_raisef(L, NEAP_E_USAGE, "%s %d holds a NUL byte", what, n);
    return word;
}

static void read_argv(lua_State *L, int index, neap_command *c) {
    if (lua_getfield(L, index, "argv") != LUA_TTABLE) neap_raisef(L, NEAP_E_USAGE, "argv must be a list of strings");
    int count = (int)luaL_len(L, -1);
    if (count < 1) neap_raisef(L, NEAP_E_USAGE, "argv is empty");
    neap_buf text = NEAP_BUF_INIT;
    c->argv = neap_zalloc(sizeof *c->argv * ((size_t)count + 1));
    for (int i = 0; i < count; i++) {
        lua_geti(L, -1, i + 1);
        c->argv[i] = neap_strdup(check_word(L, "argument", i));
        lua_pop(L, 1);
    }
    neap_quote_argv(&text, (const char *const *)c->argv);
    c->text = neap_buf_take(&text);
    c->spelled[0] = neap_command_join("", (const char *const *)c->argv);
    lua_pop(L, 1);
}

/* Environment ------------------------------------------------------------------------------------ */

static char *assignment(const char *name, const char *value, size_t len) {
    neap_buf out = NEAP_BUF_INIT;
    neap_buf_addf(&out, "%s=", name);
    neap_buf_add(&out, value, len);
    return neap_buf_take(&out);
}

static void set_env(char **env, const char *name, const char *value, size_t len) {
    size_t size = strlen(name);
    int n = 0;
    while (env[n] && (strncmp(env[n], name, size) != 0 || env[n][size] != '=')) n++;
    free(env[n]);
    env[n] = assignment(name, value, len);
}

static const char *check_value(lua_State *L, const char *name, size_t *len) {
    neap_secret *secret = neap_to_secret(L, -1);
    if (!secret && lua_isuserdata(L, -1)) luaL_tolstring(L, -1, NULL), lua_pop(L, 1);
    if (!secret && !lua_isstring(L, -1)) neap_raisef(L, NEAP_E_USAGE, "env.%s is a %s, not a string", name, luaL_typename(L, -1));
    const char *value = secret ? neap_secret_bytes(secret, len) : lua_tolstring(L, -1, len);
    if (memchr(value, 0, *len)) neap_raisef(L, NEAP_E_USAGE, "env.%s holds a NUL byte", name);
    return value;
}

typedef enum { HERE, FAR, SHELL } place;             /* ours is inherited; nothing is; and a shell sets it */

static void read_env(lua_State *L, int index, neap_command *c, place where) {
    int given = 0;
    bool has = lua_getfield(L, index, "env") != LUA_TNIL;
    if (has && !lua_istable(L, -1)) neap_raisef(L, NEAP_E_USAGE, "env must be a table of names and values");
    if (has) for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) given++;
    c->env = neap_zalloc(sizeof *c->env * ((size_t)given + sizeof inherited / sizeof *inherited));
    c->secrets = neap_zalloc(sizeof *c->secrets * ((size_t)given + 1));
    for (const char *const *name = inherited; where == HERE && *name; name++)
        if (getenv(*name)) set_env(c->env, *name, getenv(*name), strlen(getenv(*name)));
    if (has) for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        size_t len;
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : "";
        if (!*name || strlen(name) != len || strchr(name, '=') || (where == SHELL && !neap_remote_is_name(name))) neap_raisef(L, NEAP_E_USAGE, "env has a name that is none: \"%s\"", name);
        const char *value = check_value(L, name, &len);
        set_env(where == SHELL && neap_to_secret(L, -1) ? c->secrets : c->env, name, value, len);
    }
    lua_pop(L, 1);
}

/* The rest --------------------------------------------------------------------------------------- */

static char *opt_text(lua_State *L, int index, const char *name) {
    char *copy = NULL;
    if (lua_getfield(L, index, name) != LUA_TNIL) copy = neap_strdup(check_word(L, name, 0));
    lua_pop(L, 1);
    return copy;
}

static void read_allow(lua_State *L, int index, neap_command *c) {
    c->allow[0] = 1;
    int type = lua_getfield(L, index, "allow");
    if (type == LUA_TSTRING && strcmp(lua_tostring(L, -1), "any") == 0) memset(c->allow, 1, sizeof c->allow);
    else if (type != LUA_TTABLE && type != LUA_TNIL) neap_raisef(L, NEAP_E_USAGE, "allow must be a list of exit statuses or \"any\"");
    if (type == LUA_TTABLE) {
        int count = (int)luaL_len(L, -1);
        for (int i = 1; i <= count; i++) {
            lua_geti(L, -1, i);
            c->allow[luaL_checkinteger(L, -1) & 255] = 1;
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static void read_command(lua_State *L, int index, neap_command *c, place where) {
    luaL_checktype(L, index, LUA_TTABLE);
    read_argv(L, index, c);
    read_env(L, index, c, where);
    read_allow(L, index, c);
    c->cwd = opt_text(L, index, "cwd");
    c->role = opt_text(L, index, "role");
    if (!c->role) c->role = opt_text(L, index, "target");
    c->changes = opt_text(L, index, "changes");
    lua_getfield(L, index, "read");
    c->reads = lua_toboolean(L, -1);
    lua_getfield(L, index, "within_ms");
    c->within_ms = luaL_optinteger(L, -1, 0);
    lua_pop(L, 2);
    const char *name = strrchr(c->argv[0], '/');
    c->subject = neap_asprintf("process:%s", c->role ? c->role : name ? name + 1 : c->argv[0]);
}

void neap_command_read(lua_State *L, int index, neap_command *c) { read_command(L, index, c, HERE); }
void neap_command_read_far(lua_State *L, int index, neap_command *c) { read_command(L, index, c, FAR); }
void neap_command_read_shell(lua_State *L, int index, neap_command *c) { read_command(L, index, c, SHELL); }

static void free_list(char **list) {
    for (char **at = list; at && *at; at++) {
        explicit_bzero(*at, strlen(*at));             /* a secret may be among the values */
        free(*at);
    }
    free(list);
}

void neap_command_close(neap_command *c) {
    free_list(c->argv);
    free_list(c->env);
    free_list(c->secrets);
    free(c->cwd);
    free(c->role);
    free(c->subject);
    free(c->changes);
    free(c->text);
    free(c->spelled[0]);
    free(c->spelled[1]);
    *c = (neap_command){0};
}

void neap_command_act(const neap_command *c, neap_gate *g) {
    g->act = (neap_act){.primitive = c->reads ? NEAP_P_PROCESS_READ : NEAP_P_PROCESS_RUN, .target = c->role,
                        .subject = c->subject, .text = c->text, .spelled = (const char *const *)c->spelled};
    g->declared = c->reads;
}

static bool is_noted(lua_State *L, const neap_gate *g) { return g->intended && neap_host_of(L)->recorder.append; }

neap_child *neap_command_start(lua_State *L, const neap_gate *g, const neap_command *c, int pipes, neap_child_exit_fn on_exit, void *arg, neap_err *err) {
    neap_child_options options = {.argv = (const char *const *)c->argv, .env = (const char *const *)c->env, .cwd = c->cwd,
                                  .pipes = pipes, .held = is_noted(L, g)};
    return neap_child_new(neap_host_of(L)->loop, &options, on_exit, arg, err);
}

void neap_command_outcome(lua_State *L, neap_gate *g, const neap_command *c, int status, int signal, bool on_request) {
    neap_buf members = NEAP_BUF_INIT;
    if (signal) neap_json_member_int(&members, "signal", signal);
    else neap_json_member_int(&members, "exit", status);
    if (on_request) neap_json_member(&members, "note", "stopped on request");
    bool ok = on_request || (!signal && status >= 0 && c->allow[status & 255]);
    neap_gate_outcome(L, g, ok ? "ok" : "failed", members.data, NULL);
    neap_buf_close(&members);
}

/* The note --------------------------------------------------------------------------------------- */

static void on_flushed(void *arg, const neap_err *err) {
    neap_command_note *note = arg;
    if (note->on_durable) note->on_durable(note->arg, err);
    free(note);
}

bool neap_command_note_evidence(lua_State *L, neap_gate *g, const char *members, neap_command_note **out,
                       void (*on_durable)(void *arg, const neap_err *err), void *arg) {
    neap_recorder *recorder = &neap_host_of(L)->recorder;
    if (!is_noted(L, g)) return false;
    neap_gate_record(L, g, "started", members);
    neap_command_note *note = neap_alloc(sizeof *note);
    *note = (neap_command_note){on_durable, arg};
    *out = note;
    recorder->flush(recorder->self, on_flushed, note);
    return true;
}

bool neap_command_note_start(lua_State *L, neap_gate *g, const neap_child *child, neap_command_note **out,
                             void (*on_durable)(void *arg, const neap_err *err), void *arg) {
    neap_buf members = NEAP_BUF_INIT;
    neap_json_member_int(&members, "pid", neap_child_pid(child));
    neap_json_member_int(&members, "started", neap_child_started(neap_child_pid(child)));
    bool noted = neap_command_note_evidence(L, g, members.data, out, on_durable, arg);
    neap_buf_close(&members);
    return noted;
}
