/* fakeengine.c -- T.fake_engine: a fake of a container engine on a unix socket, in a process of its own, for answers that no real
 * one gives on demand.
 *
 *     local fake <close> = T.fake_engine(path, { { "GET /_ping", "HTTP/1.1 200 OK\r\n…", times = 1, bytes = 1, more = "…", stay = true }, … })
 *
 * One connection at a time: its request is read whole, and the first rule whose text the request line begins with answers, at most
 * `times` times. `bytes`: that many a write. `more`: said after one line was read (the word that lets a held command go). Then the
 * connection is closed; with `stay` only when the client has closed it. In what is said @TOKEN@ is the token of the last wrapper that a
 * request held. A request without a rule gets 500. The process ends with the handle. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "testlib.h"

#define FAKE_META "neap.test.fake_engine"

enum { RULES = 32, REQUEST = 65536, TOKEN = 32 };

typedef struct rule { const char *match, *say, *more; size_t len, more_len; int times, bytes, stay; } rule;
typedef struct handle { pid_t pid; } handle;

static char token[TOKEN + 1];

static void put(int fd, const char *bytes, size_t len, int most) {
    while (len) {
        ssize_t n = write(fd, bytes, most && (size_t)most < len ? (size_t)most : len);
        if (n <= 0) return;
        bytes += n;
        len -= (size_t)n;
    }
}

static void say(int fd, const rule *r, const char *text, size_t len) {
    const char *at = memmem(text, len, "@TOKEN@", 7);
    if (at) {
        put(fd, text, (size_t)(at - text), r->bytes);
        put(fd, token, strlen(token), r->bytes);
        len -= (size_t)(at + 7 - text);
        text = at + 7;
    }
    put(fd, text, len, r->bytes);
}

/* The head, and as much body as it names. */
static void take_request(int fd, char *into) {
    size_t have = 0, want = 0;
    while (have < REQUEST - 1 && (!want || have < want)) {
        ssize_t n = read(fd, into + have, REQUEST - 1 - have);
        if (n <= 0) break;
        have += (size_t)n;
        into[have] = 0;
        char *end = strstr(into, "\r\n\r\n"), *length = strstr(into, "Content-Length: ");
        if (end && !want) want = (size_t)(end + 4 - into) + (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
    }
    into[have] = 0;
    char *wrapper = strstr(into, "exit 125\",\"");
    if (wrapper) snprintf(token, sizeof token, "%.*s", TOKEN, wrapper + 11);
}

static void answer(int fd, const char *request, rule *rules, int count) {
    static rule unknown = {.say = "HTTP/1.1 500 No Rule\r\nContent-Length: 0\r\n\r\n", .len = 42};
    rule *r = NULL;
    for (int i = 0; i < count && !r; i++)
        if (rules[i].times && strncmp(request, rules[i].match, strlen(rules[i].match)) == 0) r = &rules[i];
    if (!r) r = &unknown;
    if (r->times > 0) r->times--;
    say(fd, r, r->say, r->len);
    char c = 0;
    if (r->more) while (c != '\n' && read(fd, &c, 1) == 1) {}
    if (r->more) say(fd, r, r->more, r->more_len);
    if (r->stay) while (read(fd, &c, 1) == 1) {}
}

static _Noreturn void serve(int listener, rule *rules, int count) {
    static char request[REQUEST];
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) _exit(1);
        take_request(fd, request);
        answer(fd, request, rules, count);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}

/* [-0, +0, e] the rule on top; its texts stay on the Lua stack of the process that serves. */
static void read_rule(lua_State *L, rule *r) {
    int at = lua_gettop(L);
    luaL_checktype(L, at, LUA_TTABLE);
    luaL_checkstack(L, 8, "rules");
    lua_geti(L, at, 1), r->match = luaL_checkstring(L, -1);
    lua_geti(L, at, 2), r->say = luaL_checklstring(L, -1, &r->len);
    lua_getfield(L, at, "more"), r->more = luaL_optlstring(L, -1, NULL, &r->more_len);
    lua_getfield(L, at, "times"), r->times = (int)luaL_optinteger(L, -1, -1);
    lua_getfield(L, at, "bytes"), r->bytes = (int)luaL_optinteger(L, -1, 0);
    lua_getfield(L, at, "stay"), r->stay = lua_toboolean(L, -1);
}

static int fake_engine(lua_State *L) {
    rule rules[RULES] = {0};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, luaL_checkstring(L, 1), sizeof at.sun_path - 1);
    int count = (int)luaL_len(L, 2);
    luaL_argcheck(L, count <= RULES, 2, "too many rules");
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->pid = 0;
    luaL_setmetatable(L, FAKE_META);
    luaL_checkstack(L, 8 * RULES, "rules");
    for (int i = 0; i < count; i++) lua_geti(L, 2, i + 1), read_rule(L, &rules[i]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(at.sun_path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) return luaL_error(L, "the fake cannot listen");
    h->pid = fork();
    if (h->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int fd = 3; fd < 1024; fd++) if (fd != listener) close(fd);
        serve(listener, rules, count);
    }
    close(listener);
    lua_pushvalue(L, 3);
    return 1;
}

static int fake_close(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, FAKE_META);
    if (h->pid > 0) kill(h->pid, SIGKILL), waitpid(h->pid, NULL, 0);
    h->pid = 0;
    return 0;
}

/* [-0, +1, e] */
static int open_fake(lua_State *L) {
    static const luaL_Reg meta[] = {{"__gc", fake_close}, {"__close", fake_close}, {NULL, NULL}};
    lua_settop(L, 2);
    if (luaL_newmetatable(L, FAKE_META)) luaL_setfuncs(L, meta, 0);
    lua_pop(L, 1);
    return fake_engine(L);
}

static const luaL_Reg functions[] = {{"fake_engine", open_fake}, {NULL, NULL}};
NEAP_TEST_LIBRARY(functions)
