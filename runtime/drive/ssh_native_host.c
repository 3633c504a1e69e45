/* ssh_native_host.c -- which host keys libssh2 may ask for, and whether the one that came is the host's.
 *
 * libssh2 prefers ecdsa to ed25519, and its known_hosts code knows neither markers nor wildcards nor "pinned under another type": so the
 * types that are pinned for this host are asked for first (knownhosts.h), and the key that came is judged there too.
 *
 * Key exchange: the curves first, the groups last (four times the time); no SHA-1. libssh2 1.10 has no cipher that the Terrapin attack
 * needs; later versions have, and are told of strict key exchange in the same list (a preference that leaves it out turns it off). */
#include "drive/ssh_native.h"

#include <stdlib.h>
#include <string.h>
#if defined __x86_64__ || defined __i386__
#include <cpuid.h>
#elif defined __aarch64__
#include <sys/auxv.h>
#endif

#include "drive/knownhosts.h"

static const char *const exchanges =
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
    "diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256,diffie-hellman-group-exchange-sha256,"
    "ext-info-c,kex-strict-c-v00@openssh.com";

/* Has this processor instructions for SHA-256? */
static bool has_sha256(void) {
#if defined __x86_64__ || defined __i386__
    unsigned a, b = 0, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
#elif defined __aarch64__
    return getauxval(AT_HWCAP) >> 6 & 1;
#else
    return false;
#endif
}

/* Both are good. With the instructions sha2-256 takes half the time of sha2-512, without them a fifth more. */
static const char *macs(void) { return has_sha256() ? "hmac-sha2-256,hmac-sha2-512" : "hmac-sha2-512,hmac-sha2-256"; }

static neap_known_hosts *load(const neap_ssh_host *h) {
    neap_known_hosts *known = neap_known_hosts_new();
    for (char **file = h->known_hosts; file && *file; file++) neap_known_hosts_add_file(known, *file, NULL);
    return known;
}

static bool is_among(const char *name, size_t len, const char **names, int count) {
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) return true;
    return false;
}

/* The names of a list that this libssh2 knows. It would leave out the others itself, with a memcpy over its own bytes (1.10). */
static bool prefer(neap_ssh_native *s, int method, const char *wanted) {
    const char **known = NULL;
    int count = libssh2_session_supported_algs(s->lib, method, &known);
    neap_buf list = NEAP_BUF_INIT;
    for (const char *at = wanted; count > 0 && *at; ) {
        size_t len = strcspn(at, ",");
        if (is_among(at, len, known, count)) neap_buf_addf(&list, "%s%.*s", list.len ? "," : "", (int)len, at);
        at += len + (at[len] == ',');
    }
    bool good = list.len && libssh2_session_method_pref(s->lib, method, list.data) == 0;
    if (count > 0) libssh2_free(s->lib, (void *)known);
    neap_buf_close(&list);
    return good;
}

static bool prefer_host_keys(neap_ssh_native *s, neap_err *err) {
    neap_known_hosts *known = load(s->host);
    char *algorithms = neap_known_hosts_algorithms(known, s->host, s->host->host_key_algorithms);
    char *types = neap_known_hosts_types(known, s->host);
    bool some = prefer(s, LIBSSH2_METHOD_HOSTKEY, algorithms);
    bool only_rsa = strcmp(types, "ssh-rsa") == 0 && !neap_libssh2_is(NEAP_LIBSSH2_1_11);
    if (only_rsa || !some) {
        neap_err_set(err, NEAP_E_UNSUPPORTED, only_rsa ? "%s cannot use RSA host keys, and \"%s\" is known by one" : "%s has none of the host key types that \"%s\" may have",
                     s->backend, s->name);
        neap_err_hint(err, "The ssh program can.");
    }
    free(types);
    free(algorithms);
    neap_known_hosts_free(known);
    return !only_rsa && some;
}

bool neap_ssh_native_prefer(neap_ssh_native *s, neap_err *err) {
    prefer(s, LIBSSH2_METHOD_KEX, exchanges);
    prefer(s, LIBSSH2_METHOD_MAC_CS, macs());
    prefer(s, LIBSSH2_METHOD_MAC_SC, macs());
    return prefer_host_keys(s, err);
}

/* The type is the first string of the key itself. */
static void note_key(neap_ssh_native *s, const unsigned char *blob, size_t len) {
    neap_ssh_reader r = {blob, blob + len};
    const unsigned char *type;
    size_t type_len;
    if (neap_ssh_read_string(&r, &type, &type_len) && type_len < sizeof s->key_type) memcpy(s->key_type, type, type_len);
    neap_hostkey_fingerprint(blob, len, s->fingerprint);
}

bool neap_ssh_native_check_key(neap_ssh_native *s, neap_err *err) {
    size_t len;
    int type;
    const unsigned char *blob = (const unsigned char *)libssh2_session_hostkey(s->lib, &len, &type);
    if (!blob) return neap_err_set(err, NEAP_E_PROTOCOL, "\"%s\" gave no host key", s->name);
    note_key(s, blob, len);
    neap_known_hosts *known = load(s->host);
    neap_known_result r = neap_known_hosts_check(known, s->host, blob, len);
    bool good = neap_known_hosts_admit(s->host, &r, blob, len, err);
    if (good && r.status == NEAP_KNOWN_UNKNOWN && s->host->strict == NEAP_SSH_ACCEPT_NEW) neap_known_hosts_learn(s->host, blob, len, NULL);   /* as ssh: a file that cannot be written is no refusal */
    neap_known_hosts_free(known);
    return good;
}
