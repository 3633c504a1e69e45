/* ssh_identity.c -- of which type is the key in a file? Asked before a back end is chosen: libssh2 cannot use a key on a security token, nor
 * in some versions an RSA key, and a certificate only through the ssh program.
 *
 * Three places say it without a passphrase: the first word of FILE.pub, the first word of FILE when that is itself a public key, and
 * the head of a private key in OpenSSH's own format, which keeps the public half in the clear. PEM files name the family in their
 * first line. What none of them tells is left to the back end. */
#include "drive/ssh_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "drive/hostkey.h"

enum { HEAD_SIZE = 8192 };

static const char MAGIC[] = "openssh-key-v1";

static size_t read_head(const char *path, char head[HEAD_SIZE]) {
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(head, 1, HEAD_SIZE - 1, f) : 0;
    if (f) fclose(f);
    head[n] = 0;
    return n;
}

static const char *const types[] = {
    "ssh-ed25519", "ssh-rsa", "ssh-dss", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-ed25519-cert-v01@openssh.com", "ssh-rsa-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
};

static const char *known_type(const char *word, size_t len) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strlen(types[i]) == len && memcmp(types[i], word, len) == 0) return types[i];
    return NULL;
}

/* An SSH string behind *at; NULL when it does not end inside. */
static const unsigned char *take(const unsigned char **at, const unsigned char *end, size_t *len) {
    const unsigned char *p = *at;
    if (end - p < 4) return NULL;
    *len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (*len > (size_t)(end - p) - 4) return NULL;
    *at = p + 4 + *len;
    return p + 4;
}

/* magic, cipher, kdf, kdf's options, how many keys, the first public key, whose first string is the type */
static const char *type_in_body(const neap_buf *body) {
    if (body->len < sizeof MAGIC || memcmp(body->data, MAGIC, sizeof MAGIC) != 0) return NULL;
    const unsigned char *at = (unsigned char *)body->data + sizeof MAGIC, *end = (unsigned char *)body->data + body->len;
    const unsigned char *text;
    size_t len;
    for (int i = 0; i < 3; i++) if (!take(&at, end, &len)) return NULL;
    if (end - at < 8) return NULL;
    at += 8;                                     /* the count, and the length of a key that may go on behind what we read */
    text = take(&at, end, &len);
    return text ? known_type((const char *)text, len) : NULL;
}

static const char *type_of_private(const char *head) {
    static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----";
    if (strncmp(head, "-----BEGIN RSA PRIVATE KEY", 26) == 0) return "ssh-rsa";
    if (strncmp(head, begin, sizeof begin - 1) != 0) return NULL;
    neap_buf body = NEAP_BUF_INIT;
    size_t len = strcspn(head + sizeof begin - 1, "-");
    if (len > 1400) len = 1400;                  /* enough for the types; cut to whole groups below */
    char *letters = neap_alloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = head[sizeof begin - 1 + i];
        if (c != '\n' && c != '\r' && c != ' ' && c != '=') letters[n++] = c;
    }
    neap_base64_decode(&body, letters, n - n % 4);
    free(letters);
    const char *type = type_in_body(&body);
    neap_buf_close(&body);
    return type;
}

const char *neap_ssh_identity_type(const char *path) {
    char head[HEAD_SIZE];
    neap_buf public = NEAP_BUF_INIT;
    neap_buf_addf(&public, "%s.pub", path);
    read_head(public.data, head);
    neap_buf_close(&public);
    const char *type = known_type(head, strcspn(head, " \t\n"));
    if (type) return type;
    read_head(path, head);
    type = known_type(head, strcspn(head, " \t\n"));
    return type ? type : type_of_private(head);
}
