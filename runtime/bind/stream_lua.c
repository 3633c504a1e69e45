/* stream_lua.c -- stream handles: read, write, shut, close, pipe.
 *
 *     local out <close> = native.file.open("dump", "w")
 *     local done = child:stdout():pipe(out)          -- {bytes=, sha256=}
 *
 * One reader and one writer at a time; the second is told "busy". A handle leaves its scope in two ways: well, and
 * then a file under construction gets its name; or by an error, and then it does not. __gc closes without a word.
 *
 * A pipe holds one piece at a time: the next read is asked when the far end took the last piece, so memory stays flat
 * and a slow end slows the fast one. It hashes what it moves, because both ends of a copy must be able to prove it.
 */
#include "bind/stream_lua.h"

#include <lauxlib.h>
#include <string.h>

#include "base/buf.h"
#include "bind/secret_lua.h"
#include "loop/timer.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define STREAM_META "neap.stream"

enum { PIECE_SIZE = 64 * 1024, PIPE_SIZE = 256 * 1024 };

static void push_meta(lua_State *L);

neap_stream_handle *neap_stream_new_handle(lua_State *L, size_t size) {
    if (size < sizeof(neap_stream_handle)) size = sizeof(neap_stream_handle);
    neap_stream_handle *h = lua_newuserdatauv(L, size, 1);
    memset(h, 0, size);
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

static void keep_error(neap_err *to, const neap_err *from) {
    if (to->code || !from) return;
    neap_err_set(to, from->code, "%s", from->message);
    if (from->hint) neap_err_hint(to, "%s", from->hint);
    to->retry = from->retry;
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
    if (len < 0) keep_error(&t->err, err);
    release(t);
}

static void on_done(void *arg, const neap_err *err) {
    transfer *t = arg;
    if (err) t->handle->broken = true;
    keep_error(&t->err, err);
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
    neap_stream_handle *h = neap_check_stream(L, 1);
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
    neap_stream_handle *h = neap_check_stream(L, 1);
    check_free(L, h, false, true);
    transfer *t = new_transfer(L, h, &write_class);
    h->writer = &t->op;
    neap_stream_shut(h->stream, on_done, t);
    return neap_await(L, &t->op);
}

/* pipe: from one to the other ------------------------------------------------------------------ */

typedef struct pipe {
    neap_op op;
    neap_stream_handle *from, *to;
    neap_timer *timer;
    neap_hash *hash;               /* NULL: the receiver's own is of exactly these bytes */
    long long bytes;
    neap_err err;
} pipe_op;

/* A copy that did not come to its end leaves the receiver incomplete, whichever side failed. */
static void pipe_end(pipe_op *p, bool whole) {
    if (!whole) p->to->broken = true;
    if (p->from->reader == &p->op) p->from->reader = NULL;
    if (p->to->writer == &p->op) p->to->writer = NULL;
    neap_timer_free(p->timer);
    p->timer = NULL;
    neap_op_finish(&p->op);
}

static void pipe_next(pipe_op *p);

static void on_pipe_written(void *arg, const neap_err *err) {
    pipe_op *p = arg;
    keep_error(&p->err, err);
    if (p->op.finished) return;
    if (p->err.code) pipe_end(p, false);
    else pipe_next(p);
}

static void on_pipe_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    pipe_op *p = arg;
    if (p->op.finished) return;
    if (len < 0) keep_error(&p->err, err);
    if (len <= 0) { pipe_end(p, len == 0); return; }
    if (p->hash) neap_hash_add(p->hash, data, (size_t)len);
    p->bytes += len;
    p->from->moved += len;
    note_written(p->to, data, (size_t)len);
    neap_stream_write(p->to->stream, data, (size_t)len, on_pipe_written, p);
}

static void pipe_next(pipe_op *p) { neap_stream_read(p->from->stream, PIPE_SIZE, on_pipe_got, p); }

/* The op is finished first, so that what the stopped streams say is not taken for news. */
static void pipe_cancel(neap_op *op, bool force) {
    pipe_op *p = (pipe_op *)op;
    (void)force;
    if (op->finished) return;
    pipe_end(p, false);
    if (p->from->stream) neap_stream_stop(p->from->stream);
    if (p->to->stream) neap_stream_stop(p->to->stream);
}

static void on_pipe_late(void *arg) {
    pipe_op *p = arg;
    neap_err_set(&p->err, NEAP_E_TIMEOUT, "the copy was not done in time; %lld bytes were moved", p->bytes);
    pipe_cancel(&p->op, true);
}

static int pipe_deliver(lua_State *L, neap_op *op) {
    pipe_op *p = (pipe_op *)op;
    unsigned char digest[NEAP_HASH_SIZE];
    char hex[NEAP_HASH_HEX_SIZE];
    if (p->err.code) return neap_fail(L, &p->err);
    if (p->hash) neap_hash_end(p->hash, digest);
    else neap_hash_peek(p->to->hash, digest);
    p->hash = NULL;
    neap_hash_hex(digest, hex);
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, p->bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushstring(L, hex);
    lua_setfield(L, -2, "sha256");
    return 1;
}

static void pipe_drop(neap_op *op) {
    pipe_op *p = (pipe_op *)op;
    if (p->from && p->to) pipe_cancel(op, true);
    neap_hash_free(p->hash);
    neap_err_close(&p->err);
}

static const neap_op_class pipe_class = {"a copy between streams", pipe_cancel, pipe_deliver, pipe_drop};

static lua_Integer opt_within(lua_State *L, int index) {
    if (lua_isnoneornil(L, index)) return 0;
    luaL_checktype(L, index, LUA_TTABLE);
    lua_getfield(L, index, "within_ms");
    lua_Integer ms = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    luaL_argcheck(L, ms >= 0, index, "within_ms must not be negative");
    return ms;
}

/* from:pipe(to, {within_ms=}) -> {bytes=, sha256=} | nil, err: everything up to the end of `from`. `to` stays open: shut or
 * close it. Effect: that of what opened the streams. */
static int stream_pipe(lua_State *L) {
    neap_stream_handle *from = neap_check_stream(L, 1), *to = neap_check_stream(L, 2);
    lua_Integer within_ms = opt_within(L, 3);
    check_free(L, from, true, false);
    check_free(L, to, false, true);
    pipe_op *p = (pipe_op *)neap_op_new(L, sizeof *p, &pipe_class);
    p->err = (neap_err)NEAP_ERR_INIT;
    p->from = from;
    p->to = to;
    p->hash = to->hash && to->moved == 0 ? NULL : neap_hash_new();
    from->reader = to->writer = &p->op;
    if (within_ms) {
        p->timer = neap_timer_new(neap_host_of(L)->loop, on_pipe_late, p);
        neap_timer_start(p->timer, within_ms);
    }
    pipe_next(p);
    return neap_await(L, &p->op);
}

/* Ends ----------------------------------------------------------------------------------------- */

static int end_handle(lua_State *L, neap_stream_handle *h, bool good) {
    if (h->close) return h->close(L, h, good);
    neap_stream_handle_close(h);
    lua_pushboolean(L, 1);
    return 1;
}

/* stream:close() -> true | nil, err. A file that was being written gets its name now. Twice is harmless. */
static int stream_close(lua_State *L) {
    neap_stream_handle *h = luaL_checkudata(L, 1, STREAM_META);
    if (h->stream) {
        check_free(L, h, true, true);
        return end_handle(L, h, true);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* At the end of a scope: by an error (second argument) or well. */
static int meta_close(lua_State *L) {
    neap_stream_handle *h = luaL_checkudata(L, 1, STREAM_META);
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
