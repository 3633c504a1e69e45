/* ssh_file_write.c -- native.ssh: files of a host that are written, from a text or through a stream.
 *
 *     session:write_file   the gate (preview: a difference) ──► RECEIVE ──► PUBLISH ──► outcome
 *     session:create       the gate ──► OPENING ──► a stream … close ──► SHUT ──► NOTE ──► PUBLISH ──► outcome
 *                                                        └─ an error ──► DISCARD ──► outcome "failed"
 *
 * Nothing has its name before PUBLISH, so whatever goes wrong earlier is "failed" and the .part is taken away; where the host cannot be
 * reached for that, the error names it. A connection lost within PUBLISH is looked into (LOOK): the hash tells. What a stream wrote is
 * hashed on our side, and NOTE makes size and hash durable before the name is given, so that after a crash the probe can tell, too.
 *
 * One op goes through all of it: the handle keeps the op that opened it, because the outcome belongs to that intent. */
#include "bind/ssh_file.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/diff.h"
#include "base/json.h"
#include "bind/secret_lua.h"
#include "script/raise.h"

enum { DIFF_LIMIT = 1 << 20, HANDLE_INDEX = 5 };

typedef enum { PREVIEW, RECEIVE, OPENING, SHUT, NOTE, PUBLISH, LOOK, DISCARD } stage;

typedef struct put_op {
    neap_far_file file;              /* first */
    stage stage;
    const char *data;                /* write_file: the stack keeps it */
    size_t len;
    neap_stream *opening;            /* until it is the handle's */
    neap_stream_handle *handle;      /* create */
    neap_far_part part;              /* `id` is empty while there is none */
    char hex[NEAP_HASH_HEX_SIZE], size[24];
    neap_command_note *note;
    neap_err why;                    /* what went wrong first */
    bool given_up;                   /* nobody wants the file any more */
    neap_buf plan;
} put_op;

static const char *place_of(const put_op *p) { return neap_ssh_link_host(p->file.link)->name; }

static int ask(lua_State *L, put_op *p, stage next, const neap_far_request *r) {
    p->stage = next;
    return neap_far_file_ask(L, &p->file, r);
}

/* Letting go without a wait ---------------------------------------------------------------------------- */

typedef struct sweep { neap_far_question *question; } sweep;

static void on_swept(void *arg, int status, neap_buf *out, const neap_err *err) {
    sweep *s = arg;
    (void)status, (void)out, (void)err;
    neap_far_question_free(s->question);
    free(s);
}

/* Have the .part taken away while nobody waits; ends at the latest with the session. */
static void sweep_part(put_op *p) {
    if (!*p->part.id || !neap_ssh_link_now(p->file.link)) return;
    sweep *s = neap_zalloc(sizeof *s);
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_DISCARD, p->part.id);
    s->question = neap_far_ask(p->file.link, &r, on_swept, s);
    *p->part.id = 0;
}

static void drop_opening(put_op *p) {
    neap_stream *s = p->opening;
    p->opening = NULL;
    neap_stream_free(s);
}

static void drop_handle(neap_stream_handle *h);

/* Ends -------------------------------------------------------------------------------------------------- */

static int succeed(lua_State *L, put_op *p) {
    neap_buf members = NEAP_BUF_INIT;
    neap_json_member(&members, "sha256", p->hex);
    neap_json_member_int(&members, "size", atoll(p->size));
    if (p->part.stale) neap_json_member(&members, "note", "a leftover .part was replaced");
    *p->part.id = 0;
    neap_gate_outcome(L, &p->file.gate, "ok", members.data, NULL);
    neap_buf_close(&members);
    if (p->handle) { lua_pushboolean(L, 1); return 1; }
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, atoll(p->size));
    lua_setfield(L, -2, "bytes");
    lua_pushstring(L, p->hex);
    lua_setfield(L, -2, "sha256");
    lua_pushboolean(L, p->part.stale);
    lua_setfield(L, -2, "stale");
    return 1;
}

static int fail(lua_State *L, put_op *p, const char *status) {
    neap_gate_outcome(L, &p->file.gate, status, NULL, &p->why);
    if (p->why.code == NEAP_E_JOURNAL) return neap_raise(L, &p->why);
    if (!p->given_up || p->why.hint) return neap_fail(L, &p->why);       /* a hint: the .part may be left */
    neap_err_close(&p->why);
    lua_pushboolean(L, 1);
    return 1;
}

static void name_part(put_op *p) {
    neap_buf hint = NEAP_BUF_INIT;
    neap_buf_addf(&hint, "%s.part may be left on %s; the next write replaces it.", p->file.path, place_of(p));
    free(p->why.hint);
    p->why.hint = neap_buf_take(&hint);
}

/* Take the .part away, then tell p->why. */
static int discard(lua_State *L, put_op *p) {
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_DISCARD, p->part.id);
    if (*p->part.id) return ask(L, p, DISCARD, &r);
    return fail(L, p, "failed");
}

static int publish(lua_State *L, put_op *p) {
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_PUBLISH, p->part.id);
    r.args[2] = p->file.mode ? p->file.mode : "";
    r.args[3] = p->size;
    r.args[4] = p->hex;
    return ask(L, p, PUBLISH, &r);
}

static int deliver_published(lua_State *L, put_op *p) {
    if (!p->file.err.code) return succeed(L, p);
    neap_err_keep(&p->why, &p->file.err);
    if (p->file.status != NEAP_FAR_UNTOLD) return discard(L, p);
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_LOOK, p->hex);
    return ask(L, p, LOOK, &r);
}

static int deliver_looked(lua_State *L, put_op *p) {
    neap_far_look look = {false, false, false, false};
    if (!p->file.err.code && neap_far_read_look(p->file.answer.data ? p->file.answer.data : "", &look)) {
        if (look.same) return succeed(L, p);
        return discard(L, p);
    }
    p->why.code = NEAP_E_UNKNOWN;
    name_part(p);
    return fail(L, p, "unknown");
}

static int deliver_received(lua_State *L, put_op *p) {
    bool made = neap_far_read_part(p->file.answer.data ? p->file.answer.data : "", &p->part);
    if (!p->file.err.code && made) return publish(L, p);
    neap_err_keep(&p->why, &p->file.err);
    if (!p->why.code) neap_err_set(&p->why, NEAP_E_PROTOCOL, "cannot %s on %s: the answer makes no sense", p->file.doing, place_of(p));
    if (!made && p->file.status == NEAP_FAR_UNTOLD) name_part(p);
    return discard(L, p);
}

/* NOTE -------------------------------------------------------------------------------------------------- */

static void on_durable(void *arg, const neap_err *err) {
    put_op *p = arg;
    p->note = NULL;
    neap_err_keep(&p->why, err);
    neap_op_finish(&p->file.gate.op);
}

static int note(lua_State *L, put_op *p) {
    neap_buf members = NEAP_BUF_INIT;
    neap_json_member(&members, "sha256", p->hex);
    neap_json_member_int(&members, "size", atoll(p->size));
    neap_op_rearm(&p->file.gate.op);
    p->stage = NOTE;
    bool noted = neap_command_note_evidence(L, &p->file.gate, members.data, &p->note, on_durable, p);
    neap_buf_close(&members);
    if (!noted) neap_op_finish(&p->file.gate.op);
    return neap_await(L, &p->file.gate.op);
}

/* The op ------------------------------------------------------------------------------------------------ */

static int deliver_opened(lua_State *L, put_op *p) {
    if (p->file.err.code) {
        neap_gate_outcome(L, &p->file.gate, "failed", NULL, &p->file.err);
        return neap_fail(L, &p->file.err);
    }
    p->handle->stream = p->opening;
    p->opening = NULL;
    p->handle->hash = neap_hash_new();
    p->handle->drop = drop_handle;
    lua_pushvalue(L, HANDLE_INDEX);
    return 1;
}

static int deliver_preview(lua_State *L, put_op *p) {
    neap_far_file *f = &p->file;
    bool is_new = f->status == NEAP_FAR_NOTHING;
    if (is_new) neap_buf_addf(&p->plan, "a new file of %zu bytes\n", p->len);
    if (f->err.code && !is_new) neap_buf_addf(&p->plan, "no difference is shown: %s\n", f->err.message);
    else neap_diff(&p->plan, !is_new && f->answer.data ? f->answer.data : "", is_new ? 0 : f->answer.len, p->data, p->len);
    if (!p->plan.len) neap_buf_adds(&p->plan, "the content stays as it is\n");
    neap_err_close(&f->err);
    f->gate.plan = p->plan.data;
    neap_op_rearm(&f->gate.op);
    return neap_gate_enter(L, &f->gate);
}

static int put_deliver(lua_State *L, neap_op *op) {
    put_op *p = (put_op *)op;
    switch (p->stage) {
    case PREVIEW: return deliver_preview(L, p);
    case RECEIVE: return deliver_received(L, p);
    case OPENING: return deliver_opened(L, p);
    case SHUT:
        neap_stream_handle_close(p->handle);
        return p->why.code ? discard(L, p) : note(L, p);
    case NOTE: return p->why.code ? discard(L, p) : publish(L, p);
    case PUBLISH: return deliver_published(L, p);
    case LOOK: return deliver_looked(L, p);
    case DISCARD: break;
    }
    if (p->file.err.code) name_part(p);
    *p->part.id = 0;
    return fail(L, p, "failed");
}

static void put_cancel(neap_op *op, bool force) {
    put_op *p = (put_op *)op;
    if (!force && (p->stage == NOTE || p->stage >= PUBLISH)) return;         /* short, and then it is known */
    if (p->stage == SHUT && p->handle->stream) neap_stream_stop(p->handle->stream);
    drop_opening(p);
    if (p->note) p->note->on_durable = NULL;
    p->note = NULL;
    if (p->file.question) neap_far_file_cancel(op, force);
    else neap_op_finish(op);
}

/* Before PUBLISH nothing has the name yet. */
static void put_on_stop(lua_State *L, neap_op *op) {
    put_op *p = (put_op *)op;
    bool over = op->finished && !p->file.question;
    if (p->handle && p->handle->stream) neap_stream_handle_close(p->handle);
    if (p->stage == RECEIVE && over) neap_far_read_part(p->file.answer.data ? p->file.answer.data : "", &p->part);
    if (p->stage == PUBLISH && over && !p->file.err.code) neap_gate_outcome(L, &p->file.gate, "ok", NULL, NULL);
    else if (p->stage == PUBLISH || p->stage == LOOK) neap_gate_outcome(L, &p->file.gate, "unknown", NULL, NULL);
    else neap_gate_outcome(L, &p->file.gate, "failed", "\"message\":\"stopped before it was whole\"", NULL);
    if (p->stage < PUBLISH) sweep_part(p);
}

static void put_drop(neap_op *op) {
    put_op *p = (put_op *)op;
    drop_opening(p);
    if (p->note) p->note->on_durable = NULL;
    neap_err_close(&p->why);
    neap_buf_wipe(&p->plan);
    neap_far_file_drop(op);
}

static const neap_op_class put_class = {"a file of a host to be written", put_cancel, put_deliver, put_drop};

static put_op *new_put(lua_State *L, int options) {
    put_op *p = (put_op *)neap_far_file_new(L, sizeof *p, &put_class, NEAP_P_HOST_PUT, "write", 2, options);
    p->why = (neap_err)NEAP_ERR_INIT;
    p->file.gate.op.on_stop = put_on_stop;
    neap_far_file_evidence(&p->file);
    return p;
}

/* write_file -------------------------------------------------------------------------------------------- */

static int start_receive(lua_State *L, neap_gate *g) {
    put_op *p = (put_op *)g;
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_RECEIVE, NULL);
    r.input = p->data;
    r.input_len = p->len;
    return ask(L, p, RECEIVE, &r);
}

static bool wants_preview(lua_State *L, const put_op *p) {
    const neap_guard *guard = neap_host_of(L)->guard;
    neap_task *task = neap_task_of(L);
    return task && neap_guard_get_mode(guard) == NEAP_MODE_PLAN && neap_task_scope(task)->phase == NEAP_PHASE_ACT
        && !neap_guard_withheld(guard, p->file.subject);
}

/* session:write_file(path, text|secret, {mode=, role=, sudo=}) -> {bytes=, sha256=, stale=} | nil, err. Effect: write. */
int neap_ssh_write_file(lua_State *L) {
    unsigned char digest[NEAP_HASH_SIZE];
    lua_settop(L, 4);
    neap_secret *secret = neap_to_secret(L, 3);
    if (!secret && lua_isuserdata(L, 3)) luaL_tolstring(L, 3, NULL), lua_replace(L, 3);
    if (!secret) luaL_checkstring(L, 3);
    put_op *p = new_put(L, 4);
    p->data = secret ? neap_secret_bytes(secret, &p->len) : lua_tolstring(L, 3, &p->len);
    neap_hash_of(p->data, p->len, digest);
    neap_hash_hex(digest, p->hex);
    snprintf(p->size, sizeof p->size, "%zu", p->len);
    neap_json_member(&p->file.gate.evidence, "sha256", p->hex);
    neap_json_member_int(&p->file.gate.evidence, "size", (long long)p->len);
    p->file.gate.start = start_receive;
    if (!wants_preview(L, p)) return neap_gate_enter(L, &p->file.gate);
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_READ, "1048577");
    r.most = DIFF_LIMIT;
    return ask(L, p, PREVIEW, &r);
}

/* create ------------------------------------------------------------------------------------------------ */

static void on_opened(void *arg, const char *line, const neap_err *err) {
    put_op *p = arg;
    neap_err_keep(&p->file.err, err);
    if (line && !neap_far_read_part(line, &p->part))
        neap_err_set(&p->file.err, NEAP_E_PROTOCOL, "cannot %s on %s: the answer makes no sense", p->file.doing, place_of(p));
    neap_op_finish(&p->file.gate.op);
}

static int start_open(lua_State *L, neap_gate *g) {
    put_op *p = (put_op *)g;
    neap_far_request r = neap_far_file_request(&p->file, NEAP_FAR_RECEIVE, NULL);
    p->stage = OPENING;
    p->opening = neap_far_open(p->file.link, &r, on_opened, p);
    return neap_await(L, &g->op);
}

static put_op *op_of(neap_stream_handle *h) { return *(put_op **)(h + 1); }

static void drop_handle(neap_stream_handle *h) { sweep_part(op_of(h)); }

static void on_shut(void *arg, const neap_err *err) {
    put_op *p = arg;
    neap_err_keep(&p->why, err);
    neap_op_finish(&p->file.gate.op);
}

/* Keep what was written, as it is known here. */
static void end_hash(put_op *p) {
    unsigned char digest[NEAP_HASH_SIZE];
    neap_hash_end(p->handle->hash, digest);
    p->handle->hash = NULL;
    neap_hash_hex(digest, p->hex);
    snprintf(p->size, sizeof p->size, "%lld", p->handle->moved);
}

static int close_writer(lua_State *L, neap_stream_handle *h, bool good) {
    put_op *p = op_of(h);
    lua_getiuservalue(L, 1, 1);                      /* the op, on the stack while it waits */
    end_hash(p);
    if (!good || h->broken) {
        p->given_up = !good;
        neap_err_set(&p->why, good ? NEAP_E_REMOTE : NEAP_E_CANCELLED,
                     good ? "\"%s\" on %s is not whole and keeps its old content" : "\"%s\" on %s was given up before it was whole", p->file.path, place_of(p));
        neap_stream_handle_close(h);
        return discard(L, p);
    }
    neap_op_rearm(&p->file.gate.op);
    p->stage = SHUT;
    neap_stream_shut(h->stream, on_shut, p);
    return neap_await(L, &p->file.gate.op);
}

/* session:create(path, {mode=, role=, sudo=}) -> stream to write to | nil, err. The file has its name when it is closed. Effect: write. */
int neap_ssh_create(lua_State *L) {
    lua_settop(L, 3);
    put_op *p = new_put(L, 3);
    p->handle = neap_stream_new_handle(L, sizeof(neap_stream_handle) + sizeof(put_op *));
    *(put_op **)(p->handle + 1) = p;
    p->handle->close = close_writer;
    lua_pushvalue(L, HANDLE_INDEX - 1);
    lua_setiuservalue(L, HANDLE_INDEX, 1);
    p->file.gate.start = start_open;
    return neap_gate_enter(L, &p->file.gate);
}

/* open_file --------------------------------------------------------------------------------------------- */

typedef struct get_op {
    neap_far_file file;              /* first */
    neap_stream *opening;
    neap_stream_handle *handle;
    long long size;
} get_op;

static void on_ready(void *arg, const char *line, const neap_err *err) {
    get_op *g = arg;
    neap_err_keep(&g->file.err, err);
    if (line) g->size = atoll(line);
    neap_op_finish(&g->file.gate.op);
}

static void get_cancel(neap_op *op, bool force) {
    get_op *g = (get_op *)op;
    neap_stream *s = g->opening;
    (void)force;
    g->opening = NULL;
    neap_stream_free(s);
    neap_op_finish(op);
}

static int get_deliver(lua_State *L, neap_op *op) {
    get_op *g = (get_op *)op;
    if (g->file.err.code) return neap_fail(L, &g->file.err);
    g->handle->stream = g->opening;
    g->opening = NULL;
    lua_pushvalue(L, HANDLE_INDEX);
    lua_pushinteger(L, g->size);
    return 2;
}

static void get_drop(neap_op *op) {
    neap_stream_free(((get_op *)op)->opening);
    neap_far_file_drop(op);
}

static const neap_op_class get_class = {"a file of a host to be read", get_cancel, get_deliver, get_drop};

static int start_get(lua_State *L, neap_gate *gate) {
    get_op *g = (get_op *)gate;
    neap_far_request r = neap_far_file_request(&g->file, NEAP_FAR_OPEN, NULL);
    g->opening = neap_far_open(g->file.link, &r, on_ready, g);
    return neap_await(L, &gate->op);
}

/* session:open_file(path, {role=, sudo=}) -> stream to read, its size when it was opened | nil, err. It ends well only when the host has
 * said that it gave everything. Effect: read. */
int neap_ssh_open_file(lua_State *L) {
    lua_settop(L, 3);
    get_op *g = (get_op *)neap_far_file_new(L, sizeof *g, &get_class, NEAP_P_HOST_GET, "read", 2, 3);
    g->handle = neap_stream_new_handle(L, 0);
    g->file.gate.start = start_get;
    return neap_gate_enter(L, &g->file.gate);
}
