/* redis_error.c -- what Redis says with "-CODE message", as an error with a hint. The first word is the code; the rest is the
 * server's and is passed on as it came. */
#include <string.h>

#include "drive/redis.h"

typedef struct meaning { const char *word; neap_code code; bool retry; const char *hint; } meaning;

static const meaning meanings[] = {
    {"NOAUTH", NEAP_E_AUTH, false, "The server wants a password: give password in the inventory."},
    {"WRONGPASS", NEAP_E_AUTH, false, "Check user and password in the inventory; a password alone belongs to the user default."},
    {"NOPERM", NEAP_E_REFUSED, false, "The user's ACL does not allow it; ACL GETUSER shows what is allowed."},
    {"LOADING", NEAP_E_UNREACHABLE, true, "The server is reading its data from disk; wait until it is done."},
    {"BUSY", NEAP_E_BUSY, true, "A script is running; SCRIPT KILL ends one that has not written."},
    {"MASTERDOWN", NEAP_E_UNREACHABLE, true, "This is a replica that lost its master; ask the master, or wait for the failover."},
    {"READONLY", NEAP_E_REFUSED, false, "This is a replica; after a failover ask with ROLE which node is the master, and name that one."},
    {"MISCONF", NEAP_E_REMOTE, false, "The server could not save its data and takes no writes; look at its log and its disk."},
    {"OOM", NEAP_E_REMOTE, false, "The server is at its maxmemory and may evict nothing; free memory or raise the limit."},
    {"MOVED", NEAP_E_UNSUPPORTED, false, "This is a cluster and the key lives on another node; name that node. neap follows no redirects."},
    {"ASK", NEAP_E_UNSUPPORTED, true, "This is a cluster and the key's slot is being moved; wait until that is done."},
    {"TRYAGAIN", NEAP_E_BUSY, true, "This is a cluster and the keys' slot is being moved; wait until that is done."},
    {"CLUSTERDOWN", NEAP_E_UNREACHABLE, true, "The cluster has no quorum or a slot without a node."},
    {"CROSSSLOT", NEAP_E_REMOTE, false, "In a cluster all keys of a command must be in one slot."},
    {"NOREPLICAS", NEAP_E_REMOTE, true, "The server wants more replicas before it takes writes (min-replicas-to-write)."},
    {"EXECABORT", NEAP_E_REMOTE, false, NULL},
    {"DENIED", NEAP_E_REFUSED, false, "Protected mode: the server takes only local connections until it has a password."},
    {"WRONGTYPE", NEAP_E_REMOTE, false, NULL}};

static bool begins(const neap_redis_value *v, const char *word) {
    size_t len = strlen(word);
    return v->len >= len && memcmp(v->text, word, len) == 0 && (v->len == len || v->text[len] == ' ');
}

static const meaning *meaning_of(const neap_redis_value *v) {
    static const meaning other = {"", NEAP_E_REMOTE, false, NULL};
    static const meaning many = {"", NEAP_E_BUSY, true, "The server's maxclients is reached."};
    if (strstr(v->text, "max number of clients reached")) return &many;
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (begins(v, meanings[i].word)) return &meanings[i];
    /* before 6.0 a wrong password is "ERR invalid password" */
    return strstr(v->text, "invalid password") || strstr(v->text, "AUTH <password> called") ? &meanings[1] : &other;
}

bool neap_redis_refusal(neap_err *err, const neap_redis_value *value) {
    if (!value || value->type != NEAP_REDIS_ERROR) return false;
    const meaning *m = meaning_of(value);
    neap_err_set(err, m->code, "Redis says: %s", value->text);
    if (m->hint) neap_err_hint(err, "%s", m->hint);
    err->retry = m->retry;
    return true;
}
