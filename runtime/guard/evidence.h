/* evidence.h -- an evidence file as a reader sees it: opened without writing or checkpointing anything, also while its run
 * writes it. journal.c writes such a file; index.c asks it what the index should say. */
#ifndef NEAP_GUARD_EVIDENCE_H
#define NEAP_GUARD_EVIDENCE_H

#include <stdbool.h>
#include <stdint.h>
#include "guard/chain.h"
#include "guard/db.h"
#include "guard/index.h"
#include "guard/statedir.h"

/* Of the file itself: application_id is "neap", user_version the layout. */
enum { NEAP_EVIDENCE_MARK = 0x6e656170, NEAP_EVIDENCE_LAYOUT = 1 };

typedef struct neap_evidence {
    neap_statedir dir;            /* runs/<run> */
    char         *run;
    sqlite3      *db;             /* in a read transaction */
    bool          sealed;         /* by the file's own header */
    neap_anchor   anchor;
} neap_evidence;

/* INVALID when the file is no evidence or says two things about itself; JOURNAL when it is not safe to touch. */
bool neap_evidence_open(neap_evidence *e, const neap_statedir *state, const char *run, neap_err *err);
void neap_evidence_close(neap_evidence *e);

/* What the file's own header says; INVALID when it is not ours, newer than we are, or damaged. */
bool neap_evidence_is_sealed(sqlite3 *db, bool *sealed, neap_err *err);

/* Walk the chain and compare its end with the anchor: `head` and `last` are those of the newest record. */
bool neap_evidence_prove(neap_evidence *e, unsigned char head[NEAP_HASH_SIZE], int64_t *last, neap_err *err);

/* The row the index should hold for this run, judged by the evidence alone; valid until the connection is used
 * again. `run`, `hash` and `head` live in `text`. */
typedef struct neap_evidence_row {
    neap_index_row row;
    sqlite3_stmt *stmt;
    char hash[NEAP_HASH_HEX_SIZE], head[NEAP_HASH_HEX_SIZE];
} neap_evidence_row;

bool neap_evidence_summary(sqlite3 *db, const char *run, neap_evidence_row *out, neap_err *err);
void neap_evidence_row_close(neap_evidence_row *row);

#endif
