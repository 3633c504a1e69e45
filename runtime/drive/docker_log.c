/* docker_log.c -- see docker_log.h. */
#include "drive/docker_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drive/docker_frames.h"

enum { PIECE_SIZE = 64 * 1024 };

struct neap_docker_log {
    neap_docker *engine;
    neap_docker_call *call;
    neap_stream *body;
    neap_docker_frames frames;
    neap_docker_log_options options;
    char *container;
    neap_docker_log_fn wrote;
    neap_docker_log_end_fn ended;
    void *arg;
    bool raw;                         /* of a terminal: no frames */
    bool freed;
    int holds;
};

bool neap_docker_time(const char *text, char out[NEAP_DOCKER_TIME_SIZE]) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest) return false;
    long long seconds = timegm(&tm);
    int digits = *rest == '.' ? (int)strspn(rest + 1, "0123456789") : 0;
    if (strcmp(rest + (*rest == '.' ? digits + 1 : 0), "Z") != 0 || digits > 9) return false;
    snprintf(out, NEAP_DOCKER_TIME_SIZE, "%lld.%.*s%.*s", seconds, digits, digits ? rest + 1 : "", 9 - digits, "000000000");
    return true;
}

static void release(neap_docker_log *g) {
    if (--g->holds) return;
    neap_docker_release(g->engine);
    free(g->container);
    free(g);
}

void neap_docker_log_free(neap_docker_log *g) {
    if (!g || g->freed) return;
    g->freed = true;
    neap_docker_call_free(g->call);
    neap_stream *body = g->body;
    g->body = NULL;
    neap_stream_free(body);
    release(g);
}

static void on_bytes(void *arg, const char *data, ssize_t len, const neap_err *err);

static void end(neap_docker_log *g, const neap_err *err) {
    if (!g->freed) g->ended(g->arg, err);
}

static void sort(neap_docker_log *g, const char *data, size_t len, neap_err *err) {
    neap_docker_event event = NEAP_DOCKER_BYTES;
    if (g->raw) { g->wrote(g->arg, 1, data, len); return; }
    while (len && !g->freed && !err->code) {
        size_t took = neap_docker_frames_step(&g->frames, data, len, &event);
        if (event == NEAP_DOCKER_BYTES) g->wrote(g->arg, g->frames.stream == 2 ? 2 : 1, g->frames.data, g->frames.len);
        else if (event == NEAP_DOCKER_SYSTEM) neap_err_set(err, NEAP_E_REMOTE, "the Engine reports: %.*s", (int)g->frames.len, g->frames.data);
        else if (event == NEAP_DOCKER_NOT_FRAMES) neap_err_set(err, NEAP_E_PROTOCOL, "the Engine sends no frames where a log should come");
        data += took;
        len -= took;
    }
}

static void on_bytes(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_docker_log *g = arg;
    neap_err bad = NEAP_ERR_INIT;
    g->holds++;
    if (len > 0) sort(g, data, (size_t)len, &bad);
    if (len == 0 && !g->raw && !neap_docker_frames_is_whole(&g->frames)) neap_err_set(&bad, NEAP_E_CLOSED, "the log was cut short");
    if (bad.code) end(g, &bad);
    else if (len <= 0) end(g, err);
    else if (!g->freed) neap_stream_read(g->body, PIECE_SIZE, on_bytes, g);
    neap_err_close(&bad);
    release(g);
}

static void on_log(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_log *g = arg;
    g->call = NULL;
    if (err) { end(g, err); return; }
    g->body = a->stream;
    neap_stream_read(g->body, PIECE_SIZE, on_bytes, g);
}

/* What this run of the container has written: everything since the run before it ended. The time it was started at is taken by the
 * Engine when it runs already, and the first lines can be older than that. */
static bool begins(json_t *state, char since[NEAP_DOCKER_TIME_SIZE]) {
    const char *started = json_string_value(json_object_get(state, "StartedAt")), *finished = json_string_value(json_object_get(state, "FinishedAt"));
    if (!started || !neap_docker_time(started, since)) return false;
    if (!json_is_true(json_object_get(state, "Running")) || !finished) return true;
    if (strncmp(finished, "0001-", 5) == 0) return snprintf(since, NEAP_DOCKER_TIME_SIZE, "0") > 0;
    return neap_docker_time(finished, since);
}

static void on_inspected(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_log *g = arg;
    neap_err bad = NEAP_ERR_INIT;
    char since[NEAP_DOCKER_TIME_SIZE] = "0";
    g->call = NULL;
    json_t *answer = err ? NULL : neap_docker_object(a->body, a->len, &bad);
    g->raw = json_is_true(json_object_get(json_object_get(answer, "Config"), "Tty"));
    if (g->options.since_ms > 0) snprintf(since, sizeof since, "%lld.%03lld000000", (long long)g->options.since_ms / 1000, (long long)g->options.since_ms % 1000);
    else if (answer && g->options.since_ms < 0 && !begins(json_object_get(answer, "State"), since))
        neap_err_set(&bad, NEAP_E_PROTOCOL, "the Engine does not say when the container was started");
    json_decref(answer);
    if (err || bad.code) {
        end(g, err ? err : &bad);
        neap_err_close(&bad);
        return;
    }
    neap_buf target = NEAP_BUF_INIT;
    neap_buf_adds(&target, "/containers/");
    neap_docker_encode(&target, g->container);
    neap_buf_addf(&target, "/logs?stdout=1&stderr=1&since=%s&follow=%d", since, g->options.follow);
    if (g->options.tail >= 0) neap_buf_addf(&target, "&tail=%lld", (long long)g->options.tail);
    g->call = neap_docker_get_stream(g->engine, target.data, on_log, g);
    neap_buf_close(&target);
}

neap_docker_log *neap_docker_log_start(neap_docker *e, const neap_docker_log_options *o, neap_docker_log_fn wrote, neap_docker_log_end_fn ended, void *arg) {
    neap_docker_log *g = neap_zalloc(sizeof *g);
    *g = (neap_docker_log){.engine = neap_docker_hold(e), .options = *o, .container = neap_strdup(o->container), .wrote = wrote, .ended = ended,
                           .arg = arg, .holds = 1};
    neap_buf target = NEAP_BUF_INIT;
    neap_buf_adds(&target, "/containers/");
    neap_docker_encode(&target, o->container);
    neap_buf_adds(&target, "/json");
    g->call = neap_docker_get(e, target.data, on_inspected, g);
    neap_buf_close(&target);
    return g;
}
