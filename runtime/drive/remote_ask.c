/* remote_ask.c -- one talk over a link; the link opens when it is closed. Who asks tries again: whether that is right depends on the question.
 *
 * A host that starts no further command in this connection (MaxSessions) is asked in another one, if it is urgent: a command that is to be ended
 * cannot be waited for. */
#include <stdlib.h>

#include "drive/remote_job.h"

struct neap_remote_ask {
    neap_ssh_link *link;
    neap_remote_text text;
    neap_remote_names names;
    neap_ssh_wait *wait;
    neap_remote_talk *talk;
    neap_remote_talk_fn done;
    void *arg;
    bool urgent;                     /* and not yet asked in another connection */
};

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err);

static void ask_aside(neap_remote_ask *a) {
    neap_ssh_link *link = a->link;
    a->urgent = false;
    a->link = neap_ssh_link_hold(neap_ssh_link_aside(link));
    neap_ssh_link_release(link);
    neap_remote_talk_free(a->talk);
    a->talk = NULL;
    a->wait = neap_ssh_link_open(a->link, on_open, a);
}

static void on_told(void *arg, const neap_remote_word *word, const neap_err *err) {
    neap_remote_ask *a = arg;
    bool refused = !word && err && err->code == NEAP_E_UNREACHABLE;
    if (refused && a->urgent) ask_aside(a);
    else a->done(a->arg, word, err);
}

static void on_open(void *arg, neap_ssh *ssh, const neap_err *err) {
    neap_remote_ask *a = arg;
    a->wait = NULL;
    if (!ssh) { a->done(a->arg, NULL, err); return; }
    neap_remote_text text = a->text;                 /* a talk takes its own; ours may be said a second time */
    text.line = text.input = (neap_buf)NEAP_BUF_INIT;
    neap_buf_add(&text.line, a->text.line.data, a->text.line.len);
    neap_buf_add(&text.input, a->text.input.data, a->text.input.len);
    a->talk = neap_remote_talk_new(ssh, &text, &a->names, on_told, a);
}

neap_remote_ask *neap_remote_ask_new(neap_ssh_link *link, neap_remote_text *text, bool urgent, const neap_remote_names *names,
                                     neap_remote_talk_fn done, void *arg) {
    neap_remote_ask *a = neap_zalloc(sizeof *a);
    *a = (neap_remote_ask){.link = neap_ssh_link_hold(link), .text = *text, .names = *names, .urgent = urgent, .done = done, .arg = arg};
    *text = (neap_remote_text){.line = NEAP_BUF_INIT, .input = NEAP_BUF_INIT};
    a->wait = neap_ssh_link_open(link, on_open, a);
    return a;
}

void neap_remote_ask_free(neap_remote_ask *a) {
    if (!a) return;
    neap_ssh_link_forgo(a->wait);
    neap_remote_talk_free(a->talk);
    neap_remote_text_close(&a->text);
    neap_ssh_link_release(a->link);
    free(a);
}
