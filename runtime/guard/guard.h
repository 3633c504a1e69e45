/* guard.h -- what may happen. C, beneath Lua; knows no Lua and no loop.
 *
 * Every primitive is a row of effects.def. A primitive asks `neap_guard_ask` before it starts; the
 * answer depends on the run's mode, the phase of the asking task, and the policy of the
 * environment. Only script/gate.c calls it: that one gate asks, records the intent, starts the act and
 * records the outcome, so no binding can forget a part.
 *
 *   mode \ phase   DECLARE   READ (needs done verify each)   ACT (act undo after)      ENGINE
 *   PLAN           refuse    read: allow                     read: allow; write: PREDICT   read: allow; write: refuse
 *   RUN            refuse    read: allow; write: refuse      policy, then ALLOW            read: allow; write: refuse
 *
 * Subjects. An intercepted write marks its subject ("pg:7301…/app") as withheld by its step; a
 * later read of that subject is WITHHELD, never answered from the stale world. A subject
 * covers every subject that begins with it and a '/'.
 */
#ifndef NEAP_GUARD_GUARD_H
#define NEAP_GUARD_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

typedef enum { NEAP_EFFECT_PURE, NEAP_EFFECT_READ, NEAP_EFFECT_WRITE, NEAP_EFFECT_DESTROY } neap_effect;
typedef enum { NEAP_MODE_PLAN, NEAP_MODE_RUN } neap_mode;
typedef enum { NEAP_PHASE_DECLARE, NEAP_PHASE_READ, NEAP_PHASE_ACT, NEAP_PHASE_ENGINE } neap_phase;
typedef enum { NEAP_ANSWER_ALLOW, NEAP_ANSWER_PREDICT, NEAP_ANSWER_WITHHELD, NEAP_ANSWER_REFUSE } neap_answer;

typedef enum neap_primitive {
#define X(id, name, effect, preview) NEAP_P_##id,
#include "guard/effects.def"
#undef X
    NEAP_PRIMITIVES
} neap_primitive;

const char *neap_primitive_name(neap_primitive p);        /* "pg.exec" */
neap_effect neap_primitive_effect(neap_primitive p);
const char *neap_primitive_preview(neap_primitive p);     /* one phrase: what a preview does instead */
int         neap_primitive_of(const char *name);          /* -1: no such row */
const char *neap_effect_name(neap_effect e);

/* Where a task stands; copied from parent to child when a task is spawned. */
typedef struct neap_scope {
    neap_phase phase;
    char step[64];                /* id of the step, "" outside one */
    int64_t act;                  /* seq of the record that said an act, an undo or an after begins; 0 outside one */
} neap_scope;

typedef struct neap_guard neap_guard;

neap_guard *neap_guard_new(void);                          /* mode PLAN, no policy */
void neap_guard_free(neap_guard *g);
void neap_guard_set_mode(neap_guard *g, neap_mode mode);
neap_mode neap_guard_get_mode(const neap_guard *g);

/* Policy of the bound environment. Patterns are POSIX extended regular expressions, matched without
 * regard to case against the text of a write as people read it, with every run of white space as one space, SQL also as the
 * grammar would write it (no comments, plain names unquoted), and every spelling that the act brings. */
bool neap_guard_add_never(neap_guard *g, const char *pattern, const char *why, neap_err *err);
bool neap_guard_has_never(const neap_guard *g);          /* would any rule look at a spelling? */
void neap_guard_protect(neap_guard *g);                   /* the rules of policy.h hold as well */
void neap_guard_add_allowed(neap_guard *g, const char *host);     /* once one is added, every write target's host must be in the list */

/* What is about to happen. `text` is the exact act as people read it (already without secrets). */
typedef struct neap_act {
    neap_primitive primitive;
    const char *target;           /* role: "db" */
    const char *host;             /* for the allowlist; NULL: this machine */
    const char *subject;          /* "pg:7301…/app" */
    const char *text;             /* "CREATE DATABASE \"pcmr\"" or the argv */
    const char *const *spelled;   /* what else a pattern is held against, NULL-terminated: the same act unquoted, decoded, whole; NULL: nothing.
                                     Shown to nobody, so it may hold what text leaves out. */
} neap_act;

/* REFUSE fills err (code REFUSED, or WITHHELD's step in err->message for WITHHELD). PREDICT has
 * recorded the subject. */
neap_answer neap_guard_ask(neap_guard *g, const neap_scope *scope, const neap_act *act, neap_err *err);

/* From now on reads of this subject are withheld by `step` (an act that could not be previewed to its end). */
void neap_guard_mark(neap_guard *g, const char *subject, const char *step);
/* The step that withholds this subject, NULL when none does. */
const char *neap_guard_withheld(const neap_guard *g, const char *subject);
/* What `subject` names is on, or inside, what `on` names: a change of all of that withholds it too (a change of a part, "host:…/srv/x", does
 * not). Kept until the guard goes: it is how things are, not what a plan would do. */
void neap_guard_stands(neap_guard *g, const char *subject, const char *on);
/* Forget withheld subjects (a new plan). */
void neap_guard_clear(neap_guard *g);

#endif
