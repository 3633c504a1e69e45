/* stream_lua.c -- stream handles: read, write, shut, close, pipe.
 *
 *     local out <close> = native.file.open("dump", "w")
 *     local done = child:stdout():pipe(out)          -- {bytes=, sha256=, …}
 *
 * One reader and one writer at a time; the second is told "busy". A handle leaves its scope in two ways: well, and
 * then a file under construction gets its name; or by an error, and then it does not. __gc closes without a word.
 *
 * A pipe (drive/pipe.h) runs below Lua from beginning to end; here it only becomes a wait, and its ends become a table.
 */
#include "bind/stream_lua.h"

#include <lauxlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/callback.h"
#include "bind/secret_lua.h"
#include "drive/pipe.h"
#include "script/function.h"
#include "script/gate.h"
#include "script/raise.h"
#include "script/task.h"

#define STREAM_META "neap.stream"

enum { PIECE_SIZE = 64 * 1024 };

static void push_meta(lua_State *L);

neap_stream_handle *neap_stream_new_handle(lua_State *L, size_t size) {
    if (size < sizeof(neap_stream_handle)) size = sizeof(neap_stream_handle);
    neap_stream_handle *h = lua_newuserdatauv(L, size, 1);
    memset(h, 0, size);
    h->of_act = neap_gate_is_act(L);
    push_meta(L);
    lua_setmetatable(L, -2);
    return h;
}

neap_stream_handle *neap_to_stream_handle(lua_State *L, int index) { return luaL_testudata(L, index, STREAM_META); }

/* [-0, +0, e] converting to text raises {withheld} for a value that a preview did not make. */
neap_stream_handle *neap_check_stream(lua_State *L, int index) {
    neap_stream_handle *h = neap_to_stream_handle(L, index);
    if (!h && lua_isuserdata(L, index)) luaL_tolstring(L, index, NULL), lua_pop(L, 1);
    if (!h) luaL_checkudata(L, index, STREAM_META);
    if (!h->stream) neap_raisef(L, NEAP_E_USAGE, "the stream is closed");
    return h;
}

neap_stream_handle *neap_check_sink(lua_State *L, int index) {
    neap_stream_handle *h = neap_check_stream(L, index);
    if (h->of_act) neap_gate_check_act(L, "the stream");
    return h;
}

void neap_stream_handle_close(neap_stream_handle *h) {
    neap_stream *s = h->stream;
    h->stream = NULL;
    neap_stream_free(s);
    neap_hash_free(h->hash);
    h->hash = NULL;
}

static void check_free(lua_State *L, const neap_stream_handle *h, bool reads, bool writes) {
    if (reads && h->reader) neap_raisef(L, NEAP_E_USAGE, "another task is reading from this stream");
    if (writes && h->writer) neap_raisef(L, NEAP_E_USAGE, "another task is writing to this stream");
}

static void note_written(neap_stream_handle *h, const char *data, size_t len) {
    h->moved += (long long)len;
    if (h->hash) neap_hash_add(h->hash, data, len);
}

/* read and write: one direction --------------------------------------------------------------- */

typedef struct transfer {
    neap_op op;
    neap_stream_handle *handle;
    neap_buf data;
    neap_err err;
} transfer;

static void release(transfer *t) {
    if (t->handle->reader == &t->op) t->handle->reader = NULL;
    if (t->handle->writer == &t->op) t->handle->writer = NULL;
    neap_op_finish(&t->op);
}

static void transfer_cancel(neap_op *op, bool force) {
    transfer *t = (transfer *)op;
    (void)force;                                    /* stop calls back at once */
    if (t->handle->stream) neap_stream_stop(t->handle->stream);
    release(t);
}

static void transfer_drop(neap_op *op) {
    transfer *t = (transfer *)op;
    if (!op->finished && t->handle) transfer_cancel(op, true);
    neap_buf_wipe(&t->data);
    neap_err_close(&t->err);
}

static int read_deliver(lua_State *L, neap_op *op) {
    transfer *t = (transfer *)op;
    if (t->err.code) return neap_fail(L, &t->err);
    if (t->data.len) lua_pushlstring(L, t->data.data, t->data.len);
    else lua_pushnil(L);
    return 1;
}

static int write_deliver(lua_State *L, neap_op *op) {
    transfer *t = (transfer *)op;
    if (t->err.code) return neap_fail(L, &t->err);
    lua_pushboolean(L, 1);
    return 1;
}

static const neap_op_class read_class = {"bytes of a stream", transfer_cancel, read_deliver, transfer_drop};
static const neap_op_class write_class = {"a stream to take bytes", transfer_cancel, write_deliver, transfer_drop};

static transfer *new_transfer(lua_State *L, neap_stream_handle *h, const neap_op_class *class) {
    transfer *t = (transfer *)neap_op_new(L, sizeof *t, class);
    t->handle = h;
    t->err = (neap_err)NEAP_ERR_INIT;
    return t;
}

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    transfer *t = arg;
    if (len > 0) neap_buf_add(&t->data, data, (size_t)len);
    if (len > 0) t->handle->moved += len;
    if (len < 0) neap_err_keep(&t->err, err);
    release(t);
}

static void on_done(void *arg, const neap_err *err) {
    transfer *t = arg;
    if (err) t->handle->broken = true;
    neap_err_keep(&t->err, err);
    release(t);
}

/* stream:read([most]) -> bytes | nil (the end) | nil, err. Effect: that of what opened the stream. */
static int stream_read(lua_State *L) {
    neap_stream_handle *h = neap_check_stream(L, 1);
    lua_Integer most = luaL_optinteger(L, 2, PIECE_SIZE);
    luaL_argcheck(L, most > 0, 2, "at least one byte must be asked for");
    check_free(L, h, true, false);
    transfer *t = new_transfer(L, h, &read_class);
    h->reader = &t->op;
    neap_stream_read(h->stream, (size_t)most, on_got, t);
    return neap_await(L, &t->op);
}

/* stream:write(bytes|secret) -> true | nil, err. Effect: that of what opened the stream. */
static int stream_write(lua_State *L) {
    neap_stream_handle *h = neap_check_sink(L, 1);
    neap_secret *secret = neap_to_secret(L, 2);
    size_t len;
    if (!secret && lua_isuserdata(L, 2)) luaL_tolstring(L, 2, NULL), lua_replace(L, 2);
    const char *data = secret ? neap_secret_bytes(secret, &len) : luaL_checklstring(L, 2, &len);
    check_free(L, h, false, true);
    transfer *t = new_transfer(L, h, &write_class);
    h->writer = &t->op;
    note_written(h, data, len);
    neap_stream_write(h->stream, data, len, on_done, t);
    return neap_await(L, &t->op);
}

/* stream:shut() -> true | nil, err: no more will be written; the far end sees the end. Effect: as write. */
static int stream_shut(lua_State *L) {
    neap_stream_handle *h = neap_check_sink(L, 1);
    check_free(L, h, false, true);
    transfer *t = new_transfer(L, h, &write_class);
    h->writer = &t->op;
    neap_stream_shut(h->stream, on_done, t);
    return neap_await(L, &t->op);
}

/* pipe: from one to the other ------------------------------------------------------------------ */

typedef struct pipe_op {
    neap_op op;
    neap_stream_handle *from, *to;
    neap_pipe *pipe;               /* NULL: not begun, or over */
    neap_pipe_result result;
    lua_State *main;               /* for on_progress */
    int progress;                  /* reference to the function; LUA_NOREF: none */
    neap_err err;
} pipe_op;

/* A copy that did not come to its end leaves the receiver incomplete, whichever side failed. */
static void pipe_end(pipe_op *p, bool whole) {
    if (!whole) p->to->broken = true;
    if (p->from->reader == &p->op) p->from->reader = NULL;
    if (p->to->writer == &p->op) p->to->writer = NULL;
    p->pipe = NULL;
    neap_op_finish(&p->op);
}

static void on_piped(void *arg, const neap_pipe_result *result, const neap_err *err) {
    pipe_op *p = arg;
    p->result = *result;
    neap_err_keep(&p->err, err);
    pipe_end(p, !err);
}

static void on_moved(void *arg, size_t read, size_t written) {
    pipe_op *p = arg;
    p->from->moved += (long long)read;
    p->to->moved += (long long)written;
}

static void on_progress(void *arg, long long bytes, long long rate) {
    pipe_op *p = arg;
    lua_rawgeti(p->main, LUA_REGISTRYINDEX, p->progress);
    lua_pushinteger(p->main, bytes);
    lua_pushinteger(p->main, rate);
    neap_callback_call(p->main, 2);
}

static void pipe_cancel(neap_op *op, bool force) {
    pipe_op *p = (pipe_op *)op;
    (void)force;                                    /* streams stop at once */
    if (!p->pipe) return;
    neap_pipe_cancel(p->pipe);
    pipe_end(p, false);
}

static void set_hash(lua_State *L, const unsigned char digest[NEAP_HASH_SIZE], const char *name) {
    char hex[NEAP_HASH_HEX_SIZE];
    neap_hash_hex(digest, hex);
    lua_pushstring(L, hex);
    lua_setfield(L, -2, name);
}

/* [-0, +0, m] how far it came, and how each end fared, into the table on top: the result, or the error. */
static void set_ends(lua_State *L, const neap_pipe_result *r) {
    lua_pushinteger(L, r->bytes), lua_setfield(L, -2, "bytes");
    lua_pushinteger(L, r->written), lua_setfield(L, -2, "written");
    lua_pushstring(L, neap_pipe_end_name(r->from)), lua_setfield(L, -2, "from_status");
    lua_pushstring(L, neap_pipe_end_name(r->to)), lua_setfield(L, -2, "to_status");
}

static void forget_progress(lua_State *L, pipe_op *p) {
    luaL_unref(L, LUA_REGISTRYINDEX, p->progress);
    p->progress = LUA_NOREF;
}

static int pipe_deliver(lua_State *L, neap_op *op) {
    pipe_op *p = (pipe_op *)op;
    forget_progress(L, p);
    if (p->err.code) {
        int count = neap_fail(L, &p->err);
        set_ends(L, &p->result);
        return count;
    }
    lua_createtable(L, 0, 7);
    set_ends(L, &p->result);
    lua_pushlstring(L, p->result.tail, p->result.tail_len);
    lua_setfield(L, -2, "tail");
    set_hash(L, p->result.digest, "sha256");
    set_hash(L, p->result.written_digest, "written_sha256");
    return 1;
}

static void pipe_on_stop(lua_State *L, neap_op *op) { forget_progress(L, (pipe_op *)op); }

static void pipe_drop(neap_op *op) {
    pipe_op *p = (pipe_op *)op;
    if (p->pipe) pipe_cancel(op, true);
    neap_err_close(&p->err);
}

static const neap_op_class pipe_class = {"a copy between streams", pipe_cancel, pipe_deliver, pipe_drop};

enum { OPTIONS = 3 };                              /* where stream_pipe keeps them */

static int64_t opt_ms(lua_State *L, const char *name) {
    lua_getfield(L, OPTIONS, name);
    lua_Integer ms = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    if (ms < 0) neap_raisef(L, NEAP_E_USAGE, "%s must not be negative", name);
    return ms;
}

static neap_filter_format opt_format(lua_State *L, const char *name) {
    neap_filter_format format = NEAP_FILTER_NONE;
    const char *text = lua_getfield(L, OPTIONS, name) == LUA_TNIL ? NULL : luaL_checkstring(L, -1);
    if (text && strcmp(text, "zstd") == 0) format = NEAP_FILTER_ZSTD;
    else if (text && strcmp(text, "gzip") == 0) format = NEAP_FILTER_GZIP;
    else if (text) neap_raisef(L, NEAP_E_USAGE, "%s is \"zstd\" or \"gzip\", not \"%s\"", name, text);
    lua_pop(L, 1);
    return format;
}

/* [-0, +0, e] */
static neap_pipe_options check_options(lua_State *L) {
    neap_pipe_options o = {.moved = on_moved};
    if (lua_isnil(L, OPTIONS)) return o;
    luaL_checktype(L, OPTIONS, LUA_TTABLE);
    o.within_ms = opt_ms(L, "within_ms");
    o.stall_ms = opt_ms(L, "stall_ms");
    o.format = opt_format(L, "compress");
    neap_filter_format expand = opt_format(L, "expand");
    if (o.format && expand) neap_raisef(L, NEAP_E_USAGE, "a copy compresses or expands, not both");
    o.expand = expand != NEAP_FILTER_NONE;
    if (o.expand) o.format = expand;
    if (lua_getfield(L, OPTIONS, "ahead") != LUA_TNIL) o.ahead = luaL_checklstring(L, -1, &o.ahead_len);   /* the table keeps it */
    lua_pop(L, 1);
    if (lua_getfield(L, OPTIONS, "on_progress") == LUA_TFUNCTION) o.progress = on_progress;
    else if (!lua_isnil(L, -1)) neap_raisef(L, NEAP_E_USAGE, "on_progress must be a function");
    lua_pop(L, 1);
    return o;
}

/* from:pipe(to, {within_ms=, stall_ms=, compress=|expand="zstd"|"gzip", ahead=, on_progress=fn(bytes, rate)}) -> {bytes=, sha256=,
 * written=, written_sha256=, tail=, from_status=, to_status=} | nil, err (with bytes, written and both statuses): everything up to the end
 * of `from`. ahead: bytes that were read from it before, which go first; tail: the last KiB that was written.
 * `to` stays open: shut or close it. Effect: that of what opened the streams. */
static int stream_pipe(lua_State *L) {
    neap_stream_handle *from = neap_check_stream(L, 1), *to = neap_check_sink(L, 2);
    lua_settop(L, OPTIONS);
    neap_pipe_options o = check_options(L);
    check_free(L, from, true, false);
    check_free(L, to, false, true);
    pipe_op *p = (pipe_op *)neap_op_new(L, sizeof *p, &pipe_class);
    p->err = (neap_err)NEAP_ERR_INIT;
    p->from = from;
    p->to = to;
    p->progress = LUA_NOREF;
    p->op.on_stop = pipe_on_stop;
    if (o.progress) {
        p->main = neap_callback_main(L);
        lua_getfield(L, OPTIONS, "on_progress");
        p->progress = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    o.kept = to->hash;
    o.fresh = to->moved == 0;
    from->reader = to->writer = &p->op;
    p->pipe = neap_pipe_start(neap_host_of(L)->loop, from->stream, to->stream, &o, on_piped, p);
    return neap_await(L, &p->op);
}

/* Ends ----------------------------------------------------------------------------------------- */

static void end_pipe(neap_op *op) {
    if (!op || op->class != &pipe_class) return;
    neap_err_set(&((pipe_op *)op)->err, NEAP_E_CLOSED, "the stream was closed by another task");
    pipe_cancel(op, true);
}

/* A scope may end while other tasks use the stream. A pipe that just waits for its other end would not be told by the stream, and a
 * write that was cut short must be known before a file gets its name. */
static void let_go(neap_stream_handle *h) {
    end_pipe(h->reader);
    end_pipe(h->writer);
    if (h->reader || h->writer) neap_stream_stop(h->stream);
}

static int end_handle(lua_State *L, neap_stream_handle *h, bool good) {
    if (h->close) return h->close(L, h, good);
    neap_stream_handle_close(h);
    lua_pushboolean(L, 1);
    return 1;
}

/* stream:close([good]) -> true | nil, err. A file that was being written gets its name now; with false it is given up, and err says what may
 * be left of it. Twice is harmless. */
static int stream_close(lua_State *L) {
    neap_stream_handle *h = luaL_checkudata(L, 1, STREAM_META);
    if (h->stream) {
        check_free(L, h, true, true);
        if (h->close && h->of_act) neap_gate_check_act(L, "the stream");
        return end_handle(L, h, !lua_isboolean(L, 2) || lua_toboolean(L, 2));
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* At the end of a scope: by an error (second argument) or well. */
static int meta_close(lua_State *L) {
    neap_stream_handle *h = luaL_checkudata(L, 1, STREAM_META);
    if (h->stream && h->close && h->of_act) neap_gate_check_act(L, "the stream");
    if (h->stream) let_go(h);
    return h->stream ? end_handle(L, h, lua_isnoneornil(L, 2)) : 0;
}

static int meta_gc(lua_State *L) {
    neap_stream_handle *h = luaL_checkudata(L, 1, STREAM_META);
    if (h->stream) neap_stream_handle_close(h);
    if (h->drop) h->drop(h);
    h->drop = NULL;
    return 0;
}

/* stream:moved() -> bytes read and written so far. Effect: pure. */
static int stream_moved(lua_State *L) {
    lua_pushinteger(L, ((neap_stream_handle *)luaL_checkudata(L, 1, STREAM_META))->moved);
    return 1;
}

static int meta_tostring(lua_State *L) {
    neap_stream_handle *h = luaL_checkudata(L, 1, STREAM_META);
    lua_pushfstring(L, "stream (%s)", h->stream ? h->stream->class->name : "closed");
    return 1;
}

static const luaL_Reg methods[] = {{"read", stream_read}, {"write", stream_write}, {"shut", stream_shut}, {"close", stream_close},
                                   {"pipe", stream_pipe}, {"moved", stream_moved}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", meta_close}, {"__gc", meta_gc}, {"__tostring", meta_tostring}, {NULL, NULL}};

/* [-0, +1, m] */
static void push_meta(lua_State *L) {
    if (!luaL_newmetatable(L, STREAM_META)) return;
    neap_function_set(L, "stream:", meta, 0);
    neap_function_table(L, "stream:", methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}
