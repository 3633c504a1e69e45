/* docker_exec.c -- see docker_exec.h: from the first question to the release of the command.
 *
 * The wrapper is plain POSIX sh and touches nothing of what the command sees: no variable that a program would know, no descriptor,
 * no environment. Its first word ($0) is the token that begins its greeting. */
#include "drive/docker_exec_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/json.h"

/* field 22 of stat is when the process began; the name in parentheses may hold anything */
#define BEGAN "neap_b(){ read -r neap_s </proc/$1/stat && set -- ${neap_s##*\\) } && neap_t=${20} neap_z=$1; }; "

static const char wrapper[] =
    BEGAN "neap_b $$ 2>/dev/null; echo \"$0 $$ ${neap_t:-0}\"; read -r neap_g && exec \"$@\"; exit 125";

/* A number that is used again belongs to a later process; a group outlives its leader. */
static const char signaller[] =
    BEGAN "if neap_b \"$1\" 2>/dev/null; then [ \"$neap_t\" = \"$2\" ] || [ \"$2\" = 0 ] || exit 3; fi; "
    "kill -s \"$3\" -- \"-$1\" 2>/dev/null || kill -s \"$3\" \"$1\" 2>/dev/null || exit 3; "
    "[ \"$3\" != 0 ] || [ \"$neap_z\" != Z ] || exit 3; exit 0";

void neap_exec_hold(neap_docker_exec *x) { x->holds++; }

void neap_exec_release(neap_docker_exec *x) {
    if (--x->holds) return;
    neap_buf_wipe(&x->wrapped), neap_buf_wipe(&x->bare);
    neap_buf_wipe(&x->greeting), neap_buf_wipe(&x->system), neap_buf_wipe(&x->early);
    neap_buf_wipe(&x->out[1].queue), neap_buf_wipe(&x->out[2].queue);
    neap_err_close(&x->lost), neap_err_close(&x->failure);
    free(x->container), free(x->id), free(x->started), free(x->user);
    neap_docker_release(x->engine);
    free(x);
}

void neap_docker_exec_free(neap_docker_exec *x) {
    if (!x || x->freed) return;
    x->freed = true;
    neap_docker_exec_free(x->killer);
    x->killer = NULL;
    neap_docker_call_free(x->call);
    x->call = NULL;
    neap_timer_free(x->turn), neap_timer_free(x->pause), neap_timer_free(x->late), neap_timer_free(x->silence), neap_timer_free(x->breath);
    x->turn = x->pause = x->late = x->silence = x->breath = NULL;
    neap_exec_close_wire(x);
    neap_exec_serve(x);
    neap_exec_release(x);
}

/* What the Engine is asked for -------------------------------------------------------------------- */

static void add_list(neap_buf *out, const char *name, const char *const *list) {
    if (!list || !*list) return;
    neap_buf_addf(out, ",\"%s\":[", name);
    for (int i = 0; list[i]; i++) {
        if (i) neap_buf_addc(out, ',');
        neap_json_string(out, list[i], strlen(list[i]));
    }
    neap_buf_addc(out, ']');
}

static void write_body(neap_buf *out, const neap_docker_exec_options *o, const char *const *argv) {
    neap_buf_adds(out, "{\"AttachStdin\":true,\"AttachStdout\":true,\"AttachStderr\":true,\"Tty\":false");
    add_list(out, "Cmd", argv);
    add_list(out, "Env", o->env);
    neap_json_member(out, "User", o->user);
    neap_json_member(out, "WorkingDir", o->workdir);
    neap_buf_addc(out, '}');
}

static void write_bodies(neap_docker_exec *x, const neap_docker_exec_options *o) {
    int count = 0;
    while (o->argv[count]) count++;
    const char **argv = neap_zalloc(sizeof *argv * ((size_t)count + 5));
    argv[0] = "sh", argv[1] = "-c", argv[2] = wrapper, argv[3] = x->token;
    memcpy(argv + 4, o->argv, sizeof *argv * (size_t)count);
    write_body(&x->wrapped, o, argv);
    write_body(&x->bare, o, o->argv);
    free(argv);
}

static void make_token(char out[33]) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) abort();
    for (int i = 0; i < 16; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static bool is_text(const neap_docker_exec_options *o, neap_err *err) {
    for (int n = 0; n < 2; n++)
        for (const char *const *at = n ? o->env : o->argv; at && *at; at++)
            if (!neap_json_is_utf8(*at, strlen(*at)))
                return neap_err_set(err, NEAP_E_USAGE, "%s of the command in a container is not UTF-8, and the Engine's API knows nothing else", n ? "the environment" : "an argument");
    return true;
}

/* Telling ------------------------------------------------------------------------------------------ */

static void tell_created(neap_docker_exec *x, const neap_err *err) {
    x->told = 1;
    if (x->events.created) x->events.created(x->arg, err);
    else if (!err) neap_docker_exec_start(x);
}

static void tell_begun(neap_docker_exec *x, const neap_err *err) {
    x->told = 2;
    if (x->events.begun) x->events.begun(x->arg, err);
    else if (!err) neap_docker_exec_release(x, false);
}

/* Nothing of the command ran. Who did not ask for the earlier events hears it as the end. */
void neap_exec_refuse(neap_docker_exec *x, const neap_err *err) {
    neap_exec_hold(x);
    x->state = OVER;
    neap_exec_close_wire(x);
    if (x->told == 0 && x->events.created) tell_created(x, err);
    else if (x->told < 2 && x->events.begun) tell_begun(x, err);
    else if (x->told < 3) x->told = 3, x->events.ended(x->arg, -1, err);
    if (!x->freed) neap_exec_serve(x);
    neap_exec_release(x);
}

/* Creating ----------------------------------------------------------------------------------------- */

/* When the Engine answered, by its own clock: seconds since 1970; 0 where it does not say so. */
static long long date_of(const neap_docker_answer *a) {
    char text[64];
    struct tm tm = {0};
    size_t len;
    const char *date = neap_http1_header(a->head, "Date", &len);
    if (!date || len >= sizeof text) return 0;
    memcpy(text, date, len);
    text[len] = 0;
    return strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) ? timegm(&tm) : 0;
}

static void on_created(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_exec *x = arg;
    neap_err bad = NEAP_ERR_INIT;
    bool again = x->id != NULL;
    x->call = NULL;
    if (err) { neap_exec_refuse(x, err); return; }
    json_t *answer = neap_docker_object(a->body, a->len, &bad);
    const char *id = json_string_value(json_object_get(answer, "Id"));
    if (answer && !id) neap_err_set(&bad, NEAP_E_PROTOCOL, "the Engine made an exec without an id");
    if (id) free(x->id), x->id = neap_strdup(id);
    json_decref(answer);
    x->created = date_of(a);
    if (bad.code) {
        neap_exec_refuse(x, &bad);
        neap_err_close(&bad);
        return;
    }
    x->state = CREATED;
    neap_exec_hold(x);
    if (again) neap_exec_greeted(x);
    else tell_created(x, NULL);
    neap_exec_release(x);
}

static void create(neap_docker_exec *x) {
    neap_buf target = NEAP_BUF_INIT;
    x->state = CREATING;
    neap_buf_addf(&target, "/containers/%s/exec", x->container);
    x->call = neap_docker_change(x->engine, NEAP_DOCKER_POST, target.data, x->plain ? x->bare.data : x->wrapped.data, on_created, x);
    neap_buf_close(&target);
}

static void on_looked(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_exec *x = arg;
    neap_err bad = NEAP_ERR_INIT;
    x->call = NULL;
    if (err) { neap_exec_refuse(x, err); return; }
    json_t *answer = neap_docker_object(a->body, a->len, &bad);
    const char *id = json_string_value(json_object_get(answer, "Id")), *started = json_string_value(json_object_get(json_object_get(answer, "State"), "StartedAt"));
    if (answer && (!id || !started)) neap_err_set(&bad, NEAP_E_PROTOCOL, "the Engine describes a container without Id or StartedAt");
    if (id && started && strcmp(id, x->container) != 0)
        neap_err_set(&bad, NEAP_E_REMOTE, "\"%s\" is the container %.12s, not a full id", x->container, id);
    if (started) x->started = neap_strdup(started);
    json_decref(answer);
    if (bad.code) neap_exec_refuse(x, &bad);
    else create(x);
    neap_err_close(&bad);
}

static void look(neap_docker_exec *x) {
    neap_buf target = NEAP_BUF_INIT;
    neap_buf_adds(&target, "/containers/");
    neap_docker_encode(&target, x->container);
    neap_buf_adds(&target, "/json");
    x->call = neap_docker_get(x->engine, target.data, on_looked, x);
    neap_buf_close(&target);
}

static bool is_full_id(const char *text) { return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64; }

static void on_refused(void *arg) {
    neap_docker_exec *x = arg;
    neap_exec_refuse(x, &x->failure);
}

neap_docker_exec *neap_docker_exec_new(neap_docker *e, const neap_docker_exec_options *o, const neap_docker_exec_events *events, void *arg) {
    neap_docker_exec *x = neap_zalloc(sizeof *x);
    x->engine = neap_docker_hold(e);
    x->events = *events;
    x->arg = arg;
    x->holds = 1;
    x->status = -1;
    x->lost = x->failure = (neap_err)NEAP_ERR_INIT;
    x->plain = o->plain;
    x->reads = o->reads;
    x->container = neap_strdup(o->container);
    x->user = o->user ? neap_strdup(o->user) : NULL;
    make_token(x->token);
    neap_exec_open_streams(x);
    if (!is_text(o, &x->failure)) {
        x->pause = neap_timer_new(neap_docker_loop(e), on_refused, x);
        neap_timer_start(x->pause, 0);
        return x;
    }
    write_bodies(x, o);
    if (x->reads && is_full_id(x->container)) create(x);
    else look(x);
    return x;
}

/* Starting ----------------------------------------------------------------------------------------- */

static void on_hijacked(void *arg, const neap_docker_answer *a, const neap_err *err) {
    neap_docker_exec *x = arg;
    neap_err none = NEAP_ERR_INIT;
    x->call = NULL;
    if (!err && a->status != 101) {
        neap_stream_free(a->stream);
        neap_err_set(&none, NEAP_E_PROTOCOL, "the Engine answers %d where it should hand over the connection", a->status);
        neap_err_hint(&none, "A proxy between neap and the Engine may not know how to upgrade a connection.");
        err = &none;
    }
    if (err && x->state == RUNNING && err->status < 400) {           /* without the wrapper the start was the release: it may have begun */
        neap_err_set(&x->lost, err->code, "%s", err->message);
        neap_exec_ask(x);
    } else if (err) {
        neap_exec_refuse(x, err);
    } else {
        x->wire = a->stream;
        if (x->state == RUNNING) neap_exec_open_input(x);
        neap_exec_pull(x);
    }
    neap_err_close(&none);
}

static void hijack(neap_docker_exec *x) {
    neap_buf target = NEAP_BUF_INIT;
    neap_buf_addf(&target, "/exec/%s/start", x->id);
    x->call = neap_docker_hijack(x->engine, target.data, "{\"Detach\":false,\"Tty\":false}", on_hijacked, x);
    neap_buf_close(&target);
}

void neap_docker_exec_start(neap_docker_exec *x) {
    x->state = GREETING;
    if (x->plain) neap_timer_start(x->turn, 0);      /* begun is told from the loop */
    else hijack(x);
}

/* The pid is known, or will never be. */
void neap_exec_greeted(neap_docker_exec *x) {
    neap_exec_hold(x);
    x->state = HELD;
    tell_begun(x, NULL);
    neap_exec_release(x);
}

/* The Engine's words when sh itself is not there; they come as output. */
static bool lacks_shell(const neap_docker_exec *x, int status) {
    const char *said = x->greeting.data ? x->greeting.data : "";
    return (status == 126 || status == 127) && strstr(said, "exec failed") && strstr(said, "\"sh\"");
}

void neap_exec_ungreeted(neap_docker_exec *x, int status) {
    neap_err err = NEAP_ERR_INIT;
    const char *said = x->greeting.data ? x->greeting.data : "";
    neap_exec_close_wire(x);
    if (lacks_shell(x, status)) {
        x->plain = true;
        memset(&x->frames, 0, sizeof x->frames);
        neap_err_close(&x->lost);
        create(x);
        return;
    }
    if (*said) neap_err_set(&err, NEAP_E_REMOTE, "the command did not begin: %.*s", (int)strcspn(said, "\r\n"), said);
    else neap_err_set(&err, NEAP_E_REMOTE, "the command did not begin%s%s", x->lost.code ? ": " : "", x->lost.code ? x->lost.message : "");
    err.status = status;
    neap_exec_refuse(x, &err);
    neap_err_close(&err);
}

static void on_let_go(void *arg, const neap_err *err) {
    (void)err;                                       /* the reader of the wire hears of it */
    neap_exec_open_input(arg);
}

void neap_docker_exec_release(neap_docker_exec *x, bool input) {
    x->input = input && !x->out[0].gone;
    x->unborn = x->state != HELD;                    /* it has ended meanwhile: how, is being asked */
    if (x->unborn) return;
    x->state = RUNNING;
    if (x->plain) { hijack(x); return; }
    neap_stream_write(x->wire, "\n", 1, on_let_go, x);
    neap_exec_pull(x);
}

/* Questions ---------------------------------------------------------------------------------------- */

const char *neap_docker_exec_id(const neap_docker_exec *x) { return x->id ? x->id : ""; }
const char *neap_docker_exec_started(const neap_docker_exec *x) { return x->started ? x->started : ""; }
int neap_docker_exec_pid(const neap_docker_exec *x) { return x->pid; }
long long neap_docker_exec_ticks(const neap_docker_exec *x) { return x->ticks; }

neap_docker_exec *neap_docker_exec_signal(neap_docker *e, const char *container, const char *user, int pid, long long ticks, const char *signal,
                                          const neap_docker_exec_events *events, void *arg) {
    char number[16], began[24];
    snprintf(number, sizeof number, "%d", pid);
    snprintf(began, sizeof began, "%lld", ticks);
    const char *argv[] = {"sh", "-c", signaller, "sh", number, began, signal ? signal : "0", NULL};
    neap_docker_exec_options o = {.container = container, .argv = argv, .user = user, .plain = true};
    return neap_docker_exec_new(e, &o, events, arg);
}
