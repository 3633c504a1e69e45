/* sql.c -- the first part of the fence: PostgreSQL's grammar, asked safely.
 *
 * Promises: a text is at most NEAP_SQL_TEXT bytes; no text, however deep, overflows the stack; what the grammar does not know is
 * INVALID and never "probably a read".
 *
 * The parser itself keeps its stack on the heap and stops at a depth of its own. Printing the tree is what recurses:
 * `1+1+1+…` is one level per two bytes, and half a million levels ended the program on a usual 8 MiB stack. So a text longer than
 * NEAR bytes is parsed on a thread with a stack that fits the worst of them (134 bytes a level were measured; four times that
 * is reserved, and only touched pages exist). The caller waits: the parser points file descriptor 2 elsewhere while it works, and
 * nothing else may run meanwhile on the loop.
 *
 * Rejected: counting brackets beforehand, because chains without brackets nest as well; a lower limit for the text, because
 * long IN lists are honest SQL. */
#include "guard/sql.h"

#include <pg_query.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "guard/sql_judge.h"

enum { NEAR = 16 * 1024, STACK = 256 * 1024 * 1024 };

/* Volatile, because the answer changes while a statement runs; readers all the same. Each reads only memory or files of the
 * server, takes no lock that another session waits for, and leaves nothing behind. Not here on purpose: pg_sleep (keeps a snapshot
 * open), setseed (changes the session), pg_stat_clear_snapshot, pg_read_file and pg_ls_dir (files of the machine), pg_export_snapshot
 * (writes one), currval and lastval (say nothing in a fresh session), lo_get (opens large objects). */
static const char *const vetted[] = {
    "clock_timestamp", "timeofday",                                   /* the clock */
    "random", "gen_random_uuid",                                      /* draw numbers; the state is the session's own */
    "pg_database_size", "pg_tablespace_size",                         /* sizes: look at files of the cluster */
    "pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size",   /* ACCESS SHARE, as any SELECT */
    "pg_is_in_recovery", "pg_is_wal_replay_paused",                   /* where a standby stands: shared memory */
    "pg_get_wal_replay_pause_state", "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp",
    "pg_current_wal_lsn", "pg_current_wal_insert_lsn", "pg_current_wal_flush_lsn",      /* where a primary stands */
    "pg_control_system", "pg_control_checkpoint", "pg_control_recovery", "pg_control_init",   /* the control file */
    "pg_xact_status", "txid_status",                                  /* what became of a transaction: our own lost COMMIT */
    "pg_blocking_pids", "pg_safe_snapshot_blocking_pids",             /* who waits for whom */
    "pg_lock_status", "pg_prepared_xact",                             /* what the views pg_locks and pg_prepared_xacts show */
    "pg_ls_waldir", "pg_ls_logdir", "pg_ls_tmpdir", "pg_ls_archive_statusdir",          /* names and sizes in the server's own directories */
    "pg_notification_queue_usage",                                    /* how full the queue is */
    "pg_partition_tree", "pg_partition_ancestors",                    /* the catalogue */
    "pg_collation_actual_version", "pg_database_collation_actual_version",   /* asks the C library */
    NULL
};

/* Something that recurses over the tree of a text. */
typedef struct errand {
    const char         *text;
    void              (*run)(struct errand *e);
    PgQueryParseResult  tree;
    char               *canonical;
} errand;

static void *on_thread(void *arg) {
    errand *e = arg;
    e->run(e);
    return NULL;
}

static bool run_far(errand *e) {
    pthread_t thread;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    bool started = pthread_attr_setstacksize(&attributes, STACK) == 0
        && pthread_create(&thread, &attributes, on_thread, e) == 0;
    pthread_attr_destroy(&attributes);
    return started && pthread_join(thread, NULL) == 0;
}

/* False when there is no memory for it. */
static bool run(errand *e) {
    if (strlen(e->text) > NEAR) return run_far(e);
    e->run(e);
    return true;
}

static void parse(errand *e) { e->tree = pg_query_parse(e->text); }

static void print_canonical(errand *e) {
    PgQueryProtobufParseResult tree = pg_query_parse_protobuf(e->text);
    if (!tree.error) {
        PgQueryDeparseResult plain = pg_query_deparse_protobuf(tree.parse_tree);
        if (!plain.error) e->canonical = neap_strdup(plain.query);
        pg_query_free_deparse_result(plain);
    }
    pg_query_free_protobuf_parse_result(tree);
}

char *neap_sql_canonical(const char *text) {
    errand e = {.text = text, .run = print_canonical};
    return run(&e) ? e.canonical : NULL;
}

static bool check_size(const char *text, neap_err *err) {
    if (strnlen(text, NEAP_SQL_TEXT + 1) <= NEAP_SQL_TEXT) return true;
    neap_err_set(err, NEAP_E_INVALID, "the SQL text is longer than %d bytes", NEAP_SQL_TEXT);
    return neap_err_hint(err, "Load much data with copy_in, or split the script into files.");
}

static bool fail_parse(neap_err *err, const PgQueryError *reason) {
    neap_err_set(err, NEAP_E_INVALID, "%s (character %d)", reason->message, reason->cursorpos);
    if (strstr(reason->message, "memory exhausted")) return neap_err_hint(err, "The statement is nested too deeply.");
    return neap_err_hint(err, "The statement was read with the grammar of PostgreSQL %s. Newer syntax is unknown to it, "
                              "so that neither the preview nor the fence can vouch for the statement.", PG_MAJORVERSION);
}

/* ---- what was judged before ----
 *
 * A loop in a runbook sends the same few texts again and again, and the judgement depends on nothing but the text. Parsing was a
 * sixth of a round trip. Only the loop's thread comes here. */

enum { KEPT = 16, KEPT_TEXT = 4096 };

static struct { char *text; neap_sql sql; } kept[KEPT];

static char **copy_list(char *const *list) {
    size_t n = 0;
    while (list && list[n]) n++;
    char **copy = list ? neap_zalloc((n + 1) * sizeof *copy) : NULL;
    for (size_t i = 0; i < n; i++) copy[i] = neap_strdup(list[i]);
    return copy;
}

static void copy_sql(neap_sql *out, const neap_sql *sql) {
    *out = *sql;
    out->functions = copy_list(sql->functions);
    out->attributes = copy_list(sql->attributes);
}

static bool recall(neap_sql *out, const char *text) {
    for (int i = 0; i < KEPT && kept[i].text; i++) {
        if (strcmp(kept[i].text, text) != 0) continue;
        copy_sql(out, &kept[i].sql);
        return true;
    }
    return false;
}

static void keep(const char *text, const neap_sql *sql) {
    static int next;
    if (strlen(text) > KEPT_TEXT) return;
    if (kept[next].text) {
        free(kept[next].text);
        neap_sql_close(&kept[next].sql);
    }
    kept[next].text = neap_strdup(text);
    copy_sql(&kept[next].sql, sql);
    next = (next + 1) % KEPT;
}

bool neap_sql_read(neap_sql *out, const char *text, neap_err *err) {
    memset(out, 0, sizeof *out);
    if (!check_size(text, err)) return false;
    if (recall(out, text)) return true;
    errand e = {.text = text, .run = parse};
    if (!run(&e)) return neap_err_set(err, NEAP_E_MEMORY, "no memory to parse the SQL text");
    bool ok = e.tree.error == NULL ? neap_sql_judge(out, e.tree.parse_tree, err) : fail_parse(err, e.tree.error);
    pg_query_free_parse_result(e.tree);
    if (ok) keep(text, out);
    else neap_sql_close(out);
    return ok;
}

char *neap_sql_tree(const char *text, neap_err *err) {
    if (!check_size(text, err)) return NULL;
    errand e = {.text = text, .run = parse};
    char *tree = NULL;
    if (!run(&e)) neap_err_set(err, NEAP_E_MEMORY, "no memory to parse the SQL text");
    else if (e.tree.error) fail_parse(err, e.tree.error);
    else if (strnlen(e.tree.parse_tree, NEAP_SQL_TREE + 1) > NEAP_SQL_TREE) neap_err_set(err, NEAP_E_INVALID, "the tree of the SQL text is larger than %d bytes", NEAP_SQL_TREE);
    else tree = neap_strdup(e.tree.parse_tree);
    pg_query_free_parse_result(e.tree);
    return tree;
}

static void free_list(char **list) {
    for (char **at = list; at && *at; at++) free(*at);
    free(list);
}

void neap_sql_close(neap_sql *out) {
    free_list(out->functions);
    free_list(out->attributes);
    memset(out, 0, sizeof *out);
}

bool neap_sql_check_read(const neap_sql *sql, neap_err *err) {
    if (sql->reads) return true;
    neap_err_set(err, NEAP_E_REFUSED, "\"%s\" may not be sent as a read: %s", sql->kind[0] ? sql->kind : "nothing", sql->why);
    return neap_err_hint(err, "Reads are one SELECT, VALUES, TABLE, SHOW or EXPLAIN without ANALYZE. "
                              "What changes something belongs into exec or transaction, in the run clause of a step.");
}

/* A statement without the blanks around it. */
static char *cut_statement(const char *script, const PgQuerySplitStmt *place) {
    const char *from = script + place->stmt_location;
    size_t len = place->stmt_len > 0 ? (size_t)place->stmt_len : strlen(from);
    while (len > 0 && strchr(" \t\r\n\f\v", *from)) from++, len--;
    while (len > 0 && strchr(" \t\r\n\f\v", from[len - 1])) len--;
    return neap_strndup(from, len);
}

char **neap_sql_split(const char *script, neap_err *err) {
    if (!check_size(script, err)) return NULL;
    PgQuerySplitResult answer = pg_query_split_with_parser(script);
    char **list = NULL;
    if (answer.error != NULL) {
        fail_parse(err, answer.error);
    } else {
        list = neap_zalloc(((size_t)answer.n_stmts + 1) * sizeof *list);
        for (int i = 0; i < answer.n_stmts; i++) list[i] = cut_statement(script, answer.stmts[i]);
    }
    pg_query_free_split_result(answer);
    return list;
}

bool neap_sql_is_vetted(const char *function) {
    static const char home[] = "pg_catalog.";
    if (strncmp(function, home, sizeof home - 1) == 0) function += sizeof home - 1;
    for (const char *const *at = vetted; *at; at++) if (strcmp(*at, function) == 0) return true;
    return false;
}
