/* faults.c -- T.fault(): a system call that fails on demand, inside this process.
 *
 *     T.fault("fsync", "/state", 3, "EIO")          the third fsync of a path that holds "/state" fails
 *     T.fault("pwrite", "/state", 3, "ENOSPC", true) the third and all that follow
 *     T.fault() -> has it struck?                   and nothing fails any more
 *
 * While something is armed nothing is really synced, so that a sweep does not wait for the disk; arm "nothing" for that alone.
 *
 * The interpreter is linked with -rdynamic, so these functions stand before those of the C library for neap and for SQLite alike.
 * Against strace: no permission to trace is needed, the process lives on, so what it says about the failure is seen (and counted
 * by gcov), and a call costs nanoseconds while nothing is armed. What it cannot do is kill at a call: journal_fault_spec. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "testlib.h"

static struct {
    bool armed, forever, struck;
    char call[32], path[256];
    long left;
    int  error;
} fault;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;      /* a commit runs on the pool */

static bool is_armed(void) { return __atomic_load_n(&fault.armed, __ATOMIC_ACQUIRE); }
static bool is_on_path(const char *path) { return strstr(path, fault.path) != NULL; }

static bool is_on_fd(int fd, const char *name) {
    char link[64], path[PATH_MAX + 256] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    if (len < 0) return false;
    snprintf(path + len, sizeof path - (size_t)len, "/%.200s", name);
    return is_on_path(path);
}

/* Is this the call that is to fail? Sets errno. `name` alone is a path; with a descriptor it is what lies in it. */
static bool strikes(const char *call, int fd, const char *name) {
    if (!is_armed()) return false;
    pthread_mutex_lock(&mutex);
    bool hit = fault.armed && strcmp(call, fault.call) == 0
        && (fd < 0 || name[0] == '/' ? is_on_path(name) : is_on_fd(fd, name))
        && (--fault.left == 0 || (fault.left < 0 && fault.forever));
    if (hit) fault.struck = true;
    int error = fault.error;
    pthread_mutex_unlock(&mutex);
    if (hit) errno = error;
    return hit;
}

static void *real(void **known, const char *name) {
    void *found = __atomic_load_n(known, __ATOMIC_ACQUIRE);
    if (found) return found;
    found = dlsym(RTLD_NEXT, name);
    __atomic_store_n(known, found, __ATOMIC_RELEASE);
    return found;
}

/* STAND_IN(result, symbol, call as T.fault names it, parameters, arguments, descriptor, name, answer when it fails) */
#define STAND_IN(result, symbol, call, parameters, arguments, fd, name, failed) \
    result symbol parameters; \
    result symbol parameters { \
        static void *known; \
        result (*there) parameters; \
        *(void **)&there = real(&known, #symbol); \
        return strikes(call, fd, name) ? (failed) : there arguments; \
    }

/* With a mode behind it when a file is made. */
#define STAND_IN_OPEN(symbol) \
    int symbol(const char *path, int flags, ...); \
    int symbol(const char *path, int flags, ...) { \
        static void *known; \
        int (*there)(const char *, int, ...); \
        *(void **)&there = real(&known, #symbol); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return strikes("open", -1, path) ? -1 : there(path, flags, mode); \
    }

STAND_IN_OPEN(open)
STAND_IN_OPEN(open64)

int openat(int dir, const char *path, int flags, ...) {
    static void *known;
    int (*there)(int, const char *, int, ...);
    *(void **)&there = real(&known, "openat");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return strikes("openat", dir, path) ? -1 : there(dir, path, flags, mode);
}

#define STAND_IN_SYNC(symbol) \
    int symbol(int fd); \
    int symbol(int fd) { \
        static void *known; \
        int (*there)(int); \
        *(void **)&there = real(&known, #symbol); \
        if (!is_armed()) return there(fd); \
        return strikes("fsync", fd, "") ? -1 : 0; \
    }

STAND_IN_SYNC(fsync)
STAND_IN_SYNC(fdatasync)

STAND_IN(ssize_t, read,      "read",  (int fd, void *to, size_t n),                     (fd, to, n),          fd, "", -1)
STAND_IN(ssize_t, pread64,   "pread", (int fd, void *to, size_t n, off64_t at),         (fd, to, n, at),      fd, "", -1)
STAND_IN(ssize_t, pwrite,    "pwrite", (int fd, const void *from, size_t n, off_t at),  (fd, from, n, at),    fd, "", -1)
STAND_IN(ssize_t, pwrite64,  "pwrite", (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at),   fd, "", -1)
STAND_IN(int, ftruncate64,   "ftruncate", (int fd, off64_t size),                       (fd, size),           fd, "", -1)
STAND_IN(int, fstat,         "fstat", (int fd, struct stat *to),                        (fd, to),             fd, "", -1)
STAND_IN(int, fstat64,       "fstat", (int fd, struct stat64 *to),                      (fd, to),             fd, "", -1)
STAND_IN(int, lstat,         "lstat", (const char *path, struct stat *to),              (path, to),           -1, path, -1)
STAND_IN(int, fstatat,       "fstatat", (int dir, const char *path, struct stat *to, int how), (dir, path, to, how), dir, path, -1)
STAND_IN(int, flock,         "flock", (int fd, int how),                                (fd, how),            fd, "", -1)
STAND_IN(int, mkdir,         "mkdir", (const char *path, mode_t mode),                  (path, mode),         -1, path, -1)
STAND_IN(int, mkdirat,       "mkdirat", (int dir, const char *path, mode_t mode),       (dir, path, mode),    dir, path, -1)
STAND_IN(int, unlinkat,      "unlinkat", (int dir, const char *path, int how),          (dir, path, how),     dir, path, -1)
STAND_IN(int, faccessat,     "faccessat", (int dir, const char *path, int what, int how), (dir, path, what, how), dir, path, -1)
STAND_IN(int, posix_fallocate, "fallocate", (int fd, off_t at, off_t n),                (fd, at, n),          fd, "", errno)
STAND_IN(char *, realpath,   "realpath", (const char *path, char *to),                  (path, to),           -1, path, NULL)
STAND_IN(DIR *, fdopendir,   "fdopendir", (int fd),                                     (fd),                 fd, "", NULL)

/* The error "NFS" is no failure: the call succeeds and tells of a network file system. */
int fstatfs(int fd, struct statfs *to) {
    static void *known;
    int (*there)(int, struct statfs *);
    *(void **)&there = real(&known, "fstatfs");
    bool hit = strikes("fstatfs", fd, "");
    if (hit && errno != 0) return -1;
    int rc = there(fd, to);
    if (hit) to->f_type = 0x6969;
    return rc;
}

static int error_of(lua_State *L, const char *name) {
    static const struct { const char *name; int code; } errors[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EACCES", EACCES}, {"EBUSY", EBUSY}, {"EINTR", EINTR}, {"ENOMEM", ENOMEM}, {"NFS", 0},
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(errors[i].name, name) == 0) return errors[i].code;
    return luaL_error(L, "no error \"%s\"", name);
}

static int arm(lua_State *L) {
    const char *call = luaL_optstring(L, 1, ""), *path = luaL_optstring(L, 2, "");
    long left = (long)luaL_optinteger(L, 3, 1);
    int error = error_of(L, luaL_optstring(L, 4, "EIO"));
    bool forever = lua_toboolean(L, 5);
    pthread_mutex_lock(&mutex);
    lua_pushboolean(L, fault.struck);
    fault.struck = false;
    fault.forever = forever;
    fault.left = left;
    fault.error = error;
    snprintf(fault.call, sizeof fault.call, "%s", call);
    snprintf(fault.path, sizeof fault.path, "%s", path);
    __atomic_store_n(&fault.armed, *call != '\0', __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
    return 1;
}

static const luaL_Reg faults[] = {{"fault", arm}, {NULL, NULL}};
NEAP_TEST_LIBRARY(faults)
