/* peer.c -- T.peer: a far end in a process of its own that behaves as it is told.
 *
 *     local peer <close> = T.peer { kind = "echo" }                   -- peer:port(); TCP at 127.0.0.1
 *     local peer <close> = T.peer { kind = "sink", unix = path }
 *
 *   echo     gives back what comes, then the end
 *   sink     reads to the end, then says how many bytes came, then ends
 *   silent   neither reads nor says anything
 *   say      says `text`, then ends
 *   reset    says `text`, then breaks the connection, once that was read
 *   full     does not even accept: its queue is full
 * Every connection has a process of its own; all of them end with the handle. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "testlib.h"

#define PEER_META "neap.test.peer"

typedef struct handle { pid_t pid; int port; } handle;

static void say(int fd, const char *bytes, size_t len) {
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n <= 0) _exit(0);
        bytes += n;
        len -= (size_t)n;
    }
}

static void echo(int fd, const char *text, size_t len) {
    static char bytes[65536];
    ssize_t n;
    (void)text, (void)len;
    while ((n = read(fd, bytes, sizeof bytes)) > 0) say(fd, bytes, (size_t)n);
}

static void sink(int fd, const char *text, size_t len) {
    static char bytes[65536];
    long long count = 0;
    ssize_t n;
    (void)text, (void)len;
    while ((n = read(fd, bytes, sizeof bytes)) > 0) count += n;
    say(fd, bytes, (size_t)snprintf(bytes, sizeof bytes, "%lld", count));
}

static void silent(int fd, const char *text, size_t len) {
    (void)fd, (void)text, (void)len;
    for (;;) pause();
}

static void speak(int fd, const char *text, size_t len) { say(fd, text, len); }

static void pause_1ms(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

/* Has the other end, a socket of this machine, read all that it was sent? The kernel's table tells what waits in its queue. */
static bool was_read(int fd) {
    struct sockaddr_in ours, theirs;
    socklen_t len = sizeof ours;
    char line[512];
    int unsent = 0;
    if (getsockname(fd, (struct sockaddr *)&ours, &len) || getpeername(fd, (struct sockaddr *)&theirs, &len)) return true;
    if (ioctl(fd, SIOCOUTQ, &unsent) || unsent) return false;
    FILE *table = fopen("/proc/self/net/tcp", "r");
    bool waits = false;
    while (table && fgets(line, sizeof line, table)) {
        unsigned from, from_port, to, to_port, queued;
        if (sscanf(line, " %*d: %8x:%4x %8x:%4x %*2x %*8x:%8x", &from, &from_port, &to, &to_port, &queued) != 5) continue;
        if (from != theirs.sin_addr.s_addr || from_port != ntohs(theirs.sin_port)) continue;
        if (to == ours.sin_addr.s_addr && to_port == ntohs(ours.sin_port)) waits = queued > 0;
    }
    if (table) fclose(table);
    return !waits;
}

/* A break that comes before is told by the dial instead, where the reader was slow. */
static void reset(int fd, const char *text, size_t len) {
    struct linger at_once = {1, 0};
    say(fd, text, len);
    for (int i = 0; i < 60000 && !was_read(fd); i++) pause_1ms();
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

static const char *const kinds[] = {"echo", "sink", "silent", "say", "reset", "full", NULL};
static void (*const acts[])(int fd, const char *text, size_t len) = {echo, sink, silent, speak, reset};
enum { FULL = 5 };

static void serve(int listener, int kind, const char *text, size_t len) {
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) _exit(1);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(listener);
            acts[kind](fd, text, len);
            _exit(0);
        }
        close(fd);
    }
}

/* Is the queue of who waits to be accepted full? Then the kernel answers nobody more. */
static bool is_full(int listener) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_unacked > info.tcpi_sacked;
}

/* Connections until nobody is let in any more; they stay as long as this process. */
static void fill(int listener, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((unsigned short)port)};
    for (int i = 0; i < 60000 && !is_full(listener); i++) {
        if (i % 100 == 0) {
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            (void)!connect(fd, (struct sockaddr *)&at, sizeof at);
        }
        pause_1ms();
    }
}

static int listen_tcp(int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &len)) return -1;
    *port = ntohs(at.sin_port);
    return fd;
}

static int listen_unix(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) ? -1 : fd;
}

/* T.peer{kind=, text=, unix=} -> handle with :port() :close() <close> */
static int peer(lua_State *L) {
    lua_getfield(L, 1, "kind");
    int kind = luaL_checkoption(L, -1, NULL, kinds);
    lua_getfield(L, 1, "text");
    size_t len;
    const char *text = luaL_optlstring(L, -1, "", &len);
    lua_getfield(L, 1, "unix");
    const char *path = luaL_optstring(L, -1, NULL);
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (handle){0, 0};
    luaL_setmetatable(L, PEER_META);
    int ready[2], listener = path ? listen_unix(path) : listen_tcp(&h->port);
    if (listener < 0) return luaL_error(L, "the peer cannot listen");
    if (kind == FULL) listen(listener, 0);
    if (pipe2(ready, O_CLOEXEC)) return luaL_error(L, "no pipe");
    h->pid = fork();
    if (h->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (kind == FULL) fill(listener, h->port);
        close(ready[0]), close(ready[1]);
        if (kind == FULL) silent(-1, NULL, 0);
        for (int fd = 3; fd < 1024; fd++) if (fd != listener) close(fd);
        serve(listener, kind, text, len);
    }
    close(listener);
    close(ready[1]);
    char none;
    if (read(ready[0], &none, 1) < 0) return luaL_error(L, "the peer does not begin");       /* its end is the word */
    close(ready[0]);
    return 1;
}

static int peer_port(lua_State *L) {
    lua_pushinteger(L, ((handle *)luaL_checkudata(L, 1, PEER_META))->port);
    return 1;
}

static int peer_close(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, PEER_META);
    if (h->pid > 0) kill(h->pid, SIGKILL), waitpid(h->pid, NULL, 0);
    h->pid = 0;
    return 0;
}

/* [-0, +0, m] */
static int peer_open(lua_State *L) {
    static const luaL_Reg methods[] = {{"port", peer_port}, {"close", peer_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", peer_close}, {"__close", peer_close}, {NULL, NULL}};
    if (luaL_newmetatable(L, PEER_META)) {
        luaL_setfuncs(L, meta, 0);
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
    return peer(L);
}

static const luaL_Reg functions[] = {{"peer", peer_open}, {NULL, NULL}};
NEAP_TEST_LIBRARY(functions)
