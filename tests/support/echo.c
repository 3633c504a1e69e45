/* echo.c -- T.echo, T.dial: the smallest TCP server and client, for the specs of what lies between two ends.
 *
 *     local server <close> = T.echo()                 server:port()        gives back what it gets; ends after the client's end
 *     local c <close> = T.dial(port, address|path)    c:write(bytes)  c:read(n, ms) -> bytes | "" at the end | nil, "timeout"|message  c:shut()
 *
 * The server is a process of its own that ends with its handle; it serves its connections one turn at a time. dial takes a
 * port of 127.0.0.1 or of another loopback address, or nil and the path of a unix socket. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testlib.h"

#define ECHO_META "neap.test.echo"
#define DIAL_META "neap.test.dial"

enum { MOST = 64 };

typedef struct server { int life, port; } server;

/* ---- the server ---- */

/* Give back one piece; false at the end. */
static bool give_back(int fd) {
    static char bytes[65536];
    ssize_t n = read(fd, bytes, sizeof bytes);
    for (ssize_t at = 0, sent; at < n; at += sent)
        if ((sent = send(fd, bytes + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0) return false;
    return n > 0;
}

static _Noreturn void serve(int listener, int life) {
    struct pollfd fds[2 + MOST] = {{life, POLLIN, 0}, {listener, POLLIN, 0}};
    int count = 2;
    for (int fd = 3; fd < 1024; fd++)
        if (fd != listener && fd != life) close(fd);
    for (;;) {
        poll(fds, (nfds_t)count, -1);
        if (fds[0].revents) _exit(0);
        for (int i = count - 1; i >= 2; i--) {
            if (!fds[i].revents || give_back(fds[i].fd)) continue;
            close(fds[i].fd);
            fds[i] = fds[--count];
        }
        if (fds[1].revents && count < 2 + MOST) fds[count++] = (struct pollfd){accept(listener, NULL, NULL), POLLIN, 0};
    }
}

/* T.echo() -> handle */
static int new_echo(lua_State *L) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int ends[2], fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server *s = lua_newuserdatauv(L, sizeof *s, 0);
    s->life = -1;
    luaL_setmetatable(L, ECHO_META);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &len) || pipe2(ends, O_CLOEXEC))
        return luaL_error(L, "no server: %s", strerror(errno));
    s->life = ends[1], s->port = ntohs(at.sin_port);
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) serve(fd, ends[0]);
        _exit(0);
    }
    close(fd), close(ends[0]);
    waitpid(child, NULL, 0);
    return 1;
}

static int echo_port(lua_State *L) { return lua_pushinteger(L, ((server *)luaL_checkudata(L, 1, ECHO_META))->port), 1; }

static int echo_close(lua_State *L) {
    server *s = luaL_checkudata(L, 1, ECHO_META);
    if (s->life >= 0) close(s->life);
    s->life = -1;
    return 0;
}

/* ---- the client ---- */

static int push_error(lua_State *L, const char *message) {
    lua_pushnil(L);
    lua_pushstring(L, message);
    return 2;
}

/* T.dial(port, address) or T.dial(nil, path) -> connection | nil, message */
static int dial(lua_State *L) {
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons((unsigned short)luaL_optinteger(L, 1, 0))};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    const char *place = luaL_optstring(L, 2, "127.0.0.1");
    bool is_unix = lua_isnoneornil(L, 1);
    if (is_unix) strncpy(local.sun_path, place, sizeof local.sun_path - 1);
    else inet_pton(AF_INET, place, &tcp.sin_addr);
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    luaL_setmetatable(L, DIAL_META);
    int bad = is_unix ? connect(*fd, (struct sockaddr *)&local, sizeof local) : connect(*fd, (struct sockaddr *)&tcp, sizeof tcp);
    return bad ? push_error(L, strerror(errno)) : 1;
}

static int *check_dial(lua_State *L) { return luaL_checkudata(L, 1, DIAL_META); }

static int dial_write(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    for (ssize_t n; len > 0; bytes += n, len -= (size_t)n)
        if ((n = send(*check_dial(L), bytes, len, MSG_NOSIGNAL)) <= 0) return push_error(L, strerror(errno));
    lua_pushboolean(L, 1);
    return 1;
}

/* c:read(n, ms): at most n bytes, as soon as there are any. */
static int dial_read(lua_State *L) {
    static char bytes[65536];
    lua_Integer most = luaL_optinteger(L, 2, sizeof bytes);
    struct pollfd wait = {*check_dial(L), POLLIN, 0};
    int ready;
    do ready = poll(&wait, 1, (int)luaL_optinteger(L, 3, 60000)); while (ready < 0 && errno == EINTR);      /* a child that ends is a signal */
    if (ready == 0) return push_error(L, "timeout");
    ssize_t n = read(wait.fd, bytes, most < (lua_Integer)sizeof bytes ? (size_t)most : sizeof bytes);
    if (n < 0) return push_error(L, strerror(errno));
    lua_pushlstring(L, bytes, (size_t)n);
    return 1;
}

static int dial_shut(lua_State *L) { return shutdown(*check_dial(L), SHUT_WR), 0; }

static int dial_close(lua_State *L) {
    int *fd = check_dial(L);
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return 0;
}

/* ---- contents ---- */

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction closer) {
    if (luaL_newmetatable(L, name)) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, closer);
        lua_setfield(L, -2, "__close");
        lua_pushcfunction(L, closer);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
}

static const luaL_Reg echo_methods[] = {{"port", echo_port}, {"close", echo_close}, {NULL, NULL}};
static const luaL_Reg dial_methods[] = {{"write", dial_write}, {"read", dial_read}, {"shut", dial_shut}, {"close", dial_close}, {NULL, NULL}};

static int first_echo(lua_State *L) { return make_class(L, ECHO_META, echo_methods, echo_close), new_echo(L); }
static int first_dial(lua_State *L) { return make_class(L, DIAL_META, dial_methods, dial_close), dial(L); }

static const luaL_Reg ends[] = {{"echo", first_echo}, {"dial", first_dial}, {NULL, NULL}};
NEAP_TEST_LIBRARY(ends)
