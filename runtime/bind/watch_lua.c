/* watch_lua.c -- native.watch: serve a run's events to those who look on, and look on.
 *
 * The server hands newline-delimited text to readers (watchers.h); what the lines mean is the views' business. The
 * callback of on_join runs when a reader was let in and sends it what it missed.
 * The client is a stream read line by line; a line of more than 16 MiB ends it.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/callback.h"
#include "drive/watchers.h"
#include "loop/stream.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define SERVER_META "neap.watch.server"
#define READER_META "neap.watch.reader"
#define CLIENT_META "neap.watch.client"

enum { LAST_LINES_MS = 500, PIECE = 64 * 1024, LINE_MOST = 16 * 1024 * 1024 };

/* ---- server ---- */

/* Lives outside Lua, because the callback finds it; freed by close. */
typedef struct server { neap_watchers *watchers; lua_State *L; int join; } server;

static void on_joined(void *arg, neap_watcher *reader) {
    server *s = arg;
    lua_State *L = s->L;
    if (s->join == LUA_NOREF) return;
    neap_watcher **handle = lua_newuserdatauv(L, sizeof *handle, 0);
    *handle = reader;
    luaL_setmetatable(L, READER_META);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->join);
    lua_pushvalue(L, -2);
    neap_callback_call(L, 1);
    *handle = NULL;                                /* borrowed for the call */
    lua_pop(L, 1);
}

static const char *check_line(lua_State *L, size_t *len) {
    const char *line = luaL_checklstring(L, 2, len);
    luaL_argcheck(L, !memchr(line, '\n', *len), 2, "a line cannot hold a line break");
    return line;
}

static server *check_server(lua_State *L) {
    server **handle = luaL_checkudata(L, 1, SERVER_META);
    if (!*handle) neap_raisef(L, NEAP_E_USAGE, "the server is closed");
    return *handle;
}

/* server:send(line): to every reader; never waits. Effect: pure. */
static int server_send(lua_State *L) {
    server *s = check_server(L);
    size_t len;
    const char *line = check_line(L, &len);
    neap_watchers_send(s->watchers, line, len);
    return 0;
}

/* server:on_join(fn(client) | nil): client:send(line) inside it. fn may not wait. Effect: pure. */
static int server_on_join(lua_State *L) {
    server *s = check_server(L);
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    luaL_unref(L, LUA_REGISTRYINDEX, s->join);
    s->join = LUA_NOREF;
    if (!lua_isnil(L, 2)) s->join = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* server:count() -> readers now. Effect: pure. */
static int server_count(lua_State *L) {
    lua_pushinteger(L, neap_watchers_count(check_server(L)->watchers));
    return 1;
}

/* server:close(): readers get up to half a second for what is queued. Effect: pure. */
static int server_close(lua_State *L) {
    server **handle = luaL_checkudata(L, 1, SERVER_META), *s = *handle;
    *handle = NULL;
    if (!s) return 0;
    neap_watchers_free(s->watchers, LAST_LINES_MS);
    luaL_unref(L, LUA_REGISTRYINDEX, s->join);
    free(s);
    return 0;
}

/* client:send(line) -> is it still there? Effect: pure. */
static int reader_send(lua_State *L) {
    neap_watcher **handle = luaL_checkudata(L, 1, READER_META);
    size_t len;
    const char *line = check_line(L, &len);
    if (!*handle) neap_raisef(L, NEAP_E_USAGE, "a reader is addressed only while it joins");
    lua_pushboolean(L, neap_watcher_send(*handle, line, len));
    return 1;
}

/* serve(path) -> server | nil, err. Effect: pure (neap's own socket). */
static int serve(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *path = luaL_checkstring(L, 1);
    server **handle = lua_newuserdatauv(L, sizeof *handle, 0);
    *handle = NULL;
    luaL_setmetatable(L, SERVER_META);
    lua_State *main = neap_callback_main(L);
    server *s = neap_zalloc(sizeof *s);
    s->L = main;
    s->join = LUA_NOREF;
    s->watchers = neap_watchers_new(neap_host_of(L)->loop, path, on_joined, s, &err);
    if (!s->watchers) {
        free(s);
        return neap_fail(L, &err);
    }
    *handle = s;
    return 1;
}

/* ---- client ---- */

typedef struct client { neap_stream *stream; neap_buf text; size_t searched; bool ended, busy; } client;
typedef struct line_op { neap_op op; client *client; neap_err err; } line_op;

static client *check_client(lua_State *L) { return luaL_checkudata(L, 1, CLIENT_META); }

/* Is there a whole line, or (at the end) a last one? */
static bool has_line(client *c, size_t *len) {
    char *end = c->text.len > c->searched ? memchr(c->text.data + c->searched, '\n', c->text.len - c->searched) : NULL;
    if (!end) c->searched = c->text.len;
    *len = end ? (size_t)(end - c->text.data) : c->text.len;
    return end || (c->ended && c->text.len);
}

static void on_text(void *arg, const char *data, ssize_t len, const neap_err *err) {
    line_op *o = arg;
    client *c = o->client;
    size_t line;
    if (len < 0 && err && err->code == NEAP_E_CANCELLED) {         /* stopped or closed: not the end of the text */
        neap_op_finish(&o->op);
        return;
    }
    if (len > 0) neap_buf_add(&c->text, data, (size_t)len);
    else c->ended = true;
    if (len < 0 && err) neap_err_set(&o->err, err->code, "%s", err->message ? err->message : "reading failed");
    if (c->text.len > LINE_MOST) {
        c->ended = true;
        neap_buf_clear(&c->text);
        neap_err_set(&o->err, NEAP_E_PROTOCOL, "a line of more than 16 MiB came");
    }
    if (!c->ended && !has_line(c, &line)) {
        neap_stream_read(c->stream, PIECE, on_text, o);
        return;
    }
    neap_op_finish(&o->op);
}

static void line_cancel(neap_op *op, bool force) {
    line_op *o = (line_op *)op;
    (void)force;
    o->client->busy = false;
    if (o->client->stream) neap_stream_stop(o->client->stream);
    neap_op_finish(op);
}

static int line_deliver(lua_State *L, neap_op *op) {
    line_op *o = (line_op *)op;
    client *c = o->client;
    size_t len;
    c->busy = false;
    if (o->err.code != NEAP_OK) return neap_fail(L, &o->err);
    if (!has_line(c, &len)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushlstring(L, c->text.data, len);
    neap_buf_drop(&c->text, len < c->text.len ? len + 1 : len);
    c->searched = 0;
    return 1;
}

static void line_drop(neap_op *op) { neap_err_close(&((line_op *)op)->err); }

static const neap_op_class line_class = {"the next event of the run", line_cancel, line_deliver, line_drop};

/* client:line() -> text | nil at the end | nil, err (waits). Effect: pure. */
static int client_line(lua_State *L) {
    client *c = check_client(L);
    size_t len;
    if (!c->stream) neap_raisef(L, NEAP_E_USAGE, "the client is closed");
    if (c->busy) neap_raisef(L, NEAP_E_USAGE, "another task reads this client");
    line_op *o = (line_op *)neap_op_new(L, sizeof *o, &line_class);
    o->client = c;
    o->err = (neap_err)NEAP_ERR_INIT;
    c->busy = true;
    if (c->ended || has_line(c, &len)) neap_op_finish(&o->op);
    else neap_stream_read(c->stream, PIECE, on_text, o);
    return neap_await(L, &o->op);
}

/* client:close(): a task that waits for a line gets nil. Effect: pure. */
static int client_close(lua_State *L) {
    client *c = check_client(L);
    neap_stream *stream = c->stream;
    c->stream = NULL;
    if (stream && c->busy) neap_stream_stop(stream);
    neap_stream_free(stream);
    neap_buf_close(&c->text);
    return 0;
}

/* connect(path) -> client | nil, err. Effect: pure (neap's own socket). */
static int connect_to(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *path = luaL_checkstring(L, 1);
    client *c = lua_newuserdatauv(L, sizeof *c, 0);
    memset(c, 0, sizeof *c);
    luaL_setmetatable(L, CLIENT_META);
    int fd = neap_watchers_connect(path, &err);
    if (fd < 0) return neap_fail(L, &err);
    c->stream = neap_stream_of_fd(neap_host_of(L)->loop, fd);
    return 1;
}

static const luaL_Reg server_methods[] = {
    {"send", server_send}, {"on_join", server_on_join}, {"count", server_count}, {"close", server_close}, {NULL, NULL}};
static const luaL_Reg reader_methods[] = {{"send", reader_send}, {NULL, NULL}};
static const luaL_Reg client_methods[] = {{"line", client_line}, {"close", client_close}, {NULL, NULL}};
static const luaL_Reg module[] = {{"serve", serve}, {"connect", connect_to}, {NULL, NULL}};

/* [-0, +0, m] */
static void make_metatable(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close) {
    if (luaL_newmetatable(L, name)) {
        lua_newtable(L);
        neap_function_set(L, "watch:", methods, 0);
        lua_setfield(L, -2, "__index");
        lua_pushliteral(L, "watch");
        lua_setfield(L, -2, "__metatable");
        if (close) {
            neap_function_push(L, "watch:close", close, 0);
            lua_setfield(L, -2, "__gc");
            neap_function_push(L, "watch:close", close, 0);
            lua_setfield(L, -2, "__close");
        }
    }
    lua_pop(L, 1);
}

int neap_open_watch(lua_State *L) {
    make_metatable(L, SERVER_META, server_methods, server_close);
    make_metatable(L, READER_META, reader_methods, NULL);
    make_metatable(L, CLIENT_META, client_methods, client_close);
    neap_function_table(L, "native.watch.", module);
    return 1;
}
