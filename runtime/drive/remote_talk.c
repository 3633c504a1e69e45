/* remote_talk.c -- a short talk with a remote shell: one script, one word. What a job said at its end (its status, or why it was
 * refused) is a word as well; what keeps the script itself from working is an error. */
#include <stdlib.h>
#include <string.h>

#include "drive/remote.h"

struct neap_remote_talk {
    neap_remote *remote;
    neap_remote_word word;
    neap_remote_talk_fn done;
    void *arg;
};

bool neap_remote_is_about_job(const neap_remote_word *w) {
    return w->verb != NEAP_WORD_REFUSED || strcmp(w->why, "cd") == 0 || strcmp(w->why, "program") == 0;
}

static void on_word(void *arg, const neap_remote_word *word) {
    neap_remote_talk *t = arg;
    if (neap_remote_is_about_job(word)) t->word = *word;
}

static void on_ended(void *arg, const neap_remote_end *end, const neap_err *err) {
    neap_remote_talk *t = arg;
    if (end->how == NEAP_REMOTE_EXITED || end->how == NEAP_REMOTE_SIGNALLED) t->word = neap_remote_word_of(end);
    neap_remote_free(t->remote);
    t->remote = NULL;
    neap_remote_word word = t->word;                 /* who hears it may free the talk first */
    if (word.verb != NEAP_WORD_NONE) t->done(t->arg, &word, NULL);
    else t->done(t->arg, NULL, err);
}

neap_remote_talk *neap_remote_talk_new(neap_ssh *ssh, neap_remote_text *text, const neap_remote_names *names, neap_remote_talk_fn done, void *arg) {
    static const neap_remote_events events = {.on_word = on_word, .on_ended = on_ended};
    neap_remote_talk *t = neap_zalloc(sizeof *t);
    t->done = done;
    t->arg = arg;
    t->remote = neap_remote_new(ssh, text, false, names, &events, t);
    neap_stream_free(neap_remote_stream(t->remote, 1));          /* nothing comes there */
    return t;
}

void neap_remote_talk_free(neap_remote_talk *t) {
    if (!t) return;
    neap_remote_free(t->remote);
    free(t);
}
