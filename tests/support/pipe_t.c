/* pipe_t.c -- a pipe whose owner gives it up while it ends. The fake end stands for a socket whose other direction is somebody's who
 * gives the whole up when he hears that it was stopped, as a tunnel does; in a real one both would have to happen in one turn. */
#include "drive/pipe.h"
#include "testlib.h"

typedef struct end {
    neap_stream stream;            /* first */
    neap_stream_read_fn got;
    void *arg;
    neap_pipe *pipe;
    int told;
} end;

static void end_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    end *e = (end *)s;
    (void)most;
    e->got = got;
    e->arg = arg;
}

static void end_stop(neap_stream *s) {
    end *e = (end *)s;
    neap_stream_read_fn got = e->got;
    neap_err err = NEAP_ERR_INIT;
    if (!got) return;
    e->got = NULL;
    neap_pipe_cancel(e->pipe);
    neap_err_set(&err, NEAP_E_CANCELLED, "reading was stopped");
    got(e->arg, NULL, -1, &err);
    neap_err_close(&err);
}

static const neap_stream_class end_class = {"end", end_read, NULL, NULL, end_stop, NULL};

static void on_done(void *arg, const neap_pipe_result *result, const neap_err *err) {
    (void)result, (void)err;
    ((end *)arg)->told++;
}

/* T.pipe_given_up() -> how often it told its owner of its end, after it was cancelled by what its end set off */
static int pipe_given_up(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_pipe_options soon = {.plain = true, .within_ms = 1};
    end e = {.stream = {&end_class}};
    e.pipe = neap_pipe_start(loop, &e.stream, &e.stream, &soon, on_done, &e);
    while (neap_loop_handles(loop) && neap_loop_turn(loop, true)) {}
    if (neap_loop_close(loop)) return luaL_error(L, "a handle was left in the loop");
    lua_pushinteger(L, e.told);
    return 1;
}

static const luaL_Reg pipes[] = {{"pipe_given_up", pipe_given_up}, {NULL, NULL}};
NEAP_TEST_LIBRARY(pipes)
