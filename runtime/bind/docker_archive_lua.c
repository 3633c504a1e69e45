/* docker_archive_lua.c -- files of a container as tar streams: engine:archive_get and engine:archive_put.
 *
 *     get: HEAD and body of one GET; the tar ends with the stream, and a tar that is cut is an error of the stream
 *     put: intent durable ─► PUT, chunk by chunk ─► shut or close: the last chunk ─► the Engine's answer ─► outcome
 *                                                  └► scope left by an error: cut off; what it had unpacked stays: "unknown"
 *
 * Putting is no transaction: the Engine unpacks while it reads. A tar that was cut is recognised by it and reported, and that is all.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/json.h"
#include "bind/docker_lua.h"
#include "bind/stream_lua.h"
#include "script/raise.h"

enum { OP_INDEX = 3, HANDLE_INDEX = 4 };              /* behind the engine and the options */

typedef struct archive_op {
    docker_op base;                   /* first */
    neap_docker_call *call;
    neap_stream *body;
    char *path;
} archive_op;

static void archive_drop(neap_op *op) {
    archive_op *a = (archive_op *)op;
    neap_docker_call_free(a->call);
    neap_stream_free(a->body);
    free(a->path);
    neap_docker_op_drop(&a->base);
}

static archive_op *new_archive(lua_State *L, const neap_op_class *class, neap_primitive primitive, const char *verb) {
    docker_handle *h = neap_docker_check(L);
    char *container = neap_docker_container(L, 2);
    lua_settop(L, 2);
    archive_op *a = (archive_op *)neap_docker_op_new(L, sizeof *a, class, primitive, h, container, NULL);
    a->path = neap_docker_field(L, 2, "path");
    if (!a->path || *a->path != '/') neap_raisef(L, NEAP_E_USAGE, "path must be an absolute path in the container");
    neap_buf text = NEAP_BUF_INIT;
    char *file = neap_docker_field(L, 2, "file");
    neap_buf_addf(&text, "%s %s", verb, a->path);
    if (file) neap_buf_addf(&text, "%s%s", text.data[text.len - 1] == '/' ? "" : "/", file);
    free(file);
    a->base.gate.act.text = a->base.text = neap_buf_take(&text);
    return a;
}

static void add_target(neap_buf *out, const archive_op *a) {
    neap_buf_addf(out, "/containers/%s/archive?path=", a->base.container);
    neap_docker_encode(out, a->path);
}

/* Getting ------------------------------------------------------------------------------------------ */

static void on_body(void *arg, const neap_docker_answer *answer, const neap_err *err) {
    archive_op *a = arg;
    a->call = NULL;
    neap_docker_op_error(&a->base, err);
    if (!err) a->body = answer->stream;
    neap_op_finish(&a->base.gate.op);
}

static void get_cancel(neap_op *op, bool force) {
    archive_op *a = (archive_op *)op;
    (void)force;
    neap_docker_call_free(a->call);
    a->call = NULL;
    neap_op_finish(op);
}

static int get_deliver(lua_State *L, neap_op *op) {
    archive_op *a = (archive_op *)op;
    if (a->base.err.code) return neap_fail(L, &a->base.err);
    ((neap_stream_handle *)lua_touserdata(L, HANDLE_INDEX))->stream = a->body;
    a->body = NULL;
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static const neap_op_class get_class = {"a file of a container", get_cancel, get_deliver, archive_drop};

static int get_start(lua_State *L, neap_gate *g) {
    archive_op *a = (archive_op *)g;
    neap_buf target = NEAP_BUF_INIT;
    add_target(&target, a);
    a->call = neap_docker_get_stream(a->base.h->engine, target.data, on_body, a);
    neap_buf_close(&target);
    return neap_await(L, &g->op);
}

/* archive_get{container=, path=} -> stream | nil, err: a tar of the file or directory. Effect: read. */
int neap_docker_archive_get(lua_State *L) {
    archive_op *a = new_archive(L, &get_class, NEAP_P_DOCKER_READ, "get");
    neap_stream_new_handle(L, 0);
    a->base.gate.start = get_start;
    return neap_gate_enter(L, &a->base.gate);
}

/* Putting ------------------------------------------------------------------------------------------ */

/* The tar on its way: bytes in, one answer out. */
typedef struct upload {
    neap_stream stream;               /* first */
    neap_docker_call *call;           /* NULL: answered, or given up */
    neap_stream_done_fn done;         /* of the write or shut that waits */
    void *arg;
    bool last, answered;              /* the end was sent; the Engine has answered */
    neap_err err;
} upload;

typedef struct putter {
    neap_stream_handle handle;        /* first */
    archive_op *origin;               /* its gate gets the outcome; kept by the user value */
} putter;

static void answer(upload *u, const neap_err *err) {
    neap_stream_done_fn done = u->done;
    u->done = NULL;
    if (done) done(u->arg, err);
}

/* An answer before the end is a refusal, or an Engine that wants no more: either way nobody may think the tar is there. */
static void on_answer(void *arg, const neap_docker_answer *a, const neap_err *err) {
    upload *u = arg;
    (void)a;
    u->call = NULL;
    u->answered = true;
    if (err) {
        neap_err_set(&u->err, err->code, "%s", err->message);
        u->err.status = err->status;
    } else if (!u->last) {
        neap_err_set(&u->err, NEAP_E_PROTOCOL, "the Engine answered before the archive was whole");
    }
    answer(u, u->err.code ? &u->err : NULL);
}

/* A write that fails is explained by the answer, which is about to come; the last piece is done when the answer is there. */
static void on_written(void *arg, const neap_err *err) {
    upload *u = arg;
    if (!err && !u->last) answer(u, NULL);
}

static void refuse(upload *u) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, u->err.code ? u->err.code : NEAP_E_CLOSED, "%s", u->err.code ? u->err.message : "the archive was ended already");
    answer(u, &err);
    neap_err_close(&err);
}

static void upload_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    upload *u = (upload *)s;
    u->done = done;
    u->arg = arg;
    if (!u->call || u->last) refuse(u);
    else if (len) neap_docker_write(u->call, data, len, on_written, u);
    else answer(u, NULL);
}

static void upload_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    upload *u = (upload *)s;
    u->done = done;
    u->arg = arg;
    if (u->answered) { answer(u, u->err.code ? &u->err : NULL); return; }
    if (!u->call) { refuse(u); return; }
    if (u->last) return;
    u->last = true;
    neap_docker_write(u->call, "", 0, on_written, u);
}

static void upload_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    (void)s, (void)most;
    got(arg, NULL, 0, NULL);
}

/* A piece that was half sent cannot be taken back: the exchange is over. */
static void upload_stop(neap_stream *s) {
    upload *u = (upload *)s;
    if (!u->done) return;
    neap_docker_call_free(u->call);
    u->call = NULL;
    if (!u->err.code) neap_err_set(&u->err, NEAP_E_CANCELLED, "writing was stopped");
    answer(u, &u->err);
}

static void upload_free(neap_stream *s) {
    upload *u = (upload *)s;
    u->done = NULL;
    neap_docker_call_free(u->call);
    neap_err_close(&u->err);
    free(u);
}

static const neap_stream_class upload_class = {"archive", upload_read, upload_write, upload_shut, upload_stop, upload_free};

/* close: the end of the tar, if it was not sent yet, and the Engine's answer. */
typedef struct close_op {
    neap_op op;                       /* first */
    putter *p;
    bool good;
    neap_err err;
} close_op;

static void on_shut(void *arg, const neap_err *err) {
    close_op *k = arg;
    if (err) neap_err_set(&k->err, err->code, "%s", err->message);
    k->err.status = err ? err->status : -1;
    neap_op_finish(&k->op);
}

static void close_cancel(neap_op *op, bool force) {
    close_op *k = (close_op *)op;
    (void)force;
    if (k->p->handle.stream) neap_stream_stop(k->p->handle.stream);
    neap_op_finish(op);
}

static void settle(lua_State *L, close_op *k) {
    neap_buf members = NEAP_BUF_INIT;
    neap_json_member_int(&members, "size", k->p->handle.moved);
    neap_gate_outcome(L, &k->p->origin->base.gate, !k->err.code ? "ok" : k->err.status >= 400 && k->err.status < 500 ? "failed" : "unknown", members.data, &k->err);
    neap_buf_close(&members);
    neap_stream_handle_close(&k->p->handle);
}

static void close_on_stop(lua_State *L, neap_op *op) {
    close_op *k = (close_op *)op;
    if (!k->err.code) neap_err_set(&k->err, NEAP_E_UNKNOWN, "stopped before the Engine's answer");
    settle(L, k);
}

static int close_deliver(lua_State *L, neap_op *op) {
    close_op *k = (close_op *)op;
    settle(L, k);
    if (k->err.code && k->good) return neap_fail(L, &k->err);
    lua_pushboolean(L, 1);
    return 1;
}

static void close_drop(neap_op *op) { neap_err_close(&((close_op *)op)->err); }

static const neap_op_class close_class = {"an archive to be unpacked", close_cancel, close_deliver, close_drop};

static int close_upload(lua_State *L, neap_stream_handle *h, bool good) {
    close_op *k = (close_op *)neap_op_new(L, sizeof *k, &close_class);
    k->p = (putter *)h;
    k->err = (neap_err)NEAP_ERR_INIT;
    k->good = good;
    k->op.on_stop = close_on_stop;
    if (good && !h->broken) {
        neap_stream_shut(h->stream, on_shut, k);
    } else {
        neap_err_set(&k->err, NEAP_E_CANCELLED, "the archive was cut off; what was unpacked of it stays");
        neap_op_finish(&k->op);
    }
    return neap_await(L, &k->op);
}

static int put_start(lua_State *L, neap_gate *g) {
    archive_op *a = (archive_op *)g;
    putter *p = lua_touserdata(L, HANDLE_INDEX);
    neap_buf target = NEAP_BUF_INIT;
    upload *u = neap_zalloc(sizeof *u);
    u->stream.class = &upload_class;
    u->err = (neap_err)NEAP_ERR_INIT;
    add_target(&target, a);
    u->call = neap_docker_put(a->base.h->engine, target.data, on_answer, u);
    neap_buf_close(&target);
    p->handle.stream = &u->stream;
    p->handle.close = close_upload;
    p->origin = a;
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static void nothing(neap_op *op, bool force) {
    (void)force;
    neap_op_finish(op);
}

static const neap_op_class put_class = {"an archive to begin", nothing, NULL, archive_drop};

/* archive_put{container=, path=, file=, size=} -> stream | nil, err: a tar, unpacked into the directory `path`. close() tells whether it is
 * there. `file` and `size` say what is in it, for the plan and for whoever asks later whether it was done. Effect: write. */
int neap_docker_archive_put(lua_State *L) {
    archive_op *a = new_archive(L, &put_class, NEAP_P_DOCKER_PUT, "put");
    putter *p = (putter *)neap_stream_new_handle(L, sizeof *p);
    p->origin = a;
    lua_pushvalue(L, OP_INDEX);
    lua_setiuservalue(L, HANDLE_INDEX, 1);
    neap_json_member(&a->base.gate.evidence, "container", a->base.container);
    neap_json_member(&a->base.gate.evidence, "path", a->base.text + sizeof "put");
    lua_Integer size = neap_docker_integer(L, 2, "size", -1);
    if (size >= 0) neap_json_member_int(&a->base.gate.evidence, "bytes", size);
    a->base.gate.start = put_start;
    return neap_gate_enter(L, &a->base.gate);
}
