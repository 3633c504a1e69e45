/* started.c -- see started.h. */
#include "bind/started.h"

#include <lauxlib.h>
#include <string.h>

#include "script/function.h"
#include "script/raise.h"

enum { OP_VALUE = 1, STREAM_VALUE = 2, STREAMS = 3 };

/* Every function of a class has it as its upvalue: a handle of another place is no handle of this one. */
static neap_started *check_handle(lua_State *L) {
    const neap_started_class *class = lua_touserdata(L, lua_upvalueindex(1));
    return luaL_checkudata(L, 1, class->meta);
}

static neap_started *check_open(lua_State *L) {
    neap_started *s = check_handle(L);
    if (!s->open) neap_raisef(L, NEAP_E_USAGE, "the command is closed");
    return s;
}

void neap_started_end(neap_started *s) {
    s->over = true;
    if (s->waiter) neap_op_finish(s->waiter);
}

void neap_started_close(neap_started *s) {
    if (!s->open) return;
    s->open = false;
    s->class->let_go(s);
}

/* Waiting ------------------------------------------------------------------------------------------- */

typedef struct wait_op { neap_op op; neap_started *started; bool ends, closes; } wait_op;

/* Waiting may be given up without harm to the command; an end that is under way is not given up but forced. */
static void wait_cancel(neap_op *op, bool force) {
    wait_op *w = (wait_op *)op;
    if (w->ends && !force) return;
    w->started->waiter = NULL;
    neap_op_finish(op);
}

static void wait_on_stop(lua_State *L, neap_op *op) {
    wait_op *w = (wait_op *)op;
    if (!w->ends || w->started->over) return;
    neap_gate_outcome(L, w->started->gate, "unknown", "\"message\":\"stopped, and not seen to end\"", NULL);
    neap_started_close(w->started);
}

static int wait_deliver(lua_State *L, neap_op *op) {
    wait_op *w = (wait_op *)op;
    w->started->waiter = NULL;
    int results = w->started->class->result(L, w->started);
    if (w->closes) neap_started_close(w->started);
    return results;
}

static void wait_drop(neap_op *op) {
    wait_op *w = (wait_op *)op;
    if (w->started && w->started->waiter == op) w->started->waiter = NULL;
}

static int await_end(lua_State *L, neap_started *s, bool ends, bool closes) {
    static const neap_op_class class = {"the end of a command", wait_cancel, wait_deliver, wait_drop};
    if (s->waiter) neap_raisef(L, NEAP_E_USAGE, "another task is waiting for this command");
    wait_op *w = (wait_op *)neap_op_new(L, sizeof *w, &class);
    w->started = s;
    w->ends = ends;
    w->closes = closes;
    w->op.on_stop = wait_on_stop;
    if (s->over) neap_op_finish(&w->op);
    else s->waiter = &w->op;
    return neap_await(L, &w->op);
}

/* Functions ----------------------------------------------------------------------------------------- */

/* command:wait() -> {status=} | {signal=} | nil, err: nobody knows. Effect: pure. */
static int command_wait(lua_State *L) { return await_end(L, check_open(L), false, false); }

/* command:stop([grace_ms]) -> as wait: TERM to its group, the grace, KILL. Effect: that of start. */
static int command_stop(lua_State *L) {
    neap_started *s = check_open(L);
    if (s->gate->intended) neap_gate_check_act(L, "the command");
    lua_Integer grace_ms = luaL_optinteger(L, 2, NEAP_STARTED_GRACE_MS);
    s->on_request = !s->over;
    s->class->end(s, grace_ms);                      /* over or not: some of its group may still run */
    return await_end(L, s, true, false);
}

static int push_stream(lua_State *L, int n) {
    check_open(L);
    lua_getiuservalue(L, 1, STREAM_VALUE + n);
    return 1;
}

/* command:stdin(), command:stdout(), command:stderr() -> stream. Effect: pure. */
static int command_stdin(lua_State *L) { return push_stream(L, 0); }
static int command_stdout(lua_State *L) { return push_stream(L, 1); }
static int command_stderr(lua_State *L) { return push_stream(L, 2); }

/* command:pid() -> its number where it runs | nil: nobody can tell. Effect: pure. */
static int command_pid(lua_State *L) {
    neap_started *s = check_open(L);
    s->class->pid(L, s);
    return 1;
}

/* Ends ---------------------------------------------------------------------------------------------- */

static int meta_gc(lua_State *L) {
    neap_started *s = check_handle(L);
    neap_started_close(s);
    if (s->class->drop) s->class->drop(s);
    return 0;
}

/* [-0, +0, m] its ends of the streams, less those that another task is using. */
static void close_streams(lua_State *L) {
    for (int n = 0; n < STREAMS; n++) {
        lua_getiuservalue(L, 1, STREAM_VALUE + n);
        neap_stream_handle *stream = neap_to_stream_handle(L, -1);
        if (stream && stream->stream && !stream->reader && !stream->writer) neap_stream_handle_close(stream);
        lua_pop(L, 1);
    }
}

/* The scope ends: whatever still runs is stopped. */
static int meta_close(lua_State *L) {
    neap_started *s = check_handle(L);
    if (!s->open) return 0;
    if (s->gate->intended && !s->over) neap_gate_check_act(L, "the command");
    close_streams(L);
    if (!s->over) s->class->end(s, NEAP_STARTED_GRACE_MS);
    return await_end(L, s, true, s->class->closes);
}

static int meta_tostring(lua_State *L) {
    neap_started *s = check_handle(L);
    s->class->tell(L, s);
    lua_pushfstring(L, "%s (%s)", lua_tostring(L, -1), !s->open ? "closed" : s->over ? "ended" : "running");
    return 1;
}

static const luaL_Reg methods[] = {{"wait", command_wait}, {"stop", command_stop}, {"stdin", command_stdin}, {"stdout", command_stdout},
                                   {"stderr", command_stderr}, {"pid", command_pid}, {"close", meta_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", meta_close}, {"__gc", meta_gc}, {"__tostring", meta_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L, const neap_started_class *class) {
    if (!luaL_newmetatable(L, class->meta)) return;
    lua_pushlightuserdata(L, (void *)class);
    neap_function_set(L, class->prefix, meta, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)class);
    neap_function_set(L, class->prefix, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

/* Handles ------------------------------------------------------------------------------------------- */

void *neap_started_new(lua_State *L, size_t size, const neap_started_class *class, neap_gate *gate, int op_index, int more) {
    op_index = lua_absindex(L, op_index);
    neap_started *s = lua_newuserdatauv(L, size, NEAP_STARTED_VALUES + more);
    memset(s, 0, size);
    s->class = class;
    s->gate = gate;
    push_meta(L, class);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, op_index);
    lua_setiuservalue(L, -2, OP_VALUE);
    return s;
}

void neap_started_open_streams(lua_State *L, int index) {
    neap_started *s = lua_touserdata(L, index);
    index = lua_absindex(L, index);
    for (int n = 0; n < STREAMS; n++) {
        neap_stream_handle *stream = neap_stream_new_handle(L, 0);
        stream->stream = s->class->stream(s, n);
        lua_setiuservalue(L, index, STREAM_VALUE + n);
    }
}
