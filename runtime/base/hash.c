/* hash.c -- SHA-256 through OpenSSL's EVP.
 *
 * A digest that cannot be made (a provider that refuses SHA-256) would make every proof built on it
 * worthless, so it ends the process instead of returning zeros: 70, an assumption of ours failed.
 */
#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"

enum { EXIT_BUG = 70 };

struct neap_hash { EVP_MD_CTX *context; };

static void require(int ok) {
    if (ok == 1) return;
    fputs("neap: this machine's OpenSSL refuses SHA-256\n", stderr);
    _Exit(EXIT_BUG);
}

neap_hash *neap_hash_new(void) {
    neap_hash *h = neap_alloc(sizeof *h);
    h->context = EVP_MD_CTX_new();
    require(h->context != NULL && EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) == 1);
    return h;
}

void neap_hash_add(neap_hash *h, const void *data, size_t len) {
    if (len) require(EVP_DigestUpdate(h->context, data, len));
}

void neap_hash_end(neap_hash *h, unsigned char out[NEAP_HASH_SIZE]) {
    unsigned int len = 0;
    require(EVP_DigestFinal_ex(h->context, out, &len));
    neap_hash_free(h);
}

void neap_hash_free(neap_hash *h) {
    if (!h) return;
    EVP_MD_CTX_free(h->context);
    free(h);
}

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
