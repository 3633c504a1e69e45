/* ssh_link.c -- see ssh_link.h.
 *
 * One opening serves everybody who waits. The back end that worked is asked first when the connection is opened again. A host that
 * shows another key the second time is another machine: what was begun there cannot be asked about here, so that is refused even where
 * known_hosts knows both.
 *
 * A lost connection is freed in the next turn: its callback may stand below us. Rejected: opening again by itself when a
 * connection is lost. Nobody may need it any more, and a run that ended would hold a connection to a host that came back. */
#include "drive/ssh_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/list.h"
#include "loop/timer.h"

struct neap_ssh_wait {
    neap_list node;
    neap_ssh_link_fn done;
    void *arg;
};

struct neap_ssh_link {
    neap_loop *loop;
    neap_ssh_host *host;
    neap_ssh_backends backends;
    int holds, attempt;
    neap_ssh *ssh;                   /* opening, or open */
    neap_ssh *dead;                  /* to be freed in the next turn */
    bool is_open, closed, known;
    neap_ssh_card card;              /* copies */
    neap_remote_shell shell;
    char *why;
    neap_err failure;
    neap_list waits;
    neap_timer *turn;                /* tell who waits, free what is dead */
    neap_ssh_link *beside, *aside;
    neap_ssh_link *of;               /* whose host we have, and whom everybody holds who holds us; NULL: we are beside nobody */
};

static void free_card(neap_ssh_card *c) {
    const char **const texts[] = {&c->backend, &c->banner, &c->key_type, &c->fingerprint, &c->user, &c->address, &c->authenticated};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free((char *)*texts[i]), *texts[i] = NULL;
}

static void copy_card(neap_ssh_card *to, const neap_ssh_card *from) {
    neap_ssh_card c = *from;
    const char **const texts[] = {&c.backend, &c.banner, &c.key_type, &c.fingerprint, &c.user, &c.address, &c.authenticated};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) *texts[i] = neap_strdup(*texts[i] ? *texts[i] : "");
    free_card(to);
    *to = c;
}

/* ---- telling ---- */

static void free_dead(neap_ssh_link *l) {
    neap_ssh *dead = l->dead;
    l->dead = NULL;
    neap_ssh_free(dead);
}

static void on_turn(void *arg) {
    neap_ssh_link *l = neap_ssh_link_hold(arg);
    free_dead(l);
    neap_list told;
    neap_err failure = NEAP_ERR_INIT;                /* of all of them: who hears it may open the link again, and that has another */
    neap_list_init(&told);
    bool settled = l->is_open || !l->ssh;
    if (!l->is_open) neap_err_keep(&failure, &l->failure);
    if (!l->is_open && !failure.code) neap_err_set(&failure, NEAP_E_CLOSED, "the connection to %s was lost", l->host->name);
    while (settled && !neap_list_is_empty(&l->waits)) {
        neap_list *node = l->waits.next;
        neap_list_remove(node);
        neap_list_append(&told, node);
    }
    while (!neap_list_is_empty(&told)) {
        neap_ssh_wait *w = NEAP_LIST_OF(told.next, neap_ssh_wait, node);
        neap_list_remove(&w->node);
        if (l->is_open) w->done(w->arg, l->ssh, NULL);
        else w->done(w->arg, NULL, failure.code ? &failure : &l->failure);
        free(w);
    }
    neap_err_close(&failure);
    neap_ssh_link_release(l);
}

static void fail(neap_ssh_link *l, const neap_err *err) {
    neap_err_copy(&l->failure, err);
    neap_timer_start(l->turn, 0);
}

static void bury(neap_ssh_link *l) {
    free_dead(l);
    l->dead = l->ssh;
    l->ssh = NULL;
    l->is_open = false;
    neap_timer_start(l->turn, 0);
}

/* ---- opening ---- */

static void on_lost(void *arg, const neap_err *err) {
    neap_ssh_link *l = arg;
    if (err) fail(l, err);
    bury(l);
}

/* What the host showed before. Another back end, as one beside has, may be shown a key of another kind, and these cannot be compared. */
static const neap_ssh_card *shown_before(const neap_ssh_link *l) {
    if (l->known) return &l->card;
    return l->of && l->of->aside == l && l->of->known ? &l->of->card : NULL;
}

static bool check_same(neap_ssh_link *l, const neap_ssh_card *card) {
    const neap_ssh_card *before = shown_before(l);
    if (!before || strcmp(before->fingerprint, card->fingerprint ? card->fingerprint : "") == 0) return true;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_AUTH, "%s shows another host key than before: %s, it was %s", l->host->name, card->fingerprint, before->fingerprint);
    neap_err_hint(&err, "It is another machine, or it was set up anew; nothing of what was begun can be asked about there.");
    fail(l, &err);
    neap_err_close(&err);
    return false;
}

static void attempt(neap_ssh_link *l);

static void on_opened(void *arg, const neap_err *err) {
    neap_ssh_link *l = arg;
    if (!err) {
        const neap_ssh_card *card = neap_ssh_card_of(l->ssh);
        if (!check_same(l, card)) { bury(l); return; }
        copy_card(&l->card, card);
        l->known = l->is_open = true;
        neap_ssh_on_lost(l->ssh, on_lost, l);
        neap_timer_start(l->turn, 0);
        return;
    }
    bool again = err->code == NEAP_E_UNSUPPORTED && l->attempt == 0 && l->backends.second;
    if (again) {
        free(l->why);
        l->why = neap_strdup(err->message);
    } else {
        fail(l, err);
    }
    bury(l);
    if (!again) return;
    l->attempt = 1;
    attempt(l);
}

static void attempt(neap_ssh_link *l) {
    neap_ssh_open_fn open = l->attempt ? l->backends.second : l->backends.first;
    neap_err_close(&l->failure);
    l->shell = NEAP_SHELL_UNKNOWN;
    l->ssh = open(l->loop, l->host, on_opened, l);
}

neap_ssh_wait *neap_ssh_link_open(neap_ssh_link *l, neap_ssh_link_fn done, void *arg) {
    neap_ssh_wait *w = neap_zalloc(sizeof *w);
    w->done = done;
    w->arg = arg;
    neap_list_append(&l->waits, &w->node);
    if (l->closed || l->is_open) neap_timer_start(l->turn, 0);
    else if (!l->ssh) attempt(l);
    return w;
}

void neap_ssh_link_forgo(neap_ssh_wait *w) {
    if (!w) return;
    neap_list_remove(&w->node);
    free(w);
}

/* ---- the object ---- */

neap_ssh_link *neap_ssh_link_new(neap_loop *loop, neap_ssh_host *host, const neap_ssh_backends *backends) {
    neap_ssh_link *l = neap_zalloc(sizeof *l);
    l->loop = loop;
    l->host = host;
    l->backends = *backends;
    l->holds = 1;
    l->failure = (neap_err)NEAP_ERR_INIT;
    neap_list_init(&l->waits);
    l->turn = neap_timer_new(loop, on_turn, l);
    return l;
}

neap_ssh_link *neap_ssh_link_hold(neap_ssh_link *l) {
    l->holds++;
    if (l->of) neap_ssh_link_hold(l->of);
    return l;
}

void neap_ssh_link_close(neap_ssh_link *l) {
    neap_err err = NEAP_ERR_INIT;
    neap_ssh *ssh = l->ssh;
    if (l->closed) return;
    l->closed = true;
    l->ssh = NULL;
    l->is_open = false;
    neap_err_set(&err, NEAP_E_CLOSED, "the connection to %s was closed", l->host->name);
    fail(l, &err);
    neap_err_close(&err);
    neap_ssh_free(ssh);
    if (l->beside) neap_ssh_link_close(l->beside);
    if (l->aside) neap_ssh_link_close(l->aside);
}

static void destroy(neap_ssh_link *l) {
    neap_ssh_free(l->ssh);
    free_dead(l);
    while (!neap_list_is_empty(&l->waits)) neap_ssh_link_forgo(NEAP_LIST_OF(l->waits.next, neap_ssh_wait, node));
    if (l->beside) destroy(l->beside);               /* only we have them: who else had one held us */
    if (l->aside) destroy(l->aside);
    neap_timer_free(l->turn);
    neap_err_close(&l->failure);
    free_card(&l->card);
    free(l->why);
    if (!l->of) neap_ssh_host_free(l->host);
    free(l);
}

void neap_ssh_link_release(neap_ssh_link *l) {
    neap_ssh_link *of = l ? l->of : NULL;
    if (l && --l->holds == 0) destroy(l);
    if (of) neap_ssh_link_release(of);
}

static neap_ssh_link *another(neap_ssh_link *l, neap_ssh_link **place, const neap_ssh_backends *backends) {
    if (!*place) {
        *place = neap_ssh_link_new(l->loop, l->host, backends);
        (*place)->of = l;
        if (l->closed) neap_ssh_link_close(*place);
    }
    return *place;
}

neap_ssh_link *neap_ssh_link_beside(neap_ssh_link *l, const neap_ssh_backends *backends) { return another(l, &l->beside, backends); }
neap_ssh_link *neap_ssh_link_aside(neap_ssh_link *l) { return another(l, &l->aside, &l->backends); }

void neap_ssh_link_learn(neap_ssh_link *l, neap_remote_shell shell) { l->shell = shell; }
neap_remote_shell neap_ssh_link_shell(const neap_ssh_link *l) { return l->shell; }

neap_ssh *neap_ssh_link_now(const neap_ssh_link *l) { return l->is_open ? l->ssh : NULL; }
const neap_ssh_card *neap_ssh_link_card(const neap_ssh_link *l) { return l->known ? &l->card : NULL; }
const char *neap_ssh_link_why(const neap_ssh_link *l) { return l->why; }
const neap_ssh_host *neap_ssh_link_host(const neap_ssh_link *l) { return l->host; }
neap_loop *neap_ssh_link_loop(const neap_ssh_link *l) { return l->loop; }
