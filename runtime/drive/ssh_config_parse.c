/* ssh_config_parse.c -- the output of `ssh -G`, as a neap_ssh_host.
 *
 * ssh has done the hard part by then: Host and Match blocks, Include, the first value that counts, HostName's %h, canonical names, ~ and
 * tokens in UserKnownHostsFile, tokens in IdentityAgent. What it leaves to be expanded, and is expanded here: ~ and tokens in IdentityFile
 * and CertificateFile, and IdentityAgent's $NAME. It prints lists of files without quotes, so a path with a space is put together
 * again from pieces that exist.
 *
 * What libssh2 cannot do, or only ssh can know, becomes one sentence in needs_program; the first that holds is told. A setting that
 * changes nothing for a command without a terminal is passed over (RemoteCommand, forwards, SendEnv). Not seen here, because -G shows its
 * result and not its text: Match exec. It ran for -G as it runs for ssh, so nothing is lost. */
#include "drive/ssh_config.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "drive/knownhosts.h"

static void free_list(char **list) {
    for (char **at = list; at && *at; at++) free(*at);
    free(list);
}

void neap_ssh_host_free(neap_ssh_host *h) {
    if (!h) return;
    for (neap_ssh_host **at = h->jumps; at && *at; at++) neap_ssh_host_free(*at);
    free(h->jumps);
    free(h->name), free(h->hostname), free(h->user), free(h->key_alias), free(h->agent), free(h->host_key_algorithms);
    free(h->bind_address), free(h->needs_program), free(h->config_file);
    free_list(h->identities), free_list(h->certificates), free_list(h->known_hosts);
    free(h);
}

/* The lines ----------------------------------------------------------------------------------------------------------------------- */

typedef struct settings { const char *text, *end; } settings;

/* The value of the next line with that key behind *at (NULL: the first), as a new string; NULL when there is no more. */
static char *next_value(const settings *s, const char *key, const char **at) {
    size_t len = strlen(key);
    for (const char *line = *at ? *at : s->text; line < s->end;) {
        const char *end = memchr(line, '\n', (size_t)(s->end - line));
        if (!end) end = s->end;
        const char *follows = end < s->end ? end + 1 : end;
        if ((size_t)(end - line) > len && strncasecmp(line, key, len) == 0 && line[len] == ' ') {
            *at = follows;
            return neap_strndup(line + len + 1, (size_t)(end - line) - len - 1);
        }
        line = follows;
    }
    return NULL;
}

static char *value_of(const settings *s, const char *key) {
    const char *at = NULL;
    return next_value(s, key, &at);
}

/* The same, with "none" and "" as no value. */
static char *some_value(const settings *s, const char *key) {
    char *value = value_of(s, key);
    if (value && *value && strcasecmp(value, "none") != 0) return value;
    free(value);
    return NULL;
}

static bool is_value(const settings *s, const char *key, const char *wanted) {
    char *value = value_of(s, key);
    bool is = value && strcasecmp(value, wanted) == 0;
    free(value);
    return is;
}

static bool is_yes(const settings *s, const char *key) { return is_value(s, key, "yes") || is_value(s, key, "true"); }

static int number_of(const settings *s, const char *key) {
    char *value = value_of(s, key);
    int n = value ? atoi(value) : 0;
    free(value);
    return n;
}

static void append(char ***list, char *item) {
    size_t n = 0;
    while (*list && (*list)[n]) n++;
    char **longer = neap_alloc((n + 2) * sizeof *longer);
    if (n) memcpy(longer, *list, n * sizeof *longer);
    longer[n] = item, longer[n + 1] = NULL;
    free(*list);
    *list = longer;
}

/* Expanding ----------------------------------------------------------------------------------------------------------------------- */

static bool exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* Asked once: the files of the accounts are read anew for each question, and a fan-out has a dozen for each host. */
const char *neap_ssh_home(void) {
    static char *home;
    struct passwd *who = home ? NULL : getpwuid(getuid());
    if (who) home = neap_strdup(who->pw_dir);
    return home;
}

/* ssh takes the home from the account, not from HOME. */
static const char *home_of(const char *name, size_t len) {
    if (!len) return neap_ssh_home();
    char *user = neap_strndup(name, len);
    struct passwd *who = getpwnam(user);
    free(user);
    return who ? who->pw_dir : NULL;
}

static bool add_token(neap_buf *out, const neap_ssh_host *h, char token) {
    char host[256] = "";
    struct passwd *me;
    switch (token) {
    case '%': neap_buf_addc(out, '%'); return true;
    case 'd': neap_buf_adds(out, home_of("", 0) ? home_of("", 0) : ""); return true;
    case 'h': neap_buf_adds(out, h->hostname); return true;
    case 'i': neap_buf_addf(out, "%u", (unsigned)getuid()); return true;
    case 'k': neap_buf_adds(out, h->key_alias ? h->key_alias : h->name); return true;
    case 'l':
    case 'L':
        gethostname(host, sizeof host - 1);
        if (token == 'L') host[strcspn(host, ".")] = 0;
        neap_buf_adds(out, host);
        return true;
    case 'n': neap_buf_adds(out, h->name); return true;
    case 'p': neap_buf_addf(out, "%d", h->port); return true;
    case 'r': neap_buf_adds(out, h->user); return true;
    case 'u': me = getpwuid(getuid()); neap_buf_adds(out, me ? me->pw_name : ""); return true;
    default: return false;                       /* %C and %j differ between versions of ssh */
    }
}

/* ${NAME} at `at`, whose bytes are returned; 0 when the variable is not set. */
static size_t add_variable(neap_buf *out, const char *at) {
    const char *end = strchr(at, '}');
    if (!end) return 0;
    char *name = neap_strndup(at + 2, (size_t)(end - at) - 2);
    const char *value = getenv(name);
    free(name);
    if (value) neap_buf_adds(out, value);
    return value ? (size_t)(end - at) + 1 : 0;
}

/* The path with ~, tokens and variables expanded, or NULL when something in it is not ours to expand. */
static char *expand(const neap_ssh_host *h, const char *path) {
    neap_buf out = NEAP_BUF_INIT;
    if (*path == '~') {
        size_t len = strcspn(path + 1, "/");
        const char *home = home_of(path + 1, len);
        if (!home) return NULL;
        neap_buf_adds(&out, home);
        path += len + 1;
    }
    for (bool ok = true; *path; ) {
        size_t used = 1;
        if (*path == '%') ok = add_token(&out, h, path[1]), used = 2;
        else if (path[0] == '$' && path[1] == '{') ok = (used = add_variable(&out, path)) > 0;
        else neap_buf_addc(&out, *path);
        if (!ok) { neap_buf_close(&out); return NULL; }
        path += used;
    }
    return out.data ? neap_buf_take(&out) : neap_strdup("");
}

/* Reasons ------------------------------------------------------------------------------------------------------------------------- */

static void need(neap_ssh_host *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void need(neap_ssh_host *h, const char *format, ...) {
    if (h->needs_program) return;
    neap_buf why = NEAP_BUF_INIT;
    va_list args;
    va_start(args, format);
    neap_buf_addv(&why, format, args);
    va_end(args);
    h->needs_program = neap_buf_take(&why);
}

/* A ticket that GSSAPI could use, where it stands as a file. */
static bool has_ticket(void) {
    const char *cache = getenv("KRB5CCNAME");
    char path[64];
    snprintf(path, sizeof path, "/tmp/krb5cc_%u", (unsigned)getuid());
    return (cache && *cache) || exists(path);
}

static void judge_keys(neap_ssh_host *h, const settings *s) {
    char *methods = some_value(s, "preferredauthentications");
    if (methods && !strstr(methods, "publickey")) need(h, "PreferredAuthentications leaves public keys out");
    free(methods);
    if (is_value(s, "pubkeyauthentication", "no") || is_value(s, "pubkeyauthentication", "false")) need(h, "PubkeyAuthentication is off");
    if (is_yes(s, "hostbasedauthentication")) need(h, "HostbasedAuthentication is on");
    if (is_yes(s, "gssapiauthentication") && has_ticket()) need(h, "GSSAPIAuthentication is on, and there is a Kerberos ticket");
    for (char **at = h->identities; at && *at; at++) {
        const char *type = neap_ssh_identity_type(*at);
        size_t len = strlen(*at);
        if (len > 4 && strcmp(*at + len - 4, ".pub") == 0) need(h, "IdentityFile names a public key, %s, whose other half only the agent has", *at);
        if (type && strncmp(type, "sk-", 3) == 0) need(h, "the key %s is on a security token", *at);
        if (type && strstr(type, "-cert-")) need(h, "%s is a certificate", *at);
    }
    if (h->certificates && h->certificates[0]) need(h, "the user certificate %s", h->certificates[0]);
}

/* Only ssh can check a certificate of a host. A host that is pinned by its plain key does not need one. */
static void judge_authority(neap_ssh_host *h) {
    neap_known_hosts *k = neap_known_hosts_new();
    for (char **at = h->known_hosts; at && *at; at++) neap_known_hosts_add_file(k, *at, NULL);
    char *types = neap_known_hosts_types(k, h);
    if (!*types && neap_known_hosts_has_authority(k, h)) need(h, "known_hosts pins a certificate authority for it, and no key");
    free(types);
    neap_known_hosts_free(k);
}

static void judge(neap_ssh_host *h, const settings *s, bool behind) {
    static const struct { const char *key, *why; } set[] = {
        {"pkcs11provider", "PKCS11Provider is set"}, {"knownhostscommand", "KnownHostsCommand is set"},
        {"revokedhostkeys", "RevokedHostKeys is set"}, {"bindinterface", "BindInterface is set"},
    };
    char *command = behind ? NULL : some_value(s, "proxycommand");
    if (command) need(h, "ProxyCommand is set");
    free(command);
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        char *value = some_value(s, set[i].key);
        if (value) need(h, "%s", set[i].why);
        free(value);
    }
    if (is_yes(s, "verifyhostkeydns")) need(h, "VerifyHostKeyDNS is on");
    if (is_yes(s, "nohostauthenticationforlocalhost")) need(h, "NoHostAuthenticationForLocalhost is on");
    judge_keys(h, s);
    judge_authority(h);
}

/* Fields -------------------------------------------------------------------------------------------------------------------------- */

/* A list of files on one line without quotes: pieces are joined until the name exists; one that never does stays a piece. */
static void read_files(char ***list, const char *line) {
    while (*line) {
        size_t first = strcspn(line, " "), taken = first;
        for (size_t n = first;; n += 1 + strcspn(line + n + 1, " ")) {
            char *path = neap_strndup(line, n);
            bool is = exists(path);
            free(path);
            if (is) { taken = n; break; }
            if (!line[n]) break;
        }
        append(list, neap_strndup(line, taken));
        line += taken + (line[taken] == ' ');
    }
}

static void read_known_hosts(neap_ssh_host *h, const settings *s) {
    char *user = some_value(s, "userknownhostsfile"), *global = some_value(s, "globalknownhostsfile");
    read_files(&h->known_hosts, user ? user : "/dev/null");    /* the first is where a new host is written down */
    if (global) read_files(&h->known_hosts, global);
    free(user), free(global);
}

static bool has_public(const char *path) {
    neap_buf name = NEAP_BUF_INIT;
    neap_buf_addf(&name, "%s.pub", path);
    bool is = exists(name.data);
    neap_buf_close(&name);
    return is;
}

/* A file counts when it, or its .pub alone (the key is in the agent then), is there. */
static void read_identities(neap_ssh_host *h, const settings *s) {
    const char *at = NULL;
    for (char *value; (value = next_value(s, "identityfile", &at)); free(value)) {
        if (strcasecmp(value, "none") == 0) continue;
        char *path = expand(h, value);
        if (!path) { need(h, "IdentityFile holds what only ssh expands: %s", value); continue; }
        if (exists(path) || has_public(path)) append(&h->identities, path);
        else free(path);
    }
}

/* Those that are named; else FILE-cert.pub beside each key, as ssh looks for them. */
static void read_certificates(neap_ssh_host *h, const settings *s) {
    const char *at = NULL;
    bool named = false;
    for (char *value; (value = next_value(s, "certificatefile", &at)); free(value)) {
        if (strcasecmp(value, "none") == 0) continue;
        char *path = expand(h, value);
        named = true;
        if (!path) need(h, "CertificateFile holds what only ssh expands: %s", value);
        else if (exists(path)) append(&h->certificates, path);
        else free(path);
    }
    for (char **key = named ? NULL : h->identities; key && *key; key++) {
        neap_buf path = NEAP_BUF_INIT;
        neap_buf_addf(&path, "%s-cert.pub", *key);
        if (exists(path.data)) append(&h->certificates, neap_buf_take(&path));
        else neap_buf_close(&path);
    }
}

/* IdentityAgent: a path, SSH_AUTH_SOCK, $NAME, none; not set: SSH_AUTH_SOCK. */
static void read_agent(neap_ssh_host *h, const settings *s) {
    char *said = value_of(s, "identityagent");
    const char *path = said;
    if (!said || strcmp(said, "SSH_AUTH_SOCK") == 0) path = getenv("SSH_AUTH_SOCK");
    else if (*said == '$') path = getenv(said + 1);
    else if (strcasecmp(said, "none") == 0) path = NULL;
    if (path && *path && exists(path)) h->agent = neap_strdup(path);
    free(said);
}

/* OpenSSH's own order of ciphers before 10.0 and since: anything else was chosen by somebody. */
static bool has_own_ciphers(const settings *s) {
    return !is_value(s, "ciphers", "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com")
        && !is_value(s, "ciphers", "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr");
}

static void read_numbers(neap_ssh_host *h, const settings *s) {
    h->connect_ms = number_of(s, "connecttimeout") * 1000;
    h->alive_ms = number_of(s, "serveraliveinterval") * 1000;
    h->alive_count = number_of(s, "serveralivecountmax");
    h->own_ciphers = has_own_ciphers(s);
    h->identities_only = is_yes(s, "identitiesonly");
    if (is_value(s, "stricthostkeychecking", "accept-new")) h->strict = NEAP_SSH_ACCEPT_NEW;
    else if (is_value(s, "stricthostkeychecking", "false") || is_value(s, "stricthostkeychecking", "no")) h->strict = NEAP_SSH_LAX;
    if (is_value(s, "addressfamily", "inet")) h->family = NEAP_SSH_INET;
    else if (is_value(s, "addressfamily", "inet6")) h->family = NEAP_SSH_INET6;
}

neap_ssh_host *neap_ssh_config_parse(const char *name, const char *text, size_t len, bool behind, char **jumps, neap_err *err) {
    settings s = {text, text + len};
    neap_ssh_host *h = neap_zalloc(sizeof *h);
    *jumps = NULL;
    h->hostname = some_value(&s, "hostname");
    h->user = some_value(&s, "user");
    h->port = number_of(&s, "port");
    if (!h->hostname || !h->user || h->port < 1 || h->port > 65535) {
        neap_ssh_host_free(h);
        neap_err_set(err, NEAP_E_CONFIG, "what \"ssh -G\" prints about \"%s\" names no host, user and port", name);
        return NULL;
    }
    const char *at = strrchr(name, '@');
    h->name = neap_strdup(at ? at + 1 : name);
    h->key_alias = some_value(&s, "hostkeyalias");
    h->host_key_algorithms = some_value(&s, "hostkeyalgorithms");
    h->bind_address = some_value(&s, "bindaddress");
    read_numbers(h, &s);
    read_known_hosts(h, &s);
    read_identities(h, &s);
    read_certificates(h, &s);
    read_agent(h, &s);
    judge(h, &s, behind);
    if (!behind) *jumps = some_value(&s, "proxyjump");
    return h;
}
