/* sql.h -- may this statement be a read? Parsed by PostgreSQL's own grammar (libpg_query).
 *
 * First of the six parts of the fence (bind/pg_fence.c has the others). Allowed: exactly one statement that is a SELECT, VALUES or TABLE
 * without INTO, FOR UPDATE/SHARE or a modifying CTE anywhere; SHOW; EXPLAIN without ANALYZE (its target may be a write).
 * Everything else is refused with the reason in words. The functions a statement calls are listed, so that the driver can
 * look them up in pg_proc (second part).
 *
 * What this part relies on: the server must read the text as this grammar does, so a fenced session sets
 * standard_conforming_strings=on and client_encoding=UTF8. With the first one off, '\' swallows a quote and hides a call. */
#ifndef NEAP_GUARD_SQL_H
#define NEAP_GUARD_SQL_H

#include <stdbool.h>
#include "base/err.h"

enum {
    NEAP_SQL_TEXT  = 1024 * 1024,   /* bytes of one text; longer is INVALID */
    NEAP_SQL_TREE  = 4 * 1024 * 1024,   /* bytes of a tree that is handed out; each becomes some twenty in Lua */
    NEAP_SQL_NAMES = 4096           /* different functions, or attributes, in one text; more is INVALID */
};

typedef struct neap_sql {
    bool   reads;                 /* passes part one */
    bool   alone;                 /* must be sent outside a transaction block: VACUUM, CREATE DATABASE, … CONCURRENTLY */
    bool   transaction;           /* BEGIN, COMMIT, ROLLBACK, SAVEPOINT, PREPARE TRANSACTION … */
    bool   copy_in, copy_out;     /* COPY … FROM STDIN, COPY … TO STDOUT */
    bool   copy_reads;            /* copy_out, of a table or of a query that passes part one; `reads` stays false */
    bool   bounded;               /* not an UPDATE or DELETE without WHERE */
    bool   hides;                 /* it is run and changes rows the command tag does not count: in WITH, under EXPLAIN ANALYZE, PREPARE, COPY */
    int    statements;
    char   kind[32];              /* "select", "insert", "create database" …: of the first statement, "" when there is none */
    char   why[128];              /* why `reads` is false; "" when it is true */
    char **functions;             /* every function called, "schema.name" or "name", NULL-terminated, no duplicates */
    char **attributes;            /* every x of t.x and (expression).x: PostgreSQL calls a function x(t) when t has no column x */
} neap_sql;

/* False and err (INVALID, the parser's message and position) when the grammar does not know it. `out` needs closing only on true. */
bool neap_sql_read(neap_sql *out, const char *text, neap_err *err);
void neap_sql_close(neap_sql *out);
/* Why it may not pass the read fence: REFUSED with kind and reason in err. True when it may. */
bool neap_sql_check_read(const neap_sql *sql, neap_err *err);
/* The parse tree of a text as JSON, as libpg_query prints it: the caller's to free. NULL and err, also when it would be larger than NEAP_SQL_TREE. */
char *neap_sql_tree(const char *text, neap_err *err);
/* Split a script into its statements: NULL-terminated list, the caller's to free piece by piece. NULL and err. */
char **neap_sql_split(const char *script, neap_err *err);
/* The text as the grammar itself would write it: no comments, one spelling of white space, key words and quotes. The caller's
 * to free; NULL when the grammar does not know it. */
char *neap_sql_canonical(const char *text);
/* The vetted volatile readers of part two: is this name on the list? ("pg_catalog." prefix ignored.) The answer is about
 * pg_catalog's function of that name: an overload in another schema is not vetted by it. */
bool neap_sql_is_vetted(const char *function);

#endif
