/* faultproxy.c -- T.proxy: a TCP proxy in a process of its own that loses what it is told to lose.
 *
 *     local proxy <close> = T.proxy { port = 5432, when = "COMMIT", lose = "answer" }      -- proxy:port()
 *
 * The first time a client's bytes hold `when`, they are passed on and then
 *   lose = "answer"   the client's connection is closed at once; the server's stays until the server has answered
 *   lose = "request"  they are not passed on: both connections are closed
 * Every other byte and every later connection passes untouched. The process ends when the handle is closed. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testlib.h"

#define PROXY_META "neap.test.proxy"

enum { MOST = 32 };

typedef struct pair { int client, server; bool muted; } pair;     /* -1: closed */

typedef struct proxy {
    int listener, life, port;
    const char *when;
    bool request, done;
    pair pairs[MOST];
    int count;
} proxy;

typedef struct handle { int life, port; } handle;

static int listen_anywhere(int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 16) || getsockname(fd, (struct sockaddr *)&at, &len)) return -1;
    *port = ntohs(at.sin_port);
    return fd;
}

static int call(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
    close(fd);
    return -1;
}

static void hang_up(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static bool pass(int from, int to, const char *bytes, ssize_t len) {
    (void)from;
    for (ssize_t at = 0; at < len;) {
        ssize_t n = send(to, bytes + at, (size_t)(len - at), MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += n;
    }
    return true;
}

static void from_client(proxy *p, pair *c) {
    char bytes[65536];
    ssize_t n = read(c->client, bytes, sizeof bytes);
    bool hit = n > 0 && !p->done && memmem(bytes, (size_t)n, p->when, strlen(p->when));
    if (n > 0 && !(hit && p->request) && pass(c->client, c->server, bytes, n)) {
        if (!hit) return;
        c->muted = p->done = true;
        hang_up(&c->client);
        return;
    }
    if (hit) p->done = true;
    hang_up(&c->client);
    hang_up(&c->server);
}

static void from_server(pair *c) {
    char bytes[65536];
    ssize_t n = read(c->server, bytes, sizeof bytes);
    if (n > 0 && !c->muted && pass(c->server, c->client, bytes, n)) return;
    hang_up(&c->client);
    hang_up(&c->server);
}

static void turn(proxy *p) {
    struct pollfd fds[2 + 2 * MOST] = {{p->life, POLLIN, 0}, {p->listener, POLLIN, 0}};
    for (int i = 0; i < p->count; i++) {
        fds[2 + 2 * i] = (struct pollfd){p->pairs[i].client, POLLIN, 0};
        fds[3 + 2 * i] = (struct pollfd){p->pairs[i].server, POLLIN, 0};
    }
    int count = p->count;
    poll(fds, (nfds_t)(2 + 2 * count), -1);
    if (fds[0].revents) _exit(0);
    for (int i = 0; i < count; i++) {
        if (p->pairs[i].client >= 0 && fds[2 + 2 * i].revents) from_client(p, &p->pairs[i]);
        if (p->pairs[i].server >= 0 && fds[3 + 2 * i].revents) from_server(&p->pairs[i]);
    }
    if (fds[1].revents && p->count < MOST) {
        pair fresh = {accept(p->listener, NULL, NULL), call(p->port), false};
        if (fresh.server < 0) hang_up(&fresh.client);
        p->pairs[p->count++] = fresh;
    }
}

/* In the grandchild: nothing of the test's process is touched but these descriptors. */
static void serve(proxy *p) {
    for (int fd = 3; fd < 1024; fd++)
        if (fd != p->listener && fd != p->life) close(fd);
    for (;;) turn(p);
}

/* T.proxy{port=, when=, lose="answer"|"request"} -> handle */
static int new_proxy(lua_State *L) {
    static proxy p;
    int ends[2];
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "port");
    lua_getfield(L, 1, "when");
    lua_getfield(L, 1, "lose");
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->life = -1;
    luaL_setmetatable(L, PROXY_META);
    memset(&p, 0, sizeof p);
    p.port = (int)luaL_checkinteger(L, 2);
    p.when = luaL_checkstring(L, 3);
    p.request = strcmp(luaL_optstring(L, 4, "answer"), "request") == 0;
    p.listener = listen_anywhere(&h->port);
    if (p.listener < 0 || pipe2(ends, O_CLOEXEC)) return luaL_error(L, "no proxy: %s", strerror(errno));
    p.life = ends[0];
    h->life = ends[1];
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) serve(&p);
        _exit(0);
    }
    close(p.listener);
    close(ends[0]);
    waitpid(child, NULL, 0);
    return 1;
}

static int proxy_port(lua_State *L) {
    lua_pushinteger(L, ((handle *)luaL_checkudata(L, 1, PROXY_META))->port);
    return 1;
}

static int proxy_close(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, PROXY_META);
    hang_up(&h->life);
    return 0;
}

static const luaL_Reg methods[] = {{"port", proxy_port}, {"close", proxy_close}, {NULL, NULL}};

/* T.proxy makes the metatable when it is first used. */
static int first_proxy(lua_State *L) {
    if (luaL_newmetatable(L, PROXY_META)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, proxy_close);
        lua_setfield(L, -2, "__close");
        lua_pushcfunction(L, proxy_close);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    return new_proxy(L);
}

static const luaL_Reg proxies[] = {{"proxy", first_proxy}, {NULL, NULL}};
NEAP_TEST_LIBRARY(proxies)
