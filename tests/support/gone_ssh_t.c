/* gone_ssh_t.c -- as gone_t.c, below the SSH back ends: a channel whose session is gone, and the ssh program, which a script stands in for. */
#include <stdlib.h>

#include "drive/ssh_native.h"
#include "testlib.h"

enum { TURNS = 20000 };

static bool turn(neap_loop *loop) { return neap_loop_handles(loop) && neap_loop_turn(loop, true); }

/* Turn until something of it is so, or nothing is left to wait for. */
#define TURN_UNTIL(loop, so) for (int i_ = 0; i_ < TURNS && !(so) && turn(loop); i_++) {}

static int finish(lua_State *L, neap_loop *loop, int told) {
    TURN_UNTIL(loop, false);
    if (neap_loop_close(loop)) return luaL_error(L, "a handle was left in the loop");
    lua_pushinteger(L, told);
    return 1;
}

typedef struct owner { neap_stream *stream; neap_ssh_exec *exec; int told; } owner;

static void let_go(owner *o) {
    neap_stream *s = o->stream;
    neap_ssh_exec *e = o->exec;
    o->told++;
    o->stream = NULL;
    o->exec = NULL;
    neap_ssh_exec_free(e);
    neap_stream_free(s);
}

static void on_read(void *arg, const char *data, ssize_t len, const neap_err *err) { (void)data, (void)len, (void)err, let_go(arg); }
static void on_done(void *arg, const neap_err *err) { (void)err, let_go(arg); }

/* T.gone_lane() -> reads told: what came before the connection was lost is read, stopped, and the stream freed */
static int gone_lane(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_ssh_channel *c = neap_ssh_channel_new(loop, NULL, NEAP_SSH_CHANNEL_TCP, "x", 1);
    owner o = {.stream = neap_ssh_channel_lane(c, 0)};
    neap_stream *s = o.stream;
    neap_buf_adds(&c->lanes[0].left, "bytes");
    neap_ssh_channel_release(c);
    neap_stream_read(s, 10, on_read, &o);
    neap_stream_stop(s);
    return finish(L, loop, o.told);
}

/* The program -------------------------------------------------------------------------------------------- */

static void on_opened(void *arg, const neap_err *err) { *(int *)arg = err ? -1 : 1; }

static neap_ssh *open_program(neap_loop *loop) {
    static char *none[] = {NULL};
    static const neap_ssh_host host = {.name = "fake", .hostname = "fake", .user = "me", .port = 22, .known_hosts = none};
    int opened = 0;
    neap_ssh *ssh = neap_ssh_program_open(loop, &host, on_opened, &opened);
    TURN_UNTIL(loop, opened);
    return ssh;
}

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    owner *o = arg;
    o->stream = stream;
    o->told += err ? 100 : 0;
}

/* T.gone_tunnel() -> writes told: a connection through the program that is freed by its writer when it is stopped */
static int gone_tunnel(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_ssh *ssh = open_program(loop);
    neap_dialer *d = neap_ssh_dial_tcp(ssh, "there", 1);
    owner o = {0};
    neap_dial(d, on_dialed, &o);
    TURN_UNTIL(loop, o.stream || o.told);
    neap_dialer_release(d);
    if (!o.stream) return luaL_error(L, "it was not dialed");
    size_t len = 1 << 20;
    char *much = neap_zalloc(len);
    neap_stream *s = o.stream;
    neap_stream_write(s, much, len, on_done, &o);
    if (o.stream) neap_stream_stop(s);
    free(much);
    neap_ssh_free(ssh);
    return finish(L, loop, o.told);
}

/* T.gone_dial(ended) -> 0: a dial that is taken back when the client of the program has ended, and its words have not */
static int gone_dial(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_ssh *ssh = open_program(loop);
    neap_dialer *d = neap_ssh_dial_tcp(ssh, "ended", 1);
    owner o = {0};
    neap_dialing *g = neap_dial(d, on_dialed, &o);
    int handles = neap_loop_handles(loop);
    TURN_UNTIL(loop, neap_loop_handles(loop) < handles);
    if (o.stream || o.told) return luaL_error(L, "it was told");
    neap_dial_cancel(g);
    neap_dialer_release(d);
    neap_ssh_free(ssh);
    return finish(L, loop, o.told);
}

static void on_ended(void *arg, const neap_ssh_end *end, const neap_err *err) { (void)end, *(int *)arg += err != NULL; }

/* T.gone_master() -> ends told: a command is begun when the program has ended, and that was not told yet */
static int gone_master(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_ssh *ssh = open_program(loop);
    int ended = 0, streams = 0;
    neap_ssh_exec *alive = neap_ssh_exec_start(ssh, "end the master", on_ended, &ended);
    TURN_UNTIL(loop, !neap_ssh_card_of(ssh));
    neap_ssh_exec *late = neap_ssh_exec_start(ssh, "late", on_ended, &ended);
    for (int n = 0; n < 3; n++) {
        neap_stream *s = neap_ssh_exec_stream(late, n);
        streams += s != NULL;
        neap_stream_free(s);
    }
    if (streams != 3) return luaL_error(L, "it has %d streams", streams);
    TURN_UNTIL(loop, ended);
    neap_ssh_exec_free(late);
    neap_ssh_exec_free(alive);
    neap_ssh_free(ssh);
    return finish(L, loop, ended);
}

/* T.gone_reader() -> reads told: an output is freed while it is read, and its reader frees the command for it */
static int gone_reader(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_ssh *ssh = open_program(loop);
    int ended = 0;
    owner o = {.exec = neap_ssh_exec_start(ssh, "wait", on_ended, &ended)};
    neap_stream *s = neap_ssh_exec_stream(o.exec, 1);
    neap_stream_read(s, 10, on_read, &o);
    neap_stream_free(s);
    neap_ssh_free(ssh);
    return finish(L, loop, o.told);
}

static const luaL_Reg gone_ssh[] = {{"gone_lane", gone_lane}, {"gone_tunnel", gone_tunnel}, {"gone_dial", gone_dial}, {"gone_master", gone_master},
                                    {"gone_reader", gone_reader}, {NULL, NULL}};
NEAP_TEST_LIBRARY(gone_ssh)
