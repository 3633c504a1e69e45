/* hostile_ssh.c -- behind T.hostile_ssh: an SSH server that behaves as its mode says, in a process of its own.
 *
 *     local far <close> = T.hostile_ssh { mode = "no_exit_status", allow = "user_ed25519.pub" }
 *     far:port()   far:host_key() -> "ssh-ed25519 AAAA…"   far:close()
 *
 * It listens on 127.0.0.1 (or `address`, 127.…), and ends with its handle or with the interpreter. It lets in only who
 * signs with the ed25519 key in `allow` (without it: nobody gets past "hangs_in_auth" and the modes before), because it runs what
 * it is asked to run: /bin/sh -c COMMAND, with the channel as its streams. Then, by mode:
 *   plain                   nothing is wrong: the control
 *   silent, hangs_in_kex, hangs_in_auth, hangs_in_channel, hangs_in_exec     says no more from there on
 *   endless_banner, endless_line       lines without end before the greeting; one line without end
 *   other_host_key          the host key says it is another kind than was agreed
 *   refuses_auth, refuses_channel, refuses_exec
 *   no_exit_status          EOF and close, no exit status        exit_signal      the command always ended by KILL
 *   exit_status_then_cut    exit status, then RST                close_without_eof  exit status and close, no EOF
 *   no_close                EOF and exit status, the channel is never closed
 *   ends_at_once            nothing is wrong, but all of it, from the first output to the end of the connection, comes in one piece
 *   no_window               the window for input is 0 and never opened
 *   cut_in_output           RST behind the first output
 *   huge_stderr, long_line, endless_output       `size` bytes on stderr (64 MiB), one line of `size` on stdout (1 GiB), without end; first
 *   escapes                 escape sequences, NUL and invalid UTF-8 on both streams first
 *   late_rekey              a key exchange before every piece of output        rekey_never_ends    one that is not continued
 *   garbage, oversize       bytes that are no packet, a packet of 4 GiB, instead of the first output
 * and those of hostile_flood.c. hostile.c starts the process and is its handle; hostile_wire.c is the transport. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile_wire.h"
#include "testlib.h"

enum { PIECE = 16384, WINDOW = 256 * 1024, ROOM = 1024 * 1024 };

typedef struct server {
    neap_wire   wire;
    const char *mode;
    uint8_t     allowed[32];
    bool        has_allowed;
    int64_t     size;
    uint32_t    channel;             /* the client's number of the one channel; ours is 0 */
    int64_t     window;              /* bytes we may send */
    bool        opened, closed, far_closed;
    int         in, out, err;        /* the command's streams; -1: closed or none */
    pid_t       pid;
    bool        told;                /* the mode has had its first word */
    uint32_t    taken;               /* bytes of input that the window has not got back yet */
} server;

static bool is(const server *s, const char *mode) { return strcmp(s->mode, mode) == 0; }

static _Noreturn void hang(void) { for (;;) pause(); }

static _Noreturn void cut(server *s) {
    setsockopt(s->wire.fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(s->wire.fd);
    _exit(0);
}

/* ---- authentication ---- */

/* True when the signature at the end of the request is the allowed key's. */
static bool is_signed(server *s, neap_packet *p, const uint8_t *blob, size_t blob_len) {
    static neap_packet text;
    size_t end = p->at, len;
    const uint8_t *signature = neap_take_string(p, &len);
    if (len < 64 || blob_len < 32 || !s->has_allowed || memcmp(blob + blob_len - 32, s->allowed, 32) != 0) return false;
    text = (neap_packet){.len = 0};
    neap_put_string(&text, s->wire.session_id, 32);
    memcpy(text.data + text.len, p->data, end);
    text.len += end;
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, s->allowed, 32);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(c, NULL, NULL, NULL, key);
    bool ok = EVP_DigestVerify(c, signature + len - 64, 64, text.data, text.len) == 1;
    EVP_MD_CTX_free(c);
    EVP_PKEY_free(key);
    return ok;
}

static void send_failure(server *s) {
    neap_packet p = {.data = {51}, .len = 1};
    neap_put_text(&p, "publickey");
    neap_put_byte(&p, 0);
    neap_wire_send(&s->wire, &p);
}

/* One USERAUTH_REQUEST; true when it let somebody in. */
static bool judge_request(server *s, neap_packet *p) {
    size_t len, blob_len, name_len;
    neap_take_string(p, &len);
    neap_take_string(p, &len);
    const char *method = neap_take_string(p, &len);
    if (len != 9 || memcmp(method, "publickey", 9) != 0 || is(s, "refuses_auth")) return send_failure(s), false;
    bool is_final = neap_take_byte(p) != 0;
    const void *name = neap_take_string(p, &name_len);
    const uint8_t *blob = neap_take_string(p, &blob_len);
    if (name_len != 11 || memcmp(name, "ssh-ed25519", 11) != 0) return send_failure(s), false;
    neap_packet reply = {.data = {60}, .len = 1};
    if (!is_final) {
        neap_put_string(&reply, name, name_len);
        neap_put_string(&reply, blob, blob_len);
        neap_wire_send(&s->wire, &reply);
        return false;
    }
    if (!is_signed(s, p, blob, blob_len)) return send_failure(s), false;
    reply.data[0] = 52;
    neap_wire_send(&s->wire, &reply);
    return true;
}

static void let_in(server *s) {
    static neap_packet p, reply;
    for (;;) {
        neap_wire_read(&s->wire, &p);
        uint8_t type = neap_take_byte(&p);
        if (type == 5) {                                   /* SERVICE_REQUEST */
            size_t len;
            const void *name = neap_take_string(&p, &len);
            reply = (neap_packet){.data = {6}, .len = 1};
            neap_put_string(&reply, name, len);
            neap_wire_send(&s->wire, &reply);
            if (is(s, "hangs_in_auth")) hang();
            if (is(s, "many_banners")) neap_hostile_flood(&s->wire, s->mode, 0, s->size);
        } else if (type == 50 && judge_request(s, &p)) return;
    }
}

/* ---- the channel ---- */

static neap_packet about_channel(const server *s, uint8_t type) {
    neap_packet p = {.data = {type}, .len = 1};
    neap_put_u32(&p, s->channel);
    return p;
}

static void send_about(server *s, uint8_t type) {
    neap_packet p = about_channel(s, type);
    neap_wire_send(&s->wire, &p);
}

static void open_channel(server *s, neap_packet *p) {
    size_t len;
    neap_take_string(p, &len);
    uint32_t channel = neap_take_u32(p);
    if (is(s, "hangs_in_channel")) hang();
    neap_packet reply = {.data = {92}, .len = 1};
    neap_put_u32(&reply, channel);
    if (s->opened || is(s, "refuses_channel")) {
        neap_put_u32(&reply, 4);
        neap_put_text(&reply, "no room");
        neap_put_text(&reply, "");
        neap_wire_send(&s->wire, &reply);
        return;
    }
    s->opened = true, s->channel = channel, s->window = neap_take_u32(p);
    reply.data[0] = 91;
    neap_put_u32(&reply, 0);
    neap_put_u32(&reply, is(s, "no_window") ? 0 : WINDOW);
    neap_put_u32(&reply, 32768);
    neap_wire_send(&s->wire, &reply);
}

static void run_command(server *s, const char *command, size_t len) {
    int in[2], out[2], err[2];
    char *line = strndup(command, len);
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) _exit(3);
    s->pid = fork();
    if (s->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        close(s->wire.fd);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    free(line);
    close(in[0]), close(out[1]), close(err[1]);
    fcntl(in[1], F_SETPIPE_SZ, ROOM);
    s->in = in[1], s->out = out[0], s->err = err[0];
}

static void on_request(server *s, neap_packet *p) {
    size_t len, command_len;
    neap_take_u32(p);
    const char *kind = neap_take_string(p, &len);
    bool is_exec = len == 4 && memcmp(kind, "exec", 4) == 0, wants = neap_take_byte(p) != 0;
    if (is_exec && is(s, "hangs_in_exec")) hang();
    bool ok = !is_exec || (!is(s, "refuses_exec") && !s->pid);
    bool is_known = is_exec || (len == 3 && memcmp(kind, "env", 3) == 0);
    if (wants) send_about(s, ok && is_known ? 99 : 100);
    if (!is_exec || !ok) return;
    const char *command = neap_take_string(p, &command_len);
    run_command(s, command, command_len);
}

static void on_data(server *s, neap_packet *p) {
    size_t len;
    neap_take_u32(p);
    const char *bytes = neap_take_string(p, &len);
    for (size_t at = 0; at < len && s->in >= 0;) {
        ssize_t n = write(s->in, bytes + at, len - at);
        if (n <= 0) close(s->in), s->in = -1;
        else at += (size_t)n;
    }
    s->taken += (uint32_t)len;
}

/* Open the window again when the command has read everything: what is on the way always fits into the pipe, so that neither we
 * nor the command wait for the other with both hands full. */
static void open_window(server *s) {
    int left = 0;
    if (!s->taken || s->closed || (s->in >= 0 && ioctl(s->in, FIONREAD, &left) == 0 && left > 0)) return;
    neap_packet more = about_channel(s, 93);
    neap_put_u32(&more, s->taken);
    s->taken = 0;
    neap_wire_send(&s->wire, &more);
}

/* Everything a client says once it is in. */
static void on_packet(void *arg, neap_packet *p) {
    server *s = arg;
    size_t len;
    uint8_t type = neap_take_byte(p);
    if (type == 80) {                                      /* GLOBAL_REQUEST, keepalives among them */
        neap_take_string(p, &len);
        if (neap_take_byte(p)) neap_wire_send(&s->wire, &(neap_packet){.data = {82}, .len = 1});
    } else if (type == 90) open_channel(s, p);
    else if (type == 93) neap_take_u32(p), s->window += neap_take_u32(p);
    else if (type == 94) on_data(s, p);
    else if (type == 96 && s->in >= 0) close(s->in), s->in = -1;
    else if (type == 97) s->far_closed = true;
    else if (type == 98) on_request(s, p);
}

static void serve_packet(server *s) {
    static neap_packet p;
    neap_wire_read(&s->wire, &p);
    on_packet(s, &p);
}

/* ---- output ---- */

/* Wait until the client's window lets n bytes go; a client that closes the channel ends it all. */
static void await_window(server *s, size_t n) {
    while (s->window < (int64_t)n) {
        serve_packet(s);
        if (s->far_closed) _exit(0);
    }
}

static void send_output(server *s, bool is_err, const void *bytes, size_t len) {
    while (neap_wire_is_ready(&s->wire, 0)) serve_packet(s);
    await_window(s, len);
    s->window -= (int64_t)len;
    neap_packet p = about_channel(s, is_err ? 95 : 94);
    if (is_err) neap_put_u32(&p, 1);
    neap_put_string(&p, bytes, len);
    neap_wire_send(&s->wire, &p);
}

static void send_many(server *s, bool is_err, int64_t size) {
    static char bytes[PIECE];
    memset(bytes, 'x', sizeof bytes);
    for (int64_t left = size; left > 0; left -= PIECE) send_output(s, is_err, bytes, left < PIECE ? (size_t)left : PIECE);
}

/* What the mode says before the command's own first word. */
static void speak_first(server *s) {
    static const char odd[] = "\033]0;owned\007\033[2J\033[31mred\033]52;c;aGk=\007\033P+q\033\\\0\xff\xfe\xc3(\xe2\x80\xae\x9b" "31m\r\b\n";
    int one = 1;
    s->told = true;
    if (is(s, "ends_at_once")) setsockopt(s->wire.fd, IPPROTO_TCP, TCP_CORK, &one, sizeof one);
    if (is(s, "huge_stderr")) send_many(s, true, s->size ? s->size : 64 << 20);
    if (is(s, "long_line")) send_many(s, false, s->size ? s->size : 1 << 30);
    if (is(s, "endless_output")) send_many(s, false, INT64_MAX);
    if (is(s, "escapes")) send_output(s, false, odd, sizeof odd), send_output(s, true, odd, sizeof odd);
    if (is(s, "rekey_never_ends")) neap_wire_rekey(&s->wire, false);
    if (is(s, "oversize")) s->wire.encrypted = false, neap_wire_raw(&s->wire, "\xff\xff\xff\xf0", 4);
    if (is(s, "garbage")) {
        for (int i = 0; i < 4096; i++) neap_wire_raw(&s->wire, "\x5a\xa5\0\xff", 4);
        hang();
    }
    if (is(s, "oversize")) hang();
    if (!is(s, "many_banners")) neap_hostile_flood(&s->wire, s->mode, s->channel, s->size);
}

static bool relay(server *s, int *fd, bool is_err) {
    char bytes[PIECE];
    ssize_t n = read(*fd, bytes, sizeof bytes);
    if (n <= 0) {
        close(*fd);
        *fd = -1;
        return false;
    }
    if (is(s, "rekey_never_ends")) return true;            /* nothing may be said between two halves of an exchange */
    if (is(s, "late_rekey")) neap_wire_rekey(&s->wire, true);
    send_output(s, is_err, bytes, (size_t)n);
    if (is(s, "cut_in_output")) cut(s);
    return true;
}

static void send_end(server *s, int status) {
    neap_packet p = about_channel(s, 98);
    if (is(s, "exit_signal")) {
        neap_put_text(&p, "exit-signal");
        neap_put_byte(&p, 0);
        neap_put_text(&p, "KILL");
        neap_put_byte(&p, 0);
        neap_put_text(&p, "");
        neap_put_text(&p, "");
    } else {
        neap_put_text(&p, "exit-status");
        neap_put_byte(&p, 0);
        neap_put_u32(&p, (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)));
    }
    if (!is(s, "close_without_eof") && !is(s, "exit_status_then_cut")) send_about(s, 96);
    if (!is(s, "no_exit_status")) neap_wire_send(&s->wire, &p);
    if (is(s, "exit_status_then_cut")) {
        usleep(20000);                                     /* RST overtakes what the peer has not read */
        cut(s);
    }
    if (!is(s, "no_close")) send_about(s, 97), s->closed = true;
    if (is(s, "ends_at_once")) shutdown(s->wire.fd, SHUT_WR), hang();
}

/* Carry the command's streams until it has ended. */
static void carry(server *s) {
    while (s->out >= 0 || s->err >= 0) {
        struct pollfd fds[] = {{s->wire.fd, POLLIN, 0}, {s->out, POLLIN, 0}, {s->err, POLLIN, 0}};
        if (!s->told) {
            speak_first(s);
            continue;                                      /* what it waited for was read on the way */
        }
        poll(fds, 3, s->taken ? 1 : -1);
        open_window(s);
        if (fds[0].revents) serve_packet(s);
        if (s->out >= 0 && fds[1].revents) relay(s, &s->out, false);
        if (s->err >= 0 && fds[2].revents) relay(s, &s->err, true);
    }
    int status = 0;
    waitpid(s->pid, &status, 0);
    if (is(s, "rekey_never_ends")) hang();
    send_end(s, status);
    s->pid = 0, s->told = false;
}

static _Noreturn void serve(server *s) {
    if (is(s, "silent")) hang();
    while (is(s, "endless_line")) neap_wire_raw(&s->wire, "no end of this line ", 20);
    while (is(s, "endless_banner")) neap_wire_raw(&s->wire, "another line before the greeting\r\n", 34);
    neap_wire_greet(&s->wire);
    if (is(s, "hangs_in_kex")) hang();
    if (is(s, "other_host_key")) s->wire.key_name = "ssh-rsa";
    neap_wire_rekey(&s->wire, true);
    let_in(s);
    for (;;) {
        serve_packet(s);
        if (s->pid) carry(s);
        if (s->far_closed && !s->closed && !is(s, "no_close")) send_about(s, 97), s->closed = true;
        if (s->far_closed && (s->closed || is(s, "no_close"))) s->opened = s->closed = s->far_closed = false;      /* room for the next */
    }
}

/* ---- the process ---- */

/* T.hostile_ssh_serve(mode, size, key): in the process that was started for it; descriptors NEAP_HOSTILE_LISTENER, NEAP_HOSTILE_LIFE and NEAP_HOSTILE_TELL are open. */
static int serve_forever(lua_State *L) {
    static server s;
    size_t len;
    s = (server){.mode = luaL_checkstring(L, 1), .size = luaL_checkinteger(L, 2), .in = -1, .out = -1, .err = -1};
    const char *allowed = luaL_checklstring(L, 3, &len);
    s.has_allowed = len == 32;
    if (s.has_allowed) memcpy(s.allowed, allowed, 32);
    s.wire.on_packet = on_packet, s.wire.arg = &s;
    s.wire.host_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    uint8_t public[32];
    size_t public_len = sizeof public;
    EVP_PKEY_get_raw_public_key(s.wire.host_key, public, &public_len);
    if (write(NEAP_HOSTILE_TELL, public, sizeof public) != sizeof public) _exit(3);
    close(NEAP_HOSTILE_TELL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct pollfd fds[] = {{NEAP_HOSTILE_LIFE, POLLIN, 0}, {NEAP_HOSTILE_LISTENER, POLLIN, 0}};
        poll(fds, 2, 1000);
        if (fds[0].revents) kill(0, SIGKILL);              /* this process and all it started: one group */
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
        if (!fds[1].revents) continue;
        s.wire.fd = accept(NEAP_HOSTILE_LISTENER, NULL, NULL);
        setsockopt(s.wire.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (fork() == 0) {
            close(NEAP_HOSTILE_LISTENER);
            close(NEAP_HOSTILE_LIFE);
            serve(&s);
        }
        close(s.wire.fd);
    }
}

static const luaL_Reg serving[] = {{"hostile_ssh_serve", serve_forever}, {NULL, NULL}};
NEAP_TEST_LIBRARY(serving)
