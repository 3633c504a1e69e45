/* hostile_wire.c -- see hostile_wire.h. RFC 4253 (packets, keys), RFC 8731 (curve25519), RFC 8709 (ed25519).
 *
 * Rejected: libssh's server. It has no way to send a packet of our choice, so no close without EOF, no lie in the key exchange, no
 * window that stays shut; and this much of the protocol is short. */
#include "hostile_wire.h"

#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char SERVER_ID[] = "SSH-2.0-hostile";

enum { KEXINIT = 20, NEWKEYS = 21, ECDH_INIT = 30, ECDH_REPLY = 31, MAC = 32, KEY = 16 };

/* ---- payloads ---- */

static void put(neap_packet *p, const void *bytes, size_t len) {
    if (p->len + len > sizeof p->data) _exit(3);
    if (len) memcpy(p->data + p->len, bytes, len);
    p->len += len;
}

void neap_put_byte(neap_packet *p, uint8_t value) { put(p, &value, 1); }

void neap_put_u32(neap_packet *p, uint32_t value) {
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    put(p, bytes, 4);
}

void neap_put_string(neap_packet *p, const void *bytes, size_t len) {
    neap_put_u32(p, (uint32_t)len);
    put(p, bytes, len);
}

void neap_put_text(neap_packet *p, const char *text) { neap_put_string(p, text, strlen(text)); }

/* A number without leading zeros, with one in front when it would look negative. */
static void put_number(neap_packet *p, const uint8_t *bytes, size_t len) {
    while (len && !*bytes) bytes++, len--;
    bool padded = len && (*bytes & 0x80);
    neap_put_u32(p, (uint32_t)(len + padded));
    if (padded) neap_put_byte(p, 0);
    put(p, bytes, len);
}

uint8_t neap_take_byte(neap_packet *p) {
    if (p->at >= p->len) _exit(3);
    return p->data[p->at++];
}

static uint32_t read_u32(const uint8_t *b) { return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]; }

uint32_t neap_take_u32(neap_packet *p) {
    if (p->len - p->at < 4) _exit(3);
    p->at += 4;
    return read_u32(p->data + p->at - 4);
}

const void *neap_take_string(neap_packet *p, size_t *len) {
    *len = neap_take_u32(p);
    if (p->len - p->at < *len) _exit(3);
    p->at += *len;
    return p->data + p->at - *len;
}

/* ---- bytes ---- */

void neap_wire_raw(neap_wire *w, const void *bytes, size_t len) {
    for (ssize_t n; len > 0; len -= (size_t)n, bytes = (const char *)bytes + n)
        if ((n = send(w->fd, bytes, len, MSG_NOSIGNAL)) <= 0) _exit(0);
}

static void read_all(neap_wire *w, void *bytes, size_t len) {
    for (ssize_t n; len > 0; len -= (size_t)n, bytes = (char *)bytes + n)
        if ((n = read(w->fd, bytes, len)) <= 0) _exit(0);
}

bool neap_wire_is_ready(neap_wire *w, int ms) {
    struct pollfd wait = {w->fd, POLLIN, 0};
    return poll(&wait, 1, ms) > 0;
}

void neap_wire_greet(neap_wire *w) {
    size_t len = 0;
    neap_wire_raw(w, SERVER_ID, sizeof SERVER_ID - 1);
    neap_wire_raw(w, "\r\n", 2);
    for (char c; len < sizeof w->client_id - 1; w->client_id[len++] = c) {
        read_all(w, &c, 1);
        if (c == '\n') break;
    }
    if (len && w->client_id[len - 1] == '\r') len--;
    w->client_id[len] = '\0';
}

/* ---- packets ---- */

static void authenticate(const uint8_t *key, uint32_t seq, const uint8_t *bytes, size_t len, uint8_t *mac) {
    static uint8_t text[NEAP_PACKET + 64];
    neap_packet number = {.len = 0};
    neap_put_u32(&number, seq);
    memcpy(text, number.data, 4);
    memcpy(text + 4, bytes, len);
    HMAC(EVP_sha256(), key, MAC, text, len + 4, mac, NULL);
}

void neap_wire_send(neap_wire *w, const neap_packet *p) {
    static uint8_t packet[NEAP_PACKET + 64];
    size_t block = w->encrypted ? 16 : 8, pad = block - (5 + p->len) % block;
    if (pad < 4) pad += block;
    size_t len = 5 + p->len + pad;
    neap_packet head = {.len = 0};
    neap_put_u32(&head, (uint32_t)(len - 4));
    neap_put_byte(&head, (uint8_t)pad);
    memcpy(packet, head.data, 5);
    memcpy(packet + 5, p->data, p->len);
    RAND_bytes(packet + 5 + p->len, (int)pad);
    uint8_t mac[MAC];
    int done;
    authenticate(w->mac_out, w->seq_out++, packet, len, mac);
    if (w->encrypted) EVP_EncryptUpdate(w->out, packet, &done, packet, (int)len);
    neap_wire_raw(w, packet, len);
    if (w->encrypted) neap_wire_raw(w, mac, MAC);
}

/* Any packet, decrypted and verified. */
static void read_packet(neap_wire *w, neap_packet *p) {
    static uint8_t packet[NEAP_PACKET + 64];
    size_t block = w->encrypted ? 16 : 8;
    int done;
    read_all(w, packet, block);
    if (w->encrypted) EVP_EncryptUpdate(w->in, packet, &done, packet, (int)block);
    size_t len = 4 + (size_t)read_u32(packet);
    if (len > sizeof packet || len < block) _exit(3);
    read_all(w, packet + block, len - block);
    if (w->encrypted && len > block) EVP_EncryptUpdate(w->in, packet + block, &done, packet + block, (int)(len - block));
    if (w->encrypted) {
        uint8_t got[MAC], mac[MAC];
        read_all(w, got, MAC);
        authenticate(w->mac_in, w->seq_in, packet, len, mac);
        if (memcmp(got, mac, MAC) != 0) _exit(3);
    }
    w->seq_in++;
    if (5u + packet[4] > len) _exit(3);
    *p = (neap_packet){.len = len - 5 - packet[4]};
    memcpy(p->data, packet + 5, p->len);
}

/* ---- key exchange ---- */

static void send_kexinit(neap_wire *w) {
    static const char *const lists[] = {"curve25519-sha256,curve25519-sha256@libssh.org", "ssh-ed25519", "aes128-ctr", "aes128-ctr",
                                        "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""};
    uint8_t cookie[16];
    RAND_bytes(cookie, sizeof cookie);
    w->ours = (neap_packet){.len = 0};
    neap_put_byte(&w->ours, KEXINIT);
    put(&w->ours, cookie, sizeof cookie);
    for (int i = 0; i < 10; i++) neap_put_text(&w->ours, lists[i]);
    neap_put_byte(&w->ours, 0);
    neap_put_u32(&w->ours, 0);
    neap_wire_send(w, &w->ours);
}

static void derive(const neap_packet *secret, const uint8_t *hash, char letter, const uint8_t *session, uint8_t *key) {
    static neap_packet text;
    text = *secret;
    put(&text, hash, 32);
    put(&text, &letter, 1);
    put(&text, session, 32);
    SHA256(text.data, text.len, key);
}

static EVP_CIPHER_CTX *new_cipher(const uint8_t *key, const uint8_t *iv) {
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(c, EVP_aes_128_ctr(), NULL, key, iv);       /* CTR: both directions encrypt */
    return c;
}

/* What both sides signed away: the shared number, and our half of the exchange in `half`. */
static void agree(const uint8_t *theirs, uint8_t *half, neap_packet *secret) {
    EVP_PKEY *own = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, 32);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(own, NULL);
    uint8_t shared[32];
    size_t len = sizeof shared, half_len = 32;
    EVP_PKEY_get_raw_public_key(own, half, &half_len);
    EVP_PKEY_derive_init(c);
    if (!peer || EVP_PKEY_derive_set_peer(c, peer) != 1 || EVP_PKEY_derive(c, shared, &len) != 1) _exit(3);
    secret->len = 0;
    put_number(secret, shared, len);
    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(own);
    EVP_PKEY_free(peer);
}

static void put_host_key(const neap_wire *w, neap_packet *p) {
    uint8_t public[32];
    size_t len = sizeof public;
    EVP_PKEY_get_raw_public_key(w->host_key, public, &len);
    neap_put_text(p, w->key_name ? w->key_name : "ssh-ed25519");
    neap_put_string(p, public, len);
}

static void put_signature(const neap_wire *w, const uint8_t *hash, neap_packet *p) {
    uint8_t signature[64];
    size_t len = sizeof signature;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_DigestSignInit(c, NULL, NULL, NULL, w->host_key);
    EVP_DigestSign(c, signature, &len, hash, 32);
    EVP_MD_CTX_free(c);
    neap_put_text(p, "ssh-ed25519");
    neap_put_string(p, signature, len);
}

/* From the peer's KEXINIT on; ours has been sent. */
static void finish_exchange(neap_wire *w, const neap_packet *theirs) {
    static neap_packet init, key, secret, text, reply, signature;
    size_t len;
    uint8_t half[32], hash[32], k[6][32];
    read_packet(w, &init);
    if (neap_take_byte(&init) != ECDH_INIT) _exit(3);
    const void *point = neap_take_string(&init, &len);
    if (len != 32) _exit(3);
    agree(point, half, &secret);
    key.len = text.len = reply.len = signature.len = 0;
    put_host_key(w, &key);
    neap_put_text(&text, w->client_id);
    neap_put_text(&text, SERVER_ID);
    neap_put_string(&text, theirs->data, theirs->len);
    neap_put_string(&text, w->ours.data, w->ours.len);
    neap_put_string(&text, key.data, key.len);
    neap_put_string(&text, point, 32);
    neap_put_string(&text, half, 32);
    put(&text, secret.data, secret.len);
    SHA256(text.data, text.len, hash);
    put_signature(w, hash, &signature);
    neap_put_byte(&reply, ECDH_REPLY);
    neap_put_string(&reply, key.data, key.len);
    neap_put_string(&reply, half, 32);
    neap_put_string(&reply, signature.data, signature.len);
    neap_wire_send(w, &reply);
    neap_wire_send(w, &(neap_packet){.data = {NEWKEYS}, .len = 1});
    read_packet(w, &init);
    if (init.len != 1 || init.data[0] != NEWKEYS) _exit(3);
    if (!w->encrypted) memcpy(w->session_id, hash, 32);
    for (int i = 0; i < 6; i++) derive(&secret, hash, (char)('A' + i), w->session_id, k[i]);
    EVP_CIPHER_CTX_free(w->in);
    EVP_CIPHER_CTX_free(w->out);
    w->in = new_cipher(k[2], k[0]), w->out = new_cipher(k[3], k[1]);
    memcpy(w->mac_in, k[4], 32);
    memcpy(w->mac_out, k[5], 32);
    w->encrypted = true;
    w->ours.len = 0;
}

void neap_wire_read(neap_wire *w, neap_packet *p) {
    for (;;) {
        read_packet(w, p);
        if (p->len == 0) _exit(3);
        if (p->data[0] == 1) _exit(0);                             /* DISCONNECT */
        if (p->data[0] == KEXINIT) {
            if (w->silent_rekey) for (;;) pause();
            static neap_packet theirs;
            theirs = *p;
            if (!w->ours.len) send_kexinit(w);
            finish_exchange(w, &theirs);
        } else if (p->data[0] > 4 && p->data[0] != 7) return;      /* not IGNORE, UNIMPLEMENTED, DEBUG, EXT_INFO */
    }
}

void neap_wire_rekey(neap_wire *w, bool finish) {
    static neap_packet p;
    send_kexinit(w);
    w->silent_rekey = !finish;
    while (finish) {
        read_packet(w, &p);
        if (p.len && p.data[0] == KEXINIT) {
            static neap_packet theirs;
            theirs = p;
            finish_exchange(w, &theirs);
            return;
        }
        if (p.len && p.data[0] > 4) w->on_packet(w->arg, &p);
    }
}
