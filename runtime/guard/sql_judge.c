/* sql_judge.c -- what a statement is, and whether it may be a read.
 *
 * Promise: a statement reads only if every node of its parse tree is on one of the lists below. The lists are positive: a construct that
 * nobody thought about, or that a later grammar adds, is refused. Position does not matter, so what hides in a sub-select,
 * a WITH query, a set operation or under EXPLAIN is judged like what stands in front.
 *
 * Two things are not nodes of their own and are therefore named: the fields `intoClause` and `lockingClause`. Functions are only listed;
 * whether they write is known to the server's catalogue, not to the grammar. Three more doors lead to functions:
 * `t.x` (calls x(t) when there is no such column), listed as attributes; a quoted name with a dot in it, which could pass for
 * schema.name, refused; and TABLESAMPLE methods other than the two built-in ones, refused. Operators and casts are left to
 * the other parts of the fence.
 *
 * States: outside any statement -> (frame 4 opens) inside one -> (frame 4 closes) outside. The path to a statement is
 * always { stmts [ { stmt { Node {, hence the numbers.
 *
 * Rejected: a list of forbidden statements (each new server version would open a hole), and EXPLAIN (ANALYZE false), which is
 * harmless but not worth a second reading of PostgreSQL's boolean spellings. */
#include "guard/sql_judge.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "guard/sql_walk.h"

enum { NODE_FRAME = 4, TARGET_FRAME = 6 };

/* What a SELECT may be made of. */
static const char *const reading[] = {
    "SelectStmt", "DefElem",
    "ResTarget", "ColumnRef", "A_Star", "A_Const", "ParamRef", "A_Expr", "A_Indices", "A_Indirection", "A_ArrayExpr",
    "BoolExpr", "NullTest", "BooleanTest", "CaseExpr", "CaseWhen", "CoalesceExpr", "MinMaxExpr", "RowExpr",
    "SubLink", "FuncCall", "NamedArgExpr", "TypeCast", "TypeName", "CollateClause", "SQLValueFunction", "XmlExpr", "XmlSerialize",
    "GroupingFunc", "GroupingSet", "SortBy", "WindowDef", "WithClause", "CommonTableExpr", "CTESearchClause", "CTECycleClause",
    "RangeVar", "RangeSubselect", "RangeFunction", "RangeTableFunc", "RangeTableFuncCol", "RangeTableSample", "JoinExpr", "Alias",
    "ColumnDef", "List", "String", "Integer", "Float", "Boolean", "BitString", NULL
};

/* What a statement under EXPLAIN may contain besides: it is planned, not run. */
static const char *const planned[] = {
    "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "MergeWhenClause", "OnConflictClause", "InferClause", "IndexElem",
    "SetToDefault", "MultiAssignRef", "CurrentOfExpr", NULL
};

/* What changes rows, and the statements that only keep such a one for later. */
static const char *const changing[] = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", NULL};
static const char *const templates[] = {"RuleStmt", "CreateFunctionStmt", NULL};

/* What may stand in front. */
static const char *const statements[] = {"SelectStmt", "VariableShowStmt", "ExplainStmt", NULL};
static const char *const explain_targets[] = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", NULL};

/* ANALYZE runs the statement; WAL and SERIALIZE need it; an option we do not know might, too. */
static const char *const explain_options[] = {
    "verbose", "costs", "settings", "buffers", "summary", "timing", "format", "generic_plan", "memory", NULL
};

static const char *const sample_methods[] = {"bernoulli", "system", NULL};

/* Kinds whose names do not follow from the node's ("CreateRoleStmt" is "create role" by itself). */
static const char *const kinds[][2] = {
    {"VariableShowStmt", "show"},          {"VariableSetStmt", "set"},              {"CreateStmt", "create table"},
    {"CreatedbStmt", "create database"},   {"DropdbStmt", "drop database"},         {"IndexStmt", "create index"},
    {"ViewStmt", "create view"},           {"RuleStmt", "create rule"},             {"DefineStmt", "create"},
    {"CreateTrigStmt", "create trigger"},  {"CreateEnumStmt", "create type"},       {"CompositeTypeStmt", "create type"},
    {"CreateRangeStmt", "create type"},    {"CreateSeqStmt", "create sequence"},    {"AlterSeqStmt", "alter sequence"},
    {"CreatePLangStmt", "create language"}, {"AlterEnumStmt", "alter type"},        {"CreateTableAsStmt", "create table as"},
    {"RefreshMatViewStmt", "refresh materialized view"},  {"DeclareCursorStmt", "declare cursor"},
    {"GrantRoleStmt", "grant"},            {"ClosePortalStmt", "close"},            {"CheckPointStmt", "checkpoint"},
    {"ConstraintsSetStmt", "set constraints"},            {"CreateTableSpaceStmt", "create tablespace"},
    {"DropTableSpaceStmt", "drop tablespace"},            {"AlterDatabaseSetStmt", "alter database"},
    {"AlterRoleSetStmt", "alter role"},
};

/* Statements PostgreSQL refuses inside a transaction block, whatever their options. The rest is in is_alone. REINDEX of a
 * partitioned table and CALL or DO of code that commits belong here too, but only the server can know that. */
static const char *const always_alone[] = {
    "CreatedbStmt", "DropdbStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt", "AlterSystemStmt",
    "CreateSubscriptionStmt", "AlterSubscriptionStmt", "DropSubscriptionStmt", NULL
};

/* A list of names under construction. */
typedef struct names {
    char **list;
    int    count, cap;
} names;

/* What the statement being read has shown so far. */
typedef struct statement {
    char node[40], remove_type[48], kind[40], target[40];
    bool concurrent;              /* CONCURRENTLY, in either grammar */
    bool tablespace;              /* an option of that name */
    bool from, file, program;     /* COPY */
    bool vacuum, relation;
    bool changes_within;          /* a statement that changes rows, below the first node */
} statement;

typedef struct judge {
    neap_sql  *out;
    statement  now;
    neap_buf   name;              /* the qualified name being read: "schema.name" */
    size_t     last;              /* where its last part begins */
    int        parts;
    bool       odd;               /* a part contains a dot */
    names      functions, attributes;
    bool       overflow;
} judge;

static bool in_list(const char *const *list, const char *word) {
    for (; *list; list++) if (strcmp(*list, word) == 0) return true;
    return false;
}

static bool frame_in_list(const char *const *list, const neap_sql_frame *frame) {
    for (; *list; list++) if (neap_sql_frame_is(frame, *list)) return true;
    return false;
}

static void copy_word(char *to, size_t size, const char *from) {
    size_t len = strnlen(from, size - 1);
    memcpy(to, from, len);
    to[len] = '\0';
}

/* The first reason is the one people read. */
static void __attribute__((format(printf, 2, 3))) refuse(judge *j, const char *format, ...) {
    if (j->out->why[0] != '\0') return;
    va_list args;
    va_start(args, format);
    vsnprintf(j->out->why, sizeof j->out->why, format, args);
    va_end(args);
}

static void add_name(judge *j, names *n, const char *text) {
    for (int i = 0; i < n->count; i++) if (strcmp(n->list[i], text) == 0) return;
    if (n->count == NEAP_SQL_NAMES) {
        j->overflow = true;
        return;
    }
    if (n->count + 1 >= n->cap) {
        int cap = n->cap ? n->cap * 2 : 8;
        char **list = neap_zalloc((size_t)cap * sizeof *list);
        if (n->count > 0) memcpy(list, n->list, (size_t)n->count * sizeof *list);
        free(n->list);
        n->list = list;
        n->cap = cap;
    }
    n->list[n->count++] = neap_strdup(text);
}

static char **take_names(names *n) {
    return n->list ? n->list : neap_zalloc(sizeof *n->list);
}

/* Names of kinds --------------------------------------------------------------------------------------------------------------- */

/* "AlterOwnerStmt" -> "alter owner" */
static void spell_node(char *to, size_t size, const char *node) {
    size_t len = strlen(node), used = 0;
    if (len > 4 && strcmp(node + len - 4, "Stmt") == 0) len -= 4;
    for (size_t i = 0; i < len && used + 2 < size; i++) {
        if (i > 0 && isupper((unsigned char)node[i]) && islower((unsigned char)node[i - 1])) to[used++] = ' ';
        to[used++] = (char)tolower((unsigned char)node[i]);
    }
    to[used] = '\0';
}

/* "TRANS_STMT_ROLLBACK_TO" without its prefix -> "rollback to" */
static void spell_enum(char *to, size_t size, const char *word, const char *prefix) {
    size_t used = 0, skip = strncmp(word, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0;
    for (const char *at = word + skip; *at && used + 1 < size; at++) {
        to[used++] = *at == '_' ? ' ' : (char)tolower((unsigned char)*at);
    }
    to[used] = '\0';
}

static void spell_kind(char *to, size_t size, const statement *s) {
    char what[40];
    if (strcmp(s->node, "TransactionStmt") == 0) {
        spell_enum(to, size, s->kind, "TRANS_STMT_");
        return;
    }
    if (strcmp(s->node, "DropStmt") == 0) {
        spell_enum(what, sizeof what, s->remove_type, "OBJECT_");
        snprintf(to, size, "drop %.26s", strcmp(what, "matview") == 0 ? "materialized view" : what);
        return;
    }
    if (strcmp(s->node, "VacuumStmt") == 0 && !s->vacuum) {
        copy_word(to, size, "analyze");
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i][0], s->node) == 0) {
            copy_word(to, size, kinds[i][1]);
            return;
        }
    }
    spell_node(to, size, s->node);
}

/* One statement ---------------------------------------------------------------------------------------------------------------- */

static bool is_node(const statement *s, const char *node) {
    return strcmp(s->node, node) == 0;
}

static bool is_alone(const statement *s) {
    if (in_list(always_alone, s->node)) return true;
    if (is_node(s, "VacuumStmt")) return s->vacuum;
    if (is_node(s, "ClusterStmt")) return !s->relation;
    if (is_node(s, "DiscardStmt")) return strcmp(s->target, "DISCARD_ALL") == 0;
    if (is_node(s, "AlterDatabaseStmt")) return s->tablespace;
    if (is_node(s, "TransactionStmt")) return strstr(s->kind, "_PREPARED") != NULL;
    if (is_node(s, "ReindexStmt")) {
        return s->concurrent || strcmp(s->kind, "REINDEX_OBJECT_SCHEMA") == 0 || strcmp(s->kind, "REINDEX_OBJECT_SYSTEM") == 0
            || strcmp(s->kind, "REINDEX_OBJECT_DATABASE") == 0;
    }
    if (is_node(s, "IndexStmt") || is_node(s, "DropStmt") || is_node(s, "AlterTableStmt")) return s->concurrent;
    return false;
}

static void begin_statement(judge *j, const neap_sql_frame *frame) {
    j->now = (statement){0};
    size_t len = frame->len < sizeof j->now.node ? frame->len : sizeof j->now.node - 1;
    memcpy(j->now.node, frame->key, len);
    j->out->statements++;
}

static void end_statement(judge *j) {
    const statement *s = &j->now;
    neap_sql *out = j->out;
    char kind[sizeof out->kind];
    spell_kind(kind, sizeof kind, s);
    if (out->statements == 1) copy_word(out->kind, sizeof out->kind, kind);
    if (is_alone(s)) out->alone = true;
    if (is_node(s, "TransactionStmt")) out->transaction = true;
    if (is_node(s, "CopyStmt") && !s->file && !s->program) {
        if (s->from) out->copy_in = true;
        else out->copy_out = true;
        out->copy_reads = !s->from && out->why[0] == '\0';
    }
    if (s->changes_within && !in_list(templates, s->node)) out->hides = true;
    if (in_list(statements, s->node)) return;
    if (!out->copy_out) out->why[0] = '\0';        /* what it is says more than the first thing found inside */
    refuse(j, "%s is not a statement that only reads", kind);
}

/* Nodes and fields ------------------------------------------------------------------------------------------------------------- */

static bool is_explained(const neap_sql_walk *w) {
    return w->depth > TARGET_FRAME && neap_sql_frame_is(&w->frames[NODE_FRAME], "ExplainStmt")
        && neap_sql_frame_is(&w->frames[TARGET_FRAME - 1], "query");
}

static void on_node(judge *j, const neap_sql_walk *w, const neap_sql_frame *frame) {
    if (w->depth == NODE_FRAME + 1) {
        begin_statement(j, frame);
        return;                                    /* its own kind is judged when it ends */
    }
    if (frame_in_list(changing, frame)) j->now.changes_within = true;
    bool explained = is_explained(w);
    if (explained && w->depth == TARGET_FRAME + 1 && !frame_in_list(explain_targets, frame)) {
        refuse(j, "EXPLAIN of anything but SELECT, INSERT, UPDATE, DELETE and MERGE is not let through");
    }
    if (frame_in_list(reading, frame) || (explained && frame_in_list(planned, frame))) return;
    char node[40], words[48];
    snprintf(node, sizeof node, "%.*s", frame->len < 39 ? (int)frame->len : 39, frame->key);
    spell_node(words, sizeof words, node);
    if (frame_in_list(planned, frame)) refuse(j, "it contains %s, which writes", words);
    else refuse(j, "it contains %s, which the fence does not know", words);
}

static void on_field(judge *j, neap_sql_walk *w, const neap_sql_frame *frame) {
    if (neap_sql_frame_is(frame, "intoClause")) refuse(j, "SELECT INTO creates a table");
    if (neap_sql_frame_is(frame, "lockingClause")) refuse(j, "FOR UPDATE and FOR SHARE lock rows");
    if (neap_sql_frame_is(frame, "whereClause")) w->frames[w->depth - 2].where = true;
    if (neap_sql_frame_is(frame, "relation") && w->depth == NODE_FRAME + 2) j->now.relation = true;
    if (neap_sql_frame_is(frame, "funcname") || neap_sql_frame_is(frame, "fields") || neap_sql_frame_is(frame, "method")) {
        neap_buf_clear(&j->name);
        j->parts = 0;
        j->odd = false;
    }
}

static void on_enter(neap_sql_walk *w) {
    const neap_sql_frame *frame = &w->frames[w->depth - 1];
    if (frame->len == 0) return;
    if (isupper((unsigned char)frame->key[0])) on_node(w->arg, w, frame);
    else on_field(w->arg, w, frame);
}

static void end_function(judge *j) {
    if (j->parts == 0) return;
    add_name(j, &j->functions, j->name.data);
    if (j->odd) refuse(j, "the function name \"%.60s\" has a dot inside its quotes", j->name.data);
}

static void on_leave(neap_sql_walk *w) {
    judge *j = w->arg;
    const neap_sql_frame *frame = &w->frames[w->depth - 1];
    if (neap_sql_frame_is(frame, "funcname")) end_function(j);
    if (neap_sql_frame_is(frame, "fields") && j->parts > 1) add_name(j, &j->attributes, j->name.data + j->last);
    if (neap_sql_frame_is(frame, "method") && neap_sql_walk_at(w, 1, "RangeTableSample") && j->parts > 0) {
        if (!in_list(sample_methods, j->name.data)) refuse(j, "the TABLESAMPLE method \"%.60s\" is not a built-in one", j->name.data);
    }
    bool changes = neap_sql_frame_is(frame, "UpdateStmt") || neap_sql_frame_is(frame, "DeleteStmt");
    if (changes && !frame->where && !is_explained(w)) j->out->bounded = false;
    if (w->depth == NODE_FRAME + 1) end_statement(j);
}

/* A String: part of a name, when it stands in one. Above it are the element of the array and the array. */
static void on_part(judge *j, const neap_sql_walk *w, const char *text) {
    if (neap_sql_walk_at(w, 2, "indirection")) {
        add_name(j, &j->attributes, text);
    } else if (neap_sql_walk_at(w, 2, "funcname") || neap_sql_walk_at(w, 2, "fields") || neap_sql_walk_at(w, 2, "method")) {
        if (j->parts++ > 0) neap_buf_addc(&j->name, '.');
        j->last = j->name.len;
        neap_buf_adds(&j->name, text);
        if (strchr(text, '.')) j->odd = true;
    }
}

static void on_option(judge *j, const char *name) {
    if (strcmp(name, "concurrently") == 0) j->now.concurrent = true;
    if (strcmp(name, "tablespace") == 0) j->now.tablespace = true;
    if (!is_node(&j->now, "ExplainStmt")) return;
    if (strcmp(name, "analyze") == 0) refuse(j, "EXPLAIN ANALYZE runs the statement");
    if (!in_list(explain_options, name)) refuse(j, "the EXPLAIN option \"%.60s\" is not let through", name);
}

/* A scalar directly inside the statement's own node. */
static void on_property(statement *s, const neap_sql_frame *key, const char *text) {
    if (neap_sql_frame_is(key, "removeType")) copy_word(s->remove_type, sizeof s->remove_type, text);
    if (neap_sql_frame_is(key, "kind")) copy_word(s->kind, sizeof s->kind, text);
    if (neap_sql_frame_is(key, "target")) copy_word(s->target, sizeof s->target, text);
    if (neap_sql_frame_is(key, "is_from")) s->from = true;
    if (neap_sql_frame_is(key, "filename")) s->file = true;
    if (neap_sql_frame_is(key, "is_program")) s->program = true;
    if (neap_sql_frame_is(key, "is_vacuumcmd")) s->vacuum = true;
}

/* Booleans are printed only when they are true. */
static void on_value(neap_sql_walk *w, const neap_sql_frame *key, const char *text) {
    judge *j = w->arg;
    if (neap_sql_frame_is(key, "sval") && neap_sql_walk_at(w, 0, "String")) on_part(j, w, text);
    if (neap_sql_frame_is(key, "defname")) on_option(j, text);
    if (neap_sql_frame_is(key, "concurrent")) j->now.concurrent = true;
    if (w->depth == NODE_FRAME + 1) on_property(&j->now, key, text);
}

bool neap_sql_judge(neap_sql *out, const char *json, neap_err *err) {
    judge j = {.out = out, .name = NEAP_BUF_INIT};
    neap_sql_walk walk = {.arg = &j, .enter = on_enter, .leave = on_leave, .value = on_value};
    out->bounded = true;
    bool sound = neap_sql_walk_run(&walk, json);
    if (out->statements == 0) refuse(&j, "there is no statement");
    if (out->statements > 1) copy_word(out->why, sizeof out->why, "there is more than one statement");
    out->reads = out->why[0] == '\0';
    out->hides = out->hides && !out->reads;        /* EXPLAIN without ANALYZE only plans */
    out->copy_reads = out->copy_reads && out->statements == 1;
    out->functions = take_names(&j.functions);
    out->attributes = take_names(&j.attributes);
    neap_buf_close(&j.name);
    if (!sound) return neap_err_set(err, NEAP_E_BUG, "the SQL parser's answer has an unknown form");
    if (j.overflow) return neap_err_set(err, NEAP_E_INVALID, "the SQL names more than %d functions or attributes", NEAP_SQL_NAMES);
    return true;
}
