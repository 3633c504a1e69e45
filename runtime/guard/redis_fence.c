/* redis_fence.c -- see redis_fence.h.
 *
 * The flags alone are not enough: of 366 commands and subcommands of Redis 7.0 168 carry neither flag, and some of
 * those that carry `readonly` change something (PFCOUNT its cache, TOUCH the age of a key), block (XREAD … BLOCK) or hold the whole
 * server (KEYS). The tables below are those exceptions; tests/runtime/redis_probes.lua judges every command of a real server.
 *
 * Read-only scripts (EVAL_RO, FCALL_RO) are refused too: the server keeps them from writing keys, not from SLOWLOG RESET or
 * CLUSTER MEET, which carry no flag either. */
#include "guard/redis_fence.h"

#include <string.h>
#include <strings.h>

/* "name" or "name subcommand" */
typedef struct exception { const char *name, *hint; } exception;

/* Neither flag, or a container: these only tell. */
static const char *const vetted[] = {
    "ping", "echo", "time", "info", "role", "lastsave", "dbsize", "lolwut",
    "command", "command count", "command docs", "command getkeys", "command getkeysandflags", "command help", "command info", "command list",
    "config get", "config help", "client getname", "client getredir", "client help", "client id", "client info", "client list",
    "client trackinginfo", "memory doctor", "memory help", "memory malloc-stats", "memory stats", "memory usage",
    "slowlog get", "slowlog help", "slowlog len", "latency doctor", "latency graph", "latency help", "latency histogram", "latency history",
    "latency latest", "acl cat", "acl dryrun", "acl getuser", "acl help", "acl list", "acl users", "acl whoami",
    "object encoding", "object freq", "object help", "object idletime", "object refcount",
    "xinfo consumers", "xinfo groups", "xinfo help", "xinfo stream",
    "pubsub channels", "pubsub help", "pubsub numpat", "pubsub numsub", "pubsub shardchannels", "pubsub shardnumsub",
    "script exists", "script help", "function dump", "function help", "function list", "function stats", "module help", "module list",
    "xgroup help",
    "cluster count-failure-reports", "cluster countkeysinslot", "cluster getkeysinslot", "cluster help", "cluster info", "cluster keyslot",
    "cluster links", "cluster myid", "cluster nodes", "cluster replicas", "cluster shards", "cluster slaves", "cluster slots", NULL};

/* Only with a subcommand of the vetted list. */
static const char *const containers[] = {"acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object", "pubsub",
    "script", "slowlog", "xgroup", "xinfo", NULL};

static const exception not_read[] = {
    {"keys", "It holds the whole server while it looks at every key; use scan."},
    {"sort_ro", "It may look at keys it does not name; read them and sort in the runbook."},
    {"touch", "It changes how old the keys seem to be."},
    {"pfcount", "It stores what it counted inside the key; count in act, with write."},
    {"eval_ro", "A script may call commands that carry no flag; ask them one by one, or with pipeline."},
    {"evalsha_ro", "A script may call commands that carry no flag; ask them one by one, or with pipeline."},
    {"fcall_ro", "A function may call commands that carry no flag; ask them one by one, or with pipeline."},
    {"bitfield", "BITFIELD_RO reads the same."},
    {"georadius", "GEORADIUS_RO reads the same."},
    {"georadiusbymember", "GEORADIUSBYMEMBER_RO reads the same."},
    {"sort", "SORT may store its result; read the key and sort in the runbook."},
    {"getex", "GET reads without changing when the key expires."},
    {"xreadgroup", "XRANGE and XREAD read a stream without moving a group's position."},
    {NULL, NULL}};

/* Of the connection, which the runbook shares with neap, or not commands with one answer. */
static const exception ours[] = {
    {"select", "The database is the inventory's; bind another role for another one."},
    {"auth", "The login is the inventory's."}, {"hello", "The login is the inventory's."}, {"reset", NULL}, {"quit", NULL},
    {"multi", "Give the commands to transaction."}, {"exec", "Give the commands to transaction."}, {"discard", NULL},
    {"watch", NULL}, {"unwatch", NULL}, {"asking", NULL}, {"readonly", NULL}, {"readwrite", NULL},
    {"subscribe", NULL}, {"psubscribe", NULL}, {"ssubscribe", NULL}, {"unsubscribe", NULL}, {"punsubscribe", NULL}, {"sunsubscribe", NULL},
    {"monitor", NULL}, {"sync", NULL}, {"psync", NULL}, {"replconf", NULL},
    {"client reply", NULL}, {"client tracking", NULL}, {"client caching", NULL}, {"client setname", NULL}, {NULL, NULL}};

static const char *const destroying[] = {
    "flushall", "flushdb", "swapdb", "del", "unlink", "getdel", "migrate", "restore", "restore-asking", "debug", "shutdown", "replicaof", "slaveof",
    "rename", "hdel", "srem", "zrem", "zremrangebylex", "zremrangebyrank", "zremrangebyscore", "lrem", "ltrim", "xdel", "xtrim", "xgroup destroy",
    "xgroup delconsumer", "function flush", "function delete", "function restore", "script flush", "cluster reset", "cluster flushslots", "cluster forget",
    "cluster replicate", "acl deluser", "acl load", "module unload", "eval", "evalsha", "fcall", "pfdebug", "failover", NULL};

static const char *const server_wide[] = {"flushall", "swapdb", "move", "copy", "migrate", "debug", "shutdown", "replicaof", "slaveof", "failover", "eval", "evalsha",
    "fcall", "cluster", "config", "acl", "script", "function", "client", "module", "slowlog", "latency", "memory", "save", "bgsave",
    "bgrewriteaof", NULL};

static bool word_is(const neap_redis_words *w, int i, const char *text, size_t len) {
    return i < w->count && w->lens[i] == len && strncasecmp(w->text[i], text, len) == 0;
}

/* Is it "name", or "name subcommand"? */
static bool is(const neap_redis_words *w, const char *name) {
    const char *space = strchr(name, ' ');
    size_t len = space ? (size_t)(space - name) : strlen(name);
    return word_is(w, 0, name, len) && (!space || word_is(w, 1, space + 1, strlen(space + 1)));
}

static bool is_listed(const neap_redis_words *w, const char *const *list) {
    for (; *list; list++)
        if (is(w, *list)) return true;
    return false;
}

static const exception *find(const neap_redis_words *w, const exception *list) {
    for (; list->name; list++)
        if (is(w, list->name)) return list;
    return NULL;
}

static bool is_container(const neap_redis_words *w) { return is_listed(w, containers); }

/* "command" alone is on the list; of a container with a subcommand the subcommand must be. */
bool neap_redis_is_vetted(const neap_redis_words *w) {
    if (!is_container(w)) return is_listed(w, vetted);
    if (w->count == 1) return is(w, "command");
    for (const char *const *v = vetted; *v; v++)
        if (strchr(*v, ' ') && is(w, *v)) return true;
    /* ACL LOG tells, ACL LOG RESET does not */
    return is(w, "acl log") && (w->count == 2 || (w->count == 3 && w->lens[2] > 0 && strspn(w->text[2], "0123456789") == w->lens[2]));
}

static int words_shown(const neap_redis_words *w) { return is_container(w) && w->count > 1 ? 2 : 1; }

static int shown(size_t len) { return len > 40 ? 40 : (int)len; }

static bool refuse(const neap_redis_words *w, neap_err *err, const char *why, const char *hint) {
    if (words_shown(w) == 2)
        neap_err_set(err, NEAP_E_REFUSED, "\"%.*s %.*s\" %s", shown(w->lens[0]), w->text[0], shown(w->lens[1]), w->text[1], why);
    else
        neap_err_set(err, NEAP_E_REFUSED, "\"%.*s\" %s", shown(w->lens[0]), w->text[0], why);
    return neap_err_hint(err, "%s", hint);
}

static bool blocks(const neap_redis_words *w) {
    if (!is(w, "xread")) return false;
    for (int i = 1; i < w->count && !word_is(w, i, "streams", 7); i++)
        if (word_is(w, i, "block", 5)) return true;
    return false;
}

bool neap_redis_check_read(const neap_redis_words *w, unsigned flags, neap_err *err) {
    static const char act[] = "What changes something belongs to act: write, or remove.";
    const exception *known = find(w, not_read);
    if (known) return refuse(w, err, "is not a read", known->hint);
    if ((known = find(w, ours))) return refuse(w, err, "changes the connection", known->hint ? known->hint : "It is neap's own, and shared.");
    if (neap_redis_is_vetted(w)) return true;
    if (is_container(w)) return refuse(w, err, "is not a read that is known to be harmless", act);
    if (!(flags & NEAP_REDIS_KNOWN)) return refuse(w, err, "is no command the server tells anything about", "Only what the server calls a read is asked.");
    if (flags & NEAP_REDIS_MODULE) return refuse(w, err, "belongs to a module, whose flags nobody has vetted", act);
    if ((flags & NEAP_REDIS_WRITE) || !(flags & NEAP_REDIS_READONLY)) return refuse(w, err, "is not a read", act);
    if (blocks(w)) return refuse(w, err, "with BLOCK waits", "Ask without BLOCK, again and again, with wait_until.");
    return true;
}

bool neap_redis_is_server_wide(const neap_redis_words *w) { return is_listed(w, server_wide); }

bool neap_redis_destroys(const neap_redis_words *w) { return is_listed(w, destroying); }

bool neap_redis_check_act(const neap_redis_words *w, neap_err *err) {
    const exception *known = find(w, ours);
    if (!known) return true;
    return refuse(w, err, "changes the connection", known->hint ? known->hint : "It is neap's own, and shared.");
}
