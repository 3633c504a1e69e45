/* place.c -- what a spec asks of the machine: a directory, a port, the time, its children, environment variables. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "testlib.h"

/* [-0, +2, m] true, or nil and the system's message. */
static int push_result(lua_State *L, bool ok) {
    int code = errno;
    if (ok) return lua_pushboolean(L, 1), 1;
    lua_pushnil(L);
    lua_pushstring(L, strerror(code));
    return 2;
}

/* T.directory(prefix) -> path of a new directory, 0700 */
static int directory(lua_State *L) {
    const char *path = lua_pushfstring(L, "%sXXXXXX", luaL_checkstring(L, 1));
    char made[256];
    snprintf(made, sizeof made, "%s", path);
    if (!mkdtemp(made)) return luaL_error(L, "cannot make a directory at \"%s\": %s", path, strerror(errno));
    lua_pushstring(L, made);
    return 1;
}

/* T.owner(path, user): give a file or directory to a user, by name or by number (then the group has the same); only root can. */
static int owner(lua_State *L) {
    if (lua_isinteger(L, 2)) {
        uid_t id = (uid_t)lua_tointeger(L, 2);
        return push_result(L, chown(luaL_checkstring(L, 1), id, id) == 0);
    }
    struct passwd *who = getpwnam(luaL_checkstring(L, 2));
    if (!who) errno = ENOENT;
    return push_result(L, who && chown(luaL_checkstring(L, 1), who->pw_uid, who->pw_gid) == 0);
}

/* T.mode(path, mode) */
static int mode(lua_State *L) { return push_result(L, chmod(luaL_checkstring(L, 1), (mode_t)luaL_checkinteger(L, 2)) == 0); }

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    remove(path);
    return 0;
}

/* T.remove_tree(path): without following links; missing is fine. */
static int remove_tree(lua_State *L) {
    nftw(luaL_checkstring(L, 1), remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

/* T.entries(path) -> list of names, sorted by nobody; nil when it is no directory */
static int entries(lua_State *L) {
    DIR *dir = opendir(luaL_checkstring(L, 1));
    if (!dir) return push_result(L, false);
    lua_newtable(L);
    int n = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        lua_pushstring(L, e->d_name);
        lua_rawseti(L, -2, ++n);
    }
    closedir(dir);
    return 1;
}

/* Ports of the suite lie below those that the kernel hands to whoever connects or listens on port 0, and each is asked for once: the
 * byte of its number in PORTS is locked until this interpreter ends, so that no other one is given it. */
#define PORTS "/tmp/neap-test-ports"
enum { FIRST_PORT = 12000, LAST_PORT = 31999 };
static int ports = -1;

/* Opened with the library: a descriptor that a test opened would count as left behind by it. Every user may lock. */
__attribute__((constructor)) static void open_ports(void) {
    ports = open(PORTS, O_RDWR | O_CLOEXEC);
    if (ports < 0) ports = open(PORTS, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (ports >= 0) fchmod(ports, 0666);
}

static bool claim_port(int port) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = port, .l_len = 1};
    return fcntl(ports, F_SETLK, &lock) == 0;
}

/* Does nobody listen there, on any address? */
static bool is_free(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return is;
}

/* T.free_port() -> a TCP port that nobody has, and that no other spec will be given. */
static int free_port(lua_State *L) {
    static int next;
    enum { COUNT = LAST_PORT - FIRST_PORT + 1 };
    if (next == 0) next = getpid() * 97 % COUNT;
    for (int tries = 0; tries < COUNT; tries++) {
        int port = FIRST_PORT + next++ % COUNT;
        if (claim_port(port) && is_free(port)) return lua_pushinteger(L, port), 1;
    }
    return luaL_error(L, "no port is free between %d and %d: %s", FIRST_PORT, LAST_PORT, strerror(errno));
}

/* T.now_ms() -> monotonic milliseconds */
static int now_ms(lua_State *L) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushinteger(L, (lua_Integer)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    return 1;
}

/* T.pause(ms): for polling what has no event. A signal does not end it. */
static int pause_ms(lua_State *L) {
    lua_Integer ms = luaL_checkinteger(L, 1);
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {}
    return 0;
}

/* Parent of a process, and its name; false when it is gone. */
static bool read_stat(const char *pid, long *parent, char *name, size_t size) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char *got = fgets(line, sizeof line, file), *open = got ? strchr(line, '(') : NULL, *close = got ? strrchr(line, ')') : NULL;
    fclose(file);
    if (!open || !close) return false;
    snprintf(name, size, "%.*s", (int)(close - open - 1), open + 1);
    return sscanf(close + 1, " %*c %ld", parent) == 1;
}

/* T.children() -> {[pid] = name} of this process' own children, zombies included */
static int children(lua_State *L) {
    DIR *proc = opendir("/proc");
    lua_newtable(L);
    for (struct dirent *e; proc && (e = readdir(proc));) {
        long parent;
        char name[64];
        if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
        if (!read_stat(e->d_name, &parent, name, sizeof name) || parent != getpid()) continue;
        lua_pushstring(L, name);
        lua_rawseti(L, -2, atoll(e->d_name));
    }
    if (proc) closedir(proc);
    return 1;
}

/* T.alive(pid) */
static int alive(lua_State *L) {
    lua_pushboolean(L, kill((pid_t)luaL_checkinteger(L, 1), 0) == 0 || errno == EPERM);
    return 1;
}

/* T.signal(pid, number) */
static int send_signal(lua_State *L) { return push_result(L, kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2)) == 0); }

/* T.setenv(name, value|nil) */
static int set_env(lua_State *L) {
    const char *name = luaL_checkstring(L, 1), *value = luaL_optstring(L, 2, NULL);
    return push_result(L, value ? setenv(name, value, 1) == 0 : unsetenv(name) == 0);
}

static int uid(lua_State *L) { return lua_pushinteger(L, geteuid()), 1; }
static int pid(lua_State *L) { return lua_pushinteger(L, getpid()), 1; }

static const luaL_Reg places[] = {
    {"directory", directory}, {"owner", owner}, {"mode", mode}, {"remove_tree", remove_tree}, {"entries", entries}, {"free_port", free_port},
    {"now_ms", now_ms}, {"pause", pause_ms}, {"children", children}, {"alive", alive}, {"signal", send_signal},
    {"setenv", set_env}, {"uid", uid}, {"pid", pid}, {NULL, NULL}};
NEAP_TEST_LIBRARY(places)
