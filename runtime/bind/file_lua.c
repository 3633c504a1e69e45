/* file_lua.c -- native.file: files of this machine, through the gate and the pool.
 *
 *     PREVIEW (plan mode, a write: what is there now → difference) → the gate
 *     the gate → PREPARE (a write: hash of the new content → evidence) → intent durable → ACT → outcome → results
 *
 * A read is ACT alone. A write's intent holds the path and the SHA-256 of what is to be there, so that after a crash
 * `probe` can tell by looking: the hash is there: done; a .part is there: half; neither: not begun.
 *
 * A stopped write waits for its pool thread, which gives up at the next piece and removes its .part; only when that does not
 * happen within the grace is the outcome unknown.
 */
#include "bind/file_lua.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diff.h"
#include "base/json.h"
#include "bind/secret_lua.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

enum { READ_LIMIT = 16 << 20, DIFF_LIMIT = 1 << 20 };

/* The op ----------------------------------------------------------------------------------------- */

static void free_job(neap_job *base) {
    neap_file_job *j = (neap_file_job *)base;
    neap_disk_abandon(&j->part);
    if (j->fd >= 0) close(j->fd);
    neap_buf_wipe(&j->in);
    neap_buf_wipe(&j->out);
    neap_err_close(&j->base.err);
    free(j->path);
    free(j);
}

static void file_cancel(neap_op *op, bool force) { neap_job_cancel(&((neap_file_op *)op)->job->base, force); }

static void file_drop(neap_op *op) {
    neap_file_op *f = (neap_file_op *)op;
    if (f->job) neap_job_drop(&f->job->base);
    neap_buf_close(&f->gate.evidence);
    neap_buf_wipe(&f->plan);
    free(f->subject);
    free(f->text);
    free(f->role);
}

static bool is_write(const neap_file_op *f) { return neap_primitive_effect(f->verb->primitive) >= NEAP_EFFECT_WRITE; }

/* Stopped, but its thread has come back: then it is known how it ended. */
static void on_stop(lua_State *L, neap_op *op) {
    neap_file_op *f = (neap_file_op *)op;
    const neap_err *err = &f->job->base.err;
    if (f->stage != NEAP_FILE_ACT || f->job->base.running) neap_gate_outcome(L, &f->gate, "unknown", NULL, NULL);
    else neap_gate_outcome(L, &f->gate, err->code ? "failed" : "ok", NULL, err);
}

static int await_job(lua_State *L, neap_file_op *f, int stage, void (*run)(neap_job *)) {
    neap_op_rearm(&f->gate.op);
    f->stage = stage;
    f->job->base.run = run;
    neap_job_start(neap_host_of(L)->loop, &f->job->base, &f->gate.op);
    return neap_await(L, &f->gate.op);
}

static int start_act(lua_State *L, neap_gate *g) {
    neap_file_op *f = (neap_file_op *)g;
    return await_job(L, f, NEAP_FILE_ACT, f->verb->run);
}

static int start_prepare(lua_State *L, neap_gate *g) {
    neap_file_op *f = (neap_file_op *)g;
    neap_json_member(&g->evidence, "path", f->job->path);
    if (!f->verb->prepare) return neap_gate_intend(L, g);
    return await_job(L, f, NEAP_FILE_PREPARE, f->verb->prepare);
}

static int deliver_prepared(lua_State *L, neap_file_op *f) {
    if (f->job->base.err.code) return neap_fail(L, &f->job->base.err);
    neap_json_member(&f->gate.evidence, "sha256", f->job->hex);
    neap_json_member_int(&f->gate.evidence, "size", f->job->size);
    return neap_gate_intend(L, &f->gate);
}

/* A preview that cannot read what is there still tells what it would write, and why it cannot compare. */
static int deliver_preview(lua_State *L, neap_file_op *f) {
    neap_file_job *j = f->job;
    if (!j->stat.kind) neap_buf_addf(&f->plan, "a new file of %zu bytes\n", j->in.len);
    if (j->base.err.code) neap_buf_addf(&f->plan, "no difference is shown: %s\n", j->base.err.message);
    else neap_diff(&f->plan, j->out.data ? j->out.data : "", j->out.len, j->in.data ? j->in.data : "", j->in.len);
    if (!f->plan.len) neap_buf_adds(&f->plan, "the content stays as it is\n");
    f->gate.plan = f->plan.data;
    return neap_gate_enter(L, &f->gate);
}

static int file_deliver(lua_State *L, neap_op *op) {
    neap_file_op *f = (neap_file_op *)op;
    neap_err *err = &f->job->base.err;
    if (f->stage == NEAP_FILE_PREVIEW) return deliver_preview(L, f);
    if (f->stage == NEAP_FILE_PREPARE) return deliver_prepared(L, f);
    if (err->code) {
        neap_gate_outcome(L, &f->gate, "failed", NULL, err);
        return neap_fail(L, err);
    }
    return f->verb->push(L, f);
}

static const neap_op_class file_class = {"a file", file_cancel, file_deliver, file_drop};

/* Arguments -------------------------------------------------------------------------------------- */

/* [-0, +0, e] a name without NUL; a withheld value raises {withheld}. */
static const char *check_path(lua_State *L, int index) {
    size_t len;
    if (lua_isuserdata(L, index)) luaL_tolstring(L, index, NULL), lua_pop(L, 1);
    luaL_checktype(L, index, LUA_TSTRING);
    const char *path = lua_tolstring(L, index, &len);
    if (len == 0 || strlen(path) != len) neap_raisef(L, NEAP_E_USAGE, len ? "a path holds a NUL byte" : "a path is empty");
    return path;
}

static lua_Integer opt_integer(lua_State *L, int options, const char *name, lua_Integer otherwise) {
    if (lua_isnoneornil(L, options)) return otherwise;
    luaL_checktype(L, options, LUA_TTABLE);
    lua_getfield(L, options, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

static char *opt_role(lua_State *L, int options) {
    if (!lua_istable(L, options)) return NULL;
    lua_getfield(L, options, "role");
    const char *role = lua_tostring(L, -1);
    char *copy = role ? neap_strdup(role) : NULL;
    lua_pop(L, 1);
    return copy;
}

neap_file_op *neap_file_new(lua_State *L, const neap_file_verb *verb, int options) {
    const char *path = check_path(L, 1);
    lua_Integer mode = opt_integer(L, options, "mode", -1), limit = opt_integer(L, options, "limit", READ_LIMIT);
    luaL_argcheck(L, mode >= -1 && mode <= 07777, options, "mode is not a file mode");
    luaL_argcheck(L, limit >= 0, options, "limit must not be negative");
    neap_file_op *f = (neap_file_op *)neap_op_new(L, sizeof *f, &file_class);
    f->job = neap_zalloc(sizeof *f->job);
    f->job->base.free = free_job;
    f->job->base.err = (neap_err)NEAP_ERR_INIT;
    f->job->part.fd = f->job->fd = -1;
    f->job->path = neap_disk_resolve(path, verb->entry);
    f->job->mode = (int)mode;
    f->job->limit = (size_t)limit;
    f->verb = verb;
    f->role = opt_role(L, options);
    f->subject = neap_asprintf("file:%s", f->job->path);
    f->text = neap_asprintf("%s %s", verb->name, f->job->path);
    f->gate.act = (neap_act){.primitive = verb->primitive, .target = f->role, .subject = f->subject, .text = f->text};
    f->gate.start = start_act;
    if (is_write(f)) f->gate.prepare = start_prepare;
    f->gate.op.on_stop = on_stop;
    return f;
}

/* The difference is asked for only where the gate will predict, and not where an earlier step of the preview would have
 * changed the file: the old text would be a lie. */
static bool wants_preview(lua_State *L, const neap_file_op *f) {
    const neap_guard *guard = neap_host_of(L)->guard;
    neap_task *task = neap_task_of(L);
    return f->verb->look && task && neap_guard_get_mode(guard) == NEAP_MODE_PLAN
        && neap_task_scope(task)->phase == NEAP_PHASE_ACT && !neap_guard_withheld(guard, f->subject);
}

int neap_file_enter(lua_State *L, neap_file_op *f) {
    if (wants_preview(L, f)) return await_job(L, f, NEAP_FILE_PREVIEW, f->verb->look);
    return neap_gate_enter(L, &f->gate);
}

/* Reads ------------------------------------------------------------------------------------------ */

static neap_file_job *of(neap_job *j) { return (neap_file_job *)j; }

static void run_stat(neap_job *j) { neap_disk_stat_of(of(j)->path, &of(j)->stat, &j->err); }
static void run_list(neap_job *j) { neap_disk_list(of(j)->path, &of(j)->out, &j->err); }
static void run_read(neap_job *j) { neap_disk_read(of(j)->path, of(j)->limit, &of(j)->out, &j->err); }
static void run_hash(neap_job *j) { neap_disk_hash(of(j)->path, &j->stop, of(j)->hex, &of(j)->size, &j->err); }
static void run_hashes(neap_job *j) { neap_disk_hashes(of(j)->path, of(j)->in.data, &j->stop, &of(j)->out, &j->err); }
static void run_space(neap_job *j) { neap_disk_space(of(j)->path, &of(j)->size, &of(j)->total, &j->err); }

static void set_integer(lua_State *L, const char *name, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static int push_stat(lua_State *L, neap_file_op *f) {
    const neap_disk_stat *st = &f->job->stat;
    if (!st->kind) { lua_pushboolean(L, 0); return 1; }
    lua_createtable(L, 0, 6);
    lua_pushstring(L, st->kind);
    lua_setfield(L, -2, "kind");
    set_integer(L, "size", st->size);
    set_integer(L, "mtime_ms", st->mtime_ms);
    set_integer(L, "mode", st->mode);
    set_integer(L, "uid", st->uid);
    set_integer(L, "gid", st->gid);
    return 1;
}

static int push_list(lua_State *L, neap_file_op *f) {
    const char *at = f->job->out.data, *end = at + f->job->out.len;
    lua_newtable(L);
    for (lua_Integer n = 1; at && at < end; n++) {
        const char *kind = *at == 'f' ? "file" : *at == 'd' ? "directory" : *at == 'l' ? "link" : "other";
        lua_createtable(L, 0, 2);
        lua_pushstring(L, at + 1);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, kind);
        lua_setfield(L, -2, "kind");
        lua_seti(L, -2, n);
        at += strlen(at) + 1;
    }
    return 1;
}

static int push_read(lua_State *L, neap_file_op *f) {
    lua_pushlstring(L, f->job->out.data ? f->job->out.data : "", f->job->out.len);
    return 1;
}

static int push_hash(lua_State *L, neap_file_op *f) {
    lua_pushstring(L, f->job->hex);
    lua_pushinteger(L, f->job->size);
    return 2;
}

void neap_file_push_hashes(lua_State *L, const neap_buf *all) {
    const char *at = all->data, *end = at + all->len;
    lua_newtable(L);
    for (lua_Integer n = 1; at && at < end; n++, at += strlen(at) + 1) {
        lua_createtable(L, 0, 2);
        lua_pushlstring(L, at, NEAP_HASH_HEX_SIZE - 1);
        lua_setfield(L, -2, "sha256");
        lua_pushstring(L, at + NEAP_HASH_HEX_SIZE - 1);
        lua_setfield(L, -2, "name");
        lua_seti(L, -2, n);
    }
}

static int push_hashes(lua_State *L, neap_file_op *f) {
    neap_file_push_hashes(L, &f->job->out);
    return 1;
}

static int push_space(lua_State *L, neap_file_op *f) {
    lua_createtable(L, 0, 2);
    set_integer(L, "free", f->job->size);
    set_integer(L, "total", f->job->total);
    return 1;
}

/* Writes ----------------------------------------------------------------------------------------- */

static void look_at_old(neap_job *base) {
    neap_file_job *j = of(base);
    if (neap_disk_stat_of(j->path, &j->stat, &base->err) && j->stat.kind) neap_disk_read(j->path, DIFF_LIMIT, &j->out, &base->err);
}

static void prepare_write(neap_job *base) {
    neap_file_job *j = of(base);
    unsigned char digest[NEAP_HASH_SIZE];
    neap_hash_of(j->in.data, j->in.len, digest);
    neap_hash_hex(digest, j->hex);
    j->size = (int64_t)j->in.len;
}

static void run_write(neap_job *base) {
    neap_file_job *j = of(base);
    if (!neap_disk_begin(&j->part, j->path, j->mode, &base->err)) return;
    j->flag = j->part.stale;
    if (neap_disk_put(&j->part, j->in.data, j->in.len, &base->stop, &base->err)) neap_disk_publish(&j->part, &base->err);
    neap_disk_abandon(&j->part);
}

static int push_write(lua_State *L, neap_file_op *f) {
    neap_gate_outcome(L, &f->gate, "ok", f->job->flag ? "\"note\":\"a leftover .part was removed\"" : NULL, NULL);
    lua_createtable(L, 0, 3);
    set_integer(L, "bytes", f->job->size);
    lua_pushstring(L, f->job->hex);
    lua_setfield(L, -2, "sha256");
    lua_pushboolean(L, f->job->flag);
    lua_setfield(L, -2, "stale");
    return 1;
}

static void run_remove(neap_job *j) { neap_disk_remove(of(j)->path, &j->err); }

static void run_mkdir(neap_job *base) {
    neap_file_job *j = of(base);
    neap_disk_mkdir(j->path, j->mode >= 0 ? j->mode : 0755, &j->flag, &base->err);
}

static int push_done(lua_State *L, neap_file_op *f) {
    neap_gate_outcome(L, &f->gate, "ok", NULL, NULL);
    lua_pushboolean(L, 1);
    return 1;
}

static int push_made(lua_State *L, neap_file_op *f) {
    neap_gate_outcome(L, &f->gate, "ok", NULL, NULL);
    lua_pushboolean(L, f->job->flag);
    return 1;
}

/* Probing: was this intent carried out? ------------------------------------------------------------ */

static void run_probe(neap_job *base) {
    neap_file_job *j = of(base);
    char *part = neap_disk_part_name(j->path);
    if (!neap_disk_stat_of(j->path, &j->stat, &base->err)) goto out;
    if (j->stat.kind && strcmp(j->stat.kind, "file") == 0) neap_disk_hash(j->path, &base->stop, j->hex, &j->size, &base->err);
    struct stat st;
    j->flag = lstat(part, &st) == 0;
out:
    free(part);
}

/* in holds "<primitive> <sha256>". */
static const char *judge(const neap_file_job *j) {
    const char *hash = strchr(j->in.data, ' ') + 1, *kind = j->stat.kind;
    if (strncmp(j->in.data, "file.remove ", 12) == 0) return kind ? "not begun" : "done";
    if (strncmp(j->in.data, "file.mkdir ", 11) == 0) return kind && strcmp(kind, "directory") == 0 ? "done" : "not begun";
    if (*hash && strcmp(hash, j->hex) == 0) return "done";
    if (j->flag) return "half";
    return *hash ? "not begun" : NULL;
}

static int push_probe(lua_State *L, neap_file_op *f) {
    lua_pushstring(L, judge(f->job));
    return 1;
}

static const neap_file_verb
    verb_stat = {"stat", NEAP_P_FILE_STAT, false, NULL, NULL, run_stat, push_stat},
    verb_list = {"list", NEAP_P_FILE_LIST, false, NULL, NULL, run_list, push_list},
    verb_read = {"read", NEAP_P_FILE_READ, false, NULL, NULL, run_read, push_read},
    verb_hash = {"hash", NEAP_P_FILE_HASH, false, NULL, NULL, run_hash, push_hash},
    verb_hashes = {"hash the files of", NEAP_P_FILE_HASH, false, NULL, NULL, run_hashes, push_hashes},
    verb_space = {"space", NEAP_P_FILE_SPACE, false, NULL, NULL, run_space, push_space},
    verb_write = {"write", NEAP_P_FILE_WRITE, false, look_at_old, prepare_write, run_write, push_write},
    verb_remove = {"remove", NEAP_P_FILE_REMOVE, true, NULL, NULL, run_remove, push_done},
    verb_mkdir = {"mkdir", NEAP_P_FILE_MKDIR, false, NULL, NULL, run_mkdir, push_made},
    verb_probe = {"probe", NEAP_P_FILE_HASH, true, NULL, NULL, run_probe, push_probe};

/* The module ------------------------------------------------------------------------------------- */

static int simple(lua_State *L, const neap_file_verb *verb) {
    lua_settop(L, 2);
    return neap_file_enter(L, neap_file_new(L, verb, 2));
}

/* stat(path) -> {kind=, size=, mode=, mtime_ms=, uid=, gid=} | false (nothing there) | nil, err. Effect: read. */
static int file_stat(lua_State *L) { return simple(L, &verb_stat); }
/* list(dir) -> list of {name=, kind=}, sorted by bytes | nil, err. Effect: read. */
static int file_list(lua_State *L) { return simple(L, &verb_list); }
/* read(path, {limit=}) -> bytes | nil, err. Effect: read. */
static int file_read(lua_State *L) { return simple(L, &verb_read); }
/* hash(path) -> SHA-256 in hex, size | nil, err. Effect: read. */
static int file_hash(lua_State *L) { return simple(L, &verb_hash); }
/* hashes(dir, pattern) -> list of {name=, sha256=} of the files that fit | nil, err. Effect: read. */
static int file_hashes(lua_State *L) {
    lua_settop(L, 3);
    const char *pattern = luaL_checkstring(L, 2);
    neap_file_op *f = neap_file_new(L, &verb_hashes, 3);
    neap_buf_adds(&f->job->in, pattern);
    return neap_file_enter(L, f);
}

/* space(path) -> {free=, total=} in bytes | nil, err. Effect: read. */
static int file_space(lua_State *L) { return simple(L, &verb_space); }
/* remove(path) -> true | nil, err: a file, a link or an empty directory. Effect: destroy. */
static int file_remove(lua_State *L) { return simple(L, &verb_remove); }
/* mkdir(path, {mode=}) -> true | false (it was there) | nil, err, with its parents. Effect: write. */
static int file_mkdir(lua_State *L) { return simple(L, &verb_mkdir); }

/* write(path, text|secret, {mode=}) -> {bytes=, sha256=, stale=} | nil, err. Effect: write. */
static int file_write(lua_State *L) {
    lua_settop(L, 3);
    size_t len;
    neap_secret *secret = neap_to_secret(L, 2);
    if (!secret && lua_isuserdata(L, 2)) luaL_tolstring(L, 2, NULL), lua_replace(L, 2);
    const char *text = secret ? neap_secret_bytes(secret, &len) : luaL_checklstring(L, 2, &len);
    neap_file_op *f = neap_file_new(L, &verb_write, 3);
    neap_buf_add(&f->job->in, text, len);
    return neap_file_enter(L, f);
}

static const char *get_text(lua_State *L, int index, const char *name) {
    lua_getfield(L, index, name);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    lua_pop(L, 1);                                   /* the table keeps it */
    return text;
}

/* probe(intent body) -> "done" | "half" | "not begun" | nil (cannot be told) | nil, err. Effect: read. */
static int file_probe(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    const char *primitive = get_text(L, 1, "primitive"), *hash = get_text(L, 1, "sha256");
    lua_getfield(L, 1, "path");
    lua_insert(L, 1);
    neap_file_op *f = neap_file_new(L, &verb_probe, 3);
    neap_buf_addf(&f->job->in, "%s %s", primitive, hash);
    return neap_file_enter(L, f);
}

static const luaL_Reg module[] = {
    {"stat", file_stat}, {"list", file_list}, {"read", file_read}, {"hash", file_hash}, {"hashes", file_hashes}, {"space", file_space}, {"write", file_write},
    {"remove", file_remove}, {"mkdir", file_mkdir}, {"open", neap_file_open}, {"nothing", neap_file_nothing}, {"probe", file_probe}, {NULL, NULL}};

int neap_open_file(lua_State *L) {
    neap_function_table(L, "native.file.", module);
    return 1;
}
