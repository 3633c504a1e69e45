/* ssh_start.c -- session:start: a command on a host that lives beside the task, with streams.
 *
 *     local dump <close> = host:start { argv = { "pg_dump", "-Fc", "app" }, read = true }
 *     local copied = dump:stdout():pipe(file)
 *     local result = dump:wait()                     -- {status=} or {signal=}; nil, err when nobody said
 *
 * As the handle of native.process.start, and with the same rules: a write's pid is durable before it begins, the outcome belongs to the
 * intent of start, the end of the scope ends its process group. A handle that is collected lets go without a word. */
#include <lauxlib.h>

#include "bind/ssh_lua.h"
#include "drive/remote_attached.h"
#include "script/function.h"
#include "script/raise.h"

#define FAR_META "neap.remote"

enum { GRACE_S = 5, OP_VALUE = 1, STREAM_VALUE = 2, OP_INDEX = 3, HANDLE_INDEX = 4 };

typedef struct start_op start_op;

typedef struct handle {
    neap_attached *attached;         /* NULL: not started, or closed */
    start_op *origin;                /* holds the gate; kept by user value OP_VALUE */
    neap_op *waiter;
    bool over, on_request;
    long long pid;
    neap_remote_end end;
    neap_err err;
} handle;

struct start_op {
    neap_gate gate;                  /* first */
    neap_far far;
    neap_session *session;
    neap_ssh_link *link;             /* held: the session may be closed before */
    handle *handle;
    bool begun;
    neap_command_note *note;
    neap_err failure;
};

static handle *check_handle(lua_State *L) { return luaL_checkudata(L, 1, FAR_META); }

static void close_handle(handle *h) {
    neap_attached *a = h->attached;
    h->attached = NULL;
    neap_attached_free(a);
}

/* start -------------------------------------------------------------------------------------------- */

static void on_durable(void *arg, const neap_err *err) {
    start_op *s = arg;
    s->note = NULL;
    if (!err) { neap_attached_release(s->handle->attached); return; }
    neap_err_set(&s->failure, err->code, "%s", err->message);
    neap_op_finish(&s->gate.op);
}

static void on_channel(void *arg) { (void)arg; }

static void on_started(void *arg, long long pid, long long started) {
    start_op *s = arg;
    s->handle->pid = pid;
    if (!s->far.what.holds) return;
    neap_far_note_started(&s->gate, pid, started, &s->note, on_durable, s);
}

static void on_begun(void *arg) {
    start_op *s = arg;
    s->begun = true;
    neap_op_finish(&s->gate.op);
}

static void on_ended(void *arg, const neap_remote_end *end, const neap_err *err) {
    start_op *s = arg;
    handle *h = s->handle;
    h->over = true;
    h->end = *end;
    if (err) {
        neap_err_set(&h->err, err->code, "%s", err->message);
        if (err->hint) neap_err_hint(&h->err, "%s", err->hint);
    }
    neap_op_finish(&s->gate.op);
    if (h->waiter) neap_op_finish(h->waiter);
}

static void start_cancel(neap_op *op, bool force) {
    start_op *s = (start_op *)op;
    if (!force && s->handle->attached && !s->handle->over) { neap_attached_end(s->handle->attached, GRACE_S); return; }
    neap_op_finish(op);
}

static void start_on_stop(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    bool begun = !s->handle->over || s->handle->end.how != NEAP_REMOTE_NOT_BEGUN;
    close_handle(s->handle);
    neap_gate_outcome(L, &s->gate, begun ? "unknown" : "failed", begun ? "\"message\":\"stopped when it had just begun\"" : "\"message\":\"stopped before it began\"", NULL);
}

/* [-0, +0, m] the three streams become user values of the handle. */
static void open_streams(lua_State *L, handle *h) {
    for (int n = 0; n < 3; n++) {
        neap_stream_handle *stream = neap_stream_new_handle(L, 0);
        stream->stream = neap_attached_stream(h->attached, n);
        lua_setiuservalue(L, HANDLE_INDEX, STREAM_VALUE + n);
    }
}

static int start_deliver(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    handle *h = s->handle;
    if (s->failure.code || (h->over && !s->begun)) {
        neap_remote_end end = h->over ? h->end : (neap_remote_end){NEAP_REMOTE_NOT_BEGUN, -1};
        int results = neap_far_deliver(L, &s->gate, &s->far, &end, &h->err, &s->failure, NULL, NULL);
        close_handle(h);
        return results;
    }
    open_streams(L, h);
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static void start_drop(neap_op *op) {
    start_op *s = (start_op *)op;
    if (s->note) s->note->on_durable = NULL;
    neap_ssh_link_release(s->link);
    neap_buf_close(&s->gate.evidence);
    neap_err_close(&s->failure);
    neap_far_close(&s->far);
}

static const neap_op_class start_class = {"a command on a host to begin", start_cancel, start_deliver, start_drop};

static int start_far(lua_State *L, neap_gate *g) {
    static const neap_attached_events events = {on_channel, on_started, on_begun, on_ended};
    start_op *s = (start_op *)g;
    s->far.what.holds = g->intended && neap_host_of(L)->recorder.append;
    s->handle->attached = neap_attached_new(s->link, &s->far.what, true, &s->far.names, &events, s);
    return neap_await(L, &g->op);
}

static void push_meta(lua_State *L);

static bool is_bulk(lua_State *L) {
    lua_getfield(L, 2, "bulk");
    bool bulk = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return bulk;
}

/* session:start{argv=, env=, cwd=, sudo=, read=, bulk=} -> command | nil, err. Effect: write; with read=true a declared read. bulk: over a
 * connection of its own, by the ssh program, which moves more bytes than libssh2. */
int neap_ssh_start(lua_State *L) {
    static const neap_ssh_backends program = {neap_ssh_program_open, NULL};
    neap_session *session = neap_check_session(L);
    lua_settop(L, 2);
    luaL_checktype(L, 2, LUA_TTABLE);
    start_op *s = (start_op *)neap_op_new(L, sizeof *s, &start_class);
    s->failure = (neap_err)NEAP_ERR_INIT;
    s->session = session;
    neap_far_read(L, session, &s->far, &s->gate);
    if (s->far.command.within_ms) neap_raisef(L, NEAP_E_USAGE, "start has no within_ms: stop the command, or wait under a deadline");
    neap_ssh_link *link = is_bulk(L) ? neap_ssh_link_beside(session->link, &program) : session->link;
    s->link = neap_ssh_link_hold(link);
    neap_far_evidence(session, &s->far, NULL, &s->gate);
    handle *h = s->handle = lua_newuserdatauv(L, sizeof *h, STREAM_VALUE + 2);
    *h = (handle){.origin = s, .err = NEAP_ERR_INIT};
    push_meta(L);
    lua_setmetatable(L, HANDLE_INDEX);
    lua_pushvalue(L, OP_INDEX);
    lua_setiuservalue(L, HANDLE_INDEX, OP_VALUE);
    s->gate.start = start_far;
    s->gate.op.on_stop = start_on_stop;
    return neap_gate_enter(L, &s->gate);
}

/* wait and stop ------------------------------------------------------------------------------------ */

typedef struct wait_op { neap_op op; handle *handle; bool ends; } wait_op;

static void wait_cancel(neap_op *op, bool force) {
    wait_op *w = (wait_op *)op;
    if (w->ends && !force) return;
    w->handle->waiter = NULL;
    neap_op_finish(op);
}

static int wait_deliver(lua_State *L, neap_op *op) {
    handle *h = ((wait_op *)op)->handle;
    start_op *s = h->origin;
    h->waiter = NULL;
    if (h->end.how == NEAP_REMOTE_EXITED || h->end.how == NEAP_REMOTE_SIGNALLED) {
        bool signalled = h->end.how == NEAP_REMOTE_SIGNALLED;
        neap_command_outcome(L, &s->gate, &s->far.command, signalled ? 0 : h->end.status, signalled ? h->end.status : 0, h->on_request);
        lua_createtable(L, 0, 1);
        lua_pushinteger(L, h->end.status);
        lua_setfield(L, -2, signalled ? "signal" : "status");
        return 1;
    }
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, h->err.code, "%s", h->err.message);      /* who waits again is told again */
    if (h->err.hint) neap_err_hint(&err, "%s", h->err.hint);
    return neap_far_deliver(L, &s->gate, &s->far, &h->end, &err, &s->failure, NULL, NULL);
}

static void wait_drop(neap_op *op) {
    wait_op *w = (wait_op *)op;
    if (w->handle && w->handle->waiter == op) w->handle->waiter = NULL;
}

static const neap_op_class wait_class = {"the end of a command on a host", wait_cancel, wait_deliver, wait_drop};

static int await_end(lua_State *L, handle *h, bool ends) {
    if (h->waiter) neap_raisef(L, NEAP_E_USAGE, "another task is waiting for this command");
    wait_op *w = (wait_op *)neap_op_new(L, sizeof *w, &wait_class);
    w->handle = h;
    w->ends = ends;
    if (h->over) neap_op_finish(&w->op);
    else h->waiter = &w->op;
    return neap_await(L, &w->op);
}

static handle *check_started(lua_State *L) {
    handle *h = check_handle(L);
    if (!h->attached) neap_raisef(L, NEAP_E_USAGE, "the command is closed");
    return h;
}

/* command:wait() -> {status=} | {signal=} | nil, err. Effect: pure. */
static int far_wait(lua_State *L) { return await_end(L, check_started(L), false); }

/* command:stop([grace_ms]) -> as wait: TERM to the group, the grace, KILL. Effect: that of start. */
static int far_stop(lua_State *L) {
    handle *h = check_started(L);
    if (h->origin->gate.intended) neap_gate_check_act(L, "the command");
    lua_Integer grace_ms = luaL_optinteger(L, 2, GRACE_S * 1000);
    h->on_request = !h->over;
    neap_attached_end(h->attached, (int)((grace_ms + 999) / 1000));
    return await_end(L, h, true);
}

static int push_stream(lua_State *L, int n) {
    check_started(L);
    lua_getiuservalue(L, 1, STREAM_VALUE + n);
    return 1;
}

/* command:stdin(), command:stdout(), command:stderr() -> stream. Effect: pure. */
static int far_stdin(lua_State *L) { return push_stream(L, 0); }
static int far_stdout(lua_State *L) { return push_stream(L, 1); }
static int far_stderr(lua_State *L) { return push_stream(L, 2); }

/* command:pid() -> number. Effect: pure. */
static int far_pid(lua_State *L) {
    lua_pushinteger(L, check_started(L)->pid);
    return 1;
}

/* Ends --------------------------------------------------------------------------------------------- */

static int meta_gc(lua_State *L) {
    handle *h = check_handle(L);
    close_handle(h);
    neap_err_close(&h->err);
    return 0;
}

/* [-0, +0, m] its ends of the streams, less those that another task is using. */
static void close_streams(lua_State *L) {
    for (int n = 0; n < 3; n++) {
        lua_getiuservalue(L, 1, STREAM_VALUE + n);
        neap_stream_handle *s = neap_to_stream_handle(L, -1);
        if (s && s->stream && !s->reader && !s->writer) neap_stream_handle_close(s);
        lua_pop(L, 1);
    }
}

/* The scope ends: whoever still runs is ended. */
static int meta_close(lua_State *L) {
    handle *h = check_handle(L);
    if (!h->attached) return 0;
    if (h->origin->gate.intended && !h->over) neap_gate_check_act(L, "the command");
    close_streams(L);
    if (!h->over) neap_attached_end(h->attached, GRACE_S);
    return await_end(L, h, true);
}

static int meta_tostring(lua_State *L) {
    handle *h = check_handle(L);
    lua_pushfstring(L, "%s on %s (%s)", h->origin->far.command.argv[0], h->origin->far.names.place, !h->attached ? "closed" : h->over ? "ended" : "running");
    return 1;
}

static const luaL_Reg methods[] = {{"wait", far_wait}, {"stop", far_stop}, {"stdin", far_stdin}, {"stdout", far_stdout},
                                   {"stderr", far_stderr}, {"pid", far_pid}, {"close", meta_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", meta_close}, {"__gc", meta_gc}, {"__tostring", meta_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (!luaL_newmetatable(L, FAR_META)) return;
    neap_function_set(L, "remote:", meta, 0);
    neap_function_table(L, "remote:", methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}
