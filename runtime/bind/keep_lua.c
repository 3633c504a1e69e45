/* keep_lua.c -- native.keep: who has a target of this machine that cannot remember it itself, as a container of the local Engine.
 *
 *     local kept, err = keep.lock(path, "neap:deploy:7f3a")     an flock: gone with its holder however that ends
 *     keep.look(path)                                           the same question, for a preview: nothing is made, nothing is taken
 *     keep.write(path, words)   keep.read(path)   keep.clear(path)          a hold: words that stay
 *
 * The files lie where every user of the machine can have them (/run/lock), so each user may open a file that another one made, and none
 * is opened through a link. A file that is created is opened without O_CREAT afterwards: the kernel forbids O_CREAT on somebody else's
 * file in a sticky directory. A lock's file is removed when the lock is let go; whoever waited at the removed one looks again.
 *
 * Rejected: a lock that names its holder by pid (a killed holder would have to be told from a slow one). Whoever may not use the Engine
 * can still stand in the way by making the file first: /run/lock is like that, and being in the way loses no data.
 */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "script/function.h"
#include "script/raise.h"

#define KEEP_META "neap.keep"

enum { TRIES = 20, WORDS_SIZE = 4096 };

typedef struct kept { int fd; char *path; } kept;

static int fail(lua_State *L, const char *doing, const char *path) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CONFIG, "cannot %s \"%s\": %s", doing, path, strerror(errno));
    return neap_fail(L, &err);
}

/* Its descriptor; -1 and errno. `make`: it need not be there. */
static int open_shared(const char *path, bool make) {
    for (int i = 0; i < TRIES; i++) {
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 || errno != ENOENT || !make) return fd;
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (fd >= 0) {
            (void)fchmod(fd, 0666);
            return fd;
        }
        if (errno != EEXIST) return -1;
    }
    return -1;
}

static bool is_at(int fd, const char *path) {
    struct stat here, there;
    return fstat(fd, &here) == 0 && lstat(path, &there) == 0 && here.st_ino == there.st_ino && here.st_dev == there.st_dev;
}

/* [-0, +1, m] everything in the file, up to WORDS_SIZE bytes. */
static void push_words(lua_State *L, int fd) {
    char words[WORDS_SIZE];
    ssize_t n = pread(fd, words, sizeof words, 0);
    lua_pushlstring(L, words, n > 0 ? (size_t)n : 0);
}

static bool replace_words(int fd, const char *words, size_t len) {
    return ftruncate(fd, 0) == 0 && pwrite(fd, words, len, 0) == (ssize_t)len && fsync(fd) == 0;
}

/* [-0, +2, m] who has it, in the words it left. */
static int fail_busy(lua_State *L, int fd) {
    neap_err err = NEAP_ERR_INIT;
    push_words(L, fd);
    close(fd);
    neap_err_set(&err, NEAP_E_BUSY, "%s", *lua_tostring(L, -1) ? lua_tostring(L, -1) : "somebody has it");
    err.retry = true;
    return neap_fail(L, &err);
}

static int kept_close(lua_State *L) {
    kept *k = luaL_checkudata(L, 1, KEEP_META);
    if (k->fd >= 0) {
        if (is_at(k->fd, k->path)) (void)unlink(k->path);
        close(k->fd);
    }
    free(k->path);
    *k = (kept){.fd = -1};
    return 0;
}

/* kept:is_ours() -> is the file that is locked still the one everybody looks at? Effect: own. */
static int kept_is_ours(lua_State *L) {
    kept *k = luaL_checkudata(L, 1, KEEP_META);
    lua_pushboolean(L, k->fd >= 0 && is_at(k->fd, k->path));
    return 1;
}

/* lock(path, words) -> handle | nil, {busy}: whoever has it, by its words. Effect: own. */
static int keep_lock(lua_State *L) {
    size_t len;
    const char *path = luaL_checkstring(L, 1), *words = luaL_checklstring(L, 2, &len);
    kept *k = lua_newuserdatauv(L, sizeof *k, 0);
    *k = (kept){.fd = -1};
    luaL_setmetatable(L, KEEP_META);
    for (int i = 0; i < TRIES; i++) {
        int fd = open_shared(path, true);
        if (fd < 0) return fail(L, "open the lock", path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno == EWOULDBLOCK) return fail_busy(L, fd);
            close(fd);
            return fail(L, "lock", path);
        }
        if (!is_at(fd, path)) { close(fd); continue; }       /* its holder removed it meanwhile */
        k->fd = fd;
        k->path = neap_strdup(path);
        if (!replace_words(fd, words, len)) return fail(L, "write the lock", path);
        return 1;
    }
    errno = EAGAIN;
    return fail(L, "lock", path);
}

/* look(path) -> true | nil, {busy}. Makes and takes nothing. Effect: own. */
static int keep_look(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int fd = open_shared(path, false);
    if (fd < 0 && errno != ENOENT) return fail(L, "open the lock", path);
    if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) return fail_busy(L, fd);
    if (fd >= 0) close(fd);
    lua_pushboolean(L, 1);
    return 1;
}

/* write(path, words) -> true | nil, err. Effect: own. */
static int keep_write(lua_State *L) {
    size_t len;
    const char *path = luaL_checkstring(L, 1), *words = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len > 0 && len <= WORDS_SIZE, 2, "some words, but not many");
    int fd = open_shared(path, true);
    if (fd < 0) return fail(L, "open", path);
    bool written = replace_words(fd, words, len);
    if (!written) (void)fail(L, "write", path);
    close(fd);
    if (!written) return 2;
    lua_pushboolean(L, 1);
    return 1;
}

/* read(path) -> words | nil (none) | nil, err. Effect: own. */
static int keep_read(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT) return fail(L, "read", path);
    lua_pushnil(L);
    if (fd < 0) return 1;
    push_words(L, fd);
    close(fd);
    if (lua_rawlen(L, -1) == 0) lua_pop(L, 1);
    return 1;
}

/* clear(path) -> true | nil, err. What another user made is emptied, which is the same. Effect: own. */
static int keep_clear(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int fd = open_shared(path, false);
    if (fd < 0 && errno != ENOENT) return fail(L, "clear", path);
    bool cleared = fd < 0 || ftruncate(fd, 0) == 0;
    if (!cleared) (void)fail(L, "clear", path);
    if (fd >= 0) close(fd);
    if (!cleared) return 2;
    if (fd >= 0) (void)unlink(path);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg module[] = {{"lock", keep_lock}, {"look", keep_look}, {"write", keep_write}, {"read", keep_read}, {"clear", keep_clear}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"close", kept_close}, {"is_ours", kept_is_ours}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__gc", kept_close}, {"__close", kept_close}, {NULL, NULL}};

int neap_open_keep(lua_State *L) {
    if (luaL_newmetatable(L, KEEP_META)) {
        neap_function_set(L, "keep:", meta, 0);
        neap_function_table(L, "keep:", methods);
        lua_setfield(L, -2, "__index");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    neap_function_table(L, "native.keep.", module);
    return 1;
}
