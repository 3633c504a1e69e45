/* docker_log_lua.c -- engine:logs, engine:wait_log, engine:wait_healthy: what a container says of itself.
 *
 * Logs are kept as the output of a command is: the last mebibyte of each stream, redacted. A line that is waited for is looked for in
 * whole lines of either stream; of a line without an end the first 64 KiB count.
 */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bind/capture.h"
#include "bind/docker_lua.h"
#include "drive/docker_log.h"
#include "guard/secret.h"
#include "loop/timer.h"
#include "script/raise.h"

enum { LINE_SIZE = 64 * 1024, EVERY_MS = 250 };

typedef struct log_op {
    docker_op base;                   /* first */
    neap_docker_log_options options;
    neap_docker_log *log;
    neap_capture out[2];              /* of logs */
    char *sought;                     /* of wait_log */
    neap_buf line[2], found;
    bool is_found;
} log_op;

static void finish(log_op *l) {
    neap_docker_log_free(l->log);
    l->log = NULL;
    neap_op_finish(&l->base.gate.op);
}

static void on_log(void *arg, int stream, const char *data, size_t len) { neap_capture_add(&((log_op *)arg)->out[stream == 2], data, len); }

static void on_log_end(void *arg, const neap_err *err) {
    log_op *l = arg;
    neap_docker_op_error(&l->base, err);
    finish(l);
}

/* True when it was the one. */
static bool look_at(log_op *l, neap_buf *line) {
    if (line->len && line->data[line->len - 1] == '\r') line->len--;
    l->is_found = line->len && memmem(line->data, line->len, l->sought, strlen(l->sought)) != NULL;
    if (l->is_found) neap_redact(&l->found, line->data, line->len);
    neap_buf_clear(line);
    return l->is_found;
}

static void on_line_bytes(void *arg, int stream, const char *data, size_t len) {
    log_op *l = arg;
    neap_buf *line = &l->line[stream == 2];
    while (len && !l->is_found) {
        const char *stop = memchr(data, '\n', len);
        size_t piece = stop ? (size_t)(stop - data) : len, room = line->len < LINE_SIZE ? LINE_SIZE - line->len : 0;
        neap_buf_add(line, data, piece < room ? piece : room);
        if (stop && look_at(l, line)) finish(l);
        data += piece + (stop ? 1 : 0);
        len -= piece + (stop ? 1 : 0);
    }
}

static void on_lines_end(void *arg, const neap_err *err) {
    log_op *l = arg;
    neap_err ended = NEAP_ERR_INIT;
    bool last = !err && ((l->line[0].len && look_at(l, &l->line[0])) || (l->line[1].len && look_at(l, &l->line[1])));
    if (!err && !last) neap_err_set(&ended, NEAP_E_REMOTE, "the container ended before it wrote \"%s\"", l->sought);
    neap_docker_op_error(&l->base, err ? err : ended.code ? &ended : NULL);
    neap_err_close(&ended);
    finish(l);
}

static void log_cancel(neap_op *op, bool force) {
    (void)force;
    finish((log_op *)op);
}

static int log_deliver(lua_State *L, neap_op *op) {
    log_op *l = (log_op *)op;
    if (l->base.err.code) return neap_fail(L, &l->base.err);
    if (l->sought) {
        lua_pushlstring(L, l->found.data, l->found.len);
        return 1;
    }
    lua_createtable(L, 0, 3);
    neap_capture_push_missing(L, neap_capture_push(L, &l->out[0], "out") + neap_capture_push(L, &l->out[1], "err"));
    return 1;
}

static void log_drop(neap_op *op) {
    log_op *l = (log_op *)op;
    neap_docker_log_free(l->log);
    neap_capture_wipe(&l->out[0]), neap_capture_wipe(&l->out[1]);
    neap_buf_wipe(&l->line[0]), neap_buf_wipe(&l->line[1]), neap_buf_wipe(&l->found);
    free(l->sought);
    neap_docker_op_drop(&l->base);
}

static const neap_op_class log_class = {"the log of a container", log_cancel, log_deliver, log_drop};

static int log_start(lua_State *L, neap_gate *g) {
    log_op *l = (log_op *)g;
    l->log = neap_docker_log_start(l->base.h->engine, &l->options, l->sought ? on_line_bytes : on_log, l->sought ? on_lines_end : on_log_end, l);
    return neap_await(L, &g->op);
}

static log_op *new_log(lua_State *L, const char *what, lua_Integer since_ms) {
    docker_handle *h = neap_docker_check(L);
    char *container = neap_docker_container(L, 2);
    lua_settop(L, 2);
    log_op *l = (log_op *)neap_docker_op_new(L, sizeof *l, &log_class, NEAP_P_DOCKER_READ, h, container, neap_strdup(what));
    l->options = (neap_docker_log_options){.container = container, .tail = -1};
    l->options.since_ms = neap_docker_integer(L, 2, "since_ms", since_ms);
    l->base.gate.start = log_start;
    return l;
}

/* logs{container=, since_ms=, tail=} -> {out=, err=, truncated=} | nil, err. since_ms: wall clock; without it everything. Effect: read. */
int neap_docker_logs(lua_State *L) {
    log_op *l = new_log(L, "read the log", 0);
    l->options.tail = neap_docker_integer(L, 2, "tail", -1);
    return neap_gate_enter(L, &l->base.gate);
}

/* wait_log{container=, text=, since_ms=} -> the line | nil, err: the first line that holds the text, since the container was started (or
 * since_ms). It waits as long as the container runs: call it under a deadline. Effect: read. */
int neap_docker_wait_log(lua_State *L) {
    log_op *l = new_log(L, "wait for a line of the log", -1);
    l->options.follow = true;
    l->sought = neap_docker_field(L, 2, "text");
    if (!l->sought) neap_raisef(L, NEAP_E_USAGE, "wait_log needs the text to wait for");
    return neap_gate_enter(L, &l->base.gate);
}

/* Health ------------------------------------------------------------------------------------------- */

typedef struct health_op {
    docker_op base;                   /* first */
    neap_docker_call *call;
    neap_timer *pause;
    int64_t every_ms;
} health_op;

static void health_ask(void *arg);

/* True when it is healthy; err when it never will be. */
static bool is_healthy(json_t *container, neap_err *err) {
    json_t *state = json_object_get(container, "State"), *health = json_object_get(state, "Health");
    const char *status = json_string_value(json_object_get(health, "Status")), *word = json_string_value(json_object_get(state, "Status"));
    bool restarts = json_is_true(json_object_get(state, "Restarting"));
    if (!json_is_true(json_object_get(state, "Running")) && !restarts)
        return neap_err_set(err, NEAP_E_REMOTE, "the container is %s, with exit status %lld", word ? word : "not running",
                            (long long)json_integer_value(json_object_get(state, "ExitCode")));
    if (!status || strcmp(status, "none") == 0) {
        neap_err_set(err, NEAP_E_CONFIG, "the container has no health check");
        return neap_err_hint(err, "Give it a HEALTHCHECK, or wait for a line of its log.");
    }
    return strcmp(status, "healthy") == 0;
}

static void on_health(void *arg, const neap_docker_answer *a, const neap_err *err) {
    health_op *w = arg;
    neap_err bad = NEAP_ERR_INIT;
    w->call = NULL;
    json_t *container = err ? NULL : neap_docker_object(a->body, a->len, &bad);
    bool healthy = container && is_healthy(container, &bad);
    json_decref(container);
    neap_docker_op_error(&w->base, err ? err : bad.code ? &bad : NULL);
    neap_err_close(&bad);
    if (healthy || w->base.err.code) neap_op_finish(&w->base.gate.op);
    else neap_timer_start(w->pause, w->every_ms);
}

static void health_ask(void *arg) {
    health_op *w = arg;
    neap_buf target = NEAP_BUF_INIT;
    neap_buf_addf(&target, "/containers/%s/json", w->base.container);
    w->call = neap_docker_get(w->base.h->engine, target.data, on_health, w);
    neap_buf_close(&target);
}

static void health_cancel(neap_op *op, bool force) {
    health_op *w = (health_op *)op;
    (void)force;
    neap_docker_call_free(w->call), neap_timer_free(w->pause);
    w->call = NULL, w->pause = NULL;
    neap_op_finish(op);
}

static int health_deliver(lua_State *L, neap_op *op) {
    health_op *w = (health_op *)op;
    neap_timer_free(w->pause);
    w->pause = NULL;
    if (w->base.err.code) return neap_fail(L, &w->base.err);
    lua_pushboolean(L, 1);
    return 1;
}

static void health_drop(neap_op *op) {
    health_cancel(op, true);
    neap_docker_op_drop(&((health_op *)op)->base);
}

static const neap_op_class health_class = {"a container to be healthy", health_cancel, health_deliver, health_drop};

static int health_start(lua_State *L, neap_gate *g) {
    health_op *w = (health_op *)g;
    w->pause = neap_timer_new(neap_docker_loop(w->base.h->engine), health_ask, w);
    health_ask(w);
    return neap_await(L, &g->op);
}

/* wait_healthy(id, {every_ms=}) -> true | nil, err: it ended, or it has no health check. It waits as long as it is not healthy: call it
 * under a deadline. Effect: read. */
int neap_docker_wait_healthy(lua_State *L) {
    docker_handle *h = neap_docker_check(L);
    lua_settop(L, 3);
    char *container = neap_docker_check_id(L, 2);
    health_op *w = (health_op *)neap_docker_op_new(L, sizeof *w, &health_class, NEAP_P_DOCKER_READ, h, container, neap_strdup("wait until it is healthy"));
    w->every_ms = neap_docker_integer(L, 3, "every_ms", EVERY_MS);
    w->base.gate.start = health_start;
    return neap_gate_enter(L, &w->base.gate);
}
