/* system_lua.c -- native.system: this machine, this process, and small files of neap's own.
 *
 * Promises: directories made here are 0700; a lock is an flock, so it is gone with its holder however that
 * ended; a process is only signalled when its start time says that the number still means the same one;
 * remove_tree never follows a symbolic link and never leaves the directory it was given.
 * These functions touch only the state directory and the process; what runbooks do to files is native.file,
 * behind the gate.
 */
#include "bind/system_lua.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <lauxlib.h>
#include <libpq-fe.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bind/callback.h"
#include "bind/signal.h"
#include "bind/term_lua.h"
#include "drive/leftover.h"
#include "loop/child.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/state.h"
#include "script/task.h"

#define LOCK_META "neap.lock"
#define SIGNALS_META "neap.signals"

enum { TREE_DEPTH = 64 };

void neap_system_harden(void) {
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    umask(077);
    signal(SIGPIPE, SIG_IGN);
}

/* [-0, +2, m] nil and an error from errno. */
static int fail(lua_State *L, neap_code code, const char *doing, const char *path) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, code, "cannot %s \"%s\": %s", doing, path, strerror(errno));
    return neap_fail(L, &err);
}

static int push_true(lua_State *L) {
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- process and machine ---- */

/* pid() -> integer. Effect: pure. */
static int system_pid(lua_State *L) {
    lua_pushinteger(L, getpid());
    return 1;
}

/* started(pid) -> clock ticks after boot at which it started, 0 when it is gone. Effect: pure. */
static int system_started(lua_State *L) {
    lua_pushinteger(L, neap_child_started((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int check_signal(lua_State *L, int index) {
    static const char *const names[] = {"TERM", "KILL", "INT", "HUP", NULL};
    static const int numbers[] = {SIGTERM, SIGKILL, SIGINT, SIGHUP};
    return numbers[luaL_checkoption(L, index, "TERM", names)];
}

/* kill_group(pid, started, "TERM"|"KILL"|"INT"|"HUP") -> was anything of it still there? Effect: pure (only processes the journal names). */
static int system_kill_group(lua_State *L) {
    lua_Integer pid = luaL_checkinteger(L, 1), started = luaL_checkinteger(L, 2);
    int number = check_signal(L, 3);
    bool same = neap_child_group_lives((int)pid, started);
    lua_pushboolean(L, same && kill(-(pid_t)pid, number) == 0);
    return 1;
}

/* user() -> login name of the effective user, its number as text when it has none. Effect: pure. */
static int system_user(lua_State *L) {
    struct passwd *entry = getpwuid(geteuid());
    if (entry) lua_pushstring(L, entry->pw_name);
    else lua_pushfstring(L, "%d", (int)geteuid());
    return 1;
}

/* uid() -> integer. Effect: pure. */
static int system_uid(lua_State *L) {
    lua_pushinteger(L, geteuid());
    return 1;
}

/* host() -> name of this machine. Effect: pure. */
static int system_host(lua_State *L) {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    lua_pushstring(L, *name ? name : "localhost");
    return 1;
}

/* env(name) -> text | nil. Effect: pure. */
static int system_env(lua_State *L) {
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

/* version() -> "0.1.0". Effect: pure. */
static int system_version(lua_State *L) {
    lua_pushliteral(L, NEAP_VERSION);
    return 1;
}

/* libraries() -> {name = version}: those that are loaded now, not those we were built with. Effect: pure. */
static int system_libraries(lua_State *L) {
    int pq = PQlibVersion();
    lua_newtable(L);
    lua_pushliteral(L, LUA_RELEASE), lua_setfield(L, -2, "lua");
    lua_pushstring(L, sqlite3_libversion()), lua_setfield(L, -2, "sqlite");
    lua_pushfstring(L, "%d.%d", pq / 10000, pq % 10000), lua_setfield(L, -2, "libpq");
    lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION_STRING)), lua_setfield(L, -2, "openssl");
    lua_pushstring(L, jansson_version_str()), lua_setfield(L, -2, "jansson");
    lua_pushstring(L, utf8proc_version()), lua_setfield(L, -2, "utf8proc");
    return 1;
}

/* random_id() -> 12 hexadecimal digits. Effect: pure. */
static int system_random_id(lua_State *L) {
    unsigned char bytes[6];
    char text[13];
    for (size_t got = 0; got < sizeof bytes;) {
        ssize_t n = getrandom(bytes + got, sizeof bytes - got, 0);
        if (n > 0) got += (size_t)n;
        else if (errno != EINTR) neap_raisef(L, NEAP_E_BUG, "the system gives no random numbers");
    }
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(text + i * 2, 3, "%02x", bytes[i]);
    lua_pushlstring(L, text, 12);
    return 1;
}

/* wall_ms() -> milliseconds since 1970. Effect: pure. */
static int system_wall_ms(lua_State *L) {
    lua_pushinteger(L, neap_clock_wall_ms());
    return 1;
}

/* iso(ms) -> "2026-04-25T02:00:03.123Z". Effect: pure. */
static int system_iso(lua_State *L) {
    char text[NEAP_CLOCK_ISO_SIZE];
    neap_clock_iso(luaL_checkinteger(L, 1), text);
    lua_pushstring(L, text);
    return 1;
}

/* ---- signals ---- */

static lua_State *signal_state;
static int signal_ref = LUA_NOREF;

static void on_signal(int number, int count) {
    const char *name = number == SIGINT ? "interrupt" : number == SIGTERM ? "terminate" : number == SIGHUP ? "hangup" : "quit";
    lua_rawgeti(signal_state, LUA_REGISTRYINDEX, signal_ref);
    lua_pushstring(signal_state, name);
    lua_pushinteger(signal_state, count);
    neap_callback_call(signal_state, 2);
}

/* signal(fn(name, count) | nil) -> true | nil, err: "interrupt", "terminate", "quit", "hangup" reach fn on the loop; signal.h says what does
 * not. fn may not wait. Effect: pure. */
static int system_signal(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    bool on = !lua_isnoneornil(L, 1);
    if (on) luaL_checktype(L, 1, LUA_TFUNCTION);
    int before = signal_ref;
    lua_settop(L, 1);
    signal_ref = on ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
    signal_state = neap_callback_main(L);
    luaL_unref(L, LUA_REGISTRYINDEX, before);
    if (!neap_signal_on_stop(neap_host_of(L)->loop, on ? on_signal : NULL, &err)) return neap_fail(L, &err);
    return push_true(L);
}

/* The state ends: no signal may look for it any more. */
static int signals_gc(lua_State *L) {
    if (signal_state == neap_callback_main(L)) (void)neap_signal_on_stop(NULL, NULL, NULL);
    return 0;
}

/* exit_now(code): end without unwinding; 129 to 159 end by that signal, as a shell expects. Effect: pure. */
static int system_exit_now(lua_State *L) {
    lua_Integer code = luaL_checkinteger(L, 1);
    if (code > 128 && code < 160) neap_signal_die((int)code - 128);
    neap_term_restore();
    _exit((int)code);
}

/* ---- locks ---- */

static int lock_close(lua_State *L) {
    int *fd = luaL_checkudata(L, 1, LOCK_META);
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return 0;
}

/* [-0, +2, m] who holds it, in the words it left in the file. */
static int fail_busy(lua_State *L, int fd, const char *path) {
    neap_err err = NEAP_ERR_INIT;
    char holder[256];
    ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
    holder[n > 0 ? n : 0] = '\0';
    close(fd);
    neap_err_set(&err, NEAP_E_BUSY, "\"%s\" is locked%s%s", path, *holder ? " by " : "", holder);
    err.retry = true;
    return neap_fail(L, &err);
}

/* lock(path[, holder]) -> lock | nil, {code = "busy"}. The text is what others are told. The file stays. Effect: pure. */
static int system_lock(lua_State *L) {
    size_t len = 0;
    const char *path = luaL_checkstring(L, 1), *holder = luaL_optlstring(L, 2, "", &len);
    int *handle = lua_newuserdatauv(L, sizeof *handle, 0);
    *handle = -1;
    luaL_setmetatable(L, LOCK_META);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail(L, NEAP_E_CONFIG, "open the lock", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return fail_busy(L, fd, path);
        int error = errno;
        close(fd);
        errno = error;
        return fail(L, NEAP_E_CONFIG, "lock", path);
    }
    *handle = fd;
    if (ftruncate(fd, 0) != 0 || pwrite(fd, holder, len, 0) != (ssize_t)len) return fail(L, NEAP_E_JOURNAL, "write the lock", path);
    return 1;
}

/* stdlib() -> the hash of the standard library inside this binary. Effect: pure. */
static int system_stdlib(lua_State *L) {
    lua_pushstring(L, neap_stdlib_hash);
    return 1;
}

/* share() -> where `make install` puts runbooks. Effect: pure. */
static int system_share(lua_State *L) {
    lua_pushliteral(L, NEAP_SHARE);
    return 1;
}

static const luaL_Reg lock_methods[] = {{"close", lock_close}, {NULL, NULL}};
static const luaL_Reg lock_meta[] = {{"__gc", lock_close}, {"__close", lock_close}, {NULL, NULL}};

/* ---- paths ---- */

/* cwd() -> path | nil, err. Effect: pure. */
static int system_cwd(lua_State *L) {
    char *path = getcwd(NULL, 0);
    if (!path) return fail(L, NEAP_E_CONFIG, "find", ".");
    lua_pushstring(L, path);
    free(path);
    return 1;
}

/* realpath(path) -> path | nil, err. Effect: pure. */
static int system_realpath(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    char *real = realpath(path, NULL);
    if (!real) return fail(L, NEAP_E_CONFIG, "find", path);
    lua_pushstring(L, real);
    free(real);
    return 1;
}

/* mkdir(path) -> true | nil, err: with its parents, 0700; one that exists is fine. Effect: pure (neap's own directories). */
static int system_mkdir(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    size_t len = strlen(path);
    char *part = lua_newuserdatauv(L, len + 1, 0);
    for (size_t i = 1; i <= len; i++) {
        if (i < len && path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) == 0 || errno == EEXIST) continue;
        return fail(L, NEAP_E_CONFIG, "make the directory", part);
    }
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return push_true(L);
    errno = ENOTDIR;
    return fail(L, NEAP_E_CONFIG, "make the directory", path);
}

static bool is_dots(const char *name) { return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])); }

/* list(dir) -> sorted names | nil, err. Effect: pure. */
static int system_list(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort), count = 0;
    if (n < 0) return fail(L, NEAP_E_CONFIG, "list", path);
    neap_buf names = NEAP_BUF_INIT;                /* gathered first: pushing may raise */
    for (int i = 0; i < n; i++) {
        if (!is_dots(entries[i]->d_name)) neap_buf_add(&names, entries[i]->d_name, strlen(entries[i]->d_name) + 1);
        free(entries[i]);
    }
    free(entries);
    lua_newtable(L);
    for (size_t at = 0; at < names.len; at += strlen(names.data + at) + 1) {
        lua_pushstring(L, names.data + at);
        lua_rawseti(L, -2, ++count);
    }
    neap_buf_close(&names);
    return 1;
}

/* Empty the directory that `fd` is. Takes over fd. False: errno says why. */
static bool empty(int fd, int depth) {
    DIR *dir = depth < TREE_DEPTH ? fdopendir(fd) : NULL;
    if (!dir) {
        close(fd);
        errno = ELOOP;
        return false;
    }
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir));) {
        if (is_dots(e->d_name) || unlinkat(dirfd(dir), e->d_name, 0) == 0) continue;
        ok = errno == EISDIR || errno == EPERM;
        int inner = ok ? openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        ok = inner >= 0 && empty(inner, depth + 1) && unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR) == 0;
    }
    int error = errno;
    closedir(dir);
    errno = error;
    return ok;
}

/* remove_tree(path) -> true | nil, err: a directory and what is in it; one that is gone is fine. Effect: pure (neap's own directories). */
static int system_remove_tree(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    luaL_argcheck(L, *path == '/' && path[1], 1, "an absolute path below / is needed");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return push_true(L);
    if (fd < 0 || !empty(fd, 0) || rmdir(path) != 0) return fail(L, NEAP_E_CONFIG, "remove", path);
    return push_true(L);
}

static void note_leftover(void *arg, const char *path) { neap_buf_add(arg, path, strlen(path) + 1); }

/* leftovers(remove) -> list of paths: directories of sockets that a killed neap of ours has left; with `remove` they are gone. Effect: pure
 * (neap's own directories). */
static int system_leftovers(lua_State *L) {
    neap_buf paths = NEAP_BUF_INIT;                /* gathered first: pushing may raise */
    int count = 0;
    neap_leftovers(lua_toboolean(L, 1), note_leftover, &paths);
    lua_newtable(L);
    for (size_t at = 0; at < paths.len; at += strlen(paths.data + at) + 1) {
        lua_pushstring(L, paths.data + at);
        lua_rawseti(L, -2, ++count);
    }
    neap_buf_close(&paths);
    return 1;
}

static const luaL_Reg module[] = {
    {"pid", system_pid}, {"started", system_started}, {"kill_group", system_kill_group}, {"user", system_user}, {"uid", system_uid},
    {"host", system_host}, {"env", system_env}, {"version", system_version}, {"share", system_share}, {"stdlib", system_stdlib}, {"libraries", system_libraries},
    {"random_id", system_random_id}, {"wall_ms", system_wall_ms}, {"iso", system_iso}, {"signal", system_signal},
    {"exit_now", system_exit_now}, {"lock", system_lock}, {"cwd", system_cwd}, {"realpath", system_realpath},
    {"mkdir", system_mkdir}, {"list", system_list}, {"remove_tree", system_remove_tree},
    {"leftovers", system_leftovers}, {NULL, NULL}};

int neap_open_system(lua_State *L) {
    if (luaL_newmetatable(L, LOCK_META)) {
        neap_function_set(L, "lock:", lock_meta, 0);
        neap_function_table(L, "lock:", lock_methods);
        lua_setfield(L, -2, "__index");
        lua_pushliteral(L, "lock");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    lua_newuserdatauv(L, 0, 0);
    lua_newtable(L);
    neap_function_push(L, "signals:__gc", signals_gc, 0);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, SIGNALS_META);
    neap_function_table(L, "native.system.", module);
    return 1;
}
