/* hostkey.c -- what can be said of a host's public key without any cryptography but a hash.
 *
 * A blob is a row of SSH strings (four bytes of length, then the bytes); the first names the type, and the type says how many follow.
 * A blob that ends early, goes on, or names another curve than its type is no key: OpenSSH reads it so, and a line of known_hosts that
 * OpenSSH passes over must not pin anything here.
 *
 * Certificates are no host keys in this sense: who signs one is pinned by @cert-authority, which only the ssh program checks. */
#include "drive/hostkey.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include "base/hash.h"

typedef struct kind {
    const char *type;
    int strings;                              /* behind the type */
    const char *curve;
} kind;

static const kind kinds[] = {
    {"ssh-ed25519", 1, NULL},
    {"ecdsa-sha2-nistp256", 2, "nistp256"},
    {"ecdsa-sha2-nistp384", 2, "nistp384"},
    {"ecdsa-sha2-nistp521", 2, "nistp521"},
    {"ssh-rsa", 2, NULL},
    {"sk-ssh-ed25519@openssh.com", 2, NULL},
    {"sk-ecdsa-sha2-nistp256@openssh.com", 3, "nistp256"},
    {"ssh-dss", 4, NULL},
};

static const char *const rsa_signatures[] = {"rsa-sha2-256", "rsa-sha2-512"};

static bool is_word(const char *word, const char *text, size_t len) {
    return strlen(word) == len && memcmp(word, text, len) == 0;
}

static const kind *find_kind(const char *type, size_t len) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (is_word(kinds[i].type, type, len)) return &kinds[i];
    return NULL;
}

const char *neap_hostkey_type(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof rsa_signatures / sizeof *rsa_signatures; i++)
        if (is_word(rsa_signatures[i], name, len)) return "ssh-rsa";
    const kind *k = find_kind(name, len);
    return k ? k->type : NULL;
}

/* The next string of the blob; false when it does not end inside. */
static bool take(const unsigned char **at, size_t *left, const unsigned char **text, size_t *len) {
    if (*left < 4) return false;
    const unsigned char *p = *at;
    *len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (*len > *left - 4) return false;
    *text = p + 4;
    *at += 4 + *len;
    *left -= 4 + *len;
    return true;
}

const char *neap_hostkey_type_of_blob(const unsigned char *blob, size_t len) {
    const unsigned char *text;
    size_t n;
    if (!take(&blob, &len, &text, &n)) return NULL;
    const kind *k = find_kind((const char *)text, n);
    if (!k) return NULL;
    for (int i = 0; i < k->strings; i++) {
        if (!take(&blob, &len, &text, &n) || n == 0) return NULL;
        if (i == 0 && k->curve && !is_word(k->curve, (const char *)text, n)) return NULL;
        if (i == 0 && strstr(k->type, "ed25519") && n != 32) return NULL;
    }
    return len == 0 ? k->type : NULL;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void neap_base64_encode(neap_buf *out, const void *data, size_t len) {
    const unsigned char *p = data;
    for (; len > 0; p += 3) {
        size_t n = len < 3 ? len : 3;
        uint32_t bits = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
        for (size_t i = 0; i < 4; i++) neap_buf_addc(out, i <= n ? alphabet[bits >> (18 - 6 * i) & 63] : '=');
        len -= n;
    }
}

bool neap_base64_decode(neap_buf *out, const char *text, size_t len) {
    uint32_t bits = 0;
    int letters = 0, padding = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (isspace(c)) continue;
        const char *at = c ? strchr(alphabet, c) : NULL;
        if (c == '=' && letters % 4 + padding >= 2 && letters % 4 + padding < 4) { padding++; continue; }
        if (!at || padding) return false;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        if (++letters % 4) continue;
        neap_buf_addc(out, (char)(bits >> 16));
        neap_buf_addc(out, (char)(bits >> 8));
        neap_buf_addc(out, (char)bits);
    }
    int rest = letters % 4;
    if (rest == 0) return padding == 0;
    if (rest + padding != 4) return false;
    if (bits & (rest == 2 ? 0xfu : 0x3u)) return false;           /* bits that stand for nothing */
    neap_buf_addc(out, (char)(rest == 2 ? bits >> 4 : bits >> 10));
    if (rest == 3) neap_buf_addc(out, (char)(bits >> 2));
    return true;
}

void neap_hostkey_fingerprint(const unsigned char *blob, size_t len, char out[NEAP_FINGERPRINT_SIZE]) {
    unsigned char digest[NEAP_HASH_SIZE];
    neap_buf text = NEAP_BUF_INIT;
    neap_hash_of(blob, len, digest);
    neap_buf_adds(&text, "SHA256:");
    neap_base64_encode(&text, digest, sizeof digest);
    memcpy(out, text.data, NEAP_FINGERPRINT_SIZE - 1);            /* without the one "=" */
    out[NEAP_FINGERPRINT_SIZE - 1] = 0;
    neap_buf_close(&text);
}
