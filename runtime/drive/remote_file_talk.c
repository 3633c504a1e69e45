/* remote_file_talk.c -- see remote_file_talk.h.
 *
 * Below all three lies a talk: the script as an attached command, its stderr kept for the error, its end judged once both are there.
 *
 * A stream is reader and writer in one. Reading gives what the script prints behind its first line; the end of that is held back until the
 * script has said how it did, because a connection that breaks ends in the same way. Writing feeds it; a write that fails waits for the
 * script's own reason ("No space left on device") before it is told. Shutting ends its stdin, and is done when the script has ended
 * well: then the far end has everything. Rejected: SFTP. It has no lock and no hash, sudo does not reach it, and servers that parse it were
 * where the holes were. */
#include "drive/remote_file_talk.h"

#include <stdlib.h>
#include <string.h>

#include "loop/timer.h"

enum { SAID_MOST = 4096, PIECE_SIZE = 64 * 1024, DRAIN_MS = 1000, WORD_MS = 5000, GRACE_S = 2, WORDS_MOST = 10, LINE_MOST = 200 };

/* ---- a talk ---- */

typedef struct talk {
    neap_attached *attached;
    neap_loop *loop;
    neap_remote_command command;
    neap_remote_names names;
    const char *argv[WORDS_MOST + 1];
    char *args[5], *sudo, *doing, *place, *user;
    neap_stream *errors;
    neap_buf said;
    neap_timer *drain;
    bool ended, over;                /* its end was told; and its stderr is complete */
    neap_remote_end end;
    neap_err err;                    /* how it ended, where that is not well */
    int status;
    void (*on_channel)(void *arg);
    void (*on_begun)(void *arg);
    void (*on_over)(void *arg);
    void *arg;
} talk;

static char *copy(const char *text) { return text ? neap_strdup(text) : NULL; }

static void judge(talk *t) {
    if (t->over) return;
    t->over = true;
    t->status = t->end.how == NEAP_REMOTE_EXITED ? t->end.status : t->end.how == NEAP_REMOTE_NOT_BEGUN ? NEAP_FAR_NOT_BEGUN : NEAP_FAR_UNTOLD;
    if (t->end.how == NEAP_REMOTE_EXITED && t->status != 0)
        neap_far_judge(&t->err, t->status, t->said.data ? t->said.data : "", t->doing, t->place, t->sudo);
    if (t->end.how == NEAP_REMOTE_SIGNALLED)
        neap_err_set(&t->err, NEAP_E_REMOTE, "cannot %s on %s: it was ended by signal %d there", t->doing, t->place, t->end.status);
    neap_timer_stop(t->drain);
    t->on_over(t->arg);
}

static void on_drained(void *arg) { judge(arg); }

static void end_errors(talk *t) {
    neap_stream *s = t->errors;
    t->errors = NULL;
    neap_stream_free(s);
    if (t->ended) neap_timer_start(t->drain, 0);
}

static void on_said(void *arg, const char *data, ssize_t len, const neap_err *err) {
    talk *t = arg;
    (void)err;
    if (len <= 0) { end_errors(t); return; }
    if (t->said.len < SAID_MOST) neap_buf_add(&t->said, data, (size_t)len);
    neap_stream_read(t->errors, PIECE_SIZE, on_said, t);
}

static void on_channel(void *arg) {
    talk *t = arg;
    t->errors = neap_attached_stream(t->attached, 2);
    neap_stream_read(t->errors, PIECE_SIZE, on_said, t);
    t->on_channel(t->arg);
}

static void on_started(void *arg, long long pid, long long started) { (void)arg, (void)pid, (void)started; }

static void on_begun(void *arg) {
    talk *t = arg;
    t->on_begun(t->arg);
}

static void on_ended(void *arg, const neap_remote_end *end, const neap_err *err) {
    talk *t = arg;
    t->ended = true;
    t->end = *end;
    if (err && (end->how == NEAP_REMOTE_NOT_BEGUN || end->how == NEAP_REMOTE_UNTOLD)) {
        neap_err_set(&t->err, err->code, "cannot %s on %s: %s", t->doing, t->place, err->message);
        if (err->hint) neap_err_hint(&t->err, "%s", err->hint);
        t->err.retry = err->retry;
    }
    neap_timer_start(t->drain, t->errors && t->end.how == NEAP_REMOTE_EXITED ? DRAIN_MS : 0);
}

static void open_talk(talk *t, neap_ssh_link *link, const neap_far_request *r, bool feeds) {
    static const neap_attached_events events = {on_channel, on_started, on_begun, on_ended};
    const neap_ssh_host *host = neap_ssh_link_host(link);
    const char *const words[] = {"sh", "-c", neap_far_script(r->verb), "neap"};
    size_t n = sizeof words / sizeof *words;
    memcpy(t->argv, words, sizeof words);
    for (size_t i = 0; i < 5 && r->args[i]; i++) t->argv[n++] = t->args[i] = neap_strdup(r->args[i]);
    t->sudo = copy(r->sudo), t->doing = copy(r->doing), t->place = copy(host->name), t->user = copy(host->user);
    t->command = (neap_remote_command){.argv = t->argv, .sudo = t->sudo, .marks = true};
    t->names = (neap_remote_names){t->place, "sh", NULL, t->sudo, t->user};
    t->loop = neap_ssh_link_loop(link);
    t->err = (neap_err)NEAP_ERR_INIT;
    t->drain = neap_timer_new(t->loop, on_drained, t);
    t->attached = neap_attached_new(link, &t->command, feeds, &t->names, &events, t);
}

static void close_talk(talk *t) {
    neap_attached *a = t->attached;
    t->attached = NULL;
    neap_attached_free(a);
    neap_stream_free(t->errors);
    neap_timer_free(t->drain);
    for (size_t i = 0; i < 5; i++) free(t->args[i]);
    free(t->sudo), free(t->doing), free(t->place), free(t->user);
    neap_buf_close(&t->said);
    neap_err_close(&t->err);
}

/* ---- a question ---- */

struct neap_far_question {
    talk talk;                       /* first */
    neap_stream *out, *in;
    neap_buf answer;
    const char *input;
    size_t input_len, most;
    bool too_much, torn;
    neap_far_answer_fn done;
    void *arg;
};

static void check_answered(neap_far_question *q) {
    talk *t = &q->talk;
    if (!t->over || q->out) return;
    if (q->too_much) {
        neap_err_close(&t->err);
        neap_err_set(&t->err, NEAP_E_REFUSED, "cannot %s on %s: it is more than %zu bytes", t->doing, t->place, q->most);
    } else if (q->torn && !t->err.code) {
        neap_err_set(&t->err, NEAP_E_CLOSED, "cannot %s on %s: the answer did not arrive whole", t->doing, t->place);
    }
    q->done(q->arg, t->status, &q->answer, t->err.code ? &t->err : NULL);
}

static void on_answer(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_far_question *q = arg;
    (void)err;
    if (len > 0 && q->answer.len + (size_t)len <= q->most) neap_buf_add(&q->answer, data, (size_t)len);
    else if (len > 0) q->too_much = true;
    if (len > 0 && !q->too_much) { neap_stream_read(q->out, PIECE_SIZE, on_answer, q); return; }
    neap_stream *out = q->out;
    q->out = NULL;
    q->torn = len < 0;
    neap_stream_free(out);
    if (q->too_much && !q->talk.ended) neap_attached_end(q->talk.attached, GRACE_S);
    check_answered(q);
}

static void question_channel(void *arg) {
    neap_far_question *q = arg;
    q->out = neap_attached_stream(q->talk.attached, 1);
    neap_stream_read(q->out, PIECE_SIZE, on_answer, q);
}

static void on_fed(void *arg, const neap_err *err) { (void)arg, (void)err; }

static void on_sent(void *arg, const neap_err *err) {
    neap_far_question *q = arg;
    if (!err && q->in) neap_stream_shut(q->in, on_fed, q);         /* a script that wants no more says why */
}

static void question_begun(void *arg) {
    neap_far_question *q = arg;
    if (!q->input) return;
    q->in = neap_attached_stream(q->talk.attached, 0);
    if (q->in && q->input_len) neap_stream_write(q->in, q->input, q->input_len, on_sent, q);
    else if (q->in) neap_stream_shut(q->in, on_fed, q);
}

static void question_over(void *arg) {
    neap_far_question *q = arg;
    if (q->talk.end.how != NEAP_REMOTE_EXITED) {                   /* nothing that still comes would count */
        neap_stream *out = q->out;
        q->out = NULL;
        neap_stream_free(out);
    }
    check_answered(q);
}

neap_far_question *neap_far_ask(neap_ssh_link *link, const neap_far_request *r, neap_far_answer_fn done, void *arg) {
    neap_far_question *q = neap_zalloc(sizeof *q);
    *q = (neap_far_question){.input = r->input, .input_len = r->input_len, .most = r->most, .done = done, .arg = arg};
    q->talk.on_channel = question_channel, q->talk.on_begun = question_begun, q->talk.on_over = question_over, q->talk.arg = q;
    open_talk(&q->talk, link, r, r->input != NULL);
    return q;
}

void neap_far_question_end(neap_far_question *q) {
    if (!q->talk.ended) neap_attached_end(q->talk.attached, GRACE_S);
}

void neap_far_question_free(neap_far_question *q) {
    if (!q) return;
    neap_stream_free(q->in);
    neap_stream_free(q->out);
    close_talk(&q->talk);
    neap_buf_wipe(&q->answer);
    free(q);
}

/* ---- a stream ---- */

typedef struct far_stream {
    neap_stream stream;              /* first */
    talk talk;
    neap_stream *in, *out;
    neap_buf line;
    bool feeds, lined, told;         /* has a stdin; the first line is complete; `opened` was called */
    neap_far_opened_fn opened;
    void *opened_arg;
    neap_stream_read_fn got;         /* a read that waits: for bytes, or for how it ended */
    neap_stream_done_fn done;        /* a write or shut that waits: for the stream below, or for how it ended */
    void *got_arg, *done_arg;
    bool at_end, torn, shutting, failed;   /* no more output; it broke; stdin was ended; stdin broke */
    bool stopping, freed;
    neap_timer *late;                /* the script does not say why its stdin broke */
} far_stream;

/* Every callback may free the stream: nothing is touched after it. */
static void tell_read(far_stream *s, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = s->got;
    s->got = NULL;
    if (got) got(s->got_arg, data, len, err);
}

static void tell_done(far_stream *s, const neap_err *err) {
    neap_stream_done_fn done = s->done;
    s->done = NULL;
    neap_timer_stop(s->late);
    if (done) done(s->done_arg, err);
}

/* The first line comes by stdout, that it may be written to by stderr, and they overtake each other. */
static void tell_opened(far_stream *s) {
    bool opened = s->lined && (s->in || !s->feeds || s->talk.over);
    if (s->told || !(opened || (s->talk.over && !s->out))) return;
    s->told = true;
    if (!s->lined && !s->talk.err.code)
        neap_err_set(&s->talk.err, NEAP_E_PROTOCOL, "cannot %s on %s: it did not answer", s->talk.doing, s->talk.place);
    neap_buf line = s->line;                         /* who is told may free the stream, not what he is reading */
    neap_err err = NEAP_ERR_INIT;
    s->line = (neap_buf)NEAP_BUF_INIT;
    if (!s->lined) neap_err_copy(&err, &s->talk.err);
    s->opened(s->opened_arg, s->lined ? line.data : NULL, s->lined ? NULL : &err);
    neap_buf_close(&line);
    neap_err_close(&err);
}

static void give_up_output(far_stream *s) {
    neap_stream *out = s->out;
    s->out = NULL;
    s->at_end = true;
    neap_stream_free(out);
}

/* How it ended is known: whoever waited for that is told. At most one of them exists. */
static void stream_over(void *arg) {
    far_stream *s = arg;
    if (s->torn && !s->talk.err.code)
        neap_err_set(&s->talk.err, NEAP_E_CLOSED, "cannot %s on %s: the connection was lost", s->talk.doing, s->talk.place);
    neap_err err = NEAP_ERR_INIT;                    /* a copy: the stream may be freed by who reads it */
    neap_err_keep(&err, &s->talk.err);
    if (!s->told) {
        if (s->talk.end.how != NEAP_REMOTE_EXITED && !s->lined) give_up_output(s);
        tell_opened(s);                              /* or the line is still on its way */
    } else if (s->got && s->at_end) {
        tell_read(s, NULL, err.code ? -1 : 0, err.code ? &err : NULL);
    } else if (s->done && (s->failed || s->shutting)) {
        if (!err.code && s->failed) neap_err_set(&err, NEAP_E_CLOSED, "%s wanted no more of what was to be written", s->talk.place);
        tell_done(s, err.code ? &err : NULL);
    }
    neap_err_close(&err);
}

static void on_line(void *arg, const char *data, ssize_t len, const neap_err *err) {
    far_stream *s = arg;
    (void)err;
    if (len == 1 && *data == '\n') {
        s->lined = true;
        if (!s->line.data) neap_buf_adds(&s->line, "");
        tell_opened(s);
        return;
    }
    if (len == 1 && s->line.len < LINE_MOST) {
        neap_buf_add(&s->line, data, 1);
        neap_stream_read(s->out, 1, on_line, s);
        return;
    }
    give_up_output(s);                               /* why is what the end says */
    if (s->talk.over) tell_opened(s);
}

static void stream_channel(void *arg) {
    far_stream *s = arg;
    s->out = neap_attached_stream(s->talk.attached, 1);
    neap_stream_read(s->out, 1, on_line, s);
}

static void stream_begun(void *arg) {
    far_stream *s = arg;
    if (s->feeds) s->in = neap_attached_stream(s->talk.attached, 0);
    tell_opened(s);
}

static void on_bytes(void *arg, const char *data, ssize_t len, const neap_err *err) {
    far_stream *s = arg;
    if (len > 0 || (len < 0 && err->code == NEAP_E_CANCELLED)) { tell_read(s, data, len, err); return; }
    s->torn = len < 0;
    give_up_output(s);
    if (s->talk.over) stream_over(s);                /* else its end tells the reader */
}

static void far_read(neap_stream *stream, size_t most, neap_stream_read_fn got, void *arg) {
    far_stream *s = (far_stream *)stream;
    s->got = got;
    s->got_arg = arg;
    if (s->out) neap_stream_read(s->out, most, on_bytes, s);
    else if (s->talk.over) stream_over(s);
}

static void on_late(void *arg) {
    far_stream *s = arg;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CLOSED, "cannot %s on %s: it takes no more, and has not said why", s->talk.doing, s->talk.place);
    tell_done(s, &err);
    neap_err_close(&err);
}

static void on_taken(void *arg, const neap_err *err) {
    far_stream *s = arg;
    if (err && err->code == NEAP_E_CANCELLED) { tell_done(s, err); return; }
    if (!err && !s->shutting) { tell_done(s, NULL); return; }
    s->failed = s->failed || err;
    if (s->talk.over) { stream_over(s); return; }
    if (err) neap_timer_start(s->late, WORD_MS);     /* a shut waits for the script for as long as it takes: a sync may be long */
}

static void far_write(neap_stream *stream, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    far_stream *s = (far_stream *)stream;
    s->done = done;
    s->done_arg = arg;
    if (s->in && !s->talk.over) { neap_stream_write(s->in, data, len, on_taken, s); return; }
    s->failed = true;
    if (s->talk.over) stream_over(s);
    else neap_timer_start(s->late, WORD_MS);
}

static void far_shut(neap_stream *stream, neap_stream_done_fn done, void *arg) {
    far_stream *s = (far_stream *)stream;
    s->done = done;
    s->done_arg = arg;
    s->shutting = true;
    if (s->talk.over) stream_over(s);
    else if (s->in) neap_stream_shut(s->in, on_taken, s);
}

static void far_stop(neap_stream *stream) {
    far_stream *s = (far_stream *)stream;
    neap_err err = NEAP_ERR_INIT;
    bool outer = s->stopping;
    s->stopping = true;
    neap_err_set(&err, NEAP_E_CANCELLED, "stopped");
    if (s->in) neap_stream_stop(s->in);
    if (!s->freed && s->out) neap_stream_stop(s->out);
    if (!s->freed && s->done) tell_done(s, &err);
    if (!s->freed && s->got) tell_read(s, NULL, -1, &err);
    neap_err_close(&err);
    s->stopping = outer;
    if (s->freed && !outer) free(s);
}

static void far_free(neap_stream *stream) {
    far_stream *s = (far_stream *)stream;
    s->freed = true;
    s->got = NULL;
    s->done = NULL;
    neap_stream_free(s->in);
    neap_stream_free(s->out);
    close_talk(&s->talk);
    neap_timer_free(s->late);
    neap_buf_close(&s->line);
    if (!s->stopping) free(s);
}

static const neap_stream_class far_class = {"remote file", far_read, far_write, far_shut, far_stop, far_free};

neap_stream *neap_far_open(neap_ssh_link *link, const neap_far_request *r, neap_far_opened_fn opened, void *arg) {
    far_stream *s = neap_zalloc(sizeof *s);
    *s = (far_stream){.stream.class = &far_class, .opened = opened, .opened_arg = arg};
    s->feeds = r->verb == NEAP_FAR_RECEIVE || r->verb == NEAP_FAR_LOCK;
    s->talk.on_channel = stream_channel, s->talk.on_begun = stream_begun, s->talk.on_over = stream_over, s->talk.arg = s;
    s->late = neap_timer_new(neap_ssh_link_loop(link), on_late, s);
    open_talk(&s->talk, link, r, s->feeds);
    return &s->stream;
}

bool neap_far_is_over(const neap_stream *s) { return ((const far_stream *)s)->talk.ended; }
