/* faultproxy.c -- T.proxy: a proxy on loopback, in a process of its own, that does to connections what it is told.
 *
 *     local proxy <close> = T.proxy { port = 5432, when = "COMMIT", lose = "answer" }      -- proxy:port()
 *     proxy:set { blackhole = "from" }   proxy:set { blackhole = false }   proxy:cut()   proxy:count().from   proxy:close()
 *
 * The back end: port, host (127.…, 127.0.0.1 when omitted), or socket = path of a unix socket. Listens on 127.0.0.1, on
 * `address` (127.…), or with listen = path on a unix socket there; with netns = path of a network namespace (servers.netns) on an
 * address of that namespace, while the back end stays where it is: so any server of the suite stands at the far end of a cable. Faults, each off until given, by set{} at any time (false ends one):
 *   refuse = true          nobody listens: connections are refused
 *   swap = port            later connections go to another back end; those that are open stay
 *   way = "to"|"from"      the direction that the next four count: towards the server, or from it (the default)
 *   reset_at = N           both ends get RST when N bytes of a connection have passed;  close_at = N the same by FIN
 *   stall_at = N           after N bytes nothing more is taken or given; the connection stays
 *   corrupt_at = N         byte N, the first is 0, arrives with all its bits turned
 *   blackhole = "to"|"from"|"both"   bytes and closes of that direction are taken and swallowed
 *   bytes = N              no write is longer than N;  rate = N bytes a second;  delay = ms everything arrives that much later
 *   when = TEXT, lose = "answer"|"request"|"silence"    the first time a client's bytes hold the text, once in all until `when` is set again:
 *       answer    they are passed on; the client's connection is closed at once, the server's when it has answered
 *       request   they are not passed on: both connections are closed
 *       silence   they are passed on; no answer ever comes, and the connections stay
 * Numbers count the bytes of one connection from its beginning. count() gives connections, open, to, from, lost. The process ends
 * when the handle is closed or the interpreter dies. Rejected: toxiproxy (not packaged), iptables (needs root). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faultproxy.h"
#include "testlib.h"

#define PROXY_META "neap.test.proxy"

typedef struct handle { int control, port; neap_faults faults; } handle;

/* ---- reading the table ---- */

/* True when the field is there; its value is on top, else nothing is pushed. */
static bool has_field(lua_State *L, int at, const char *name) {
    if (lua_getfield(L, at, name) != LUA_TNIL) return true;
    lua_pop(L, 1);
    return false;
}

/* A number; `none` when the field is false. The field is left as it is when it is absent. */
static void read_number(lua_State *L, int at, const char *name, int64_t *value, int64_t none) {
    if (!has_field(L, at, name)) return;
    *value = lua_isboolean(L, -1) ? none : luaL_checkinteger(L, -1);
    lua_pop(L, 1);
}

static void read_text(lua_State *L, int at, const char *name, char *text, size_t size) {
    if (!has_field(L, at, name)) return;
    if (strlen(luaL_checkstring(L, -1)) >= size) luaL_error(L, "%s is too long", name);
    strcpy(text, lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* Bits of NEAP_WAY_*; 0 when the field is false. */
static void read_way(lua_State *L, int at, const char *name, int *way) {
    static const char *const words[] = {"to", "from", "both", NULL};
    if (!has_field(L, at, name)) return;
    *way = lua_isboolean(L, -1) ? 0 : luaL_checkoption(L, -1, NULL, words) + 1;
    lua_pop(L, 1);
}

static void read_when(lua_State *L, int at, neap_faults *f) {
    static const char *const words[] = {"answer", "request", "silence", NULL};
    if (has_field(L, at, "lose")) {
        f->lose = luaL_checkoption(L, -1, NULL, words);
        lua_pop(L, 1);
    }
    if (!has_field(L, at, "when")) return;
    size_t len = 0;
    const char *when = lua_isboolean(L, -1) ? "" : luaL_checklstring(L, -1, &len);
    if (len >= sizeof f->when) luaL_error(L, "when is too long");
    memcpy(f->when, when, len);
    f->when_len = (int)len;
    lua_pop(L, 1);
}

static void check_loopback(lua_State *L, const char *address) {
    if (strncmp(address, "127.", 4) != 0) luaL_error(L, "\"%s\" is not on loopback", address);
}

/* [-0, +0, e] take over what the table at index `at` says. */
static void read_faults(lua_State *L, int at, neap_faults *f) {
    int64_t port = f->port;
    read_number(L, at, "port", &port, port);
    read_number(L, at, "swap", &port, port);
    f->port = (int)port;
    read_text(L, at, "host", f->host, sizeof f->host);
    check_loopback(L, f->host);
    read_text(L, at, "socket", f->socket, sizeof f->socket);
    if (has_field(L, at, "refuse")) {
        f->refuse = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    read_way(L, at, "way", &f->way);
    read_way(L, at, "blackhole", &f->blackhole);
    read_number(L, at, "reset_at", &f->reset_at, -1);
    read_number(L, at, "close_at", &f->close_at, -1);
    read_number(L, at, "stall_at", &f->stall_at, -1);
    read_number(L, at, "corrupt_at", &f->corrupt_at, -1);
    read_number(L, at, "bytes", &f->bytes, 0);
    read_number(L, at, "rate", &f->rate, 0);
    read_number(L, at, "delay", &f->delay_ms, 0);
    read_when(L, at, f);
}

/* ---- starting ---- */

/* A socket belongs for ever to the namespace in which it was made. */
static int socket_in(lua_State *L, const char *netns) {
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(netns, O_RDONLY | O_CLOEXEC);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0) luaL_error(L, "no way into the namespace %s: %s", netns, strerror(errno));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (setns(home, CLONE_NEWNET) != 0) _exit(3);
    close(home), close(there);
    return fd;
}

static int listen_tcp(lua_State *L, const char *address, int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    bool elsewhere = has_field(L, 1, "netns");
    if (!elsewhere) check_loopback(L, address);
    inet_pton(AF_INET, address, &at.sin_addr);
    int fd = elsewhere ? socket_in(L, luaL_checkstring(L, -1)) : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &len)) return close(fd), -1;
    *port = ntohs(at.sin_port);
    return fd;
}

static int listen_unix(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path) return errno = ENAMETOOLONG, -1;
    strcpy(at.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64)) return close(fd), -1;
    return fd;
}

static int listen_where(lua_State *L, int *port) {
    if (has_field(L, 1, "listen")) return listen_unix(luaL_checkstring(L, -1));
    return listen_tcp(L, has_field(L, 1, "address") ? luaL_checkstring(L, -1) : "127.0.0.1", port);
}

/* In the grandchild: nothing of the test's process is touched but these two descriptors. */
static void serve(int listener, int control, const neap_faults *faults) {
    if (fork() != 0) _exit(0);
    for (int fd = 3; fd < 1024; fd++)
        if (fd != listener && fd != control) close(fd);
    neap_proxy_serve(listener, control, faults);
}

/* ---- the handle ---- */

static handle *check_open(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, PROXY_META);
    if (h->control < 0) luaL_error(L, "the proxy is closed");
    return h;
}

/* Ask, and wait until it has been obeyed. */
static neap_proxy_counts ask(lua_State *L, handle *h, int what, bool arm) {
    neap_proxy_ask message = {.what = what, .arm = arm, .faults = h->faults};
    neap_proxy_counts counts;
    bool sent = send(h->control, &message, sizeof message, MSG_NOSIGNAL) == (ssize_t)sizeof message;
    if (!sent || recv(h->control, &counts, sizeof counts, 0) != (ssize_t)sizeof counts) luaL_error(L, "the proxy has died");
    return counts;
}

/* T.proxy{…} -> handle */
static int new_proxy(lua_State *L) {
    int ends[2];
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (handle){.control = -1, .faults = {.host = "127.0.0.1", .way = NEAP_WAY_FROM, .reset_at = -1, .close_at = -1, .stall_at = -1, .corrupt_at = -1}};
    luaL_setmetatable(L, PROXY_META);
    read_faults(L, 1, &h->faults);
    luaL_argcheck(L, h->faults.port || h->faults.socket[0], 1, "port or socket is missing");
    int listener = listen_where(L, &h->port);
    if (listener < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) return luaL_error(L, "no proxy: %s", strerror(errno));
    h->control = ends[0];
    pid_t child = fork();
    if (child == 0) serve(listener, ends[1], &h->faults);
    close(listener);
    close(ends[1]);
    waitpid(child, NULL, 0);
    ask(L, h, NEAP_ASK_COUNT, false);              /* it is up, and refuses if it shall */
    lua_settop(L, 2);
    return 1;
}

/* proxy:set{…}: what it does from now on; what is not named stays. */
static int proxy_set(lua_State *L) {
    handle *h = check_open(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    read_faults(L, 2, &h->faults);
    bool arm = has_field(L, 2, "when");
    ask(L, h, NEAP_ASK_SET, arm);
    return 0;
}

/* proxy:cut(): RST to both ends of every connection that is open. */
static int proxy_cut(lua_State *L) {
    ask(L, check_open(L), NEAP_ASK_CUT, false);
    return 0;
}

/* proxy:count() -> {connections=, open=, to=, from=, lost=}: bytes as received; lost is 1 when `when` has come. */
static int proxy_count(lua_State *L) {
    neap_proxy_counts counts = ask(L, check_open(L), NEAP_ASK_COUNT, false);
    lua_newtable(L);
    const struct { const char *name; int64_t value; } fields[] = {
        {"connections", counts.connections}, {"open", counts.open}, {"to", counts.to}, {"from", counts.from}, {"lost", counts.lost}};
    for (int i = 0; i < 5; i++) {
        lua_pushinteger(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

static int proxy_port(lua_State *L) {
    lua_pushinteger(L, ((handle *)luaL_checkudata(L, 1, PROXY_META))->port);
    return 1;
}

static int proxy_close(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, PROXY_META);
    if (h->control >= 0) close(h->control);
    h->control = -1;
    return 0;
}

static const luaL_Reg methods[] = {{"port", proxy_port}, {"set", proxy_set}, {"cut", proxy_cut}, {"count", proxy_count}, {"close", proxy_close}, {NULL, NULL}};

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
