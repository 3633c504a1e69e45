/* remote.c -- see remote.h.
 *
 *     NEW --prologue written, word s--> STARTED --(held: released, go line written)--> BEGUN --word e--> ENDED
 *      └──── the channel ended, or stderr did and LINGER_MS passed: not begun, or untold ────────────► ENDED
 *
 * Success is the word e with status 0. What SSH itself reports of the exit is only used where no word came: a login shell that
 * refuses ends with a status and has said nothing, so nothing was begun; a connection that broke says neither. A command that
 * is held and was not let go has not begun, whatever else happened.
 *
 * Where the shell that watches is ended by a signal, the command may live on in its own session: untold. A brief command has begun with its shell, so one that says nothing is untold.
 *
 * What comes before the first word is the login shell's, not the command's, on stderr as on stdout.
 *
 * Stderr is pumped: the words are in it, so it is read whether somebody wants the rest or not. Who takes the stream slows the far end
 * down from HELD_MOST on; until then the newest KEPT bytes wait. */
#include "drive/remote.h"

#include <stdlib.h>
#include <string.h>

#include "drive/remote_filter.h"
#include "drive/remote_output.h"
#include "loop/timer.h"

enum { PIECE_SIZE = 64 * 1024, KEPT = 64 * 1024, HELD_MOST = 256 * 1024, SAID_MOST = 1024, LINGER_MS = 2000, SIGNALS = 64 };

typedef struct errors {
    neap_stream stream;              /* first */
    neap_remote *owner;              /* NULL: gone */
    neap_buf held;
    bool taken, over, due;           /* due: what is held is given from the timer */
    neap_err err;                    /* why it is over, when it did not just end */
    neap_stream_read_fn got;
    void *arg;
    size_t most;
    neap_timer *soon;
} errors;

struct neap_remote {
    neap_loop *loop;
    neap_ssh_exec *exec;
    neap_remote_text text;
    neap_remote_names names;
    neap_remote_events events;
    void *arg;
    bool holds, feeds, brief, marks;
    neap_stream *in, *raw;           /* raw: stderr as it comes */
    errors *errors;                  /* NULL: nobody wants it any more */
    neap_remote_output *output;      /* while somebody reads stdout */
    neap_remote_filter filter;
    neap_buf said;                   /* the first that was said on stderr, for an error */
    neap_buf plain;                  /* of the piece that is being read: what is no word */
    size_t noise;                    /* so much of it came before the command */
    bool reading, written, word_came, word_started, word_ended, started, begun, released, ended;
    long long pid, born;
    neap_remote_word end;
    char why[16];
    neap_timer *linger;
    int depth;                       /* callbacks we are inside of */
    bool freed;
};

/* ---- ends ---- */

neap_remote_end neap_remote_end_of(const neap_remote_word *w) {
    if (w->first > 128 && w->first <= 128 + SIGNALS && !w->second) return (neap_remote_end){NEAP_REMOTE_SIGNALLED, (int)w->first - 128};
    return (neap_remote_end){NEAP_REMOTE_EXITED, (int)w->first};
}

neap_remote_word neap_remote_word_of(const neap_remote_end *end) {
    bool signalled = end->how == NEAP_REMOTE_SIGNALLED;
    return (neap_remote_word){.verb = NEAP_WORD_ENDED, .first = end->status + (signalled ? 128 : 0), .second = !signalled};
}

/* Streams that are freed call back once more; those that are ours no longer are not listened to. */
static void destroy(neap_remote *r) {
    neap_stream *in = r->in, *raw = r->raw;
    r->in = r->raw = NULL;
    neap_stream_free(in);
    neap_stream_free(raw);
    neap_ssh_exec_free(r->exec);
    neap_timer_free(r->linger);
    neap_remote_text_close(&r->text);
    neap_buf_wipe(&r->said);
    neap_buf_wipe(&r->plain);
    free(r);
}

static void leave(neap_remote *r) {
    if (--r->depth == 0 && r->freed) destroy(r);
}

static void finish(neap_remote *r, neap_remote_how how, int status, const neap_err *err) {
    neap_remote_end end = {how, status};
    if (r->ended || r->freed) return;
    r->ended = true;
    if (r->output) neap_remote_output_told(r->output, how == NEAP_REMOTE_EXITED || how == NEAP_REMOTE_SIGNALLED);
    r->depth++;
    r->events.on_ended(r->arg, &end, err);
    leave(r);
}

/* The last line of what was said, without its end. */
static const char *last_words(neap_remote *r) {
    if (!r->said.len) return "";
    while (r->said.len && strchr("\r\n", r->said.data[r->said.len - 1])) r->said.data[--r->said.len] = 0;
    char *line = strrchr(r->said.data, '\n');
    return line ? line + 1 : r->said.data;
}

static void explain_refusal(neap_remote *r, neap_err *err) {
    const neap_remote_names *n = &r->names;
    if (strcmp(r->why, "cd") == 0) {
        neap_err_set(err, NEAP_E_REMOTE, "cannot enter the directory \"%s\" on %s to run \"%s\"", n->cwd ? n->cwd : "", n->place, n->program);
    } else if (strcmp(r->why, "program") == 0) {
        neap_err_set(err, NEAP_E_REMOTE, "there is no program \"%s\" on %s", n->program, n->place);
        neap_err_hint(err, "It was looked for in the PATH of a login without a terminal; give its whole path, or PATH in env.");
    } else if (strcmp(r->why, "setsid") == 0) {
        neap_err_set(err, NEAP_E_UNSUPPORTED, "%s has no program setsid, which a job needs to outlive its connection", n->place);
        neap_err_hint(err, "Install util-linux or busybox there.");
    } else if (strcmp(r->why, "state") == 0) {
        neap_err_set(err, NEAP_E_REMOTE, "cannot make the directory for jobs on %s", n->place);
        neap_err_hint(err, "It is ~/.local/state/neap/jobs of the user who logs in, or below XDG_STATE_HOME.");
    } else {
        neap_err_set(err, NEAP_E_CLOSED, "what was sent to %s did not arrive whole; nothing was begun", n->place);
    }
}

/* It ended with a status and without a word: the login shell, or sudo, did not run our script. */
static void explain_silence(neap_remote *r, int status, neap_err *err) {
    const char *words = last_words(r);
    if (r->names.sudo) {
        neap_err_set(err, NEAP_E_AUTH, "sudo on %s refuses%s%s", r->names.place, *words ? ": " : "", words);
        neap_err_hint(err, "Allow it there with visudo: %s ALL=(%s) NOPASSWD: ALL", r->names.user ? r->names.user : "USER",
                      *r->names.sudo ? r->names.sudo : "root");
    } else {
        neap_err_set(err, NEAP_E_REMOTE, "the login shell on %s did not run \"%s\" and ended with status %d%s%s", r->names.place,
                     r->names.program, status, *words ? ": " : "", words);
        neap_err_hint(err, "It must run a command line given by SSH; look at the account's shell and at ForceCommand.");
    }
}

static void copy_error(neap_err *to, const neap_err *from, const char *place) {
    if (!from || !from->code) { neap_err_set(to, NEAP_E_CLOSED, "%s closed the channel without a word", place); return; }
    neap_err_copy(to, from);
}

/* There will be no more words. */
static void conclude(neap_remote *r, const neap_ssh_end *end, const neap_err *why) {
    neap_err err = NEAP_ERR_INIT;
    bool began = r->brief || (r->word_started && (!r->holds || r->released));
    neap_remote_how how = NEAP_REMOTE_UNTOLD;
    if (r->why[0]) {
        explain_refusal(r, &err);
        how = NEAP_REMOTE_NOT_BEGUN;
    } else if (!began && !r->word_started && end && end->how == NEAP_SSH_EXITED) {
        explain_silence(r, end->status, &err);
        how = NEAP_REMOTE_NOT_BEGUN;
    } else if (end && end->how == NEAP_SSH_REFUSED) {
        copy_error(&err, why, r->names.place);
        how = NEAP_REMOTE_NOT_BEGUN;
    } else if (began && end && end->how == NEAP_SSH_SIGNALLED) {
        neap_err_set(&err, NEAP_E_CLOSED, "the shell beside \"%s\" on %s was ended by signal %s", r->names.program, r->names.place, end->signal);
    } else {
        copy_error(&err, why, r->names.place);
        if (r->holds && !r->released) how = NEAP_REMOTE_NOT_BEGUN;
    }
    finish(r, how, -1, &err);
    neap_err_close(&err);
}

static void on_linger(void *arg) { conclude(arg, NULL, NULL); }

static void on_channel_end(void *arg, const neap_ssh_end *end, const neap_err *err) {
    neap_remote *r = arg;
    if (!r->word_ended) conclude(r, end, err);
}

/* ---- words ---- */

static void on_word(void *arg, const char *text, size_t len) {
    neap_remote *r = arg;
    neap_remote_word w = neap_remote_read_word(text, len);
    if (!r->word_came) r->noise = r->plain.len;
    r->word_came = true;
    if (w.verb == NEAP_WORD_BEGINS) return;
    if (w.verb == NEAP_WORD_STARTED) {
        r->word_started = true;
        r->pid = w.first;
        r->born = w.second;
        if (w.shell && r->events.on_shell && !r->freed) r->events.on_shell(r->arg, w.shell);
    } else if (w.verb == NEAP_WORD_ENDED) {
        r->word_ended = true;
        r->end = w;
    } else if (w.verb == NEAP_WORD_REFUSED) {
        memcpy(r->why, w.why, sizeof r->why);
    }
    if (w.verb != NEAP_WORD_NONE && w.verb != NEAP_WORD_STARTED && w.verb != NEAP_WORD_ENDED && r->events.on_word && !r->freed) {
        r->events.on_word(r->arg, &w);
    }
}

static void begun(neap_remote *r) {
    if (r->begun || r->freed || r->why[0]) return;
    r->begun = true;
    if (r->events.on_begun) r->events.on_begun(r->arg);
}

/* Tell what the words changed. */
static void settle(neap_remote *r) {
    if (r->word_started && r->written && !r->started && !r->why[0]) {
        r->started = true;
        if (r->events.on_started && !r->freed) r->events.on_started(r->arg, r->pid, r->born);
        if (!r->holds) begun(r);
    }
    if (r->freed || r->ended) return;
    if (r->why[0]) {
        if (r->word_ended || !r->word_started) conclude(r, NULL, NULL);
    } else if (r->word_ended && r->holds && !r->released) {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_REMOTE, "\"%s\" on %s did not begin: it ended while it was held", r->names.program, r->names.place);
        finish(r, NEAP_REMOTE_NOT_BEGUN, -1, &err);
        neap_err_close(&err);
    } else if (r->word_ended) {
        neap_remote_end end = neap_remote_end_of(&r->end);
        finish(r, end.how, end.status, NULL);
    }
}

/* ---- stderr ---- */

static void pump(neap_remote *r);

static void free_errors(errors *e) {
    neap_timer_free(e->soon);
    neap_buf_wipe(&e->held);
    neap_err_close(&e->err);
    free(e);
}

static void answer(errors *e) {
    neap_stream_read_fn got = e->got;
    if (!got) return;
    if (e->held.len) {
        neap_buf piece = NEAP_BUF_INIT;
        size_t len = e->held.len < e->most ? e->held.len : e->most;
        neap_buf_add(&piece, e->held.data, len);
        neap_buf_drop(&e->held, len);
        e->got = NULL;
        got(e->arg, piece.data, (ssize_t)len, NULL);
        neap_buf_wipe(&piece);
    } else if (e->over) {
        neap_err err = NEAP_ERR_INIT;                /* who is told may free the stream, not what he is reading */
        neap_err_keep(&err, &e->err);
        e->got = NULL;
        got(e->arg, NULL, err.code ? -1 : 0, err.code ? &err : NULL);
        neap_err_close(&err);
    }
}

static void on_soon(void *arg) {
    errors *e = arg;
    e->due = false;
    answer(e);
}

static void errors_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    errors *e = (errors *)s;
    e->got = got;
    e->arg = arg;
    e->most = most ? most : 1;
    if (!e->owner && !e->over) { e->over = true; neap_err_set(&e->err, NEAP_E_CLOSED, "the command was closed"); }
    e->due = e->held.len > 0;
    if (e->due) neap_timer_start(e->soon, 0);
    else if (e->over) { answer(e); return; }
    if (e->owner) pump(e->owner);                    /* it may hear the end at once: whoever is told of it may free the stream */
}

static void errors_stop(neap_stream *s) {
    errors *e = (errors *)s;
    neap_stream_read_fn got = e->got;
    neap_err err = NEAP_ERR_INIT;
    e->got = NULL;
    e->due = false;
    neap_timer_stop(e->soon);
    if (!got) return;
    neap_err_set(&err, NEAP_E_CANCELLED, "reading was stopped");
    got(e->arg, NULL, -1, &err);
    neap_err_close(&err);
}

static void errors_free(neap_stream *s) {
    errors *e = (errors *)s;
    e->got = NULL;
    if (e->owner) {
        e->owner->errors = NULL;
        pump(e->owner);
    }
    free_errors(e);
}

static const neap_stream_class errors_class = {"remote stderr", errors_read, neap_stream_write_refused, neap_stream_shut_nothing, errors_stop, errors_free};

/* What was said goes to who wants it; the first of it is kept for an error. */
static void pass_on(neap_remote *r) {
    errors *e = r->errors;
    const neap_buf *plain = &r->plain;
    size_t noise = r->word_came ? r->noise : plain->len;
    if (r->said.len < SAID_MOST) neap_buf_add(&r->said, plain->data, plain->len < SAID_MOST ? plain->len : SAID_MOST);
    if (!e || e->over) return;
    neap_buf_add(&e->held, plain->data + noise, plain->len - noise);
    if (!e->taken && e->held.len > 2 * KEPT) neap_buf_drop(&e->held, e->held.len - KEPT);
}

static void end_stderr(neap_remote *r, const neap_err *err) {
    neap_stream *raw = r->raw;
    r->raw = NULL;
    neap_stream_free(raw);
    if (r->errors) r->errors->over = true;
    if (r->errors && err) neap_err_set(&r->errors->err, err->code, "%s", err->message);
    if (!r->ended && !r->word_ended) {
        r->linger = neap_timer_new(r->loop, on_linger, r);
        neap_timer_start(r->linger, LINGER_MS);
    }
}

static void on_raw(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_remote *r = arg;
    if (!r->raw) return;
    r->reading = false;
    r->depth++;
    r->noise = 0;
    if (len > 0) neap_remote_filter_add(&r->filter, &r->plain, data, (size_t)len);
    else neap_remote_filter_end(&r->filter, &r->plain);
    if (r->plain.len) pass_on(r);
    if (r->marks && r->word_ended && r->errors) r->errors->over = true;
    neap_buf_wipe(&r->plain);
    if (len <= 0) end_stderr(r, len < 0 ? err : NULL);
    if (r->errors && r->errors->got && !r->errors->due) answer(r->errors);
    if (!r->freed) settle(r);
    if (!r->freed) pump(r);
    leave(r);
}

static void pump(neap_remote *r) {
    if (!r->raw || r->reading || r->freed) return;
    if (r->errors && r->errors->taken && r->errors->held.len > HELD_MOST) return;
    r->reading = true;
    neap_stream_read(r->raw, PIECE_SIZE, on_raw, r);
}

/* ---- stdin ---- */

static void on_input_error(neap_remote *r) {
    neap_stream *in = r->in;                         /* the channel's end says why */
    r->in = NULL;
    neap_stream_free(in);
}

static void on_shut(void *arg, const neap_err *err) {
    neap_remote *r = arg;
    if (r->in && err) on_input_error(r);
}

/* All that stdin is for us to say was said. */
static void end_input(neap_remote *r) {
    if (!r->feeds && r->in) neap_stream_shut(r->in, on_shut, r);
}

static void on_written(void *arg, const neap_err *err) {
    neap_remote *r = arg;
    if (!r->in) return;
    r->depth++;
    neap_buf_wipe(&r->text.input);
    if (err) on_input_error(r);
    r->written = true;
    if (!r->holds) end_input(r);
    settle(r);
    leave(r);
}

static void on_released(void *arg, const neap_err *err) {
    neap_remote *r = arg;
    if (!r->in) return;
    r->depth++;
    if (err) on_input_error(r);
    end_input(r);
    begun(r);
    leave(r);
}

void neap_remote_release(neap_remote *r) {
    neap_buf go = NEAP_BUF_INIT;
    if (!r->holds || r->released) return;
    r->released = true;
    neap_remote_go(&go, &r->text);
    if (r->in) neap_stream_write(r->in, go.data, go.len, on_released, r);
    neap_buf_close(&go);
}

/* ---- the object ---- */

neap_remote *neap_remote_new(neap_ssh *ssh, neap_remote_text *text, bool feeds, const neap_remote_names *names, const neap_remote_events *events, void *arg) {
    neap_remote *r = neap_zalloc(sizeof *r);
    r->loop = ssh->loop;
    r->text = *text;
    r->names = *names;
    r->events = *events;
    r->arg = arg;
    r->holds = text->holds;
    r->brief = text->brief;
    r->marks = text->marks;
    r->feeds = feeds;
    *text = (neap_remote_text){.line = NEAP_BUF_INIT, .input = NEAP_BUF_INIT};
    neap_remote_filter_init(&r->filter, r->text.nonce, on_word, r);
    r->errors = neap_zalloc(sizeof *r->errors);
    *r->errors = (errors){.stream.class = &errors_class, .owner = r, .err = NEAP_ERR_INIT};
    r->errors->soon = neap_timer_new(r->loop, on_soon, r->errors);
    r->exec = neap_ssh_exec_start(ssh, r->text.line.data, on_channel_end, r);
    r->in = neap_ssh_exec_stream(r->exec, 0);
    r->raw = neap_ssh_exec_stream(r->exec, 2);
    r->written = r->text.input.len == 0;
    if (!r->written) neap_stream_write(r->in, r->text.input.data, r->text.input.len, on_written, r);
    else if (!r->holds) end_input(r);
    pump(r);
    return r;
}

/* It may be asked for when the end is told already. */
static neap_stream *stdout_of(neap_remote *r) {
    neap_stream *raw = neap_ssh_exec_stream(r->exec, 1);
    if (!raw) return NULL;
    neap_remote_output *o = r->output = neap_remote_output_new(r->loop, raw, r->text.nonce, r->marks, r->names.place, &r->output);
    if (r->ended) neap_remote_output_told(o, r->word_ended);
    return neap_remote_output_stream(o);
}

neap_stream *neap_remote_stream(neap_remote *r, int n) {
    if (n == 1) return stdout_of(r);
    if (n == 2) {
        r->errors->taken = true;
        return &r->errors->stream;
    }
    if (!r->begun) return NULL;
    neap_stream *in = r->in;
    r->in = NULL;
    return in;
}

void neap_remote_free(neap_remote *r) {
    if (!r || r->freed) return;
    r->freed = true;
    if (r->output) neap_remote_output_left(r->output);
    errors *e = r->errors;
    r->errors = NULL;
    if (e) {
        e->owner = NULL;
        if (!e->taken) free_errors(e);
        else if (e->got && !e->held.len) errors_read(&e->stream, e->most, e->got, e->arg);
    }
    if (r->depth == 0) destroy(r);
}
