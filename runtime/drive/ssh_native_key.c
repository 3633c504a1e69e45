/* ssh_native_key.c -- the public half of a key file, without its passphrase: from PATH.pub, else from the head of PATH (the
 * format of OpenSSH carries it in the clear), and whether the private half is locked.
 *
 * libssh2 reads the private half itself. What is read here decides in which order keys are tried, which of them the agent holds, and what is
 * said of a key that cannot be used; a file that makes no sense is merely "not readable" here, and libssh2 then says why. */
#include "drive/ssh_native.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drive/hostkey.h"

enum { FILE_MOST = 64 * 1024 };

/* Counted strings ---------------------------------------------------------------------------- */

bool neap_ssh_read_u32(neap_ssh_reader *r, uint32_t *out) {
    if (r->end - r->at < 4) return false;
    *out = (uint32_t)r->at[0] << 24 | (uint32_t)r->at[1] << 16 | (uint32_t)r->at[2] << 8 | r->at[3];
    r->at += 4;
    return true;
}

bool neap_ssh_read_string(neap_ssh_reader *r, const unsigned char **out, size_t *len) {
    uint32_t n;
    if (!neap_ssh_read_u32(r, &n) || (size_t)(r->end - r->at) < n) return false;
    *out = r->at;
    *len = n;
    r->at += n;
    return true;
}

void neap_ssh_put_u32(neap_buf *b, uint32_t n) {
    const char bytes[4] = {(char)(n >> 24), (char)(n >> 16), (char)(n >> 8), (char)n};
    neap_buf_add(b, bytes, sizeof bytes);
}

void neap_ssh_put_string(neap_buf *b, const void *data, size_t len) {
    neap_ssh_put_u32(b, (uint32_t)len);
    neap_buf_add(b, data, len);
}

/* Files ---------------------------------------------------------------------------------------- */

static bool read_file(const char *path, neap_buf *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    ssize_t n;
    do n = read(fd, neap_buf_room(out, 4096), 4096), out->len += n > 0 ? (size_t)n : 0; while (n > 0 && out->len < FILE_MOST);
    close(fd);
    if (out->data) out->data[out->len] = '\0';
    return n == 0 && out->len > 0;
}

/* Keep the blob, whose first string is its type. */
static bool keep(neap_ssh_key *k, const unsigned char *blob, size_t len) {
    neap_ssh_reader r = {blob, blob + len};
    const unsigned char *type;
    size_t type_len;
    if (!neap_ssh_read_string(&r, &type, &type_len) || memchr(type, 0, type_len)) return false;
    k->type = neap_strndup((const char *)type, type_len);
    k->blob = neap_alloc(len);
    memcpy(k->blob, blob, len);
    k->len = len;
    return true;
}

bool neap_ssh_key_read_public(neap_ssh_key *k, const char *path) {
    neap_buf text = NEAP_BUF_INIT, blob = NEAP_BUF_INIT;
    *k = (neap_ssh_key){0};
    bool good = read_file(path, &text);
    const char *at = good ? text.data + strcspn(text.data, " \t\n") : NULL;
    if (at) at += strspn(at, " \t");
    good = at && neap_base64_decode(&blob, at, strcspn(at, " \t\r\n")) && keep(k, (unsigned char *)blob.data, blob.len);
    neap_buf_close(&text);
    neap_buf_close(&blob);
    return good;
}

/* "openssh-key-v1\0", cipher, kdf, its options, how many keys, the first public one. */
static void read_head(neap_ssh_key *k, const unsigned char *data, size_t len) {
    static const char magic[] = "openssh-key-v1";
    const unsigned char *cipher, *skipped, *blob;
    size_t cipher_len, skipped_len, blob_len;
    uint32_t keys;
    if (len < sizeof magic || memcmp(data, magic, sizeof magic) != 0) return;
    neap_ssh_reader r = {data + sizeof magic, data + len};
    if (!neap_ssh_read_string(&r, &cipher, &cipher_len) || !neap_ssh_read_string(&r, &skipped, &skipped_len) ||
        !neap_ssh_read_string(&r, &skipped, &skipped_len) || !neap_ssh_read_u32(&r, &keys) || !neap_ssh_read_string(&r, &blob, &blob_len)) return;
    k->locked = cipher_len != 4 || memcmp(cipher, "none", 4) != 0;
    k->readable = true;
    if (!k->blob) keep(k, blob, blob_len);
}

static void read_private(neap_ssh_key *k, const char *text) {
    static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----", end[] = "-----END OPENSSH";
    const char *from = strstr(text, begin), *to = from ? strstr(from, end) : NULL;
    if (to) {
        neap_buf data = NEAP_BUF_INIT;
        if (neap_base64_decode(&data, from + sizeof begin - 1, (size_t)(to - from) - (sizeof begin - 1))) read_head(k, (unsigned char *)data.data, data.len);
        neap_buf_wipe(&data);
        return;
    }
    k->readable = strstr(text, "PRIVATE KEY-----") != NULL;
    k->locked = strstr(text, "ENCRYPTED") != NULL;
    if (!k->type && strstr(text, "BEGIN RSA PRIVATE")) k->type = neap_strdup("ssh-rsa");
}

void neap_ssh_key_read(neap_ssh_key *k, const char *path) {
    neap_buf name = NEAP_BUF_INIT, text = NEAP_BUF_INIT;
    neap_buf_addf(&name, "%s.pub", path);
    neap_ssh_key_read_public(k, name.data);
    if (read_file(path, &text)) read_private(k, text.data);
    neap_buf_wipe(&text);
    neap_buf_close(&name);
}

void neap_ssh_key_close(neap_ssh_key *k) {
    free(k->type);
    free(k->blob);
    *k = (neap_ssh_key){0};
}
