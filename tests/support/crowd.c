/* crowd.c -- T.processes: every process of the machine, and what tells to which test server it belongs.
 *
 *     for pid, p in pairs(T.processes("NEAP_TEST_SSHD=/tmp/x")) do p.name, p.parent, p.mount, p.marked end
 *
 * `mount` is the mount namespace ("mnt:[4026531840]"), which a process keeps whatever it does to its session, its parent and
 * its environment; nil when we may not look. `marked` is true when the environment it was started with holds that text. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testlib.h"

enum { ENVIRONMENT = 128 * 1024 };

/* [-0, +0, m] set the fields name, parent and state of the table on top. False when the process is gone. */
static bool set_stat(lua_State *L, const char *pid) {
    char path[64], line[512], state;
    long parent;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char *got = fgets(line, sizeof line, file), *open = got ? strchr(line, '(') : NULL, *close = got ? strrchr(line, ')') : NULL;
    fclose(file);
    if (!open || !close || sscanf(close + 1, " %c %ld", &state, &parent) != 2) return false;
    lua_pushlstring(L, open + 1, (size_t)(close - open - 1));
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, parent);
    lua_setfield(L, -2, "parent");
    lua_pushlstring(L, &state, 1);
    lua_setfield(L, -2, "state");
    return true;
}

static void set_mount(lua_State *L, const char *pid) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%.20s/ns/mnt", pid);
    ssize_t n = readlink(path, target, sizeof target);
    if (n <= 0) return;
    lua_pushlstring(L, target, (size_t)n);
    lua_setfield(L, -2, "mount");
}

static bool has_mark(const char *pid, const char *mark) {
    static char environment[ENVIRONMENT];
    char path[64];
    snprintf(path, sizeof path, "/proc/%.20s/environ", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t n = fread(environment, 1, sizeof environment, file);
    fclose(file);
    return memmem(environment, n, mark, strlen(mark)) != NULL;
}

/* T.processes(mark|nil) -> {[pid] = {name=, parent=, state=, mount=|nil, marked=}} */
static int processes(lua_State *L) {
    const char *mark = luaL_optstring(L, 1, NULL);
    DIR *proc = opendir("/proc");
    lua_newtable(L);
    for (struct dirent *e; proc && (e = readdir(proc));) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
        lua_newtable(L);
        if (!set_stat(L, e->d_name)) {
            lua_pop(L, 1);
            continue;
        }
        set_mount(L, e->d_name);
        lua_pushboolean(L, mark && has_mark(e->d_name, mark));
        lua_setfield(L, -2, "marked");
        lua_rawseti(L, -2, atoll(e->d_name));
    }
    if (proc) closedir(proc);
    return 1;
}

/* T.mount_of(pid) -> its mount namespace, or nil */
static int mount_of(lua_State *L) {
    char pid[24];
    snprintf(pid, sizeof pid, "%lld", (long long)luaL_checkinteger(L, 1));
    lua_newtable(L);
    set_mount(L, pid);
    lua_getfield(L, -1, "mount");
    return 1;
}

static const luaL_Reg crowd[] = {{"processes", processes}, {"mount_of", mount_of}, {NULL, NULL}};
NEAP_TEST_LIBRARY(crowd)
