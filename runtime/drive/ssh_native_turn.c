/* ssh_native_turn.c -- who may shake hands. 1,000 sockets opened at once against one sshd lose a quarter of them in its listen queue, so
 * at most 64 connections of this process are between "connect" and "let in"; the others wait in the order they came.
 *
 * A session that goes through another one takes its turn when that other one is open: nobody holds a turn while waiting for one. */
#include "drive/ssh_native.h"

enum { TURNS = 64 };

static neap_list waiting = {&waiting, &waiting};
static int taken;

void neap_ssh_turn_init(neap_ssh_turn *t, void (*go)(void *arg), void *arg) {
    neap_list_init(&t->node);
    t->go = go;
    t->arg = arg;
    t->has = false;
}

static void let(neap_ssh_turn *t) {
    t->has = true;
    taken++;
    t->go(t->arg);
}

void neap_ssh_turn_ask(neap_ssh_turn *t) {
    if (taken < TURNS) let(t);
    else neap_list_append(&waiting, &t->node);
}

void neap_ssh_turn_give(neap_ssh_turn *t) {
    neap_list_remove(&t->node);
    if (!t->has) return;
    t->has = false;
    taken--;
    if (neap_list_is_empty(&waiting)) return;
    neap_ssh_turn *next = NEAP_LIST_OF(waiting.next, neap_ssh_turn, node);
    neap_list_remove(&next->node);
    let(next);
}
