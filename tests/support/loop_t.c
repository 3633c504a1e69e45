/* loop_t.c -- the traps of libuv, sprung on purpose. Each function makes a loop of its own, springs one, and returns what
 * happened; a trap that catches us aborts or hangs, and the suite notices both. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "loop/alive.h"
#include "loop/child.h"
#include "loop/timer.h"
#include "loop/watch.h"
#include "loop/work.h"
#include "testlib.h"

enum { PATIENCE_MS = 60000 };

/* Turn until *flag, or until patience ends. */
static bool turn_until(neap_loop *loop, const int *flag) {
    int64_t end = neap_clock_mono_ms() + PATIENCE_MS;
    while (!*flag && neap_clock_mono_ms() < end) neap_loop_turn(loop, true);
    return *flag != 0;
}

static void drain(neap_loop *loop) {
    while (neap_loop_handles(loop) && neap_loop_turn(loop, true)) {}
}

static void on_events(void *arg, int events) { *(int *)arg |= events; }
static void count(void *arg) { ++*(int *)arg; }

/* [-0, +1, m] the events, and the loop must come out empty */
static int push_events(lua_State *L, neap_loop *loop, int events) {
    drain(loop);
    if (neap_loop_close(loop)) return luaL_error(L, "a handle was left in the loop");
    lua_pushinteger(L, events);
    return 1;
}

/* T.watch_closed() -> events: a watch on a descriptor that is closed already (U1) */
static int watch_closed(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    int events = 0, pair[2];
    if (pipe(pair)) return luaL_error(L, "no pipe");
    close(pair[0]), close(pair[1]);
    neap_watch *w = neap_watch_new(loop, pair[0], NEAP_WATCH_READ, on_events, &events);
    turn_until(loop, &events);
    neap_watch_free(w);
    return push_events(L, loop, events);
}

/* T.watch_reopened() -> events: stop, close, the same number again, a fresh watch (U1, P1) */
static int watch_reopened(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    int events = 0, pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return luaL_error(L, "no sockets");
    neap_watch *w = neap_watch_new(loop, pair[0], NEAP_WATCH_READ, on_events, &events);
    neap_loop_turn(loop, false);
    neap_watch_free(w);
    close(pair[0]), close(pair[1]);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return luaL_error(L, "no sockets");
    w = neap_watch_new(loop, pair[0], NEAP_WATCH_READ, on_events, &events);
    if (write(pair[1], "x", 1) != 1) return luaL_error(L, "cannot write");
    turn_until(loop, &events);
    neap_watch_free(w);
    close(pair[0]), close(pair[1]);
    return push_events(L, loop, events);
}

/* T.watch_broken() -> events: the far end of a pipe goes away; the error comes as events, and comes again (U2) */
static int watch_broken(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    int events = 0, pair[2];
    if (pipe(pair)) return luaL_error(L, "no pipe");
    char full[4096] = {0};
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    while (write(pair[1], full, sizeof full) > 0) {}
    neap_watch *w = neap_watch_new(loop, pair[1], NEAP_WATCH_WRITE, on_events, &events);
    neap_loop_turn(loop, false);
    events = 0;
    close(pair[0]);
    turn_until(loop, &events);
    int first = events;
    events = 0;
    turn_until(loop, &events);
    neap_watch_free(w);
    close(pair[1]);
    return push_events(L, loop, first & events);
}

/* T.timer_wakes(): does a turn end when its timer fired, although a descriptor is watched? */
static int timer_wakes(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    int events = 0, fired = 0, pair[2];
    if (pipe(pair)) return luaL_error(L, "no pipe");
    neap_watch *w = neap_watch_new(loop, pair[0], NEAP_WATCH_READ, on_events, &events);
    neap_timer *t = neap_timer_new(loop, count, &fired);
    neap_timer_start(t, 0);
    alarm(120);                                   /* a hang here has no other end */
    while (!fired) neap_loop_turn(loop, true);
    alarm(0);
    neap_timer_free(t);
    neap_watch_free(w);
    close(pair[0]), close(pair[1]);
    return push_events(L, loop, fired);
}

/* T.timer_late(ms) -> ms: a timer started after the loop was held for 50 ms is not early (U6) */
static int timer_late(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    int fired = 0, delay = (int)luaL_checkinteger(L, 1);
    neap_loop_turn(loop, false);
    usleep(50000);
    neap_timer *t = neap_timer_new(loop, count, &fired);
    int64_t began = neap_clock_mono_ms();
    neap_timer_start(t, delay);
    turn_until(loop, &fired);
    int took = (int)(neap_clock_mono_ms() - began);
    neap_timer_free(t);
    return push_events(L, loop, took);
}

static void hold(void *arg) {
    usleep(300000);                               /* far more than a busy machine takes a callback its processor away */
    count(arg);
}

/* T.stall() -> held_ms, pooled_ms: the longest hold when a callback blocks, and when the pool does it (U7) */
static int stall(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    int held = 0, pooled = 0;
    neap_timer *t = neap_timer_new(loop, hold, &held);
    neap_timer_start(t, 0);
    turn_until(loop, &held);
    neap_timer_free(t);
    lua_pushinteger(L, neap_loop_stall_ms(loop));
    held = 0;
    neap_work_start(loop, hold, count, &pooled);
    while (pooled < 2) neap_loop_turn(loop, true);
    lua_pushinteger(L, neap_loop_stall_ms(loop));
    drain(loop);
    neap_loop_close(loop);
    return 2;
}

static void on_exit_status(void *arg, int status, int signal) { *(int *)arg = signal ? 1000 + signal : 1 + status; }

/* T.child_forgotten() -> forgotten, alive: closing the loop kills a child that nobody freed, and waits for it (U3, U5) */
static int child_forgotten(lua_State *L) {
    static neap_child *kept;                      /* forgotten by the loop's user, not by the leak checker */
    neap_loop *loop = neap_loop_new();
    const char *argv[] = {"sleep", "60", NULL}, *env[] = {"PATH=/usr/bin:/bin", NULL};
    neap_child_options o = {.argv = argv, .env = env};
    int ended = 0;
    kept = neap_child_new(loop, &o, on_exit_status, &ended, NULL);
    int pid = neap_child_pid(kept), forgotten = neap_loop_close(loop);
    lua_pushinteger(L, forgotten);
    lua_pushboolean(L, kill(pid, 0) == 0);
    free(kept);
    return 2;
}

/* T.child_freed() -> alive: a child that is freed while it runs is killed and collected (U3) */
static int child_freed(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    const char *argv[] = {"sleep", "60", NULL}, *env[] = {"PATH=/usr/bin:/bin", NULL};
    neap_child_options o = {.argv = argv, .env = env, .pipes = 7};
    int ended = 0;
    neap_child *c = neap_child_new(loop, &o, on_exit_status, &ended, NULL);
    int pid = neap_child_pid(c);
    neap_child_free(c);
    drain(loop);
    neap_loop_close(loop);
    lua_pushboolean(L, ended || kill(pid, 0) == 0);
    return 1;
}

typedef struct answer { int done; bool found; char text[128]; } answer;

static void on_answer(void *arg, char *const *addresses, const char *reason) {
    answer *a = arg;
    a->done = 1;
    a->found = addresses != NULL;
    strncpy(a->text, addresses ? addresses[0] : reason, sizeof a->text - 1);
}

/* T.resolve(name) -> found, address or reason */
static int resolve(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    answer a = {0};
    neap_resolve_start(loop, luaL_checkstring(L, 1), on_answer, &a);
    bool early = a.done;
    while (!a.done) neap_loop_turn(loop, true);
    neap_loop_close(loop);
    lua_pushboolean(L, a.found && !early);
    lua_pushstring(L, a.text);
    return 2;
}

static void on_done(void *arg, const neap_err *err) { *(int *)arg = err ? (int)err->code : -1; }

/* T.stream_stopped(path|nil) -> code: stopping a stream answers its pending write at once; over a file or a full pipe */
static int stream_stopped(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    const char *path = luaL_optstring(L, 1, NULL);
    int code = 0, pair[2] = {-1, -1};
    if (!path && pipe(pair)) return luaL_error(L, "no pipe");
    size_t size = 1 << 20;
    char *data = neap_zalloc(size);
    neap_stream *s = path ? neap_stream_of_file(loop, open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) : neap_stream_of_fd(loop, pair[1]);
    neap_stream_write(s, data, size, on_done, &code);
    free(data);                                   /* the stream has its own copy */
    neap_stream_stop(s);
    lua_pushstring(L, neap_code_name((neap_code)code));
    neap_stream_free(s);
    drain(loop);
    while (neap_loop_turn(loop, true)) {}
    neap_loop_close(loop);
    if (pair[0] >= 0) close(pair[0]);
    return 1;
}

/* T.patience(ms) -> ms before: how long a TCP connection waits for a word of its peer; for connections that are made from now on */
static int patience(lua_State *L) {
    int before = neap_alive_patience_ms;
    neap_alive_patience_ms = (int)luaL_checkinteger(L, 1);
    lua_pushinteger(L, before);
    return 1;
}

static const luaL_Reg loops[] = {
    {"watch_closed", watch_closed}, {"watch_reopened", watch_reopened}, {"watch_broken", watch_broken}, {"timer_wakes", timer_wakes},
    {"timer_late", timer_late}, {"stall", stall}, {"child_forgotten", child_forgotten}, {"child_freed", child_freed}, {"resolve", resolve},
    {"stream_stopped", stream_stopped}, {"patience", patience}, {NULL, NULL}};
NEAP_TEST_LIBRARY(loops)
