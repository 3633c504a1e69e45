/* ssh_start.c -- session:start: a command on a host that lives beside the task, with streams.
 *
 *     local dump <close> = host:start { argv = { "pg_dump", "-Fc", "app" }, read = true }
 *     local copied = dump:stdout():pipe(file)
 *     local result = dump:wait()                     -- {status=} or {signal=}; nil, err when nobody said
 *
 * The handle is that of started.h; a write's pid is durable before it begins, and the end of the scope ends its process group. */
#include <lauxlib.h>

#include "bind/ssh_lua.h"
#include "bind/started.h"
#include "drive/remote_attached.h"
#include "script/raise.h"

enum { GRACE_S = NEAP_STARTED_GRACE_MS / 1000, OP_INDEX = 3, HANDLE_INDEX = 4 };

typedef struct start_op start_op;

typedef struct handle {
    neap_started started;            /* first */
    neap_attached *attached;
    start_op *origin;                /* kept by the handle's user value */
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
    h->end = *end;
    if (err) neap_err_copy(&h->err, err);
    neap_op_finish(&s->gate.op);
    neap_started_end(&h->started);
}

static void start_cancel(neap_op *op, bool force) {
    start_op *s = (start_op *)op;
    if (!force && s->handle->started.open && !s->handle->started.over) { neap_attached_end(s->handle->attached, GRACE_S); return; }
    neap_op_finish(op);
}

/* The journal answers still when what it was asked for has ended meanwhile. */
static void forget_note(start_op *s) {
    if (s->note) s->note->on_durable = NULL;
    s->note = NULL;
}

static void start_on_stop(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    forget_note(s);
    bool begun = !s->handle->started.over || s->handle->end.how != NEAP_REMOTE_NOT_BEGUN;
    neap_started_close(&s->handle->started);
    neap_gate_outcome(L, &s->gate, begun ? "unknown" : "failed", begun ? "\"message\":\"stopped when it had just begun\"" : "\"message\":\"stopped before it began\"", NULL);
}

static int start_deliver(lua_State *L, neap_op *op) {
    start_op *s = (start_op *)op;
    handle *h = s->handle;
    forget_note(s);
    if (s->failure.code || (h->started.over && !s->begun)) {
        neap_remote_end end = h->started.over ? h->end : (neap_remote_end){NEAP_REMOTE_NOT_BEGUN, -1};
        int results = neap_far_deliver(L, &s->gate, &s->far, &end, &h->err, &s->failure, NULL, NULL);
        neap_started_close(&h->started);
        return results;
    }
    neap_started_open_streams(L, HANDLE_INDEX);
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static void start_drop(neap_op *op) {
    start_op *s = (start_op *)op;
    forget_note(s);
    neap_ssh_link_release(s->link);
    neap_buf_close(&s->gate.evidence);
    neap_err_close(&s->failure);
    neap_far_close(&s->far);
}

static const neap_op_class start_class = {"a command on a host to begin", start_cancel, start_deliver, start_drop};

static int start_far(lua_State *L, neap_gate *g) {
    static const neap_attached_events events = {on_channel, on_started, on_begun, on_ended};
    start_op *s = (start_op *)g;
    s->far.what.marks = true;
    s->far.what.holds = g->intended && neap_host_of(L)->recorder.append;
    s->handle->attached = neap_attached_new(s->link, &s->far.what, true, &s->far.names, &events, s);
    s->handle->started.open = true;
    return neap_await(L, &g->op);
}

/* The handle ---------------------------------------------------------------------------------------- */

static neap_stream *far_stream(neap_started *s, int n) { return neap_attached_stream(((handle *)s)->attached, n); }
static void far_end(neap_started *s, lua_Integer grace_ms) { neap_attached_end(((handle *)s)->attached, (int)((grace_ms + 999) / 1000)); }
static void far_pid(lua_State *L, neap_started *s) { lua_pushinteger(L, ((handle *)s)->pid); }

static int far_result(lua_State *L, neap_started *started) {
    handle *h = (handle *)started;
    start_op *s = h->origin;
    if (h->end.how == NEAP_REMOTE_EXITED || h->end.how == NEAP_REMOTE_SIGNALLED) {
        bool signalled = h->end.how == NEAP_REMOTE_SIGNALLED;
        neap_command_outcome(L, &s->gate, &s->far.command, signalled ? 0 : h->end.status, signalled ? h->end.status : 0, started->on_request);
        lua_createtable(L, 0, 1);
        lua_pushinteger(L, h->end.status);
        lua_setfield(L, -2, signalled ? "signal" : "status");
        return 1;
    }
    neap_err err = NEAP_ERR_INIT;
    neap_err_copy(&err, &h->err);      /* who waits again is told again */
    return neap_far_deliver(L, &s->gate, &s->far, &h->end, &err, &s->failure, NULL, NULL);
}

static void far_tell(lua_State *L, neap_started *s) {
    const neap_far *far = &((handle *)s)->origin->far;
    lua_pushfstring(L, "%s on %s", far->command.argv[0], far->names.place);
}

static void far_let_go(neap_started *s) {
    neap_attached *a = ((handle *)s)->attached;
    ((handle *)s)->attached = NULL;
    neap_attached_free(a);
}

static void far_drop(neap_started *s) { neap_err_close(&((handle *)s)->err); }

static const neap_started_class far_class = {.meta = "neap.remote", .prefix = "remote:", .stream = far_stream, .end = far_end, .result = far_result,
                                             .pid = far_pid, .tell = far_tell, .let_go = far_let_go, .drop = far_drop};

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
    s->handle = neap_started_new(L, sizeof *s->handle, &far_class, &s->gate, OP_INDEX, 0);
    s->handle->origin = s;
    s->handle->err = (neap_err)NEAP_ERR_INIT;
    s->gate.start = start_far;
    s->gate.op.on_stop = start_on_stop;
    return neap_gate_enter(L, &s->gate);
}

