/* err.c -- error values.
 *
 * The table of errors.def is expanded four times here: name, exit code, meaning, and the count
 * in err.h. Nothing else in the program knows a code by number.
 *
 * An error is filled once. Filling one that is already full replaces it, so that a retry which fails
 * differently reports its last reason and leaks nothing. Rejected: a chain of causes in C. The
 * floors that could add a cause are few, and Lua's error table has room for it.
 */
#include "base/err.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

typedef struct { char name[16]; int exit; const char *meaning; } row;

static const row ok_row = {"ok", 0, "it was done"};

static const row *rows(void) {
    static row table[NEAP_CODES] = {
        {"", 0, NULL},
#define X(name, exit, meaning) {#name, exit, meaning},
#include "base/errors.def"
#undef X
    };
    return table;
}

static const row *row_of(neap_code code) {
    if (code <= NEAP_OK || code >= NEAP_CODES) return &ok_row;
    return &rows()[code];
}

/* Lower-case names are made once from the table's upper-case ones; all of them fit the row. */
const char *neap_code_name(neap_code code) {
    static char lower[NEAP_CODES][sizeof ok_row.name];
    if (code <= NEAP_OK || code >= NEAP_CODES) return ok_row.name;
    char *name = lower[code];
    if (!name[0]) {
        const char *from = row_of(code)->name;
        for (size_t i = 0; from[i]; i++) name[i] = (char)tolower((unsigned char)from[i]);
    }
    return name;
}

neap_code neap_code_of(const char *name) {
    for (int code = NEAP_OK + 1; code < NEAP_CODES; code++)
        if (strcmp(neap_code_name(code), name) == 0) return (neap_code)code;
    return NEAP_E_BUG;
}

int neap_code_exit(neap_code code) { return row_of(code)->exit; }

const char *neap_code_meaning(neap_code code) { return row_of(code)->meaning; }

static char *format_text(const char *format, va_list args) {
    neap_buf text = NEAP_BUF_INIT;
    neap_buf_addv(&text, format, args);
    return neap_buf_take(&text);
}

bool neap_err_set(neap_err *err, neap_code code, const char *format, ...) {
    if (!err) return false;
    /* The new text is made first: its arguments may point into the old one. */
    va_list args;
    va_start(args, format);
    char *message = format_text(format, args);
    va_end(args);
    neap_err_close(err);
    err->code = code;
    err->message = message;
    return false;
}

bool neap_err_hint(neap_err *err, const char *format, ...) {
    if (!err) return false;
    va_list args;
    va_start(args, format);
    char *hint = format_text(format, args);
    va_end(args);
    free(err->hint);
    err->hint = hint;
    return false;
}

void neap_err_copy(neap_err *to, const neap_err *from) {
    if (!to || to == from) return;
    neap_err_set(to, from->code, "%s", from->message ? from->message : neap_code_meaning(from->code));
    if (from->hint) neap_err_hint(to, "%s", from->hint);
    to->retry = from->retry;
    to->status = from->status;
    memcpy(to->sqlstate, from->sqlstate, sizeof to->sqlstate);
}

void neap_err_keep(neap_err *to, const neap_err *from) {
    if (from && !to->code) neap_err_copy(to, from);
}

void neap_err_move(neap_err *to, neap_err *from) {
    if (!to) { neap_err_close(from); return; }
    if (to == from) return;
    neap_err_close(to);
    *to = *from;
    *from = (neap_err)NEAP_ERR_INIT;
}

void neap_err_close(neap_err *err) {
    if (!err) return;
    free(err->message);
    free(err->hint);
    *err = (neap_err)NEAP_ERR_INIT;
}
