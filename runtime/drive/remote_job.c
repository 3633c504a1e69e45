/* remote_job.c -- see remote_job.h.
 *
 *     OPENING --connection--> TOLD --e, x, v, h, g--> ENDED
 *        ^                      |
 *        └── pause ◄── lost ────┘        until `patience` is over: untold, with the last error
 *     end: ENDING --word--> ENDED        asked again when the connection is lost meanwhile, as long as patience lasts
 *
 * Every connection sends the same launch with the offsets told so far. Was the directory made before, the launch only follows: so it need
 * not be known whether the last one arrived.
 *
 * A host that starts nothing on the first connection (no room, a login shell that refuses) has not begun the job. On a later one that says nothing of what an
 * earlier one began: it goes down, or its home directories are not there yet, and may be back.
 *
 * Only what may pass is waited for long: a host that is unreachable, slow, busy or hung up. A key that changed or a login that is refused
 * is asked about REFUSALS_MOST times (a connection that is cut while logging in looks like a refusal), then it is untold.
 *
 * The outputs are read as they come; nobody slows a job down by not listening. */
#include "drive/remote_job.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "loop/timer.h"

enum { PIECE_SIZE = 64 * 1024, PAUSE_MS = 250, PAUSE_MOST_MS = 8000, REFUSALS_MOST = 3 };

struct neap_remote_job {
    neap_ssh_link *link;
    neap_remote_job_options o;
    neap_remote_job_events events;
    void *arg;
    neap_ssh_wait *wait;
    neap_remote *remote;
    neap_remote_ask *ask;            /* ending it */
    neap_stream *out[2];
    neap_timer *pause;
    int64_t pause_ms, gives_up;      /* gives_up: when patience is over; 0 while connected */
    long long told[2];
    int grace_s, refusals;
    bool launched, followed, refused, away, started, ending, ended, torn;
                                     /* followed: launched more than once; refused: the job could not begin; away: the last login was turned away */
    neap_remote_word word;           /* the last word, of those that settle it */
    neap_err failure;                /* of the last connection */
};

static void close_talk(neap_remote_job *j) {
    for (int n = 0; n < 2; n++) {
        neap_stream *s = j->out[n];
        j->out[n] = NULL;
        neap_stream_free(s);
    }
    neap_remote *r = j->remote;
    j->remote = NULL;
    neap_remote_free(r);
}

static void finish(neap_remote_job *j, neap_remote_how how, int status, const neap_err *err) {
    neap_remote_end end = {how, status};
    if (j->ended) return;
    j->ended = true;
    close_talk(j);
    neap_timer_stop(j->pause);
    neap_ssh_link_forgo(j->wait);
    j->wait = NULL;
    j->events.on_ended(j->arg, &end, err);
}

static void keep_error(neap_remote_job *j, const neap_err *err) {
    neap_err_close(&j->failure);
    j->away = false;
    if (!err || !err->code) { neap_err_set(&j->failure, NEAP_E_CLOSED, "the connection to %s was lost", j->o.names.place); return; }
    neap_err_copy(&j->failure, err);
}

/* ---- words ---- */

static void finish_by_word(neap_remote_job *j, const neap_remote_word *w) {
    const char *place = j->o.names.place, *program = j->o.names.program;
    neap_err err = NEAP_ERR_INIT;
    neap_remote_how how = NEAP_REMOTE_UNTOLD;
    if (w->verb == NEAP_WORD_VOID) {
        how = NEAP_REMOTE_NOT_BEGUN;
        neap_err_set(&err, NEAP_E_CLOSED, "\"%s\" was not begun on %s, and cannot begin any more", program, place);
    } else if (w->verb == NEAP_WORD_HALF) {
        neap_err_set(&err, NEAP_E_UNKNOWN, "job %s on %s has a directory, but neither a process nor an end", j->o.name, place);
    } else if (w->verb == NEAP_WORD_RUNNING) {
        neap_err_set(&err, NEAP_E_UNKNOWN, "job %s on %s, process %lld, could not be ended", j->o.name, place, w->first);
    } else {
        neap_err_set(&err, NEAP_E_UNKNOWN, "job %s on %s is gone and has not said how it ended", j->o.name, place);
        neap_err_hint(&err, "It was killed, or %s was started anew.", place);
    }
    finish(j, how, -1, &err);
    neap_err_close(&err);
}

static void on_word(void *arg, const neap_remote_word *w) {
    neap_remote_job *j = arg;
    if (w->verb == NEAP_WORD_SKIPPED && w->first > 0) {
        j->told[w->stream - 1] += w->first;
        j->events.on_skipped(j->arg, w->stream, w->first);
    } else if (w->verb == NEAP_WORD_REFUSED) {
        j->refused = neap_remote_is_about_job(w);
    } else {
        j->word = *w;
    }
}

static void on_started(void *arg, long long pid, long long started) {
    neap_remote_job *j = arg;
    j->pause_ms = PAUSE_MS;
    j->gives_up = 0;
    j->refusals = 0;
    if (j->started) return;
    j->started = true;
    j->events.on_started(j->arg, pid, started);
}

/* ---- connections ---- */

static bool may_pass(neap_code code) {
    return code == NEAP_E_UNREACHABLE || code == NEAP_E_CLOSED || code == NEAP_E_TIMEOUT || code == NEAP_E_BUSY || code == NEAP_E_PROTOCOL;
}

/* Nobody can say any more; or nothing was ever sent. */
static void give_up(neap_remote_job *j) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_move(&err, &j->failure);
    finish(j, j->launched ? NEAP_REMOTE_UNTOLD : NEAP_REMOTE_NOT_BEGUN, -1, &err);
    neap_err_close(&err);
}

/* The first opening is not tried again: whoever begins a job wants to hear at once that the host is away. */
static void try_again(neap_remote_job *j) {
    int64_t now = neap_clock_mono_ms();
    if (!j->gives_up) j->gives_up = now + j->o.patience_ms;
    bool hopeless = !j->away && !may_pass(j->failure.code) && ++j->refusals > REFUSALS_MOST;
    if (!j->launched || hopeless || now + j->pause_ms > j->gives_up) { give_up(j); return; }
    if (j->events.on_lost) j->events.on_lost(j->arg, &j->failure);
    neap_timer_start(j->pause, j->pause_ms);
    j->pause_ms = j->pause_ms * 2 < PAUSE_MOST_MS ? j->pause_ms * 2 : PAUSE_MOST_MS;
}

/* The word e came when the outputs had been written; what is still on its way is waited for by the streams' own ends. An output that
 * broke is followed again: its rest is still there. */
static void check_over(neap_remote_job *j) {
    if (j->ended || j->word.verb != NEAP_WORD_ENDED || j->out[0] || j->out[1]) return;
    if (j->torn) {
        j->word.verb = NEAP_WORD_NONE;
        close_talk(j);
        keep_error(j, NULL);
        try_again(j);
        return;
    }
    neap_remote_end end = neap_remote_end_of(&j->word);
    finish(j, end.how, end.status, NULL);
}

static void on_remote_end(void *arg, const neap_remote_end *end, const neap_err *err) {
    neap_remote_job *j = arg;
    if (end->how == NEAP_REMOTE_EXITED || end->how == NEAP_REMOTE_SIGNALLED) {
        j->word = neap_remote_word_of(end);
        check_over(j);
    } else if (j->word.verb != NEAP_WORD_NONE) {
        finish_by_word(j, &j->word);
    } else if (end->how == NEAP_REMOTE_NOT_BEGUN && err->code != NEAP_E_CLOSED && (j->refused || !j->followed)) {
        finish(j, end->how, -1, err);
    } else {
        close_talk(j);
        keep_error(j, err);
        j->away = end->how == NEAP_REMOTE_NOT_BEGUN;
        try_again(j);
    }
}

static void listen_to(neap_remote_job *j, int n);

static void on_output(neap_remote_job *j, int n, const char *data, ssize_t len) {
    if (!j->out[n]) return;
    if (len <= 0) {
        neap_stream *s = j->out[n];
        j->out[n] = NULL;
        j->torn = j->torn || len < 0;
        neap_stream_free(s);
        check_over(j);
        return;
    }
    j->told[n] += len;
    j->events.on_output(j->arg, n + 1, data, (size_t)len);
    if (j->out[n]) listen_to(j, n);
}

static void on_out(void *arg, const char *data, ssize_t len, const neap_err *err) { (void)err, on_output(arg, 0, data, len); }
static void on_err(void *arg, const char *data, ssize_t len, const neap_err *err) { (void)err, on_output(arg, 1, data, len); }

static void listen_to(neap_remote_job *j, int n) { neap_stream_read(j->out[n], PIECE_SIZE, n ? on_err : on_out, j); }

static void launch(neap_remote_job *j, neap_ssh *ssh) {
    static const neap_remote_events events = {.on_started = on_started, .on_word = on_word, .on_ended = on_remote_end};
    neap_remote_text text;
    long long input = j->o.input ? (long long)j->o.input_len : -1;
    neap_remote_launch(&text, j->o.command, j->o.name, j->started ? -2 : input, j->told);
    if (!j->started && j->o.input) neap_buf_add(&text.input, j->o.input, j->o.input_len);
    j->followed = j->launched;
    j->launched = true;
    j->torn = j->refused = false;
    j->remote = neap_remote_new(ssh, &text, false, &j->o.names, &events, j);
    for (int n = 0; n < 2; n++) j->out[n] = neap_remote_stream(j->remote, n + 1);
    for (int n = 0; n < 2; n++) listen_to(j, n);
}

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err);

static void open_link(neap_remote_job *j) { j->wait = neap_ssh_link_open(j->link, on_open, j); }

/* ---- ending it ---- */

static void on_end_told(void *arg, const neap_remote_word *w, const neap_err *err) {
    neap_remote_job *j = arg;
    neap_remote_ask_free(j->ask);
    j->ask = NULL;
    if (w && w->verb == NEAP_WORD_ENDED) {
        neap_remote_end end = neap_remote_end_of(w);
        finish(j, end.how, end.status, NULL);
    } else if (w && w->verb == NEAP_WORD_REFUSED) {
        neap_remote_word gone = {.verb = NEAP_WORD_VOID};
        finish_by_word(j, &gone);
    } else if (w) {
        finish_by_word(j, w);
    } else {
        keep_error(j, err);
        try_again(j);
    }
}

static void ask_to_end(neap_remote_job *j) {
    neap_remote_text text;
    neap_remote_end_job(&text, j->o.command->sudo, j->o.name, j->grace_s);
    j->ask = neap_remote_ask_new(j->link, &text, true, &j->o.names, on_end_told, j);
    neap_remote_text_close(&text);
}

void neap_remote_job_end(neap_remote_job *j, int grace_s) {
    if (j->ended || j->ending) return;
    j->ending = true;
    j->grace_s = grace_s;
    close_talk(j);
    neap_ssh_link_forgo(j->wait);
    j->wait = NULL;
    neap_timer_stop(j->pause);
    if (!j->launched) neap_err_set(&j->failure, NEAP_E_CANCELLED, "stopped before it was begun");
    if (j->launched) ask_to_end(j);
    else give_up(j);
}

/* ---- the object ---- */

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err) {
    neap_remote_job *j = arg;
    j->wait = NULL;
    if (ssh) { launch(j, ssh); return; }
    keep_error(j, err);
    try_again(j);
}

static void on_pause(void *arg) {
    neap_remote_job *j = arg;
    if (j->ending) ask_to_end(j);
    else open_link(j);
}

neap_remote_job *neap_remote_job_new(neap_ssh_link *link, const neap_remote_job_options *o, const neap_remote_job_events *events, void *arg) {
    neap_remote_job *j = neap_zalloc(sizeof *j);
    j->link = neap_ssh_link_hold(link);
    j->o = *o;
    j->events = *events;
    j->arg = arg;
    j->pause_ms = PAUSE_MS;
    j->failure = (neap_err)NEAP_ERR_INIT;
    j->pause = neap_timer_new(neap_ssh_link_loop(link), on_pause, j);
    open_link(j);
    return j;
}

bool neap_remote_job_is_launched(const neap_remote_job *j) { return j->launched; }

void neap_remote_job_free(neap_remote_job *j) {
    if (!j) return;
    j->ended = true;
    close_talk(j);
    neap_ssh_link_forgo(j->wait);
    neap_remote_ask_free(j->ask);
    neap_timer_free(j->pause);
    neap_err_close(&j->failure);
    neap_ssh_link_release(j->link);
    free(j);
}
