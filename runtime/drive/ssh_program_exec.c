/* ssh_program_exec.c -- one remote command through the master.
 *
 *     RUNNING ──the client ends──► SETTLING ──both outputs read or given up──► ended, once
 *        └──free──► the client is killed, the master closes the channel; nobody is called
 *
 * The client's exit status alone says little: 255 is the far end's 255, a signal there, a lost connection and a refused channel alike.
 * So the client writes what it does into a file of its own (-E, DEBUG2), and "Received exit status from master N" in it is the only proof
 * that the far end told a status. The far end's signal is not in it: a command ended by a signal is UNTOLD here, as a lost one is;
 * what remote.h wraps around each command tells them apart.
 *
 * The streams are the client's pipes behind a thin coat, which notices when an output has come to its end. */
#include "drive/ssh_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct coat {
    neap_stream stream;                          /* first */
    neap_stream *inner;
    neap_ssh_exec *exec;                         /* NULL: it does not care any more */
    int n;
    neap_stream_read_fn got;
    void *arg;
} coat;

typedef struct program_exec {
    neap_ssh_exec exec;                          /* first */
    neap_ssh_program *p;                         /* NULL: the connection is freed */
    neap_list node;
    neap_child *client;
    char *log;
    neap_stream *waiting[3];                     /* not handed out yet */
    coat *out[3];
    bool over[3];
    bool exited;
    neap_ssh_end end;
    neap_err err;
    neap_ssh_end_fn ended;
    void *arg;
    neap_timer *soon;
} program_exec;

/* The end --------------------------------------------------------------------------------------------------------------------------- */

static void settle(program_exec *e) {
    if (e->exited && e->over[1] && e->over[2] && e->ended) neap_timer_start(e->soon, 0);
}

static void tell(void *arg) {
    program_exec *e = arg;
    neap_ssh_end_fn ended = e->ended;
    if (!ended) return;
    e->ended = NULL;
    ended(e->arg, &e->end, e->err.code == NEAP_OK ? NULL : &e->err);       /* may free e */
}

/* The last lines of the client's file. */
static void read_log(const char *path, neap_buf *text) {
    FILE *f = fopen(path, "re");
    if (!f) return;
    if (fseek(f, -16384, SEEK_END) != 0) rewind(f);
    text->len = fread(neap_buf_room(text, 16384), 1, 16384, f);
    fclose(f);
    neap_buf_add(text, "", 0);
}

static void judge(program_exec *e, int status) {
    static const char proof[] = "Received exit status from master ";
    neap_buf log = NEAP_BUF_INIT;
    read_log(e->log, &log);
    neap_buf_adds(&log, "");
    char *at = log.data ? strstr(log.data, proof) : NULL;
    if (at) {
        e->end.how = NEAP_SSH_EXITED;
        e->end.status = atoi(at + sizeof proof - 1);
    } else if (!e->p || e->p->state != NEAP_PROGRAM_OPEN) {
        neap_err_set(&e->err, NEAP_E_CLOSED, "the connection was lost before the command told its end");
    } else if (log.data && (strstr(log.data, "refused by peer") || strstr(log.data, "request failed"))) {
        neap_err_set(&e->err, NEAP_E_UNREACHABLE, "\"%s\" opens no further channel", e->p->host->name);
        neap_err_hint(&e->err, "Its sshd allows MaxSessions commands at a time in one connection.");
        e->err.retry = true;
        if (strstr(log.data, "open refused by peer")) e->end.how = NEAP_SSH_REFUSED;
    } else {
        neap_err_set(&e->err, NEAP_E_CLOSED, "the far end closed the channel without an exit status (ssh ended with %d)", status);
    }
    neap_buf_close(&log);
}

static void on_client_exit(void *arg, int status, int signal) {
    program_exec *e = arg;
    (void)signal;
    e->exited = true;
    judge(e, status);
    unlink(e->log);
    for (int n = 1; n < 3; n++) if (!e->out[n]) e->over[n] = true;         /* never asked for: given up */
    neap_child_free(e->client);
    e->client = NULL;
    settle(e);
    if (e->p) neap_program_client_ended(e->p);
}

/* Streams --------------------------------------------------------------------------------------------------------------------------- */

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    coat *c = arg;
    if (len <= 0 && !(err && err->code == NEAP_E_CANCELLED) && c->exec) {
        program_exec *e = (program_exec *)c->exec;
        e->over[c->n] = true;
        settle(e);
    }
    c->got(c->arg, data, len, err);              /* may free c */
}

static void coat_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    coat *c = (coat *)s;
    c->got = got, c->arg = arg;
    neap_stream_read(c->inner, most, on_got, c);
}

static void coat_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    neap_stream_write(((coat *)s)->inner, data, len, done, arg);
}

static void coat_shut(neap_stream *s, neap_stream_done_fn done, void *arg) { neap_stream_shut(((coat *)s)->inner, done, arg); }
static void coat_stop(neap_stream *s) { neap_stream_stop(((coat *)s)->inner); }

static void coat_free(neap_stream *s) {
    coat *c = (coat *)s;
    neap_stream_free(c->inner);
    program_exec *e = (program_exec *)c->exec;       /* who read is told so, and may have freed it */
    if (e) {
        e->out[c->n] = NULL;
        e->over[c->n] = true;
        settle(e);
    }
    free(c);
}

static const neap_stream_class coat_class = {"ssh", coat_read, coat_write, coat_shut, coat_stop, coat_free};

neap_stream *neap_program_exec_stream(neap_ssh_exec *exec, int n) {
    program_exec *e = (program_exec *)exec;
    if (n < 0 || n > 2 || !e->waiting[n]) return NULL;
    coat *c = neap_zalloc(sizeof *c);
    *c = (coat){.stream = {&coat_class}, .inner = e->waiting[n], .exec = exec, .n = n};
    e->waiting[n] = NULL;
    e->out[n] = c;
    return &c->stream;
}

/* Starting -------------------------------------------------------------------------------------------------------------------------- */

static void start_client(program_exec *e, const char *command) {
    neap_ssh_program *p = e->p;
    const char *argv[NEAP_PROGRAM_ARGS];
    int n = neap_program_client(p, argv, "LogLevel=DEBUG2");
    e->log = neap_asprintf("%s/e%d", p->dir, ++p->serial);
    argv[n++] = "-E", argv[n++] = e->log;
    argv[n++] = "--", argv[n++] = p->host->name;
    argv[n++] = command, argv[n] = NULL;
    char **env = neap_program_env();
    neap_child_options o = {.argv = argv, .env = (const char *const *)env, .pipes = 7};
    e->client = neap_child_new(p->ssh.loop, &o, on_client_exit, e, &e->err);
    neap_program_env_free(env);
    if (!e->client) return;
    p->alive++;
    for (int i = 0; i < 3; i++) e->waiting[i] = neap_child_stream(e->client, i);
}

neap_ssh_exec *neap_program_exec(neap_ssh *s, const char *command, neap_ssh_end_fn ended, void *arg) {
    neap_ssh_program *p = (neap_ssh_program *)s;
    program_exec *e = neap_zalloc(sizeof *e);
    e->exec.class = s->class;
    e->p = p, e->ended = ended, e->arg = arg;
    e->end.how = NEAP_SSH_UNTOLD;
    e->err = (neap_err)NEAP_ERR_INIT;
    e->soon = neap_timer_new(s->loop, tell, e);
    neap_list_init(&e->node);
    neap_list_append(&p->execs, &e->node);
    if (p->state != NEAP_PROGRAM_OPEN) neap_err_set(&e->err, NEAP_E_CLOSED, "the connection to \"%s\" is not open", p->host->name);
    else start_client(e, command);
    if (e->client) return &e->exec;
    for (int i = 0; i < 3; i++) e->waiting[i] = neap_stream_of_fd(s->loop, -1);       /* there from the start as ever, and closed */
    e->exited = e->over[1] = e->over[2] = true;
    settle(e);
    return &e->exec;
}

void neap_program_exec_free(neap_ssh_exec *exec) {
    program_exec *e = (program_exec *)exec;
    for (int n = 0; n < 3; n++) {
        if (e->out[n]) e->out[n]->exec = NULL;
        neap_stream_free(e->waiting[n]);
    }
    if (e->client) {
        neap_child_free(e->client);
        unlink(e->log);
        if (e->p) neap_program_client_ended(e->p);
    }
    neap_list_remove(&e->node);
    neap_timer_free(e->soon);
    neap_err_close(&e->err);
    free(e->log);
    free(e);
}

void neap_program_execs_forget(neap_ssh_program *p) {
    while (!neap_list_is_empty(&p->execs)) {
        program_exec *e = NEAP_LIST_OF(p->execs.next, program_exec, node);
        neap_list_remove(&e->node);
        e->p = NULL;
    }
}
