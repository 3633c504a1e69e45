/* remote_attached.c -- see remote_attached.h.
 *
 * Ending is a second exec, on the same connection or, when that was lost, on a new one: the group is named by pid and start time. How the
 * command ended is what the first exec says, so after "gone" a moment is given to its word. Asked to end before the command has told
 * its pid, we wait for that: what may have begun must not be left behind. A held command that was not released ends with its channel.
 *
 * A connection that is lost while nobody asked for the end is told at once: untold. What to do about the process is for who hears it. */
#include "drive/remote_attached.h"

#include <stdlib.h>
#include <string.h>

#include "drive/remote_job.h"
#include "loop/timer.h"

enum { WORD_MS = 1000, START_MS = 5000 };

struct neap_attached {
    neap_ssh_link *link;
    const neap_remote_command *command;
    neap_remote_names names;
    neap_attached_events events;
    void *arg;
    bool feeds, brief, started, released, ending, ended;
    char nonce[NEAP_REMOTE_NONCE_SIZE];
    int grace_s;
    long long pid, born;
    neap_ssh_wait *wait;
    neap_remote *remote;
    neap_remote_ask *ask;
    neap_timer *timer;
    neap_err failure;                /* while ending: what the first exec said */
};

static void finish(neap_attached *a, neap_remote_how how, int status, const neap_err *err) {
    neap_remote_end end = {how, status};
    if (a->ended) return;
    a->ended = true;
    neap_timer_stop(a->timer);
    neap_ssh_link_forgo(a->wait);
    a->wait = NULL;
    a->events.on_ended(a->arg, &end, err);
}

/* ---- ending ---- */

/* The group is gone, and the first exec has not said how: it never will. */
static void on_time(void *arg) {
    neap_attached *a = arg;
    neap_err err = NEAP_ERR_INIT;
    if (a->failure.code) neap_err_move(&err, &a->failure);
    else neap_err_set(&err, NEAP_E_CANCELLED, "\"%s\" on %s was ended, and has not said how", a->names.program, a->names.place);
    finish(a, NEAP_REMOTE_UNTOLD, -1, &err);
    neap_err_close(&err);
}

static void on_end_told(void *arg, const neap_remote_word *w, const neap_err *err) {
    neap_attached *a = arg;
    neap_err left = NEAP_ERR_INIT;
    neap_remote_ask_free(a->ask);
    a->ask = NULL;
    if (w && w->verb != NEAP_WORD_RUNNING) {
        neap_timer_start(a->timer, a->failure.code ? 0 : WORD_MS);
        return;
    }
    neap_err_set(&left, NEAP_E_UNKNOWN, "\"%s\" on %s, process %lld, could not be ended%s%s", a->names.program, a->names.place, a->pid,
                 w ? "" : ": ", w ? "" : err->message);
    neap_err_hint(&left, "End it by hand: kill -- -%lld", a->pid);
    finish(a, NEAP_REMOTE_UNTOLD, -1, &left);
    neap_err_close(&left);
}

static void ask_to_end(neap_attached *a) {
    neap_remote_text text;
    if (a->ask) return;
    if (a->brief) neap_remote_end_brief(&text, a->pid, a->nonce, a->grace_s);
    else neap_remote_end_group(&text, a->command->sudo, a->pid, a->born, a->grace_s);
    a->ask = neap_remote_ask_new(a->link, &text, true, &a->names, on_end_told, a);
}

void neap_attached_end(neap_attached *a, int grace_s) {
    if (a->ended || a->ending) return;
    a->ending = true;
    a->grace_s = grace_s;
    if (a->started && (a->released || !a->command->holds)) {
        ask_to_end(a);
    } else if (a->remote && !a->command->holds) {
        neap_timer_start(a->timer, START_MS);
    } else {
        neap_err err = NEAP_ERR_INIT;
        neap_err_set(&err, NEAP_E_CANCELLED, "\"%s\" was stopped before it was begun on %s", a->names.program, a->names.place);
        finish(a, NEAP_REMOTE_NOT_BEGUN, -1, &err);
        neap_err_close(&err);
    }
}

/* ---- from the first exec ---- */

static void on_started(void *arg, long long pid, long long born) {
    neap_attached *a = arg;
    a->started = true;
    a->pid = pid;
    a->born = born;
    if (a->ending) ask_to_end(a);
    else a->events.on_started(a->arg, pid, born);
}

static void on_shell(void *arg, neap_remote_shell shell) {
    neap_attached *a = arg;
    if (!a->command->sudo) neap_ssh_link_learn(a->link, shell);
}

static void on_begun(void *arg) {
    neap_attached *a = arg;
    if (!a->ended) a->events.on_begun(a->arg);
}

static void on_remote_end(void *arg, const neap_remote_end *end, const neap_err *err) {
    neap_attached *a = arg;
    if (a->ending && end->how == NEAP_REMOTE_UNTOLD && a->ask) {          /* whether it is gone is being asked */
        neap_err_set(&a->failure, err->code, "%s", err->message);
        return;
    }
    neap_remote_ask_free(a->ask);
    a->ask = NULL;
    finish(a, end->how, end->status, err);
}

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err) {
    static const neap_remote_events events = {.on_started = on_started, .on_shell = on_shell, .on_begun = on_begun, .on_ended = on_remote_end};
    neap_attached *a = arg;
    neap_remote_text text;
    a->wait = NULL;
    if (!ssh) { finish(a, NEAP_REMOTE_NOT_BEGUN, -1, err); return; }
    neap_remote_shell shell = neap_ssh_link_shell(a->link);
    a->brief = !a->feeds && neap_remote_briefly(&text, a->command, shell);
    if (!a->brief) neap_remote_attached(&text, a->command, shell == NEAP_SHELL_UNKNOWN && !a->command->sudo);
    memcpy(a->nonce, text.nonce, sizeof a->nonce);
    a->remote = neap_remote_new(ssh, &text, a->feeds, &a->names, &events, a);
    a->events.on_channel(a->arg);
}

/* ---- the object ---- */

neap_attached *neap_attached_new(neap_ssh_link *link, const neap_remote_command *command, bool feeds, const neap_remote_names *names,
                                 const neap_attached_events *events, void *arg) {
    neap_attached *a = neap_zalloc(sizeof *a);
    *a = (neap_attached){.link = neap_ssh_link_hold(link), .command = command, .names = *names, .events = *events, .arg = arg,
                         .feeds = feeds, .failure = NEAP_ERR_INIT};
    a->timer = neap_timer_new(neap_ssh_link_loop(link), on_time, a);
    a->wait = neap_ssh_link_open(link, on_open, a);
    return a;
}

neap_stream *neap_attached_stream(neap_attached *a, int n) { return neap_remote_stream(a->remote, n); }

void neap_attached_release(neap_attached *a) {
    if (a->ended || a->ending || a->released) return;
    a->released = true;
    neap_remote_release(a->remote);
}

void neap_attached_free(neap_attached *a) {
    if (!a) return;
    a->ended = true;
    neap_ssh_link_forgo(a->wait);
    neap_remote_ask_free(a->ask);
    neap_remote_free(a->remote);
    neap_timer_free(a->timer);
    neap_err_close(&a->failure);
    neap_ssh_link_release(a->link);
    free(a);
}
