/* hostile.c -- T.hostile_ssh: starts a server of hostile_ssh.c, where the modes are told, and is its handle.
 *
 *     local far <close> = T.hostile_ssh { mode = "plain", allow = "user_ed25519.pub", size = nil, address = "127.0.0.1" }
 *     far:port()   far:host_key() -> "ssh-ed25519 AAAA…"   far:close()
 *
 * The process is started anew (exec): a fork of an interpreter that may have threads should not do cryptography. It gets the
 * listening socket, the reading end of a pipe that closes when the handle does or the interpreter dies, and a pipe to
 * tell its host key on, which also says that it is up. It leads a session, so that it can end all it started. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile_wire.h"
#include "testlib.h"

#define HOSTILE_META "neap.test.hostile"

typedef struct handle { int life, port; uint8_t key[32]; } handle;

static int listen_on(lua_State *L, const char *address, int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    if (strncmp(address, "127.", 4) != 0) return luaL_error(L, "\"%s\" is not on loopback", address);
    inet_pton(AF_INET, address, &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64) || getsockname(fd, (struct sockaddr *)&at, &len)) return close(fd), -1;
    *port = ntohs(at.sin_port);
    return fd;
}

/* [-0, +1, e] the 32 bytes of the ed25519 key in a file as ssh-keygen writes it; "" when there is no file named. */
static void push_allowed(lua_State *L) {
    char line[512] = "", kind[32], text[256];
    uint8_t blob[192];
    if (lua_getfield(L, 1, "allow") == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushliteral(L, "");
        return;
    }
    FILE *file = fopen(luaL_checkstring(L, -1), "r");
    bool ok = file && fgets(line, sizeof line, file) && sscanf(line, "%31s %255s", kind, text) == 2;
    if (file) fclose(file);
    int len = ok && strcmp(kind, "ssh-ed25519") == 0 ? EVP_DecodeBlock(blob, (const uint8_t *)text, (int)strlen(text)) : 0;
    if (len < 51) luaL_error(L, "\"%s\" is no public ed25519 key", lua_tostring(L, -1));
    lua_pop(L, 1);
    lua_pushlstring(L, (const char *)blob + 19, 32);       /* string "ssh-ed25519", string key */
}

/* Start ourselves anew, in a session of its own, with three descriptors and nothing else. */
static void become(const char *code, int listener, int life, int tell) {
    setsid();
    int high[] = {fcntl(listener, F_DUPFD, 20), fcntl(life, F_DUPFD, 20), fcntl(tell, F_DUPFD, 20)};
    dup2(high[0], NEAP_HOSTILE_LISTENER);
    dup2(high[1], NEAP_HOSTILE_LIFE);
    dup2(high[2], NEAP_HOSTILE_TELL);
    closefrom(NEAP_HOSTILE_TELL + 1);
    execl("/proc/self/exe", "neap-test", "-e", code, (char *)NULL);
    _exit(127);
}

static int new_hostile(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    int life[2], tell[2];
    lua_getfield(L, 1, "mode");
    lua_getfield(L, 1, "size");
    lua_getfield(L, 1, "address");
    push_allowed(L);
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_pushliteral(L, "T.hostile_ssh_serve(%q, %d, %q)");
    lua_pushstring(L, luaL_checkstring(L, 2));
    lua_pushinteger(L, luaL_optinteger(L, 3, 0));
    lua_pushvalue(L, 5);
    lua_call(L, 4, 1);
    const char *code = lua_tostring(L, -1);
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->life = -1;
    luaL_setmetatable(L, HOSTILE_META);
    int listener = listen_on(L, luaL_optstring(L, 4, "127.0.0.1"), &h->port);
    if (listener < 0 || pipe2(life, O_CLOEXEC) || pipe2(tell, O_CLOEXEC)) return luaL_error(L, "no server: %s", strerror(errno));
    h->life = life[1];
    pid_t child = fork();
    if (child == 0) {
        if (fork() == 0) become(code, listener, life[0], tell[1]);
        _exit(0);
    }
    close(listener), close(life[0]), close(tell[1]);
    waitpid(child, NULL, 0);
    bool ok = read(tell[0], h->key, sizeof h->key) == (ssize_t)sizeof h->key;
    close(tell[0]);
    return ok ? 1 : luaL_error(L, "the hostile server did not start");
}

/* ---- the handle ---- */

static handle *check_handle(lua_State *L) { return luaL_checkudata(L, 1, HOSTILE_META); }

static int hostile_port(lua_State *L) { return lua_pushinteger(L, check_handle(L)->port), 1; }

/* far:host_key() -> "ssh-ed25519 AAAA…", as in known_hosts */
static int hostile_key(lua_State *L) {
    neap_packet blob = {.len = 0};
    char text[256];
    neap_put_text(&blob, "ssh-ed25519");
    neap_put_string(&blob, check_handle(L)->key, 32);
    EVP_EncodeBlock((uint8_t *)text, blob.data, (int)blob.len);
    lua_pushfstring(L, "ssh-ed25519 %s", text);
    return 1;
}

static int hostile_close(lua_State *L) {
    handle *h = check_handle(L);
    if (h->life >= 0) close(h->life);
    h->life = -1;
    return 0;
}

static const luaL_Reg methods[] = {{"port", hostile_port}, {"host_key", hostile_key}, {"close", hostile_close}, {NULL, NULL}};

/* T.hostile_ssh makes the metatable when it is first used. */
static int first_hostile(lua_State *L) {
    if (luaL_newmetatable(L, HOSTILE_META)) {
        luaL_newlib(L, methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, hostile_close);
        lua_setfield(L, -2, "__close");
        lua_pushcfunction(L, hostile_close);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    return new_hostile(L);
}

static const luaL_Reg hostiles[] = {{"hostile_ssh", first_hostile}, {NULL, NULL}};
NEAP_TEST_LIBRARY(hostiles)
