/* hash.c -- SHA-256 by OpenSSL's plain functions.
 *
 * They only compute. EVP would first read the machine's configuration of OpenSSL and ask its providers, 1.5 ms at every start
 * (measured), for a digest that must be the same on every machine; and a provider that refuses SHA-256 would make
 * every proof built on it worthless. TLS is libpq's business and still follows that configuration. */
#define OPENSSL_SUPPRESS_DEPRECATED                /* "use EVP": see above */
#include "base/hash.h"

#include <openssl/sha.h>
#include <stdlib.h>

#include "base/buf.h"

struct neap_hash { SHA256_CTX context; };

neap_hash *neap_hash_new(void) {
    neap_hash *h = neap_alloc(sizeof *h);
    SHA256_Init(&h->context);
    return h;
}

void neap_hash_add(neap_hash *h, const void *data, size_t len) {
    if (len) SHA256_Update(&h->context, data, len);
}

void neap_hash_end(neap_hash *h, unsigned char out[NEAP_HASH_SIZE]) {
    SHA256_Final(out, &h->context);
    neap_hash_free(h);
}

void neap_hash_peek(const neap_hash *h, unsigned char out[NEAP_HASH_SIZE]) {
    SHA256_CTX copy = h->context;
    SHA256_Final(out, &copy);
}

void neap_hash_free(neap_hash *h) { free(h); }

void neap_hash_of(const void *data, size_t len, unsigned char out[NEAP_HASH_SIZE]) {
    neap_hash *h = neap_hash_new();
    neap_hash_add(h, data, len);
    neap_hash_end(h, out);
}

void neap_hash_hex(const unsigned char digest[NEAP_HASH_SIZE], char out[NEAP_HASH_HEX_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < NEAP_HASH_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[NEAP_HASH_HEX_SIZE - 1] = 0;
}
