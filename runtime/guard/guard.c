/* guard.c -- decides; see guard.h for the table it implements.
 *
 * The order for a write is: phase, mode, policy. A preview asks the policy too: what a run would refuse must be
 * refused in the plan, the day before. Policy has no override: a pattern that is wrong is changed in the inventory,
 * by somebody, in daylight.
 */
#include "guard/guard.h"

#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "guard/policy.h"
#include "guard/sql.h"

typedef struct rule { struct rule *next; regex_t pattern; char *text, *why; } rule;
typedef struct name { struct name *next; char *text; } name;
typedef struct mark { struct mark *next; char *subject; char step[64]; } mark;
typedef struct stand { struct stand *next; char *subject, *on; } stand;

struct neap_guard {
    neap_mode mode;
    bool protected;
    rule *never;
    name *hosts;
    mark *marks;
    stand *stands;
};

enum { DEPTH = 16 };                               /* a database in a container on a host behind a host; never a circle */

static const struct { const char *name; neap_effect effect; const char *preview; } rows[] = {
#define X(id, name, effect, preview) {name, NEAP_EFFECT_##effect, preview},
#include "guard/effects.def"
#undef X
};

const char *neap_primitive_name(neap_primitive p) { return rows[p].name; }
neap_effect neap_primitive_effect(neap_primitive p) { return rows[p].effect; }
const char *neap_primitive_preview(neap_primitive p) { return rows[p].preview; }

int neap_primitive_of(const char *wanted) {
    for (int i = 0; i < NEAP_PRIMITIVES; i++)
        if (strcmp(rows[i].name, wanted) == 0) return i;
    return -1;
}

const char *neap_effect_name(neap_effect e) {
    static const char *const names[] = {"pure", "read", "write", "destroy"};
    return names[e];
}

neap_guard *neap_guard_new(void) { return neap_zalloc(sizeof(neap_guard)); }

void neap_guard_clear(neap_guard *g) {
    while (g->marks) {
        mark *m = g->marks;
        g->marks = m->next;
        free(m->subject);
        free(m);
    }
}

void neap_guard_free(neap_guard *g) {
    if (!g) return;
    neap_guard_clear(g);
    while (g->never) {
        rule *r = g->never;
        g->never = r->next;
        regfree(&r->pattern);
        free(r->text);
        free(r->why);
        free(r);
    }
    while (g->stands) {
        stand *s = g->stands;
        g->stands = s->next;
        free(s->subject);
        free(s->on);
        free(s);
    }
    while (g->hosts) {
        name *n = g->hosts;
        g->hosts = n->next;
        free(n->text);
        free(n);
    }
    free(g);
}

void neap_guard_set_mode(neap_guard *g, neap_mode mode) { g->mode = mode; }
neap_mode neap_guard_get_mode(const neap_guard *g) { return g->mode; }

bool neap_guard_add_never(neap_guard *g, const char *pattern, const char *why, neap_err *err) {
    rule *r = neap_zalloc(sizeof *r);
    int bad = regcomp(&r->pattern, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB);
    if (bad) {
        char reason[128];
        regerror(bad, &r->pattern, reason, sizeof reason);
        free(r);
        neap_err_set(err, NEAP_E_CONFIG, "never pattern \"%s\" is not a regular expression: %s", pattern, reason);
        return neap_err_hint(err, "Patterns are POSIX extended regular expressions, without regard to case.");
    }
    r->text = neap_strdup(pattern);
    r->why = neap_strdup(why ? why : "");
    r->next = g->never;
    g->never = r;
    return true;
}

bool neap_guard_has_never(const neap_guard *g) { return g->never != NULL || g->protected; }

void neap_guard_protect(neap_guard *g) { g->protected = true; }

void neap_guard_add_allowed(neap_guard *g, const char *host) {
    name *n = neap_zalloc(sizeof *n);
    n->text = neap_strdup(host);
    n->next = g->hosts;
    g->hosts = n;
}

/* ---- subjects ---- */

/* "pg:7/app" covers itself and "pg:7/app/…", in both directions: a write of the whole withholds its parts and a
 * write of a part withholds the whole. */
static bool covers(const char *a, const char *b) {
    size_t len = strlen(a);
    return strncmp(a, b, len) == 0 && (b[len] == '\0' || b[len] == '/' || (len && a[len - 1] == '/'));      /* "file:/" is the root */
}

/* The step that would change all of a place, or what that place is on. */
static const char *changed(const neap_guard *g, const char *place, int depth) {
    const char *step = NULL;
    for (const mark *m = g->marks; m; m = m->next)
        if (covers(m->subject, place)) return m->step;
    for (const stand *s = g->stands; s && !step && depth < DEPTH; s = s->next)
        if (covers(s->subject, place)) step = changed(g, s->on, depth + 1);
    return step;
}

const char *neap_guard_withheld(const neap_guard *g, const char *subject) {
    const char *step = NULL;
    for (const mark *m = g->marks; m && subject; m = m->next)
        if (covers(m->subject, subject) || covers(subject, m->subject)) return m->step;
    for (const stand *s = g->marks && subject ? g->stands : NULL; s && !step; s = s->next)
        if (covers(s->subject, subject) || covers(subject, s->subject)) step = changed(g, s->on, 0);
    return step;
}

void neap_guard_stands(neap_guard *g, const char *subject, const char *on) {
    for (const stand *known = g->stands; known; known = known->next)
        if (strcmp(known->subject, subject) == 0 && strcmp(known->on, on) == 0) return;
    stand *s = neap_zalloc(sizeof *s);
    s->subject = neap_strdup(subject);
    s->on = neap_strdup(on);
    s->next = g->stands;
    g->stands = s;
}

/* A part that is marked already does not stand for the whole. */
void neap_guard_mark(neap_guard *g, const char *subject, const char *step) {
    if (!subject) return;
    for (const mark *known = g->marks; known; known = known->next)
        if (covers(known->subject, subject)) return;
    mark *m = neap_zalloc(sizeof *m);
    m->subject = neap_strdup(subject);
    strncpy(m->step, step, sizeof m->step - 1);
    m->next = g->marks;
    g->marks = m;
}

/* ---- asking ---- */

static bool is_sql(const neap_act *act) { return strncmp(neap_primitive_name(act->primitive), "pg.", 3) == 0; }

/* Every run of white space as one space. */
static char *squeeze(const char *text) {
    char *out = neap_strdup(text), *to = out;
    for (const char *c = text; *c; c++) {
        bool blank = isspace((unsigned char)*c);
        if (!blank || to == out || to[-1] != ' ') *to++ = blank ? ' ' : *c;
    }
    *to = '\0';
    return out;
}

static bool refuse_never(const rule *r, neap_err *err) {
    neap_err_set(err, NEAP_E_REFUSED, "this environment never allows \"%s\"%s%s", r->text, *r->why ? ": " : "", r->why);
    return neap_err_hint(err, "The rule is in the inventory's never list; no flag overrides it.");
}

/* One act has many spellings; a rule is held against the one given, the one with single spaces, for SQL the grammar's own, and those that
 * only its binding knows. */
static bool check_never(const neap_guard *g, const neap_act *act, neap_err *err) {
    if (!g->never || !act->text) return true;
    char *spellings[] = {neap_strdup(act->text), squeeze(act->text), is_sql(act) ? neap_sql_canonical(act->text) : NULL};
    enum { COUNT = sizeof spellings / sizeof *spellings };
    bool allowed = true;
    for (const rule *r = g->never; allowed && r; r = r->next) {
        for (int i = 0; allowed && i < COUNT; i++)
            if (spellings[i] && regexec(&r->pattern, spellings[i], 0, NULL, 0) == 0) allowed = refuse_never(r, err);
        for (const char *const *other = act->spelled; allowed && other && *other; other++)
            if (regexec(&r->pattern, *other, 0, NULL, 0) == 0) allowed = refuse_never(r, err);
    }
    for (int i = 0; i < COUNT; i++) free(spellings[i]);
    return allowed;
}

/* The rules of every protected environment: for commands that are declared to be reads as well, because a declaration is only a claim. */
static bool check_policy(const neap_guard *g, const neap_act *act, neap_err *err) {
    if (!g->protected || !act->text || !neap_policy_concerns(act->primitive)) return true;
    char *plain = squeeze(act->text);
    bool allowed = neap_policy_check(plain, err);
    free(plain);
    for (const char *const *other = act->spelled; allowed && other && *other; other++) {
        plain = squeeze(*other);
        allowed = neap_policy_check(plain, err);
        free(plain);
    }
    return allowed;
}

static bool check_host(const neap_guard *g, const neap_act *act, neap_err *err) {
    if (!g->hosts || !act->host) return true;
    for (const name *n = g->hosts; n; n = n->next)
        if (strcasecmp(n->text, act->host) == 0) return true;
    neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is not in this environment's list of hosts that may be written to", act->host);
    return neap_err_hint(err, "Add it to hosts in the inventory if it belongs to this environment.");
}

static neap_answer refuse(neap_err *err, const neap_act *act, const char *why) {
    neap_err_set(err, NEAP_E_REFUSED, "%s is refused here: %s", neap_primitive_name(act->primitive), why);
    return NEAP_ANSWER_REFUSE;
}

static neap_answer ask_read(const neap_guard *g, const neap_act *act, neap_err *err) {
    const char *step = neap_guard_withheld(g, act->subject);
    if (!step) return NEAP_ANSWER_ALLOW;
    neap_err_set(err, NEAP_E_WITHHELD, "%s", step);
    return NEAP_ANSWER_WITHHELD;
}

neap_answer neap_guard_ask(neap_guard *g, const neap_scope *scope, const neap_act *act, neap_err *err) {
    neap_effect effect = neap_primitive_effect(act->primitive);
    if (effect == NEAP_EFFECT_PURE) return NEAP_ANSWER_ALLOW;
    if (scope->phase == NEAP_PHASE_DECLARE) {
        refuse(err, act, "the runbook is only being declared");
        neap_err_hint(err, "Put the call into a clause: needs, done, act, verify, undo or after.");
        return NEAP_ANSWER_REFUSE;
    }
    if (!check_policy(g, act, err)) return NEAP_ANSWER_REFUSE;
    if (effect == NEAP_EFFECT_READ) return ask_read(g, act, err);
    if (scope->phase != NEAP_PHASE_ACT) {
        refuse(err, act, "only act, undo and after may write");
        neap_err_hint(err, "needs, each, done and verify ask; they run in previews too.");
        return NEAP_ANSWER_REFUSE;
    }
    if (!check_never(g, act, err) || !check_host(g, act, err)) return NEAP_ANSWER_REFUSE;
    if (g->mode == NEAP_MODE_RUN) return NEAP_ANSWER_ALLOW;
    neap_guard_mark(g, act->subject, scope->step);
    return NEAP_ANSWER_PREDICT;
}
