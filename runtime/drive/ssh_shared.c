/* ssh_shared.c -- see ssh_shared.h.
 *
 *     an answer:  ASKED ──► KNOWN      what ssh said it did is what ssh_lines.c expected
 *                   └─────► REFUSED    it is not: everybody with these lines asks for himself, now and later
 *
 * Starting ssh costs the processor some 6 ms before it has read a line (its libraries), so a fan-out to a hundred hosts spent two thirds
 * of its time on asking a hundred times what is one answer. An answer counts for a name when it is asked in the same words, the same files
 * (the same device, inode, size and times) were read, and the same Host lines of them apply. Every value comes from ssh; only
 * HostName, which may be the name itself, is put in, and that was compared for the first.
 *
 * Rejected: one's own reader of every value (it would agree until it did not); keeping answers from run to run (a saving of one ssh); one
 * shell that asks for many hosts (the 6 ms are ssh's). */
#include "drive/ssh_shared.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/list.h"
#include "drive/ssh_lines.h"
#include "loop/timer.h"

enum { ANSWERS_MAX = 64 };

typedef enum { ASKED, KNOWN, REFUSED } state;

typedef struct answer {
    neap_list node, shares;
    neap_loop *loop;                 /* where it is asked */
    state state;
    char *key, *text;
    neap_ssh_lines lines;            /* of the first name */
} answer;

struct neap_ssh_shared {
    neap_list node;                  /* among the shares of its answer */
    answer *from;
    bool first;
    char *name, *hostname;
    neap_timer *turn;
    neap_ssh_told_fn told;
    void *arg;
};

static neap_list answers = {&answers, &answers};
static int count;

static void drop_answer(answer *a) {
    neap_list_remove(&a->node);
    count--;
    neap_ssh_lines_close(&a->lines);
    free(a->key), free(a->text);
    free(a);
}

static answer *find_answer(const char *key) {
    for (neap_list *n = answers.next; n != &answers; n = n->next) {
        answer *a = NEAP_LIST_OF(n, answer, node);
        if (strcmp(a->key, key) == 0) return a;
    }
    return NULL;
}

/* The oldest that nobody has a part in makes room. */
static answer *add_answer(neap_loop *loop, neap_buf *key) {
    for (neap_list *n = answers.next, *next; count >= ANSWERS_MAX && n != &answers; n = next) {
        next = n->next;
        if (neap_list_is_empty(&NEAP_LIST_OF(n, answer, node)->shares)) drop_answer(NEAP_LIST_OF(n, answer, node));
    }
    answer *a = neap_zalloc(sizeof *a);
    a->loop = loop;
    a->key = neap_buf_take(key);
    neap_list_init(&a->shares);
    neap_list_append(&answers, &a->node);
    count++;
    return a;
}

/* ssh refuses a way that leads over the host itself; so it is asked, whatever the port. A hop is [user@]host[:port] or ssh://. */
static bool is_on_the_way(const char *text, const char *name) {
    const char *at = strstr(text, "\nproxyjump "), *end = at ? at + 1 + strcspn(at + 1, "\n") : NULL;
    size_t len = strlen(name);
    if (!at) return false;
    for (at += strlen("\nproxyjump "); at < end; at++) {
        bool begins = strchr(" ,@/[", at[-1]) != NULL, ends = at + len <= end && (at + len == end || strchr(",:]", at[len]));
        if (begins && ends && strncasecmp(at, name, len) == 0) return true;
    }
    return false;
}

static void on_turn(void *arg) {
    neap_ssh_shared *s = arg;
    const char *text = s->from->state == KNOWN ? s->from->text : NULL;
    if (!text || is_on_the_way(text, s->name) || is_on_the_way(text, s->hostname)) { s->told(s->arg, NULL); return; }
    neap_buf own = NEAP_BUF_INIT;
    neap_buf_addf(&own, "hostname %s\n%s", s->hostname, text);
    s->told(s->arg, own.data);       /* s may be gone now */
    neap_buf_close(&own);
}

static void settle(answer *a, state state) {
    a->state = state;
    for (neap_list *n = a->shares.next; n != &a->shares; n = n->next) {
        neap_ssh_shared *s = NEAP_LIST_OF(n, neap_ssh_shared, node);
        if (!s->first) neap_timer_start(s->turn, 0);
    }
}

void neap_ssh_shared_answer(neap_ssh_shared *s, const char *printed, const char *said) {
    bool agree = neap_ssh_lines_agree(&s->from->lines, said, printed);
    if (agree) s->from->text = neap_strdup(printed);
    settle(s->from, agree ? KNOWN : REFUSED);
}

neap_ssh_shared *neap_ssh_shared_new(neap_loop *loop, const char *file, const char *words, const char *name, neap_ssh_told_fn told, void *arg) {
    neap_ssh_lines lines;
    neap_buf key = NEAP_BUF_INIT;
    bool ok = neap_ssh_lines_read(&lines, file, name);
    if (ok) neap_buf_addf(&key, "%s\n%s\n%s\n%s", file ? file : "", words, lines.trace.data ? lines.trace.data : "", lines.files.data ? lines.files.data : "");
    answer *a = ok ? find_answer(key.data) : NULL;
    bool first = ok && !a;
    if (first) a = add_answer(loop, &key);
    neap_ssh_shared *s = NULL;
    if (a && a->state != REFUSED && (a->state == KNOWN || a->loop == loop)) {
        s = neap_zalloc(sizeof *s);
        *s = (neap_ssh_shared){.from = a, .first = first, .name = neap_strdup(name), .hostname = neap_strdup(lines.hostname), .told = told, .arg = arg};
        s->turn = neap_timer_new(loop, on_turn, s);
        neap_list_append(&a->shares, &s->node);
        if (a->state == KNOWN) neap_timer_start(s->turn, 0);
    }
    if (first) a->lines = lines;
    else neap_ssh_lines_close(&lines);
    neap_buf_close(&key);
    return s;
}

bool neap_ssh_shared_is_first(const neap_ssh_shared *s) { return s->first; }

void neap_ssh_shared_free(neap_ssh_shared *s) {
    if (!s) return;
    answer *a = s->from;
    neap_list_remove(&s->node);
    if (s->first && a->state == ASKED) {
        *a->key = 0;                 /* no verdict: whoever comes next may be first */
        settle(a, REFUSED);
    }
    if (!*a->key && neap_list_is_empty(&a->shares)) drop_answer(a);
    neap_timer_free(s->turn);
    free(s->name), free(s->hostname);
    free(s);
}
