/* hostile_wire.h -- the SSH transport as a server speaks it: packets, key exchange, rekey. For hostile_ssh.c only.
 *
 * One algorithm of each kind, which every client of today knows: curve25519-sha256, ssh-ed25519, aes128-ctr, hmac-sha2-256. The peer
 * going away, or saying what makes no sense, ends the process: it serves one connection. */
#ifndef NEAP_TESTS_HOSTILE_WIRE_H
#define NEAP_TESTS_HOSTILE_WIRE_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NEAP_PACKET = 40000 };

/* Descriptors that the server finds open: hostile.c puts them there. */
enum { NEAP_HOSTILE_LISTENER = 3, NEAP_HOSTILE_LIFE = 4, NEAP_HOSTILE_TELL = 5 };

/* A packet's payload, written or read from the front. Reading past the end ends the process. */
typedef struct neap_packet { uint8_t data[NEAP_PACKET]; size_t len, at; } neap_packet;

void        neap_put_byte(neap_packet *p, uint8_t value);
void        neap_put_u32(neap_packet *p, uint32_t value);
void        neap_put_string(neap_packet *p, const void *bytes, size_t len);
void        neap_put_text(neap_packet *p, const char *text);
uint8_t     neap_take_byte(neap_packet *p);
uint32_t    neap_take_u32(neap_packet *p);
const void *neap_take_string(neap_packet *p, size_t *len);

typedef struct neap_wire neap_wire;
struct neap_wire {
    int             fd;
    bool            encrypted, silent_rekey;           /* silent_rekey: a key exchange is begun and never continued */
    const char     *key_name;                          /* what the host key says it is; NULL: the truth */
    EVP_PKEY       *host_key;
    EVP_CIPHER_CTX *in, *out;
    uint8_t         mac_in[32], mac_out[32], session_id[32];
    uint32_t        seq_in, seq_out;
    char            client_id[256];
    neap_packet     ours;                              /* our KEXINIT while an exchange runs; len 0: none was sent */
    void          (*on_packet)(void *arg, neap_packet *p);      /* what comes while we wait for the peer's part of an exchange */
    void           *arg;
};

/* Exchange the identification lines. */
void neap_wire_greet(neap_wire *w);

void neap_wire_send(neap_wire *w, const neap_packet *p);
/* The next packet that is not the transport's own affair; key exchanges the peer begins happen on the way. */
void neap_wire_read(neap_wire *w, neap_packet *p);
/* True when a packet can be read within the time. */
bool neap_wire_is_ready(neap_wire *w, int ms);

/* Begin a key exchange; with `finish` go through it, what comes meanwhile goes to on_packet. */
void neap_wire_rekey(neap_wire *w, bool finish);

/* The modes of hostile_flood.c; returns at once where the mode is none of them. */
void neap_hostile_flood(neap_wire *w, const char *mode, uint32_t channel, int64_t size);

/* Write all of it to the descriptor, or end the process. */
void neap_wire_raw(neap_wire *w, const void *bytes, size_t len);

#endif
