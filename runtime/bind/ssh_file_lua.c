/* ssh_file_lua.c -- native.ssh: files of a host, through the gate. Each call is one script (drive/remote_file.c).
 *
 *     the gate: intent with path and host durable → the script → outcome → results
 *
 * The subject is "host:<fingerprint>/path": what a preview would have changed in one place is not read there, and a command on the host
 * (subject "host:<fingerprint>") covers every path of it. A write that was stopped is ended on the host, and is unknown unless its script
 * has said how it ended. */
#include "bind/ssh_file.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bind/file_lua.h"
#include "script/function.h"
#include "script/raise.h"

enum { READ_LIMIT = 16 << 20, LIST_LIMIT = 64 << 20, ANSWER_LIMIT = 4096 };

/* The head ----------------------------------------------------------------------------------------- */

/* [-0, +0, e] an absolute path; a withheld value raises {withheld}. */
static char *check_path(lua_State *L, int index) {
    neap_err err = NEAP_ERR_INIT;
    size_t len;
    if (lua_isuserdata(L, index)) luaL_tolstring(L, index, NULL), lua_pop(L, 1);
    luaL_checktype(L, index, LUA_TSTRING);
    const char *given = lua_tolstring(L, index, &len);
    char *path = neap_far_path(given, len, &err);
    if (!path) neap_raise(L, &err);
    return path;
}

static char *opt_copy(lua_State *L, int options, const char *name) {
    if (!lua_istable(L, options)) return NULL;
    lua_getfield(L, options, name);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    char *copy = text ? neap_strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

/* sudo of the options, or that of the session. */
static char *opt_sudo(lua_State *L, int options, const neap_session *s) {
    const char *user = s->sudo;
    int type = LUA_TNIL;
    if (lua_istable(L, options)) type = lua_getfield(L, options, "sudo");
    else lua_pushnil(L);
    if (type == LUA_TBOOLEAN) user = lua_toboolean(L, -1) ? "" : NULL;
    else if (type == LUA_TSTRING) user = lua_tostring(L, -1);
    char *copy = user ? neap_strdup(user) : NULL;
    lua_pop(L, 1);
    return copy;
}

static char *opt_mode(lua_State *L, int options) {
    char text[8];
    if (!lua_istable(L, options)) return NULL;
    lua_getfield(L, options, "mode");
    lua_Integer mode = luaL_optinteger(L, -1, -1);
    lua_pop(L, 1);
    luaL_argcheck(L, mode >= -1 && mode <= 07777, options, "mode is not a file mode");
    if (mode < 0) return NULL;
    snprintf(text, sizeof text, "%o", (unsigned)mode);
    return neap_strdup(text);
}

static char *words(const char *format, const char *a, const char *b, const char *c) {
    neap_buf out = NEAP_BUF_INIT;
    for (; *format; format++) {
        const char *part = *format == '1' ? a : *format == '2' ? b : *format == '3' ? c : NULL;
        if (part) neap_buf_adds(&out, part);
        else neap_buf_addc(&out, *format);
    }
    return neap_buf_take(&out);
}

neap_far_file *neap_far_file_new(lua_State *L, size_t size, const neap_op_class *class, neap_primitive primitive, const char *verb, int index, int options) {
    neap_session *s = neap_check_session(L);
    neap_far_file *f = (neap_far_file *)neap_op_new(L, size, class);
    const neap_ssh_host *host = neap_ssh_link_host(s->link);
    f->err = (neap_err)NEAP_ERR_INIT;
    f->path = check_path(L, index);
    f->role = opt_copy(L, options, "role");
    f->sudo = opt_sudo(L, options, s);
    f->mode = opt_mode(L, options);
    if (!f->role) f->role = neap_strdup(s->role);
    f->link = neap_ssh_link_hold(s->link);
    f->subject = words("12", s->subject, f->path, NULL);
    f->text = f->sudo ? words(*f->sudo ? "1 2 by sudo as 3" : "1 2 by sudo", verb, f->path, f->sudo) : words("1 2", verb, f->path, NULL);
    char *text = words("1 on 2", f->text, host->name, NULL);
    free(f->text);
    f->text = text;
    f->doing = words("1 \"2\"", verb, f->path, NULL);
    f->gate.act = (neap_act){.primitive = primitive, .target = f->role, .host = host->hostname, .subject = f->subject, .text = f->text};
    return f;
}

void neap_far_file_evidence(neap_far_file *f) {
    const neap_ssh_card *card = neap_ssh_link_card(f->link);
    neap_json_member(&f->gate.evidence, "path", f->path);
    neap_json_member(&f->gate.evidence, "host", card ? card->fingerprint : NULL);
    neap_json_member(&f->gate.evidence, "ssh", neap_ssh_link_host(f->link)->name);
    neap_json_member(&f->gate.evidence, "sudo", f->sudo);
}

neap_far_request neap_far_file_request(const neap_far_file *f, neap_far_verb verb, const char *more) {
    return (neap_far_request){.verb = verb, .args = {f->path, more}, .sudo = f->sudo, .doing = f->doing, .most = ANSWER_LIMIT};
}

static void on_answer(void *arg, int status, neap_buf *out, const neap_err *err) {
    neap_far_file *f = arg;
    neap_far_question *q = f->question;
    f->question = NULL;
    f->status = status;
    f->answer = *out;
    *out = (neap_buf)NEAP_BUF_INIT;
    neap_err_keep(&f->err, err);
    neap_op_finish(&f->gate.op);
    neap_far_question_free(q);
}

int neap_far_file_ask(lua_State *L, neap_far_file *f, const neap_far_request *r) {
    neap_op_rearm(&f->gate.op);
    neap_buf_wipe(&f->answer);
    neap_err_close(&f->err);
    f->question = neap_far_ask(f->link, r, on_answer, f);
    return neap_await(L, &f->gate.op);
}

void neap_far_file_cancel(neap_op *op, bool force) {
    neap_far_file *f = (neap_far_file *)op;
    if (!force && f->question) { neap_far_question_end(f->question); return; }
    neap_far_question *q = f->question;
    f->question = NULL;
    neap_far_question_free(q);
    neap_op_finish(op);
}

void neap_far_file_drop(neap_op *op) {
    neap_far_file *f = (neap_far_file *)op;
    neap_far_question *q = f->question;
    f->question = NULL;
    neap_far_question_free(q);
    neap_ssh_link_release(f->link);
    free(f->path), free(f->role), free(f->subject), free(f->text), free(f->doing), free(f->sudo), free(f->mode);
    neap_buf_wipe(&f->answer);
    neap_buf_close(&f->gate.evidence);
    neap_err_close(&f->err);
}

/* Calls that are one script ------------------------------------------------------------------------- */

typedef struct simple_op simple_op;
typedef struct simple_verb {
    const char *name;
    neap_primitive primitive;
    neap_far_verb script;
    bool (*push)(lua_State *L, simple_op *o);        /* [-0, +n, m] the results; false: that is no answer */
    int results;
} simple_verb;

struct simple_op {
    neap_far_file file;              /* first */
    const simple_verb *verb;
    char *more, limit[24];           /* second argument */
    size_t most;
    char sha256[NEAP_HASH_HEX_SIZE];         /* probe: of what was to be there */
    bool removes, makes;            /* probe: gone is done; there is done */
};

static const char *answer_of(const simple_op *o) { return o->file.answer.data ? o->file.answer.data : ""; }

static int simple_deliver(lua_State *L, neap_op *op) {
    simple_op *o = (simple_op *)op;
    neap_far_file *f = &o->file;
    bool answered = !f->err.code || (f->status == NEAP_FAR_NOTHING && o->verb->script == NEAP_FAR_STAT);
    if (answered && !o->verb->push(L, o)) {
        answered = false;
        neap_err_set(&f->err, NEAP_E_PROTOCOL, "cannot %s on %s: the answer makes no sense", f->doing, neap_ssh_link_host(f->link)->name);
    }
    if (answered) {
        neap_gate_outcome(L, &f->gate, "ok", NULL, NULL);
        return o->verb->results;
    }
    neap_gate_outcome(L, &f->gate, f->status == NEAP_FAR_UNTOLD ? "unknown" : "failed", NULL, &f->err);
    return neap_fail(L, &f->err);
}

static void simple_drop(neap_op *op) {
    free(((simple_op *)op)->more);
    neap_far_file_drop(op);
}

static const neap_op_class simple_class = {"a file of a host", neap_far_file_cancel, simple_deliver, simple_drop};

static int simple_start(lua_State *L, neap_gate *g) {
    simple_op *o = (simple_op *)g;
    neap_far_request r = neap_far_file_request(&o->file, o->verb->script, o->more);
    if (o->most) r.most = o->most;
    return neap_far_file_ask(L, &o->file, &r);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static bool push_stat(lua_State *L, simple_op *o) {
    neap_disk_stat st;
    if (o->file.status == NEAP_FAR_NOTHING) { lua_pushboolean(L, 0); return true; }
    if (!neap_far_read_stat(answer_of(o), &st)) return false;
    lua_createtable(L, 0, 6);
    lua_pushstring(L, st.kind);
    lua_setfield(L, -2, "kind");
    set_integer(L, "size", st.size);
    set_integer(L, "mtime_ms", st.mtime_ms);
    set_integer(L, "mode", st.mode);
    set_integer(L, "uid", st.uid);
    set_integer(L, "gid", st.gid);
    return true;
}

static bool push_list(lua_State *L, simple_op *o) {
    neap_buf *all = &o->file.answer;
    if (!neap_far_sort_list(all)) return false;
    lua_newtable(L);
    const char *end = all->data + all->len;
    lua_Integer n = 0;
    for (const char *at = all->data; at && at < end; at += strlen(at) + 1) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, at + 1);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, *at == 'f' ? "file" : *at == 'd' ? "directory" : *at == 'l' ? "link" : "other");
        lua_setfield(L, -2, "kind");
        lua_seti(L, -2, ++n);
    }
    return true;
}

static bool push_hash(lua_State *L, simple_op *o) {
    char hex[NEAP_HASH_HEX_SIZE];
    int64_t size;
    if (!neap_far_read_hash(answer_of(o), hex, &size)) return false;
    lua_pushstring(L, hex);
    lua_pushinteger(L, size);
    return true;
}

static bool push_hashes(lua_State *L, simple_op *o) {
    if (!neap_far_is_hashes(&o->file.answer)) return false;
    neap_file_push_hashes(L, &o->file.answer);
    return true;
}

static bool push_space(lua_State *L, simple_op *o) {
    int64_t left, total;
    if (!neap_far_read_space(answer_of(o), &left, &total)) return false;
    lua_createtable(L, 0, 2);
    set_integer(L, "free", left);
    set_integer(L, "total", total);
    return true;
}

static bool push_read(lua_State *L, simple_op *o) {
    lua_pushlstring(L, answer_of(o), o->file.answer.len);
    return true;
}

static bool push_true(lua_State *L, simple_op *o) {
    (void)o;
    lua_pushboolean(L, 1);
    return true;
}

static bool push_made(lua_State *L, simple_op *o) {
    lua_pushboolean(L, strncmp(answer_of(o), "made", 4) == 0);
    return true;
}

/* done: what was to be there is there, or what was to go is gone. A rename and a mkdir are judged by what there is now. */
static bool push_probe(lua_State *L, simple_op *o) {
    neap_far_look look;
    if (!neap_far_read_look(answer_of(o), &look)) return false;
    if (o->removes) lua_pushstring(L, look.there ? "not begun" : "done");
    else if (o->makes) lua_pushstring(L, look.there ? "done" : "not begun");
    else if (look.busy) lua_pushstring(L, "running");
    else if (look.same) lua_pushstring(L, "done");
    else if (look.part) lua_pushstring(L, "half");
    else if (*o->sha256 || !look.there) lua_pushstring(L, "not begun");
    else lua_pushnil(L);
    return true;
}

static const simple_verb
    verb_stat = {"stat", NEAP_P_HOST_GET, NEAP_FAR_STAT, push_stat, 1},
    verb_list = {"list", NEAP_P_HOST_GET, NEAP_FAR_LIST, push_list, 1},
    verb_hash = {"hash", NEAP_P_HOST_GET, NEAP_FAR_HASH, push_hash, 2},
    verb_hashes = {"hash the files of", NEAP_P_HOST_GET, NEAP_FAR_HASHES, push_hashes, 1},
    verb_space = {"ask for the space at", NEAP_P_HOST_GET, NEAP_FAR_SPACE, push_space, 1},
    verb_read = {"read", NEAP_P_HOST_GET, NEAP_FAR_READ, push_read, 1},
    verb_remove = {"remove", NEAP_P_HOST_REMOVE, NEAP_FAR_REMOVE, push_true, 1},
    verb_mkdir = {"make the directory", NEAP_P_HOST_PUT, NEAP_FAR_MKDIR, push_made, 1},
    verb_rename = {"rename", NEAP_P_HOST_PUT, NEAP_FAR_RENAME, push_true, 1},
    verb_probe = {"look at", NEAP_P_HOST_GET, NEAP_FAR_LOOK, push_probe, 1};

static simple_op *new_simple(lua_State *L, const simple_verb *verb, int options) {
    simple_op *o = (simple_op *)neap_far_file_new(L, sizeof *o, &simple_class, verb->primitive, verb->name, 2, options);
    o->verb = verb;
    o->file.gate.start = simple_start;
    neap_far_file_evidence(&o->file);
    return o;
}

static int simple(lua_State *L, const simple_verb *verb) {
    lua_settop(L, 3);
    simple_op *o = new_simple(L, verb, 3);
    if (verb->script == NEAP_FAR_LIST) o->most = LIST_LIMIT;
    if (verb->script == NEAP_FAR_MKDIR) {
        o->more = neap_strdup(o->file.mode ? o->file.mode : "");
        neap_json_member(&o->file.gate.evidence, "makes", "directory");
    }
    return neap_gate_enter(L, &o->file.gate);
}

/* session:stat(path, {role=, sudo=}) -> {kind=, size=, mode=, mtime_ms=, uid=, gid=} | false (nothing there) | nil, err. Effect: read. */
int neap_ssh_stat(lua_State *L) { return simple(L, &verb_stat); }
/* session:list(dir, {…}) -> list of {name=, kind=}, sorted by bytes | nil, err. Effect: read. */
int neap_ssh_list(lua_State *L) { return simple(L, &verb_list); }
/* session:hash(path, {…}) -> SHA-256 in hex, size | nil, err. Effect: read. */
int neap_ssh_hash(lua_State *L) { return simple(L, &verb_hash); }
/* session:hashes(dir, pattern, {…}) -> list of {name=, sha256=} of the files that fit, in no order | nil, err. Effect: read. */
int neap_ssh_hashes(lua_State *L) {
    lua_settop(L, 4);
    const char *pattern = luaL_checkstring(L, 3);
    simple_op *o = new_simple(L, &verb_hashes, 4);
    o->more = neap_strdup(pattern);
    o->most = LIST_LIMIT;
    return neap_gate_enter(L, &o->file.gate);
}
/* session:space(path, {…}) -> {free=, total=} in bytes | nil, err. Effect: read. */
int neap_ssh_space(lua_State *L) { return simple(L, &verb_space); }
/* session:remove(path, {…}) -> true | nil, err: a file, a link or an empty directory. Effect: destroy. */
int neap_ssh_remove(lua_State *L) { return simple(L, &verb_remove); }
/* session:mkdir(path, {mode=, …}) -> true | false (it was there) | nil, err, with its parents. Effect: write. */
int neap_ssh_mkdir(lua_State *L) { return simple(L, &verb_mkdir); }

/* session:read_file(path, {limit=, …}) -> bytes | nil, err. Effect: read. */
int neap_ssh_read_file(lua_State *L) {
    lua_Integer limit = READ_LIMIT;
    lua_settop(L, 3);
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "limit");
        limit = luaL_optinteger(L, -1, READ_LIMIT);
        lua_pop(L, 1);
    }
    luaL_argcheck(L, limit >= 0 && limit < ((lua_Integer)1 << 40), 3, "limit must not be negative");
    simple_op *o = new_simple(L, &verb_read, 3);
    snprintf(o->limit, sizeof o->limit, "%lld", (long long)limit + 1);
    o->more = neap_strdup(o->limit);
    o->most = (size_t)limit;
    return neap_gate_enter(L, &o->file.gate);
}

/* Both names change: the subject is the directory that has both. */
static void widen(neap_far_file *f, const char *to) {
    size_t same = 0, slash = 0, before = strlen(f->subject) - strlen(f->path);
    for (; f->path[same] && f->path[same] == to[same]; same++)
        if (f->path[same] == '/') slash = same;
    f->subject[before + (slash ? slash : 1)] = '\0';
}

/* session:rename(from, to, {…}) -> true | nil, err, within one file system; what was at `to` is replaced. Effect: write. */
int neap_ssh_rename(lua_State *L) {
    lua_settop(L, 4);
    char *to = check_path(L, 3);
    lua_pushstring(L, to);                           /* the stack keeps it from here */
    free(to);
    simple_op *o = new_simple(L, &verb_rename, 4);
    o->more = neap_strdup(lua_tostring(L, 5));
    char *text = words("1 to 2", o->file.text, o->more, NULL);
    free(o->file.text);
    o->file.gate.act.text = o->file.text = text;
    widen(&o->file, o->more);
    neap_json_member(&o->file.gate.evidence, "to", o->more);
    return neap_gate_enter(L, &o->file.gate);
}

static const char *get_text(lua_State *L, const char *name) {
    lua_getfield(L, 2, name);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    lua_pop(L, 1);                                   /* the table keeps it */
    return text;
}

static bool is_other_host(const char *host, const neap_session *s) {
    const neap_ssh_card *card = neap_ssh_link_card(s->link);
    return *host && card && strcmp(host, card->fingerprint) != 0;
}

/* session:probe_file(intent body) -> "done" | "half" | "not begun" | "running" (somebody writes it) | nil | nil, err. Effect: read. */
int neap_ssh_probe_file(lua_State *L) {
    neap_session *s = neap_check_session(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    const char *sha256 = get_text(L, "sha256"), *primitive = get_text(L, "primitive"), *to = get_text(L, "to");
    if (is_other_host(get_text(L, "host"), s) || !*get_text(L, "path")) { lua_pushnil(L); return 1; }
    bool removes = strcmp(primitive, "host.remove") == 0 || *to;         /* a rename is done when nothing is left at the old name */
    bool makes = *get_text(L, "makes") != 0;
    lua_pushvalue(L, 2);
    lua_getfield(L, 2, "path");
    lua_replace(L, 2);                               /* 2: the path, 3: the intent, which has sudo */
    simple_op *o = new_simple(L, &verb_probe, 3);
    o->removes = removes;
    o->makes = makes;
    if (strlen(sha256) < sizeof o->sha256) strcpy(o->sha256, sha256);
    o->more = neap_strdup(o->sha256);
    return neap_gate_enter(L, &o->file.gate);
}
