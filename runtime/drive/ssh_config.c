/* ssh_config.c -- asking `ssh -G` about a host and about every host on the way to it.
 *
 *     ASKING target ──► ASKING each jump ──► done
 *          │ exit ≠ 0, no program, deadline ──► done(err)
 *
 * The chain is a row of hosts, the target last. ProxyJump a,b of a target is reached through a, then b. ssh hands b's -J on the command
 * line, so only the first of the row may have a ProxyJump of its own; that one is put in front of it, and so on.
 *
 * The program runs in the user's own environment (agent, Kerberos, what a Match exec or a ProxyCommand reads), because it is the
 * user's own ssh that is asked. Names that meet the same lines of it are asked about once (ssh_shared.h). Rejected: reading ssh_config
 * ourselves. It would agree until it did not. */
#include "drive/ssh_config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "drive/ssh_shared.h"
#include "loop/child.h"
#include "loop/timer.h"

enum { WITHIN_MS = 15000, OUTPUT_MAX = 1 << 20, HOPS_MAX = 16 };

typedef struct hop { char *spec; neap_ssh_host *host; } hop;

struct neap_ssh_config {
    neap_loop *loop;
    neap_ssh_config_fn done;
    void *arg;
    char *file;
    hop hops[HOPS_MAX];                          /* the target is the last */
    int count, at;                               /* at: the one that is asked about */
    neap_ssh_shared *shared;                     /* our part in an answer that others have too */
    neap_child *child;
    neap_stream *streams[2];
    neap_buf texts[2];
    int open, status;                            /* open: streams and the exit that are still to come */
    neap_timer *timer;
    bool failed;                                 /* err waits for the loop */
    neap_err err;
};

bool neap_ssh_config_check_name(const char *name, neap_err *err) {
    const char *at = strrchr(name, '@'), *host = at ? at + 1 : name;
    bool ok = *name && *name != '-' && *host && *host != '-' && !strstr(name, "://");
    for (const char *c = name; ok && *c; c++) ok = (unsigned char)*c > ' ' && *c != 127 && !strchr("'`\"$\\;&<>|(){}", *c);
    if (ok) return true;
    neap_err_set(err, NEAP_E_USAGE, "\"%s\" is no name of a host", name);
    return neap_err_hint(err, "A name as you write it behind ssh: hermes, or app@hermes. A port belongs into ~/.ssh/config.");
}

/* Ending -------------------------------------------------------------------------------------------------------------------------- */

/* What the streams say while they are freed ends nothing any more. */
static void stop_child(neap_ssh_config *q) {
    q->open = 0;
    neap_ssh_shared_free(q->shared);
    q->shared = NULL;
    for (int i = 0; i < 2; i++) {
        neap_stream_free(q->streams[i]);
        q->streams[i] = NULL;
        neap_buf_close(&q->texts[i]);
    }
    if (q->child) neap_child_free(q->child);
    q->child = NULL;
}

static void free_question(neap_ssh_config *q) {
    stop_child(q);
    neap_timer_free(q->timer);
    for (int i = 0; i < q->count; i++) free(q->hops[i].spec), neap_ssh_host_free(q->hops[i].host);
    neap_err_close(&q->err);
    free(q->file);
    free(q);
}

void neap_ssh_config_cancel(neap_ssh_config *q) { if (q) free_question(q); }

/* Called from the loop. */
static void finish(neap_ssh_config *q, neap_ssh_host *host) {
    neap_ssh_config_fn done = q->done;
    void *arg = q->arg;
    neap_err err = NEAP_ERR_INIT;
    neap_err_move(&err, &q->err);
    free_question(q);
    done(arg, host, host ? NULL : &err);
    neap_err_close(&err);
}

static void on_time(void *arg) {
    neap_ssh_config *q = arg;
    if (!q->failed) {
        neap_err_set(&q->err, NEAP_E_TIMEOUT, "\"ssh -G %s\" did not answer in time", q->hops[q->at].spec);
        neap_err_hint(&q->err, "A \"Match exec\" of your ssh_config may hang; run it by hand.");
    }
    finish(q, NULL);
}

/* Told by the loop in its next turn, so that `done` is never called inside `ask`. */
static void fail_soon(neap_ssh_config *q) {
    q->failed = true;
    stop_child(q);
    neap_timer_start(q->timer, 0);
}

/* Jumps as text ------------------------------------------------------------------------------------------------------------------- */

/* [user@]host[:port], with brackets around an address, as the words that name it to ssh. */
typedef struct place { char *user, *host, *port; } place;

static place read_place(const char *spec) {
    place p = {0};
    const char *at = strrchr(spec, '@');
    if (strncmp(spec, "ssh://", 6) == 0) spec += 6;
    if (at) p.user = neap_strndup(spec, (size_t)(at - spec)), spec = at + 1;
    const char *end = *spec == '[' ? strchr(spec, ']') : NULL;
    const char *colon = end ? (end[1] == ':' ? end + 1 : NULL) : strrchr(spec, ':');
    if (end) p.host = neap_strndup(spec + 1, (size_t)(end - spec) - 1);
    else p.host = colon ? neap_strndup(spec, (size_t)(colon - spec)) : neap_strdup(spec);
    if (colon) p.port = neap_strdup(colon + 1);
    return p;
}

static void close_place(place *p) { free(p->user), free(p->host), free(p->port); }

/* Put the jumps of the list before the first of the row. False when there are too many. */
static bool insert_jumps(neap_ssh_config *q, const char *list) {
    int more = 1;
    for (const char *c = list; *c; c++) more += *c == ',';
    if (q->count + more > HOPS_MAX) return false;
    memmove(q->hops + more, q->hops, (size_t)q->count * sizeof *q->hops);
    q->count += more;
    for (int i = 0; i < more; i++) {
        size_t n = strcspn(list, ",");
        q->hops[i] = (hop){.spec = neap_strndup(list, n)};
        list += n + (list[n] == ',');
    }
    return true;
}

/* Asking -------------------------------------------------------------------------------------------------------------------------- */

static void ask_next(neap_ssh_config *q);

/* What ssh says last is the reason: "/home/x/.ssh/config: line 3: Bad configuration option: foo". */
static void set_refusal(neap_ssh_config *q) {
    neap_buf *said = &q->texts[1];
    while (said->len && (said->data[said->len - 1] == '\n' || said->data[said->len - 1] == '\r')) said->data[--said->len] = 0;
    const char *line = said->len ? strrchr(said->data, '\n') : NULL;
    neap_err_set(&q->err, NEAP_E_CONFIG, "ssh does not know how to reach \"%s\": %s", q->hops[q->at].spec,
                 line ? line + 1 : said->len ? said->data : "it said nothing");
    q->err.status = q->status;
    neap_err_hint(&q->err, "Run \"ssh -G %s\" by hand; the first line of what it says names the place.", q->hops[q->at].spec);
}

/* The last of the row is the target; what comes before it leads there. */
static neap_ssh_host *join(neap_ssh_config *q) {
    neap_ssh_host *target = q->hops[q->count - 1].host;
    q->hops[q->count - 1].host = NULL;
    if (q->count > 1) target->jumps = neap_zalloc(sizeof *target->jumps * (size_t)q->count);
    for (int i = 0; i + 1 < q->count; i++) {
        neap_ssh_host *jump = target->jumps[i] = q->hops[i].host;
        q->hops[i].host = NULL;
        if (target->needs_program || !jump->needs_program) continue;
        target->needs_program = neap_asprintf("its jump host \"%s\" needs it: %s", jump->name, jump->needs_program);
    }
    return target;
}

static void take_answer(neap_ssh_config *q, const char *text) {
    char *jumps = NULL;
    place p = read_place(q->hops[q->at].spec);
    bool target = q->at == q->count - 1;
    neap_ssh_host *h = neap_ssh_config_parse(target ? q->hops[q->at].spec : p.host, text, strlen(text), q->at > 0 && !target, &jumps, &q->err);
    close_place(&p);
    q->hops[q->at].host = h;
    if (h && q->file) h->config_file = neap_strdup(q->file);
    stop_child(q);
    if (h && jumps && !insert_jumps(q, jumps)) {
        neap_err_set(&q->err, NEAP_E_CONFIG, "there are more than %d jump hosts on the way to \"%s\"", HOPS_MAX - 1, q->hops[q->count - 1].spec);
        neap_err_hint(&q->err, "A ProxyJump of your ssh_config leads in a circle.");
        h = NULL;
    }
    free(jumps);
    if (h) ask_next(q);
    else finish(q, NULL);
}

static const char *text_of(const neap_buf *b) { return b->data ? b->data : ""; }

static void one_ended(neap_ssh_config *q) {
    if (--q->open) return;
    if (q->status == 0) {
        if (q->shared) neap_ssh_shared_answer(q->shared, text_of(&q->texts[0]), text_of(&q->texts[1]));
        take_answer(q, text_of(&q->texts[0]));
        return;
    }
    set_refusal(q);
    finish(q, NULL);
}

static void on_exit_of_ssh(void *arg, int status, int signal) {
    neap_ssh_config *q = arg;
    q->status = signal ? 128 + signal : status;
    one_ended(q);
}

static void on_bytes(neap_ssh_config *q, int n, const char *data, ssize_t len);
static void on_out(void *arg, const char *data, ssize_t len, const neap_err *err) { (void)err; on_bytes(arg, 0, data, len); }
static void on_err(void *arg, const char *data, ssize_t len, const neap_err *err) { (void)err; on_bytes(arg, 1, data, len); }

static void on_bytes(neap_ssh_config *q, int n, const char *data, ssize_t len) {
    if (len > 0 && q->texts[n].len < OUTPUT_MAX) {
        neap_buf_add(&q->texts[n], data, (size_t)len);
        neap_stream_read(q->streams[n], 65536, n ? on_err : on_out, q);
        return;
    }
    neap_stream_free(q->streams[n]);
    q->streams[n] = NULL;
    one_ended(q);
}

static bool start_ssh(neap_ssh_config *q) {
    place p = read_place(q->hops[q->at].spec);
    bool target = q->at == q->count - 1;
    const char *argv[16] = {"ssh", "-G", "-T"};
    int n = 3;
    if (q->shared) argv[n++] = "-v";             /* which lines it took */
    if (q->file) argv[n++] = "-F", argv[n++] = q->file;
    if (!target && p.user) argv[n++] = "-l", argv[n++] = p.user;
    if (!target && p.port) argv[n++] = "-p", argv[n++] = p.port;
    argv[n++] = "--";
    argv[n++] = target ? q->hops[q->at].spec : p.host;
    neap_child_options o = {.argv = argv, .env = (const char *const *)environ, .pipes = 1 << 1 | 1 << 2};
    q->child = neap_child_new(q->loop, &o, on_exit_of_ssh, q, &q->err);
    close_place(&p);
    if (!q->child && q->err.code == NEAP_E_REMOTE) {
        neap_err_close(&q->err);
        neap_err_set(&q->err, NEAP_E_CONFIG, "there is no program \"ssh\" in PATH");
        neap_err_hint(&q->err, "Install the OpenSSH client: which host a name means is asked of it, so that both always agree.");
    }
    return q->child != NULL;
}

static void ask_ssh(neap_ssh_config *q) {
    if (!start_ssh(q)) { fail_soon(q); return; }
    q->open = 3;
    for (int i = 0; i < 2; i++) q->streams[i] = neap_child_stream(q->child, i + 1);
    for (int i = 0; i < 2; i++) neap_stream_read(q->streams[i], 65536, i ? on_err : on_out, q);
}

static void on_told(void *arg, const char *text) {
    neap_ssh_config *q = arg;
    if (text) { take_answer(q, text); return; }
    stop_child(q);
    ask_ssh(q);
}

/* What decides beside the name is the user and the port on the command line. */
static neap_ssh_shared *share(neap_ssh_config *q) {
    place p = read_place(q->hops[q->at].spec);
    bool target = q->at == q->count - 1;
    neap_buf words = NEAP_BUF_INIT;
    neap_buf_addf(&words, "%s %s %s", target ? "target" : "jump", p.user ? p.user : "", !target && p.port ? p.port : "");
    const char *host = target && strrchr(q->hops[q->at].spec, '@') ? strrchr(q->hops[q->at].spec, '@') + 1 : target ? q->hops[q->at].spec : p.host;
    neap_ssh_shared *s = neap_ssh_shared_new(q->loop, q->file, words.data, host, on_told, q);
    neap_buf_close(&words);
    close_place(&p);
    return s;
}

/* The next host of the row that nobody has asked about; none left: that is all. */
static void ask_next(neap_ssh_config *q) {
    for (q->at = 0; q->at < q->count && q->hops[q->at].host; q->at++) {}
    if (q->at == q->count) { finish(q, join(q)); return; }
    if (!neap_ssh_config_check_name(q->hops[q->at].spec, &q->err)) { fail_soon(q); return; }
    q->shared = share(q);
    if (!q->shared || neap_ssh_shared_is_first(q->shared)) ask_ssh(q);
}

neap_ssh_config *neap_ssh_config_ask(neap_loop *loop, const char *name, const char *file, int64_t within_ms, neap_ssh_config_fn done, void *arg) {
    neap_ssh_config *q = neap_zalloc(sizeof *q);
    *q = (neap_ssh_config){.loop = loop, .done = done, .arg = arg, .file = file ? neap_strdup(file) : NULL, .count = 1};
    q->err = (neap_err)NEAP_ERR_INIT;
    q->hops[0].spec = neap_strdup(name);
    q->timer = neap_timer_new(loop, on_time, q);
    neap_timer_start(q->timer, within_ms > 0 ? within_ms : WITHIN_MS);
    ask_next(q);
    return q;
}
