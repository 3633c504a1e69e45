/* hash.h -- SHA-256, whole and piece by piece (OpenSSL's plain functions behind it). */
#ifndef NEAP_BASE_HASH_H
#define NEAP_BASE_HASH_H

#include <stddef.h>

enum { NEAP_HASH_SIZE = 32, NEAP_HASH_HEX_SIZE = 65 };

typedef struct neap_hash neap_hash;

neap_hash *neap_hash_new(void);
void neap_hash_add(neap_hash *h, const void *data, size_t len);
void neap_hash_end(neap_hash *h, unsigned char out[NEAP_HASH_SIZE]);  /* and free */
void neap_hash_peek(const neap_hash *h, unsigned char out[NEAP_HASH_SIZE]);   /* so far; more may follow */
void neap_hash_free(neap_hash *h);                                    /* without an answer */

void neap_hash_of(const void *data, size_t len, unsigned char out[NEAP_HASH_SIZE]);
void neap_hash_hex(const unsigned char digest[NEAP_HASH_SIZE], char out[NEAP_HASH_HEX_SIZE]);

#endif
