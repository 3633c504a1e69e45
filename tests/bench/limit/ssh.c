/* ssh.c -- the least that reaching hosts can cost: libssh2 and poll, one thread, and nothing else.
 *
 *     ssh run PORT USER KEY IN_FLIGHT TIMES COMMAND ADDRESS…     TIMES times the command on every host, one after another on one connection
 *                                                                a host; at most IN_FLIGHT hosts are connecting and logging in at a time
 *     ssh get PORT USER KEY ADDRESS COMMAND FILE                 what the command prints, into a file
 *     ssh put PORT USER KEY ADDRESS COMMAND FILE                 the file into the command; with one word more both do all that neap
 *                                                                promises: a hash on the way, and a file that replaces what was there
 *                                                                only when it is whole, and then survives a power loss
 *
 * KEY is a private key's file; the public one lies beside it. Host keys are not checked. Prints "seconds: S"; a command or host that
 * fails ends it with 1.
 *
 * libssh2 buffers: after every call it is drained until it would block, and poll asks only for what it says it waits for. */
#define OPENSSL_SUPPRESS_DEPRECATED                /* SHA256_Update only computes; EVP would read a configuration first */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <libssh2.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 256 << 10, WINDOW = 2 << 20, PACKET = 32768, STALL_MS = 60000 };
typedef enum { IDLE, CONNECTING, HANDSHAKE, LOGIN, OPENING, STARTING, READING, CLOSING, FREEING, LEAVING, DONE } state;

typedef struct host {
    const char *address;
    int fd, left;
    state state;
    LIBSSH2_SESSION *session;
    LIBSSH2_CHANNEL *channel;
} host;

static int port, proven;
static SHA256_CTX hash;
static const char *user, *key, *command;
static char public_key[512];

static void fail(const host *h, const char *what) {
    char *why = "";
    if (h->session) libssh2_session_last_error(h->session, &why, NULL, 0);
    fprintf(stderr, "%s: %s: %s\n", h->address, what, why);
    exit(1);
}

static void dial(host *h) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    inet_pton(AF_INET, h->address, &to.sin_addr);
    h->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(h->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(h->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) fail(h, "connect");
    h->session = libssh2_session_init();
    libssh2_session_set_blocking(h->session, 0);
    h->state = CONNECTING;
}

/* Is it to be called again? Anything but success and that ends the program. */
static int again(const host *h, int result, const char *what) {
    if (result == LIBSSH2_ERROR_EAGAIN) return 1;
    if (result < 0) fail(h, what);
    return 0;
}

static int open_channel(host *h) {
    h->channel = libssh2_channel_open_ex(h->session, "session", 7, WINDOW, PACKET, NULL, 0);
    return h->channel ? 0 : libssh2_session_last_errno(h->session);
}

static int read_all(host *h) {
    char piece[PACKET];
    ssize_t got;
    while ((got = libssh2_channel_read(h->channel, piece, sizeof piece)) > 0) continue;
    if (got == 0 && !libssh2_channel_eof(h->channel)) return LIBSSH2_ERROR_EAGAIN;
    return (int)got;
}

static void leave(host *h) {
    libssh2_session_free(h->session);
    close(h->fd);
    h->session = NULL;
}

/* As far as it goes without waiting. */
static void pump(host *h) {
    switch (h->state) {
    case CONNECTING:
        h->state = HANDSHAKE;
        /* fall through */
    case HANDSHAKE:
        if (again(h, libssh2_session_handshake(h->session, h->fd), "handshake")) return;
        h->state = LOGIN;
        /* fall through */
    case LOGIN:
        if (again(h, libssh2_userauth_publickey_fromfile(h->session, user, public_key, key, ""), "login")) return;
        h->state = OPENING;
        /* fall through */
    case OPENING:
        if (again(h, open_channel(h), "channel")) return;
        h->state = STARTING;
        /* fall through */
    case STARTING:
        if (again(h, libssh2_channel_exec(h->channel, command), "exec")) return;
        h->state = READING;
        /* fall through */
    case READING:
        if (again(h, read_all(h), "read")) return;
        h->state = CLOSING;
        /* fall through */
    case CLOSING:
        if (again(h, libssh2_channel_close(h->channel), "close")) return;
        if (libssh2_channel_get_exit_status(h->channel) != 0) fail(h, "the command failed");
        h->state = FREEING;
        /* fall through */
    case FREEING:
        if (again(h, libssh2_channel_free(h->channel), "free")) return;
        h->state = --h->left > 0 ? OPENING : LEAVING;
        if (h->left > 0) {
            pump(h);
            return;
        }
        /* fall through */
    case LEAVING:
        if (again(h, libssh2_session_disconnect(h->session, "done"), "disconnect")) return;
        leave(h);
        h->state = DONE;
        return;
    default: return;
    }
}

static short interest(const host *h) {
    if (h->state == CONNECTING) return POLLOUT;
    int wanted = libssh2_session_block_directions(h->session);
    short events = (short)((wanted & LIBSSH2_SESSION_BLOCK_INBOUND ? POLLIN : 0) | (wanted & LIBSSH2_SESSION_BLOCK_OUTBOUND ? POLLOUT : 0));
    return events ? events : POLLIN;
}

static int is_entering(const host *h) { return h->state >= CONNECTING && h->state <= LOGIN; }

static void run(host *hosts, int count, int in_flight) {
    struct pollfd *polled = calloc((size_t)count, sizeof *polled);
    host **behind = calloc((size_t)count, sizeof *behind);
    int begun = 0, done = 0;
    while (done < count) {
        int entering = 0, watched = 0;
        for (int i = 0; i < begun; i++) entering += is_entering(&hosts[i]);
        for (; begun < count && entering < in_flight; entering++) dial(&hosts[begun++]);
        for (int i = 0; i < begun; i++) {
            if (hosts[i].state == DONE) continue;
            polled[watched] = (struct pollfd){.fd = hosts[i].fd, .events = interest(&hosts[i])};
            behind[watched++] = &hosts[i];
        }
        if (poll(polled, (nfds_t)watched, STALL_MS) <= 0) fail(behind[0], "stalled");
        for (int i = 0; i < watched; i++) {
            if (polled[i].revents) pump(behind[i]);
            done += behind[i]->state == DONE;
        }
    }
    free(polled);
    free(behind);
}

/* ---- one stream ---- */

static void wait_for(const host *h) {
    struct pollfd p = {.fd = h->fd, .events = interest(h)};
    if (poll(&p, 1, STALL_MS) <= 0) fail(h, "stalled");
}

#define WAIT(h, result, call, what) \
    while (again(h, (result) = (int)(call), what)) wait_for(h)

static void open_stream(host *h) {
    int result;
    dial(h);
    wait_for(h);
    h->state = LOGIN;
    WAIT(h, result, libssh2_session_handshake(h->session, h->fd), "handshake");
    WAIT(h, result, libssh2_userauth_publickey_fromfile(h->session, user, public_key, key, ""), "login");
    WAIT(h, result, open_channel(h), "channel");
    WAIT(h, result, libssh2_channel_exec(h->channel, command), "exec");
}

static void get(host *h, int fd, char *piece) {
    for (;;) {
        ssize_t got = libssh2_channel_read(h->channel, piece, PIECE);
        if (got < 0 && got != LIBSSH2_ERROR_EAGAIN) fail(h, "read");
        if (got > 0 && proven) SHA256_Update(&hash, piece, (size_t)got);
        if (got > 0 && write(fd, piece, (size_t)got) != got) fail(h, "write");
        if (got > 0) continue;
        if (libssh2_channel_eof(h->channel)) return;
        wait_for(h);
    }
}

static void put(host *h, int fd, char *piece) {
    ssize_t got;
    int sent, result;
    while ((got = read(fd, piece, PIECE)) > 0) {
        if (proven) SHA256_Update(&hash, piece, (size_t)got);
        for (ssize_t at = 0; at < got; at += sent) WAIT(h, sent, libssh2_channel_write(h->channel, piece + at, (size_t)(got - at)), "write");
    }
    WAIT(h, result, libssh2_channel_send_eof(h->channel), "end");
    WAIT(h, result, libssh2_channel_wait_eof(h->channel), "end");
}

/* The file is whole: let it take its name for good. */
static void keep(const host *h, int fd, const char *part, const char *path) {
    char *copy = strdup(path);
    int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY);
    if (fsync(fd) != 0 || rename(part, path) != 0 || fsync(dir) != 0) fail(h, "keep");
    close(dir);
    free(copy);
}

static void stream(host *h, const char *path, int gets) {
    char part[512];
    snprintf(part, sizeof part, "%s%s", path, gets && proven ? ".part" : "");
    int result, fd = gets ? open(part, O_CREAT | O_TRUNC | O_WRONLY, 0600) : open(path, O_RDONLY);
    char *piece = malloc(PIECE);
    open_stream(h);
    SHA256_Init(&hash);
    if (gets) get(h, fd, piece);
    else put(h, fd, piece);
    WAIT(h, result, libssh2_channel_close(h->channel), "close");
    if (libssh2_channel_get_exit_status(h->channel) != 0) fail(h, "the command failed");
    if (gets && proven) keep(h, fd, part, path);
    if (close(fd) != 0) fail(h, "close");
    leave(h);
    free(piece);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 8) return 64;
    port = atoi(argv[2]);
    user = argv[3];
    key = argv[4];
    snprintf(public_key, sizeof public_key, "%s.pub", key);
    libssh2_init(0);
    double begun = now();
    if (strcmp(argv[1], "run") == 0) {
        int count = argc - 8;
        command = argv[7];
        host *hosts = calloc((size_t)count, sizeof *hosts);
        for (int i = 0; i < count; i++) hosts[i] = (host){.address = argv[8 + i], .left = atoi(argv[6])};
        run(hosts, count, atoi(argv[5]));
        free(hosts);
    } else {
        host h = {.address = argv[5]};
        command = argv[6];
        proven = argc > 8;
        stream(&h, argv[7], strcmp(argv[1], "get") == 0);
    }
    printf("seconds: %.6f\n", now() - begun);
    return 0;
}
