/* err.h -- one error value for every floor.
 *
 * An error is data: a code from errors.def, a message (lower case, the offending thing
 * quoted, no full stop), a hint (a full sentence, may be empty) and, for SQL, the SQLSTATE.
 * Functions that can fail take a `neap_err *` last and return false, NULL or -1; they fill it
 * once. Nobody prints an error except the views. Text that came from a far end is stored as it
 * came; escaping is the business of the sink.
 */
#ifndef NEAP_BASE_ERR_H
#define NEAP_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

typedef enum neap_code {
    NEAP_OK = 0,
#define X(name, exit, meaning) NEAP_E_##name,
#include "base/errors.def"
#undef X
    NEAP_CODES
} neap_code;

typedef struct neap_err {
    neap_code code;
    bool      retry;          /* the same call may succeed later, unchanged            */
    char      sqlstate[6];    /* "" where it is not SQL                                */
    int       status;         /* exit status of a child or of a far end, -1 elsewhere  */
    char     *message;        /* owned; NULL while code is NEAP_OK                     */
    char     *hint;           /* owned; may be NULL                                    */
} neap_err;

#define NEAP_ERR_INIT {NEAP_OK, false, "", -1, NULL, NULL}

/* Fill `err` (which must be empty or initialised) and return false, so that a caller can write
 * `return neap_err_set(...)`. A NULL `err` is allowed: the caller does not want the reason. */
bool neap_err_set(neap_err *err, neap_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Add the hint. Returns false, as neap_err_set. */
bool neap_err_hint(neap_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Let `to` say what `from` says, all of it. */
void neap_err_copy(neap_err *to, const neap_err *from);

/* The same for the first of several: nothing when `to` says something already, or when `from` is NULL. */
void neap_err_keep(neap_err *to, const neap_err *from);

/* Move `from` into `to`; `from` is empty afterwards. */
void neap_err_move(neap_err *to, neap_err *from);

/* Free what the error owns and make it empty. Safe on an empty one. */
void neap_err_close(neap_err *err);

/* "unreachable" for NEAP_E_UNREACHABLE; "ok" for NEAP_OK. */
const char *neap_code_name(neap_code code);

/* The code with that lower-case name; NEAP_E_BUG when there is none. */
neap_code neap_code_of(const char *name);

/* The exit code of a run that ends with this error (errors.def). */
int neap_code_exit(neap_code code);

/* Every code, for documentation: its meaning. */
const char *neap_code_meaning(neap_code code);

#endif
