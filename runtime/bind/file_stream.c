/* file_stream.c -- native.file.open: a file as a stream.
 *
 * Reading needs no ceremony. Writing goes to name.part and is published at close:
 *
 *     open: intent durable → .part → bytes … → close: fsync, rename, fsync of the directory → outcome
 *                                          \→ scope left by an error: .part removed → outcome "failed"
 *                                          \→ collected without a close: .part removed, no outcome: unknown
 *
 * The outcome belongs to the intent that open wrote, so the handle keeps that op as its user value. The stream writes
 * through a second descriptor; the first, which holds the lock, is the one that is published.
 */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "bind/file_lua.h"
#include "bind/stream_lua.h"
#include "script/raise.h"
#include "script/task.h"

typedef struct writer {
    neap_stream_handle handle;    /* first */
    neap_disk_part part;
    neap_gate *gate;              /* of the op that opened it, kept by the user value */
} writer;

enum { OP_INDEX = 4, HANDLE_INDEX = 5 };              /* where neap_file_open keeps them on its stack */

/* Opening ---------------------------------------------------------------------------------------- */

static void run_open_read(neap_job *base) {
    neap_file_job *j = (neap_file_job *)base;
    j->fd = open(j->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (j->fd < 0) neap_loop_fail(&base->err, -errno, "cannot read \"%s\"", j->path);
}

static void run_open_write(neap_job *base) {
    neap_file_job *j = (neap_file_job *)base;
    if (!neap_disk_begin(&j->part, j->path, j->mode, &base->err)) return;
    j->fd = fcntl(j->part.fd, F_DUPFD_CLOEXEC, 3);
    if (j->fd >= 0) return;
    neap_loop_fail(&base->err, -errno, "cannot write \"%s\"", j->path);
    neap_disk_abandon(&j->part);
}

static int publish(lua_State *L, neap_stream_handle *h, bool good);

static void drop_writer(neap_stream_handle *h) { neap_disk_abandon(&((writer *)h)->part); }

static int push_stream(lua_State *L, neap_file_op *f) {
    writer *w = lua_touserdata(L, HANDLE_INDEX);
    w->handle.stream = neap_stream_of_fd(neap_host_of(L)->loop, f->job->fd);
    f->job->fd = -1;
    if (f->verb->primitive == NEAP_P_FILE_WRITE) {
        w->part = f->job->part;
        f->job->part = (neap_disk_part){.fd = -1};
        w->gate = &f->gate;
        w->handle.hash = neap_hash_new();
        w->handle.close = publish;
        w->handle.drop = drop_writer;
    }
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static const neap_file_verb
    verb_open_read = {"read", NEAP_P_FILE_READ, false, NULL, NULL, run_open_read, push_stream},
    verb_open_write = {"write", NEAP_P_FILE_WRITE, false, NULL, NULL, run_open_write, push_stream};

/* Stopped while it opened: nobody will ever write to it, so the .part goes at once and not with the collector. */
static void open_on_stop(lua_State *L, neap_op *op) {
    neap_file_op *f = (neap_file_op *)op;
    if (f->job->base.running) {
        neap_gate_outcome(L, &f->gate, "unknown", NULL, NULL);
        return;
    }
    neap_disk_abandon(&f->job->part);
    neap_gate_outcome(L, &f->gate, "failed", "\"message\":\"stopped before anything was written\"", NULL);
}

int neap_file_open(lua_State *L) {
    static const char *const modes[] = {"r", "w", NULL};
    const neap_file_verb *verb = luaL_checkoption(L, 2, "r", modes) ? &verb_open_write : &verb_open_read;
    lua_settop(L, OP_INDEX - 1);
    neap_file_op *f = neap_file_new(L, verb, 3);
    f->gate.op.on_stop = open_on_stop;
    writer *w = (writer *)neap_stream_new_handle(L, sizeof *w);
    w->part.fd = -1;
    lua_pushvalue(L, OP_INDEX);
    lua_setiuservalue(L, HANDLE_INDEX, 1);
    return neap_file_enter(L, f);
}

int neap_file_nothing(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_stream_handle *h = neap_stream_new_handle(L, 0);
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        neap_loop_fail(&err, -errno, "cannot write \"/dev/null\"");
        return neap_fail(L, &err);
    }
    h->stream = neap_stream_of_fd(neap_host_of(L)->loop, fd);
    return 1;
}

/* Publishing ------------------------------------------------------------------------------------- */

typedef struct publish_job {
    neap_job base;                /* first */
    neap_disk_part part;
    bool asked, good;             /* somebody wants the file; and it is whole */
    char hex[NEAP_HASH_HEX_SIZE];
} publish_job;

typedef struct publish_op {
    neap_op op;
    publish_job *job;
    neap_gate *gate;
    long long bytes;
} publish_op;

static void run_publish(neap_job *base) {
    publish_job *j = (publish_job *)base;
    if (j->good) neap_disk_publish(&j->part, &base->err);
    else if (j->asked) neap_err_set(&base->err, NEAP_E_REMOTE, "\"%s\" is not whole and keeps its old content", j->part.path);
    else neap_err_set(&base->err, NEAP_E_CANCELLED, "given up before it was whole; \"%s\" was removed", j->part.part);
    neap_disk_abandon(&j->part);
}

static void free_publish(neap_job *base) {
    neap_disk_abandon(&((publish_job *)base)->part);
    neap_err_close(&base->err);
    free(base);
}

static void publish_cancel(neap_op *op, bool force) { neap_job_cancel(&((publish_op *)op)->job->base, force); }

static void settle(lua_State *L, publish_op *p) {
    neap_buf members = NEAP_BUF_INIT;
    const neap_err *err = &p->job->base.err;
    neap_json_member(&members, "sha256", p->job->hex);
    neap_json_member_int(&members, "size", p->bytes);
    neap_gate_outcome(L, p->gate, err->code ? "failed" : "ok", members.data, err);
    neap_buf_close(&members);
}

/* A rename is short: stopping waits for it, so that it is known. */
static void publish_on_stop(lua_State *L, neap_op *op) {
    publish_op *p = (publish_op *)op;
    if (p->job->base.running) neap_gate_outcome(L, p->gate, "unknown", NULL, NULL);
    else settle(L, p);
}

static int publish_deliver(lua_State *L, neap_op *op) {
    publish_op *p = (publish_op *)op;
    settle(L, p);
    if (p->job->asked && p->job->base.err.code) return neap_fail(L, &p->job->base.err);
    lua_pushboolean(L, 1);
    return 1;
}

static void publish_drop(neap_op *op) {
    publish_op *p = (publish_op *)op;
    if (p->job) neap_job_drop(&p->job->base);
}

static const neap_op_class publish_class = {"a file to be made durable", publish_cancel, publish_deliver, publish_drop};

static int publish(lua_State *L, neap_stream_handle *h, bool good) {
    writer *w = (writer *)h;
    unsigned char digest[NEAP_HASH_SIZE];
    publish_op *p = (publish_op *)neap_op_new(L, sizeof *p, &publish_class);
    p->job = neap_zalloc(sizeof *p->job);
    p->job->base.run = run_publish;
    p->job->base.free = free_publish;
    p->job->base.err = (neap_err)NEAP_ERR_INIT;
    p->job->asked = good;
    p->job->good = good && !h->broken;
    p->job->part = w->part;
    p->gate = w->gate;
    p->bytes = h->moved;
    p->op.on_stop = publish_on_stop;
    w->part = (neap_disk_part){.fd = -1};
    neap_hash_end(h->hash, digest);
    h->hash = NULL;
    neap_hash_hex(digest, p->job->hex);
    neap_stream_handle_close(h);
    neap_job_start(neap_host_of(L)->loop, &p->job->base, &p->op);
    return neap_await(L, &p->op);
}
