/* sql_judge.h -- private to guard/sql*.c: what a parse tree means for the fence. */
#ifndef NEAP_GUARD_SQL_JUDGE_H
#define NEAP_GUARD_SQL_JUDGE_H

#include "guard/sql.h"

/* Fill the zeroed `out` from the parser's JSON. False and err: the tree is not what it should be, or names too many things.
 * `out` needs neap_sql_close either way. */
bool neap_sql_judge(neap_sql *out, const char *json, neap_err *err);

#endif
