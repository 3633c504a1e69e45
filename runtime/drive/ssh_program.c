/* ssh_program.c -- the user's own ssh program as a connection, for what libssh2 cannot reach and for streams that must be fast.
 *
 *     QUEUED ──► OPENING: the master runs ──"Entering interactive session"──► OPEN ──the master ends──► LOST
 *                   └──the master ends, or has not come so far in time and is ended──► opened(err)
 *
 * One master per connection (-N, ControlMaster) in a private directory, 0700; each command is a client of it (-S), which costs a
 * process but no handshake: the client hands its pipes to the master and waits. The master reads the user's configuration; a client
 * reads none, and has a ProxyCommand that fails, so that it never connects by itself when the master is gone.
 *
 * What it promises
 *   - Nobody is asked anything: BatchMode, no terminal, no askpass, not by a jump host either.
 *   - Only what ssh_config says about reaching the host counts: no forwards, no remote or local command, no terminal, no agent there.
 *   - A silent peer is noticed within 30 s, unless the configuration does so: ssh asks every 8 s, and gives up 8 s after the second question.
 *   - When we die, kill -9 included, the master is told by the kernel; its clients end with it.
 *   - free takes away the directory at once and gives the master two seconds.
 *
 * The cipher: AES-GCM first where the user's configuration chooses none; it carries twice as much as the default (measured). The key
 * exchange stays the user's.
 *
 * Rejected: one ssh per command (a handshake each, 0.25 s of our CPU with OpenSSH's default key exchange), ControlPersist (a process that
 * outlives us), waiting for the socket by polling (the program says when it is ready). */
#include "drive/ssh_program.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HANDSHAKES_MAX = 64, POLITE_MS = 2000, CONNECT_S = 10, OPEN_MS = 30000, DIR_MAX_BYTES = 70 };

static neap_list queue = {&queue, &queue};
static int opening;

static void start_master(neap_ssh_program *p);

/* The environment is ours, so that the agent, Kerberos and a ProxyCommand find what they need; but no window may ask for a password. */
char **neap_program_env(void) {
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **env = neap_alloc((n + 2) * sizeof *env);
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "SSH_ASKPASS_REQUIRE=", 20) != 0) env[kept++] = environ[i];
    env[kept++] = (char *)(uintptr_t)"SSH_ASKPASS_REQUIRE=never";
    env[kept] = NULL;
    return env;
}

void neap_program_env_free(char **env) { free(env); }

/* The private directory ----------------------------------------------------------------------------------------------------------- */

/* A control socket's address holds 107 bytes, and ssh adds 17 while it makes one. */
static bool is_usable(const char *dir) {
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-";
    return dir && *dir == '/' && strlen(dir) <= DIR_MAX_BYTES - 12 && dir[strspn(dir, safe)] == 0;
}

static bool make_dir(neap_ssh_program *p, neap_err *err) {
    const char *places[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    for (size_t i = 0; i < 3; i++) {
        if (!is_usable(places[i])) continue;
        neap_buf path = NEAP_BUF_INIT;
        neap_buf_addf(&path, "%s/neap.XXXXXX", places[i]);
        if (!mkdtemp(path.data)) { neap_buf_close(&path); continue; }
        p->dir = neap_buf_take(&path);
        neap_buf_addf(&path, "%s/c", p->dir);
        p->socket = neap_buf_take(&path);
        return true;
    }
    neap_err_set(err, NEAP_E_CONFIG, "no private directory for the socket of ssh can be made");
    return neap_err_hint(err, "It was tried in XDG_RUNTIME_DIR, TMPDIR and /tmp.");
}

static void remove_dir(neap_ssh_program *p) {
    DIR *d = p->dir ? opendir(p->dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) unlinkat(dirfd(d), e->d_name, 0);      /* "." and ".." refuse */
    if (d) closedir(d);
    if (p->dir) rmdir(p->dir);
    free(p->dir), free(p->socket);
    p->dir = p->socket = NULL;
}

/* Words of the command line --------------------------------------------------------------------------------------------------------- */

int neap_program_client(const neap_ssh_program *p, const char *argv[NEAP_PROGRAM_ARGS], const char *level) {
    const char *words[] = {"ssh", "-T", "-F", "none", "-S", p->socket, "-o", level, "-o", "BatchMode=yes", "-o", "ControlMaster=no",
                           "-o", "ProxyCommand=false", "-o", "EscapeChar=none"};
    memcpy(argv, words, sizeof words);
    return sizeof words / sizeof *words;
}

static void put(const char **argv, int *n, const char *option) { argv[(*n)++] = "-o", argv[(*n)++] = option; }

static bool start_ssh(neap_ssh_program *p, neap_child_exit_fn on_exit, neap_err *err) {
    static const char *const fixed[] = {
        "BatchMode=yes", "ClearAllForwardings=yes", "RemoteCommand=none", "RequestTTY=no", "PermitLocalCommand=no", "ForwardAgent=no",
        "ForwardX11=no", "Tunnel=no", "ControlMaster=yes", "ControlPersist=no", "LogLevel=DEBUG1",
    };
    const char *argv[64] = {"ssh", "-T", "-N"};
    int n = 3;
    neap_buf control = NEAP_BUF_INIT, connect = NEAP_BUF_INIT, port = NEAP_BUF_INIT;
    const neap_ssh_host *h = p->host;
    bool ours = h->alive_ms <= 0 || (int64_t)h->alive_ms * ((h->alive_count > 0 ? h->alive_count : 3) + 1) >= 30000;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) put(argv, &n, fixed[i]);
    neap_buf_addf(&control, "ControlPath=%s", p->socket);
    neap_buf_addf(&connect, "ConnectTimeout=%d", h->connect_ms > 0 ? (h->connect_ms + 999) / 1000 : CONNECT_S);
    neap_buf_addf(&port, "%d", h->port);
    put(argv, &n, control.data);
    put(argv, &n, connect.data);
    if (ours) put(argv, &n, "ServerAliveInterval=8"), put(argv, &n, "ServerAliveCountMax=2");
    if (!h->own_ciphers) put(argv, &n, "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com");
    if (h->config_file) argv[n++] = "-F", argv[n++] = h->config_file;
    argv[n++] = "-l", argv[n++] = h->user;
    argv[n++] = "-p", argv[n++] = port.data;
    argv[n++] = "--", argv[n++] = h->name;
    char **env = neap_program_env();
    neap_child_options o = {.argv = argv, .env = (const char *const *)env, .pipes = 1 << 2, .leashed = true};
    p->master = neap_zalloc(sizeof *p->master);
    p->master->owner = p;
    p->master->child = neap_child_new(p->ssh.loop, &o, on_exit, p->master, err);
    neap_program_env_free(env);
    neap_buf_close(&control), neap_buf_close(&connect), neap_buf_close(&port);
    if (p->master->child) return true;
    free(p->master);
    p->master = NULL;
    if (err->code != NEAP_E_REMOTE) return false;
    neap_err_close(err);
    neap_err_set(err, NEAP_E_CONFIG, "there is no program \"ssh\" in PATH");
    return neap_err_hint(err, "Install the OpenSSH client.");
}

/* The queue ------------------------------------------------------------------------------------------------------------------------- */

static void leave_queue(neap_ssh_program *p) {
    if (p->state == NEAP_PROGRAM_QUEUED) neap_list_remove(&p->node);
    if (p->state != NEAP_PROGRAM_OPENING) return;
    opening--;
    if (neap_list_is_empty(&queue)) return;
    neap_ssh_program *first = NEAP_LIST_OF(queue.next, neap_ssh_program, node);
    neap_list_remove(&first->node);
    start_master(first);
}

/* Opening --------------------------------------------------------------------------------------------------------------------------- */

static void fill_card(neap_ssh_program *p) {
    const neap_ssh_words *w = &p->words;
    neap_buf_addf(&p->backend, "ssh program (%s)", w->version ? w->version : "of unknown version");
    neap_buf_adds(&p->authenticated, w->method ? w->method : "unknown");
    if (w->method && w->key && strcmp(w->method, "publickey") == 0) {
        bool agent = strstr(w->key, " agent") != NULL;
        neap_buf_addf(&p->authenticated, agent ? " (agent)" : " (%.*s)", (int)strcspn(w->key, " "), w->key);
    }
    if (w->address && *w->address == '[' && !strchr(w->address + 1, '[') && !strstr(w->address, "::")) {
        size_t n = strcspn(w->address + 1, "]");                   /* [127.0.0.2]:2222 */
        neap_buf_addf(&p->address, "%.*s%s", (int)n, w->address + 1, w->address + 1 + n + 1);
    } else neap_buf_addf(&p->address, "%s", w->address ? w->address : "");
    p->card = (neap_ssh_card){.backend = p->backend.data, .banner = w->banner, .key_type = w->key_type, .fingerprint = w->fingerprint,
                              .user = p->host->user, .address = p->address.data, .authenticated = p->authenticated.data};
}

static void tell(void *arg) {
    neap_ssh_program *p = arg;
    if (p->opened) {
        neap_ssh_opened_fn opened = p->opened;
        neap_err err = NEAP_ERR_INIT;
        neap_err_move(&err, &p->err);
        p->opened = NULL;
        opened(p->arg, err.code == NEAP_OK ? NULL : &err);         /* may free p */
        neap_err_close(&err);
        return;
    }
    if (p->state != NEAP_PROGRAM_LOST || p->alive > 0 || !p->on_lost) return;
    neap_ssh_lost_fn lost = p->on_lost;
    p->on_lost = NULL;
    neap_err err = NEAP_ERR_INIT;
    neap_err_move(&err, &p->err);
    lost(p->lost_arg, &err);
    neap_err_close(&err);
}

void neap_program_client_ended(neap_ssh_program *p) {
    p->alive--;
    if (p->state == NEAP_PROGRAM_LOST) neap_timer_start(p->soon, 0);
}

static void set_lost(neap_ssh_program *p) {
    const neap_buf *said = &p->words.said;
    neap_err_set(&p->err, NEAP_E_CLOSED, "the connection to \"%s\" was lost%s%.*s", p->host->name, said->len ? ": " : "",
                 said->len ? (int)strcspn(said->data, "\n") : 0, said->len ? said->data : "");
    p->err.retry = true;
}

static void end_words(neap_ssh_program *p) {
    neap_stream_free(p->stderr_of_master);
    p->stderr_of_master = NULL;
}

/* The master is gone. Its last words are read first, so this waits for the end of its stderr too. */
static void finish_master(neap_ssh_program *p) {
    if (p->master || p->stderr_of_master) return;
    bool was_open = p->state == NEAP_PROGRAM_OPEN;
    leave_queue(p);
    p->state = NEAP_PROGRAM_LOST;
    if (was_open) set_lost(p);
    else if (!p->err.code) neap_ssh_words_fail(&p->words, p->host, &p->err);
    neap_timer_start(p->soon, 0);
}

/* What it had started (a ProxyCommand, the ssh of a jump host) goes with it, and so lets go of stderr. */
static void on_master_exit(void *arg, int status, int signal) {
    neap_program_master *m = arg;
    neap_ssh_program *p = m->owner;
    (void)status, (void)signal;
    kill(-neap_child_pid(m->child), SIGKILL);
    neap_child_free(m->child);
    free(m);
    if (!p) return;
    p->master = NULL;
    finish_master(p);
}

static void on_words(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_ssh_program *p = arg;
    (void)err;
    if (len <= 0) {
        end_words(p);
        finish_master(p);
        return;
    }
    bool was_ready = p->words.ready;
    if (p->state == NEAP_PROGRAM_OPEN) neap_buf_clear(&p->words.said);       /* only the newest words can say why it was lost */
    neap_ssh_words_add(&p->words, data, (size_t)len);
    neap_stream_read(p->stderr_of_master, 65536, on_words, p);
    if (was_ready || !p->words.ready) return;
    leave_queue(p);
    p->state = NEAP_PROGRAM_OPEN;
    neap_buf_clear(&p->words.said);
    fill_card(p);
    tell(p);
}

/* ConnectTimeout is over once the far end has named itself; a handshake or a login may hang behind that. */
static void on_late(void *arg) {
    neap_ssh_program *p = arg;
    if (p->state != NEAP_PROGRAM_OPENING || !p->master) return;
    bool named = p->words.banner != NULL;
    neap_err_set(&p->err, named ? NEAP_E_TIMEOUT : NEAP_E_UNREACHABLE, "\"%s\" %s in time", p->host->name,
                 named ? "was reached, but the login was not finished" : "did not begin to speak SSH");
    p->err.retry = true;
    neap_child_end(p->master->child, 0);
}

static void start_master(neap_ssh_program *p) {
    p->state = NEAP_PROGRAM_OPENING;
    opening++;
    neap_timer_start(p->late, p->host->connect_ms > 0 ? p->host->connect_ms : OPEN_MS);
    if (!make_dir(p, &p->err) || !start_ssh(p, on_master_exit, &p->err)) {
        leave_queue(p);
        p->state = NEAP_PROGRAM_LOST;
        neap_timer_start(p->soon, 0);
        return;
    }
    p->stderr_of_master = neap_child_stream(p->master->child, 2);
    neap_stream_read(p->stderr_of_master, 65536, on_words, p);
}

/* The class ------------------------------------------------------------------------------------------------------------------------- */

static const neap_ssh_card *program_card(neap_ssh *s) {
    neap_ssh_program *p = (neap_ssh_program *)s;
    return p->state == NEAP_PROGRAM_OPEN ? &p->card : NULL;
}

static void program_on_lost(neap_ssh *s, neap_ssh_lost_fn fn, void *arg) {
    neap_ssh_program *p = (neap_ssh_program *)s;
    p->on_lost = fn;
    p->lost_arg = arg;
    if (p->state == NEAP_PROGRAM_LOST && !p->opened) neap_timer_start(p->soon, 0);
}

static void program_free(neap_ssh *s);

static const neap_ssh_class program_class = {
    "ssh", program_card, program_on_lost, neap_program_exec, neap_program_exec_stream, neap_program_exec_free,
    neap_program_dial_tcp, neap_program_dial_unix, program_free,
};

/* The master outlives us by its two seconds and then belongs to nobody but its own exit callback. */
static void program_free(neap_ssh *s) {
    neap_ssh_program *p = (neap_ssh_program *)s;
    leave_queue(p);
    neap_program_execs_forget(p);
    neap_program_dialers_forget(p);
    end_words(p);
    remove_dir(p);
    if (p->master) {
        p->master->owner = NULL;
        neap_child_disown(p->master->child, POLITE_MS);
    }
    neap_timer_free(p->soon), neap_timer_free(p->late);
    neap_ssh_words_close(&p->words);
    neap_buf_close(&p->backend), neap_buf_close(&p->authenticated), neap_buf_close(&p->address);
    neap_err_close(&p->err);
    free(p);
}

neap_ssh *neap_ssh_program_open(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg) {
    neap_ssh_program *p = neap_zalloc(sizeof *p);
    p->ssh = (neap_ssh){&program_class, loop};
    p->host = host, p->opened = opened, p->arg = arg;
    p->err = (neap_err)NEAP_ERR_INIT;
    neap_list_init(&p->execs);
    neap_list_init(&p->dialers);
    neap_list_init(&p->node);
    p->soon = neap_timer_new(loop, tell, p);
    p->late = neap_timer_new(loop, on_late, p);
    if (opening < HANDSHAKES_MAX) start_master(p);
    else neap_list_append(&queue, &p->node);
    return &p->ssh;
}
