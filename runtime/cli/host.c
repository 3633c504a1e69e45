/* host.c -- see host.h. The order of the end matters: tasks first, then handles, then the Lua state while every
 * primitive refuses, then the loop. */
#include "cli/host.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/escape.h"
#include "bind/openlibs.h"
#include "guard/secret.h"
#include "script/function.h"

static void push_arguments(lua_State *L, int argc, char **argv) {
    lua_createtable(L, argc, 0);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_seti(L, -2, i);
    }
}

/* A bug of ours; even so it is redacted and escaped. */
static void tell_bug(const char *what, const char *text, size_t len) {
    neap_buf clean = NEAP_BUF_INIT, shown = NEAP_BUF_INIT;
    neap_redact(&clean, text, len);
    neap_escape_terminal(&shown, clean.data ? clean.data : "", clean.len, true);
    fprintf(stderr, "neap: %s: %s\n", what, shown.data ? shown.data : "");
    neap_buf_close(&clean);
    neap_buf_close(&shown);
}

/* An error that no command caught. */
static int report(lua_State *L) {
    size_t len;
    const char *text = luaL_tolstring(L, -1, &len);
    tell_bug("internal error", text, len);
    return 70;
}

/* What must not change a run and should not have happened: a view or a finalizer that failed. It comes in pieces. */
static void on_warning(void *arg, const char *message, int more) {
    neap_buf *text = arg;
    neap_buf_adds(text, message);
    if (more) return;
    tell_bug("warning", text->data, text->len);
    neap_buf_clear(text);
}

typedef struct call { const char *entry; int argc; char **argv; int code; } call;

static int run_protected(lua_State *L) {
    call *c = lua_touserdata(L, 1);
    neap_host *host = neap_host_of(L);
    lua_getglobal(L, "require");
    lua_pushstring(L, c->entry);
    lua_call(L, 1, 1);
    push_arguments(L, c->argc, c->argv);
    neap_task *task = neap_task_spawn(L, 1);
    neap_task_run_until(host, task);
    int count;
    bool ok = neap_task_is_done(task) && neap_task_results(L, task, &count);
    c->code = ok && count > 0 && lua_isinteger(L, -1) ? (int)lua_tointeger(L, -1) : ok ? 0 : report(L);
    return 0;
}

int neap_host_run(const char *entry, int argc, char **argv) {
    neap_host host = {.loop = neap_loop_new(), .guard = neap_guard_new()};
    lua_State *L = neap_state_new(&host, neap_openers);
    call c = {entry, argc, argv, 71};
    neap_buf warning = NEAP_BUF_INIT;
    if (L) {
        lua_setwarnf(L, on_warning, &warning);
        neap_function_push(L, "host.run", run_protected, 0);
        lua_pushlightuserdata(L, &c);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK) c.code = report(L);
        neap_state_close(L);
        neap_secret_close();
        neap_buf_close(&warning);
    }
    neap_loop_close(host.loop);
    neap_guard_free(host.guard);
    return c.code;
}
