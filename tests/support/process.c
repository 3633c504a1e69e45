/* process.c -- child processes for the specs, without the loop of neap.
 *
 *     local child = T.start { argv = {"cat"}, env = {"PATH=/bin"}, cwd = "/", user = "postgres", tty = false, log = nil }
 *     child:write("x")  child:shut()  child:read(1000) -> "out"|"err", bytes | nil, "timeout"|"end"
 *     child:wait(1000) -> code | nil, "signal", n | nil, "timeout"     child:kill(15)  child.pid via child:pid()
 *
 * A child leads a session of its own and is told by the kernel when the test interpreter dies (SIGINT, which is
 * also the word for a fast stop to PostgreSQL), so that not even kill -9 of a suite leaves a server. With `log`
 * its output goes to that file; with `outlives` it is not told; with `tty` its three descriptors are one pseudo-terminal.
 * Rejected: io.popen (no pid, no time-out, a shell) and neap's own child.c (it is what we test).
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pty.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "testlib.h"

#define CHILD_META "neap.test.child"

typedef struct child {
    pid_t pid;                    /* 0: not started */
    int   in, out, err;           /* -1: closed; with a terminal in == out */
    bool  reaped, outlives;
    int   status;
} child;

typedef struct plan {
    char **argv, **env;           /* env NULL: inherited */
    const char *cwd, *user, *log;
    bool tty, outlives;           /* outlives: not told when we die */
    unsigned short columns;       /* of the terminal */
} plan;

/* ---- starting ---- */

/* [-0, +1, e] the list in the field as a NULL-terminated vector that lives as long as the userdata pushed for it. */
static char **check_vector(lua_State *L, const char *field) {
    if (lua_getfield(L, 1, field) == LUA_TNIL) return NULL;
    luaL_checktype(L, -1, LUA_TTABLE);
    int list = lua_gettop(L), n = (int)luaL_len(L, list);
    char **vector = lua_newuserdatauv(L, sizeof *vector * (size_t)(n + 1), 0);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, list, i + 1);
        vector[i] = (char *)luaL_checkstring(L, -1);      /* stays alive in the list */
        lua_pop(L, 1);
    }
    vector[n] = NULL;
    return vector;
}

static const char *opt_field(lua_State *L, const char *field) {
    lua_getfield(L, 1, field);
    return luaL_optstring(L, -1, NULL);
}

static void become(const char *user) {
    struct passwd *who = getpwnam(user);
    if (!who || initgroups(user, who->pw_gid) || setgid(who->pw_gid) || setuid(who->pw_uid)) _exit(126);
}

static void run_child(const plan *p) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (p->log) {
        int fd = open(p->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) _exit(126);
    }
    if (p->user) become(p->user);
    if (!p->outlives) prctl(PR_SET_PDEATHSIG, SIGINT);
    if (p->cwd && chdir(p->cwd) != 0) _exit(126);
    closefrom(3);
    if (p->env) execvpe(p->argv[0], p->argv, p->env);
    else execvp(p->argv[0], p->argv);
    _exit(127);
}

static bool start_on_pipes(child *c, const plan *p) {
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) return false;
    c->pid = fork();
    if (c->pid == 0) {
        setsid();
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        run_child(p);
    }
    close(in[0]), close(out[1]), close(err[1]);
    c->in = in[1], c->out = out[0], c->err = err[0];
    return c->pid > 0;
}

static bool start_on_tty(child *c, const plan *p) {
    struct winsize size = {.ws_row = 40, .ws_col = p->columns};
    int master;
    c->pid = forkpty(&master, NULL, NULL, &size);
    if (c->pid == 0) run_child(p);
    if (c->pid < 0) return false;
    fcntl(master, F_SETFD, FD_CLOEXEC);
    c->in = c->out = master;
    return true;
}

/* T.start{…} -> child */
static int start(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    plan p = {.argv = check_vector(L, "argv"), .env = check_vector(L, "env")};
    luaL_argcheck(L, p.argv && p.argv[0], 1, "argv is missing");
    p.cwd = opt_field(L, "cwd"), p.user = opt_field(L, "user"), p.log = opt_field(L, "log");
    lua_getfield(L, 1, "tty");
    p.tty = lua_toboolean(L, -1);
    lua_getfield(L, 1, "columns");
    p.columns = (unsigned short)luaL_optinteger(L, -1, 100);
    lua_getfield(L, 1, "outlives");
    p.outlives = lua_toboolean(L, -1);
    child *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (child){.in = -1, .out = -1, .err = -1, .outlives = p.outlives};
    luaL_setmetatable(L, CHILD_META);
    if (!(p.tty ? start_on_tty(c, &p) : start_on_pipes(c, &p))) return luaL_error(L, "cannot start \"%s\": %s", p.argv[0], strerror(errno));
    return 1;
}

/* ---- talking ---- */

static child *check_child(lua_State *L) { return luaL_checkudata(L, 1, CHILD_META); }

static void close_fd(child *c, int *fd) {
    if (*fd < 0) return;
    int was = *fd;
    close(was);
    if (c->in == was) c->in = -1;
    if (c->out == was) c->out = -1;
    *fd = -1;
}

/* child:write(bytes) -> true | nil, message */
static int child_write(lua_State *L) {
    child *c = check_child(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    ssize_t n = 0;
    while (len > 0 && (n = write(c->in, bytes, len)) > 0) bytes += n, len -= (size_t)n;
    int code = errno;
    signal(SIGPIPE, before);
    if (n >= 0) return lua_pushboolean(L, 1), 1;
    lua_pushnil(L);
    lua_pushstring(L, strerror(code));
    return 2;
}

/* child:shut(): no more input. On a terminal that is the end-of-file character. */
static int child_shut(lua_State *L) {
    child *c = check_child(L);
    if (c->in >= 0 && c->in == c->out) return write(c->in, "\004", 1) == 1 ? 0 : 0;
    close_fd(c, &c->in);
    return 0;
}

/* [-0, +2, m] one read from a descriptor that is ready; false at its end. */
static bool push_bytes(lua_State *L, child *c, int *fd, const char *name) {
    char bytes[65536];
    ssize_t n = read(*fd, bytes, sizeof bytes);
    if (n <= 0) {                                 /* EIO is how a terminal ends */
        close_fd(c, fd);
        return false;
    }
    lua_pushstring(L, name);
    lua_pushlstring(L, bytes, (size_t)n);
    return true;
}

/* child:read(ms) -> "out"|"err", bytes | nil, "timeout"|"end" */
static int child_read(lua_State *L) {
    child *c = check_child(L);
    int ms = (int)luaL_optinteger(L, 2, -1);
    while (c->out >= 0 || c->err >= 0) {
        struct pollfd fds[2] = {{.fd = c->out, .events = POLLIN}, {.fd = c->err, .events = POLLIN}};
        int n = poll(fds, 2, ms);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return lua_pushnil(L), lua_pushliteral(L, "timeout"), 2;
        if (fds[0].revents && push_bytes(L, c, &c->out, "out")) return 2;
        if (fds[1].revents && push_bytes(L, c, &c->err, "err")) return 2;
    }
    return lua_pushnil(L), lua_pushliteral(L, "end"), 2;
}

/* ---- ending ---- */

/* True when the process has ended within that time. */
static bool ended_within(child *c, int ms) {
    int fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int n;
    do n = poll(&wait, 1, ms); while (n < 0 && errno == EINTR);
    close(fd);
    return n == 1;
}

/* child:wait(ms) -> code | nil, "signal", n | nil, "timeout" */
static int child_wait(lua_State *L) {
    child *c = check_child(L);
    int ms = (int)luaL_optinteger(L, 2, -1);
    if (!c->reaped) {
        if (!ended_within(c, ms)) return lua_pushnil(L), lua_pushliteral(L, "timeout"), 2;
        while (waitpid(c->pid, &c->status, 0) < 0 && errno == EINTR) {}
        c->reaped = true;
    }
    if (WIFEXITED(c->status)) return lua_pushinteger(L, WEXITSTATUS(c->status)), 1;
    lua_pushnil(L);
    lua_pushliteral(L, "signal");
    lua_pushinteger(L, WTERMSIG(c->status));
    return 3;
}

/* child:kill(signal, group): to the process, or to its group. Nothing when it has been waited for. */
static int child_kill(lua_State *L) {
    child *c = check_child(L);
    int number = (int)luaL_optinteger(L, 2, SIGTERM);
    if (!c->reaped) kill(lua_toboolean(L, 3) ? -c->pid : c->pid, number);
    return 0;
}

static int child_pid(lua_State *L) { return lua_pushinteger(L, check_child(L)->pid), 1; }

/* child:resize(rows, columns) of its terminal */
static int child_resize(lua_State *L) {
    struct winsize size = {.ws_row = (unsigned short)luaL_checkinteger(L, 2), .ws_col = (unsigned short)luaL_checkinteger(L, 3)};
    lua_pushboolean(L, ioctl(check_child(L)->in, TIOCSWINSZ, &size) == 0);
    return 1;
}

/* child:echoes() -> does its terminal show what is typed? The end that we hold tells the settings of the other one. */
static int child_echoes(lua_State *L) {
    struct termios settings = {0};
    lua_pushboolean(L, tcgetattr(check_child(L)->in, &settings) == 0 && (settings.c_lflag & ECHO));
    return 1;
}

/* child:close(): hang up its terminal or pipes; the process is left to itself. */
static int child_close(lua_State *L) {
    child *c = check_child(L);
    close_fd(c, &c->in);
    close_fd(c, &c->out);
    close_fd(c, &c->err);
    return 0;
}

static int child_gc(lua_State *L) {
    child *c = check_child(L);
    child_close(L);
    if (c->pid > 0 && !c->reaped && !c->outlives) {
        kill(-c->pid, SIGKILL);
        waitpid(c->pid, &c->status, 0);
        c->reaped = true;
    }
    return 0;
}

static const luaL_Reg methods[] = {{"write", child_write}, {"shut", child_shut}, {"read", child_read}, {"wait", child_wait},
                                   {"kill", child_kill}, {"pid", child_pid}, {"resize", child_resize}, {"echoes", child_echoes}, {"close", child_close}, {NULL, NULL}};

/* T.start makes the metatable when it is first used. */
static int start_first(lua_State *L) {
    if (luaL_newmetatable(L, CHILD_META)) {
        lua_pushcfunction(L, child_gc);
        lua_setfield(L, -2, "__gc");
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    return start(L);
}

static const luaL_Reg processes[] = {{"start", start_first}, {NULL, NULL}};
NEAP_TEST_LIBRARY(processes)
