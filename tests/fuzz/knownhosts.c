/* knownhosts.c -- known_hosts files: any text is read, and a revoked key is never called known. */
#include <string.h>

#include "base/buf.h"
#include "drive/knownhosts.h"
#include "fuzz.h"

/* An ed25519 key of 32 times "k"; the corpus pins it. */
static const unsigned char BLOB[] = "\0\0\0\013ssh-ed25519\0\0\0\040kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";

static void ask(const neap_known_hosts *k, const neap_ssh_host *host) {
    neap_known_result r = neap_known_hosts_check(k, host, BLOB, sizeof BLOB - 1);
    NEAP_FUZZ_CHECK(r.status >= NEAP_KNOWN_OK && r.status <= NEAP_KNOWN_REVOKED);
    NEAP_FUZZ_CHECK((r.status == NEAP_KNOWN_UNKNOWN) == (r.file == NULL));
    char *algorithms = neap_known_hosts_algorithms(k, host, NULL), *types = neap_known_hosts_types(k, host);
    NEAP_FUZZ_CHECK(algorithms[0] != '\0');
    NEAP_FUZZ_CHECK(r.status != NEAP_KNOWN_OK || strstr(types, "ssh-ed25519"));
    free(algorithms);
    free(types);
}

NEAP_FUZZ(knownhosts) {
    neap_ssh_host hosts[] = {{.name = "hermes", .hostname = "hermes", .port = 22}, {.name = "h", .hostname = "192.0.2.7", .port = 2222},
                             {.name = "x", .hostname = "X.Example.ORG", .port = 22, .key_alias = "iris"}};
    neap_known_hosts *k = neap_known_hosts_new();
    neap_known_hosts_add_text(k, "file", (const char *)data, size);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) ask(k, &hosts[i]);
    for (size_t n = 0; neap_known_hosts_bad(k, n); n++) NEAP_FUZZ_CHECK(neap_known_hosts_bad(k, n)->why);
    neap_known_hosts_free(k);
    return 0;
}
