/* chain.h -- what makes evidence hard to change: the hash chain of the records, and the anchor beside the file.
 *
 * Chain. hash(0) = SHA-256("neap journal 1\n" ‖ run); hash(n) = SHA-256(hash(n-1) ‖ seq ‖ at ‖ kind ‖ step ‖ body), numbers
 * as 8 bytes big-endian and every text behind its length, so that no two records share an encoding.
 *
 * Anchor. A chain cannot show that its own end was cut off. The file `anchor` says in one line how far the
 * journal had come: the seq and hash of the newest acknowledged record and, once sealed, the hash of the whole file. It is
 * overwritten in place after every commit, without a sync of its own: after a power cut it may be older than the journal,
 * which is harmless; an anchor that is ahead of its journal proves that acknowledged records are gone. */
#ifndef NEAP_GUARD_CHAIN_H
#define NEAP_GUARD_CHAIN_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/hash.h"
#include "guard/journal.h"

/* hash(0) of a run. */
void neap_chain_begin(unsigned char hash[NEAP_HASH_SIZE], const char *run);
/* hash(n-1) in, hash(n) out, in place. The lengths are those of the texts of `r`. */
void neap_chain_add(unsigned char hash[NEAP_HASH_SIZE], const neap_record *r, size_t body_len);

typedef struct neap_anchor {
    bool          known;                       /* false: the line was never written out (a power cut) */
    int64_t       seq;
    unsigned char head[NEAP_HASH_SIZE];
    bool          sealed;
    unsigned char file[NEAP_HASH_SIZE];        /* only while sealed */
} neap_anchor;

/* Overwrite the line; `durable` waits for the disk. */
bool neap_anchor_write(int fd, const neap_anchor *a, bool durable, neap_err *err);
/* Read `anchor` in the directory; INVALID when it is missing or is no such line. */
bool neap_anchor_read(int dir, neap_anchor *a, neap_err *err);

#endif
