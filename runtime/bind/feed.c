/* feed.c -- see feed.h. One piece is under way at a time: a slow command slows its source. */
#include "bind/feed.h"

#include <lauxlib.h>

#include "bind/secret_lua.h"
#include "script/raise.h"

enum { PIECE_SIZE = 64 * 1024 };

void neap_feed_read(lua_State *L, int index, neap_feed *f) {
    int type = lua_getfield(L, index, "stdin");
    neap_secret *secret = neap_to_secret(L, -1);
    if (type == LUA_TNIL) return;
    if (secret) f->input = neap_secret_bytes(secret, &f->input_len);
    else if (type == LUA_TSTRING) f->input = lua_tolstring(L, -1, &f->input_len);
    else f->source = neap_check_stream(L, -1);
    if (f->source && f->source->reader) neap_raisef(L, NEAP_E_USAGE, "another task is reading from the stream for stdin");
}

bool neap_feed_is_ready(const neap_feed *f, neap_err *err) {
    if (!f->source || (f->source->stream && !f->source->reader)) return true;
    return neap_err_set(err, NEAP_E_USAGE, "the stream for stdin is %s", f->source->stream ? "being read by another task" : "closed");
}

void neap_feed_end(neap_feed *f) {
    neap_stream *in = f->in;
    f->in = NULL;
    neap_stream_free(in);
    if (!f->op || !f->source || f->source->reader != f->op) return;
    f->source->reader = NULL;
    if (f->source->stream) neap_stream_stop(f->source->stream);
}

static void on_shut(void *arg, const neap_err *err) {
    (void)err;
    neap_feed_end(arg);
}

static void next(neap_feed *f);

/* A command may close its stdin when it has read enough; that is no failure. */
static void on_fed(void *arg, const neap_err *err) {
    neap_feed *f = arg;
    if (!f->in) return;
    if (err) neap_feed_end(f);
    else next(f);
}

static void on_source(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_feed *f = arg;
    if (!f->in) return;
    if (len > 0) {
        f->source->moved += len;
        neap_stream_write(f->in, data, (size_t)len, on_fed, f);
    } else if (len == 0) {
        f->source->reader = NULL;
        neap_stream_shut(f->in, on_shut, f);
    } else {
        f->on_failed(f->arg, err);
    }
}

static void next(neap_feed *f) {
    if (f->source && !f->source->stream) {           /* its scope has ended meanwhile */
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_CLOSED, "the stream was closed by another task");
        f->on_failed(f->arg, &err);
        neap_err_close(&err);
    } else if (f->source) {
        neap_stream_read(f->source->stream, PIECE_SIZE, on_source, f);
    } else if (f->input_len) {
        size_t len = f->input_len < PIECE_SIZE ? f->input_len : PIECE_SIZE;
        const char *data = f->input;
        f->input += len;
        f->input_len -= len;
        neap_stream_write(f->in, data, len, on_fed, f);
    } else {
        neap_stream_shut(f->in, on_shut, f);
    }
}

void neap_feed_start(neap_feed *f, neap_stream *in, neap_op *op, void (*on_failed)(void *arg, const neap_err *err), void *arg) {
    f->in = in;
    f->op = op;
    f->on_failed = on_failed;
    f->arg = arg;
    if (f->source) f->source->reader = op;
    next(f);
}
