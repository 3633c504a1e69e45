/* secret_lua.c -- native.secret: values a runbook can hold and pass, but not read.
 *
 * The userdata holds a pointer; every event of its metatable but __tostring raises, so that joining, measuring,
 * comparing or taking it apart is an error where it is written and not a leak. Lua never sees the bytes (except
 * those it brought itself, `of`), so no encoding written in Lua can carry them past the redactor.
 *
 * Sources read into the vault and overwrite what they used. A command is run off the loop's stack like any
 * child; its output never becomes a Lua string. Its stderr is not read: a helper that fails may print what it
 * was asked for.
 */
#include "bind/secret_lua.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guard/vault.h"
#include "loop/child.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define SECRET_META "neap.secret"

enum { MOST = 16 * 1024, END_GRACE_MS = 2000 };

/* ---- the value ---- */

neap_secret *neap_to_secret(lua_State *L, int index) {
    neap_secret **handle = luaL_testudata(L, index, SECRET_META);
    return handle ? *handle : NULL;
}

static void push_metatable(lua_State *L);

bool neap_push_secret(lua_State *L, const char *name, const char *bytes, size_t len, neap_err *err) {
    neap_secret **handle = lua_newuserdatauv(L, sizeof *handle, 0);
    *handle = NULL;
    push_metatable(L);
    lua_setmetatable(L, -2);
    *handle = neap_secret_new(name, bytes, len, err);
    if (*handle) return true;
    lua_pop(L, 1);
    lua_pushnil(L);
    return false;
}

static int secret_gc(lua_State *L) {
    neap_secret **handle = luaL_checkudata(L, 1, SECRET_META);
    neap_secret_free(*handle);
    *handle = NULL;
    return 0;
}

static int secret_tostring(lua_State *L) {
    neap_secret *s = neap_to_secret(L, 1);
    if (s) lua_pushfstring(L, "‹secret %s›", neap_secret_name(s));
    else lua_pushliteral(L, "‹secret›");
    return 1;
}

/* Upvalue 1: what was tried. */
static int secret_refuse(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_secret *s = neap_to_secret(L, 1) ? neap_to_secret(L, 1) : neap_to_secret(L, 2);
    neap_err_set(&err, NEAP_E_USAGE, "the secret \"%s\" cannot be %s", s ? neap_secret_name(s) : "?", lua_tostring(L, lua_upvalueindex(1)));
    neap_err_hint(&err, "A secret can be passed to a primitive, not read. To build a longer one around it, use a template.");
    return neap_raise(L, &err);
}

static const struct { const char *event, *tried; } refused[] = {
    {"__concat", "joined with .."}, {"__len", "measured with #"}, {"__eq", "compared"}, {"__lt", "compared"}, {"__le", "compared"},
    {"__index", "indexed"}, {"__newindex", "changed"}, {"__call", "called"}, {"__pairs", "walked through"},
    {"__add", "computed with"}, {"__sub", "computed with"}, {"__mul", "computed with"}, {"__div", "computed with"},
    {"__mod", "computed with"}, {"__pow", "computed with"}, {"__unm", "computed with"}, {"__idiv", "computed with"},
    {"__band", "computed with"}, {"__bor", "computed with"}, {"__bxor", "computed with"}, {"__shl", "computed with"},
    {"__shr", "computed with"}, {"__bnot", "computed with"}, {NULL, NULL}};

/* [-0, +1, m] made on first use: other bindings push secrets too. */
static void push_metatable(lua_State *L) {
    if (!luaL_newmetatable(L, SECRET_META)) return;
    for (int i = 0; refused[i].event; i++) {
        lua_pushstring(L, refused[i].tried);
        neap_function_push(L, "secret:refuse", secret_refuse, 1);
        lua_setfield(L, -2, refused[i].event);
    }
    neap_function_push(L, "secret:__tostring", secret_tostring, 0);
    lua_setfield(L, -2, "__tostring");
    neap_function_push(L, "secret:__gc", secret_gc, 0);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "__placeholder");          /* script/value.c shows it by __tostring */
    lua_pushliteral(L, "secret");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "secret");
    lua_setfield(L, -2, "__metatable");
}

/* [-0, +1|2, m] the secret, or nil and err. */
static int push_or_fail(lua_State *L, const char *name, const char *bytes, size_t len, neap_err *err) {
    if (neap_push_secret(L, name, bytes, len, err)) return 1;
    return neap_fail(L, err);
}

/* One line break at the end belongs to the file or the command, not to the secret. */
static size_t without_break(const char *bytes, size_t len) {
    if (len && bytes[len - 1] == '\n') len--;
    if (len && bytes[len - 1] == '\r') len--;
    return len;
}

/* ---- sources ---- */

/* of(text, label) -> secret | nil, err. Effect: pure. */
static int of(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    return push_or_fail(L, luaL_checkstring(L, 2), bytes, len, &err);
}

/* env(NAME, label) -> secret | nil, err. Effect: pure. */
static int env(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *name = luaL_checkstring(L, 1), *label = luaL_optstring(L, 2, name), *value = getenv(name);
    if (value) return push_or_fail(L, label, value, strlen(value), &err);
    neap_err_set(&err, NEAP_E_CONFIG, "the environment variable \"%s\" is not set", name);
    neap_err_hint(&err, "It holds the secret \"%s\"; set it for this command only, or name a file or a command instead.", label);
    return neap_fail(L, &err);
}

/* Is the open file private to us (or to root)? */
static bool check_private(int fd, const char *path, neap_err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) return neap_err_set(err, NEAP_E_CONFIG, "cannot look at the secret file \"%s\": %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return neap_err_set(err, NEAP_E_CONFIG, "the secret file \"%s\" is not a regular file", path);
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        neap_err_set(err, NEAP_E_CONFIG, "the secret file \"%s\" belongs to another user", path);
        return neap_err_hint(err, "Its owner could change it under you; keep a copy of your own.");
    }
    if (st.st_mode & 077) {
        neap_err_set(err, NEAP_E_CONFIG, "the secret file \"%s\" can be used by others (mode %04o)", path, (unsigned)(st.st_mode & 07777));
        return neap_err_hint(err, "Run: chmod 600 the file. Assume that others have read it.");
    }
    return true;
}

/* file(PATH, label) -> secret | nil, err. Effect: pure (it is a source, not a target). */
static int file(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    const char *path = luaL_checkstring(L, 1), *label = luaL_optstring(L, 2, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);      /* O_NONBLOCK: a FIFO must not hold the loop */
    if (fd < 0) {
        neap_err_set(&err, NEAP_E_CONFIG, "cannot read the secret file \"%s\": %s", path, strerror(errno));
        return neap_fail(L, &err);
    }
    if (!check_private(fd, path, &err)) {
        close(fd);
        return neap_fail(L, &err);
    }
    char *bytes = neap_vault_alloc(MOST + 2);
    size_t len = 0;
    ssize_t n;
    while (len < MOST + 2 && (n = read(fd, bytes + len, MOST + 2 - len)) != 0) {
        if (n > 0) len += (size_t)n;
        else if (errno != EINTR) {
            neap_err_set(&err, NEAP_E_CONFIG, "cannot read the secret file \"%s\": %s", path, strerror(errno));
            break;
        }
    }
    close(fd);
    neap_secret *s = err.code == NEAP_OK ? neap_secret_new(label, bytes, without_break(bytes, len), &err) : NULL;
    neap_vault_free(bytes);                        /* before anything of Lua's can raise */
    if (!s) return neap_fail(L, &err);
    size_t secret_len;
    const char *secret_bytes = neap_secret_bytes(s, &secret_len);
    bool ok = neap_push_secret(L, label, secret_bytes, secret_len, &err);
    neap_secret_free(s);
    return ok ? 1 : neap_fail(L, &err);
}

/* ---- a command ---- */

typedef struct command_op {
    neap_op      op;
    neap_child  *child;
    neap_stream *out;
    char  *label, *program;
    char  *bytes;                  /* in the vault */
    size_t len;
    bool   exited, ended;
    int    status, signal;
    neap_err err;
} command_op;

static void command_check(command_op *c) {
    if (c->exited && (c->ended || c->op.stopping)) neap_op_finish(&c->op);
}

static void on_exit_status(void *arg, int status, int signal) {
    command_op *c = arg;
    c->exited = true;
    c->status = status;
    c->signal = signal;
    command_check(c);
}

static void on_output(void *arg, const char *data, ssize_t len, const neap_err *err) {
    command_op *c = arg;
    (void)err;
    if (len <= 0) {
        c->ended = true;
        command_check(c);
        return;
    }
    size_t room = MOST + 2 - c->len, n = (size_t)len < room ? (size_t)len : room;    /* too much is refused by neap_secret_new */
    memcpy(c->bytes + c->len, data, n);
    c->len += n;
    neap_stream_read(c->out, MOST, on_output, c);
}

static void command_cancel(neap_op *op, bool force) {
    command_op *c = (command_op *)op;
    if (!force) {
        neap_child_end(c->child, END_GRACE_MS);
        command_check(c);
        return;
    }
    neap_child_free(c->child);                     /* kills the group */
    c->child = NULL;
    neap_op_finish(op);
}

static int command_deliver(lua_State *L, neap_op *op) {
    command_op *c = (command_op *)op;
    if (c->status == 0 && c->signal == 0 && c->err.code == NEAP_OK)
        return push_or_fail(L, c->label, c->bytes, without_break(c->bytes, c->len), &c->err);
    if (c->err.code == NEAP_OK) {
        if (c->signal) neap_err_set(&c->err, NEAP_E_CONFIG, "the command \"%s\" for the secret \"%s\" was ended by signal %d", c->program, c->label, c->signal);
        else neap_err_set(&c->err, NEAP_E_CONFIG, "the command \"%s\" for the secret \"%s\" ended with status %d", c->program, c->label, c->status);
        neap_err_hint(&c->err, "Its messages are not shown, because they may hold the secret; run it by hand to see them.");
    }
    return neap_fail(L, &c->err);
}

static void command_drop(neap_op *op) {
    command_op *c = (command_op *)op;
    neap_stream_free(c->out);
    if (c->child) neap_child_free(c->child);
    neap_vault_free(c->bytes);
    neap_err_close(&c->err);
    free(c->label);
    free(c->program);
}

static const neap_op_class command_class = {"the command of a secret", command_cancel, command_deliver, command_drop};

/* [-0, +1, e] the list at `index` as a NULL-terminated vector; a userdata holds it. */
static const char **check_argv(lua_State *L, int index) {
    luaL_checktype(L, index, LUA_TTABLE);
    size_t n = lua_rawlen(L, index);
    luaL_argcheck(L, n > 0, index, "the command is empty");
    const char **argv = lua_newuserdatauv(L, (n + 1) * sizeof *argv, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, (lua_Integer)i + 1);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, index, "the command is a list of strings");
        argv[i] = lua_tostring(L, -1);             /* the table keeps it */
        lua_pop(L, 1);
    }
    argv[n] = NULL;
    return argv;
}

/* What a helper needs to find its own things, and no more. */
static void helper_env(char *env[], size_t size) {
    static const char *const names[] = {"PATH", "HOME", "LANG", "TZ", "USER", "XDG_RUNTIME_DIR", NULL};
    size_t n = 0;
    for (int i = 0; names[i] && n + 1 < size; i++) {
        const char *value = getenv(names[i]);
        if (value && asprintf(&env[n], "%s=%s", names[i], value) >= 0) n++;
    }
    env[n] = NULL;
}

/* command(argv, label) -> secret | nil, err (waits). Effect: pure (it is a source, not a target). */
static int command(lua_State *L) {
    const char *label = luaL_checkstring(L, 2);
    const char **argv = check_argv(L, 1);
    neap_task *task = neap_task_of(L);
    if (!task || neap_task_scope(task)->phase == NEAP_PHASE_DECLARE) neap_raisef(L, NEAP_E_REFUSED, "no command runs while a file is read");
    command_op *c = (command_op *)neap_op_new(L, sizeof *c, &command_class);
    c->err = (neap_err)NEAP_ERR_INIT;
    c->label = neap_strdup(label);
    c->program = neap_strdup(argv[0]);
    c->bytes = neap_vault_alloc(MOST + 2);
    char *env[8];
    helper_env(env, sizeof env / sizeof *env);
    neap_child_options o = {.argv = argv, .env = (const char *const *)env, .pipes = 1 << 1};
    c->child = neap_child_new(neap_host_of(L)->loop, &o, on_exit_status, c, &c->err);
    for (int i = 0; env[i]; i++) free(env[i]);
    if (!c->child) {
        neap_op_finish(&c->op);
    } else {
        c->out = neap_child_stream(c->child, 1);
        neap_stream_read(c->out, MOST, on_output, c);
    }
    return neap_await(L, &c->op);
}

/* ---- templates ---- */

static void add_hole(neap_buf *out, const char *bytes, size_t len, bool url) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    for (size_t i = 0; i < len; i++)
        if (!url || (bytes[i] && strchr(plain, bytes[i]))) neap_buf_addc(out, bytes[i]);
        else neap_buf_addf(out, "%%%02X", (unsigned char)bytes[i]);
}

/* Bytes of the argument at `index`: of a secret, or of a string. */
static const char *piece(lua_State *L, int index, size_t *len) {
    neap_secret *s = neap_to_secret(L, index);
    return s ? neap_secret_bytes(s, len) : lua_tolstring(L, index, len);
}

/* Check every argument before any bytes are copied; returns the most that the result can take. */
static size_t check_template(lua_State *L, const char *format, size_t len, const char **name) {
    int holes = 0, given = lua_gettop(L) - 1;
    for (const char *p = format; (p = strchr(p, '{')); p++)
        if (p[1] == '}' || strncmp(p, "{url}", 5) == 0) holes++;
    luaL_argcheck(L, holes == given, 1, "as many {} as values are needed");
    for (int i = 2; i <= given + 1; i++) {
        size_t n;
        neap_secret *s = neap_to_secret(L, i);
        if (!s) luaL_checkstring(L, i);
        else if (!*name) *name = neap_secret_name(s);
        piece(L, i, &n);
        len += n * 3;
    }
    luaL_argcheck(L, *name, 2, "one of the values must be a secret");
    return len;
}

/* template(format, ...) -> secret | nil, err. {} is filled with the next value, {url} with it percent-encoded. The result is named after its
 * first secret. Effect: pure. */
static int template(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    neap_buf out = NEAP_BUF_INIT;
    const char *name = NULL, *p = luaL_checkstring(L, 1);
    size_t most = check_template(L, p, strlen(p), &name);
    neap_buf_room(&out, most + 1);                 /* never moves, so no copy stays behind */
    for (int i = 2; *p;) {
        bool url = strncmp(p, "{url}", 5) == 0;
        if (!url && !(p[0] == '{' && p[1] == '}')) { neap_buf_addc(&out, *p++); continue; }
        size_t len;
        const char *bytes = piece(L, i++, &len);
        add_hole(&out, bytes, len, url);
        p += url ? 5 : 2;
    }
    neap_secret *s = neap_secret_new(name, out.data, out.len, &err);
    neap_buf_wipe(&out);
    if (!s) return neap_fail(L, &err);
    size_t len;
    const char *bytes = neap_secret_bytes(s, &len);
    bool ok = neap_push_secret(L, name, bytes, len, &err);
    neap_secret_free(s);
    return ok ? 1 : neap_fail(L, &err);
}

/* is(value) -> boolean. Effect: pure. */
static int is(lua_State *L) {
    lua_pushboolean(L, neap_to_secret(L, 1) != NULL);
    return 1;
}

static const luaL_Reg module[] = {
    {"of", of}, {"env", env}, {"file", file}, {"command", command}, {"template", template}, {"is", is}, {NULL, NULL}};

int neap_open_secret(lua_State *L) {
    neap_function_table(L, "native.secret.", module);
    return 1;
}
