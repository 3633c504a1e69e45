/* hostkey.h -- public keys of hosts: their types, their blobs, their fingerprints. Pure computing. */
#ifndef NEAP_DRIVE_HOSTKEY_H
#define NEAP_DRIVE_HOSTKEY_H

#include <stdbool.h>
#include "base/buf.h"

enum { NEAP_FINGERPRINT_SIZE = 51 };          /* "SHA256:", 43 letters, NUL */

/* The key type that a name stands for: "rsa-sha2-512" is "ssh-rsa", "ssh-ed25519" is itself. NULL: no type we know.
 * The result is static. */
const char *neap_hostkey_type(const char *name, size_t len);
/* The type a blob says it has, when the blob is whole and has nothing behind it; else NULL. */
const char *neap_hostkey_type_of_blob(const unsigned char *blob, size_t len);
/* "SHA256:…" as ssh-keygen prints it. */
void neap_hostkey_fingerprint(const unsigned char *blob, size_t len, char out[NEAP_FINGERPRINT_SIZE]);

/* Base64 as OpenSSH takes it: white space is passed over, padding is due. False when it is none; `out` may hold a part then. */
bool neap_base64_decode(neap_buf *out, const char *text, size_t len);
void neap_base64_encode(neap_buf *out, const void *data, size_t len);

#endif
