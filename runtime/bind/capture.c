/* capture.c -- see capture.h. `yes` may run for a minute without our memory growing: twice the cap is the most that is held. */
#include "bind/capture.h"

#include "guard/secret.h"

enum { CAP = 1 << 20, PIECE_SIZE = 64 * 1024 };

static void drop_beyond(neap_capture *c, size_t most) {
    if (c->kept.len <= most) return;
    c->dropped += (long long)(c->kept.len - CAP);
    neap_buf_drop(&c->kept, c->kept.len - CAP);
}

void neap_capture_add(neap_capture *c, const char *data, size_t len) {
    neap_buf_add(&c->kept, data, len);
    drop_beyond(c, 2 * CAP);
}

static void on_output(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_capture *c = arg;
    if (!c->stream) return;
    if (len <= 0) {
        if (len < 0 && !c->err.code) neap_err_set(&c->err, err->code, "%s", err->message);
        neap_capture_close(c);
        if (c->on_end) c->on_end(c->arg);
        return;
    }
    neap_capture_add(c, data, (size_t)len);
    neap_stream_read(c->stream, PIECE_SIZE, on_output, c);
}

void neap_capture_open(neap_capture *c, neap_stream *stream, void (*on_end)(void *arg), void *arg) {
    c->stream = stream;
    c->err = (neap_err)NEAP_ERR_INIT;
    c->on_end = on_end;
    c->arg = arg;
    neap_stream_read(stream, PIECE_SIZE, on_output, c);
}

void neap_capture_close(neap_capture *c) {
    neap_stream *s = c->stream;
    c->stream = NULL;
    neap_stream_free(s);
}

long long neap_capture_push(lua_State *L, neap_capture *c, const char *name) {
    neap_buf clean = NEAP_BUF_INIT;
    drop_beyond(c, CAP);
    neap_redact(&clean, c->kept.data ? c->kept.data : "", c->kept.len);
    neap_buf_wipe(&c->kept);
    c->kept = clean;                                 /* the op owns it should pushing raise */
    lua_pushlstring(L, clean.data ? clean.data : "", clean.len);
    lua_setfield(L, -2, name);
    return c->dropped;
}

void neap_capture_push_missing(lua_State *L, long long dropped) {
    if (dropped) lua_pushinteger(L, dropped);
    else lua_pushboolean(L, 0);
    lua_setfield(L, -2, "truncated");
}

void neap_capture_wipe(neap_capture *c) {
    neap_capture_close(c);
    neap_buf_wipe(&c->kept);
    neap_err_close(&c->err);
}
