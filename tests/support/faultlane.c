/* faultlane.c -- the process behind T.proxy. What each fault means is said in faultproxy.c.
 *
 * A connection is a pair of lanes, one per direction. A lane reads into a buffer, remembers when what it read may go on (delay), and
 * writes as far as its limits let it. Nothing is allocated: the process is a fork of an interpreter that may
 * have threads, so all memory is static, a buffer per lane, and a connection beyond MOST is closed at once. When a lane's buffer
 * is full it stops reading, and backpressure does the rest. Ends are passed on one by one, so half-closed connections work. */
#include "faultproxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, ROOM = 128 * 1024, MARKS = 64, DRAIN_MS = 200, HOLD_MS = 30000 };

typedef struct mark { int64_t upto, due; } mark;      /* bytes before `upto` may be sent at `due` */

typedef struct lane {
    char    bytes[ROOM];
    int     start, len;
    mark    marks[MARKS];
    int     mark_count;
    int64_t taken, given, next_at;      /* bytes read, bytes written; when the next write may be (rate) */
    char    tail[256];                  /* the last bytes before `bytes`, for `when` */
    int     tail_len;
    bool    ended, shut, dark;          /* EOF read; EOF passed on; swallowed from here on (lose = "silence") */
} lane;

typedef struct pair { int client, server; bool used, muted, broken; lane to, from; } pair;

static struct {
    int               listener, control, held;     /* held: the port while nobody listens */
    struct sockaddr_in place;
    bool              is_tcp, lost;
    neap_faults       f;
    neap_proxy_counts counts;
    pair              pairs[MOST];
} all;

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- connections ---- */

static void set_up(int fd) {
    int one = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Blocking: a back end on loopback answers at once or not at all. */
static int call(void) {
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons((unsigned short)all.f.port)};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    inet_pton(AF_INET, all.f.host, &tcp.sin_addr);
    memcpy(local.sun_path, all.f.socket, sizeof local.sun_path);
    bool is_unix = all.f.socket[0] != '\0';
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    int bad = is_unix ? connect(fd, (struct sockaddr *)&local, sizeof local) : connect(fd, (struct sockaddr *)&tcp, sizeof tcp);
    if (!bad) return fd;
    close(fd);
    return -1;
}

/* Close with RST. What was written before is let through first: RST would overtake it. */
static void reset(int fd) {
    struct linger now = {.l_onoff = 1};
    int left = 0;
    for (int i = 0; i < DRAIN_MS && ioctl(fd, SIOCOUTQ, &left) == 0 && left > 0; i++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void end(pair *p, void (*how)(int)) {
    if (p->client >= 0) how(p->client);
    if (p->server >= 0) how(p->server);
    p->client = p->server = -1;
    p->used = false;
}

static void close_fd(int fd) { close(fd); }

/* ---- one direction ---- */

/* True when the text has come; remembers enough of this piece to find it across the next. */
static bool has_come(lane *l, const char *bytes, int len) {
    static char joined[sizeof l->tail + ROOM];
    memcpy(joined, l->tail, (size_t)l->tail_len);
    memcpy(joined + l->tail_len, bytes, (size_t)len);
    int total = l->tail_len + len, keep = total < all.f.when_len - 1 ? total : all.f.when_len - 1;
    bool found = memmem(joined, (size_t)total, all.f.when, (size_t)all.f.when_len) != NULL;
    memcpy(l->tail, joined + total - keep, (size_t)keep);
    l->tail_len = keep;
    return found;
}

static void corrupt(lane *l, int way, int at, int len) {
    int64_t place = all.f.corrupt_at - l->taken;
    if ((all.f.way & way) && all.f.corrupt_at >= 0 && place >= 0 && place < len) l->bytes[at + (int)place] ^= (char)0xff;
}

/* Read once. False when the pair is over. */
static bool take(pair *p, lane *l, int way) {
    if (l->start + l->len == ROOM && l->start > 0) memmove(l->bytes, l->bytes + l->start, (size_t)l->len), l->start = 0;
    int at = l->start + l->len, fd = way == NEAP_WAY_TO ? p->client : p->server;
    ssize_t n = read(fd, l->bytes + at, (size_t)(ROOM - at));
    bool dark = l->dark || (all.f.blackhole & way);
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0) {
        p->broken = true;
        return false;
    }
    if (n == 0) return l->ended = true;
    *(way == NEAP_WAY_TO ? &all.counts.to : &all.counts.from) += n;
    if (p->muted) return false;                                    /* the server has answered into the void */
    if (way == NEAP_WAY_TO && all.f.when_len && !all.lost && has_come(l, l->bytes + at, (int)n)) {
        all.lost = true, all.counts.lost = 1;
        if (all.f.lose == NEAP_LOSE_REQUEST) return false;
        if (all.f.lose == NEAP_LOSE_SILENCE) p->from.dark = true;
        if (all.f.lose == NEAP_LOSE_ANSWER) p->muted = true;
    }
    corrupt(l, way, at, (int)n);
    l->taken += n;
    if (dark) {
        l->given += n;
        return true;
    }
    l->len += (int)n;
    l->marks[l->mark_count++] = (mark){l->taken, now_ms() + all.f.delay_ms};
    return true;
}

/* How many bytes may be written now. */
static int64_t allowed(const lane *l, int way, int64_t now) {
    int64_t due = l->given;
    for (int i = 0; i < l->mark_count && l->marks[i].due <= now; i++) due = l->marks[i].upto;
    int64_t n = due - l->given, limits[] = {all.f.reset_at, all.f.close_at, all.f.stall_at};
    if (now < l->next_at) return 0;
    for (int i = 0; i < 3; i++)
        if ((all.f.way & way) && limits[i] >= 0 && n > limits[i] - l->given) n = limits[i] - l->given;
    if (all.f.bytes && n > all.f.bytes) n = all.f.bytes;
    if (all.f.rate && n > all.f.rate / 50 + 1) n = all.f.rate / 50 + 1;
    return n < 0 ? 0 : n;
}

static void forget_marks(lane *l) {
    int gone = 0;
    while (gone < l->mark_count && l->marks[gone].upto <= l->given) gone++;
    memmove(l->marks, l->marks + gone, sizeof *l->marks * (size_t)(l->mark_count - gone));
    l->mark_count -= gone;
}

/* Write what may go. False when the other end is gone. */
static bool give(pair *p, lane *l, int way, int64_t now) {
    int fd = way == NEAP_WAY_TO ? p->server : p->client;
    int64_t n = allowed(l, way, now);
    if (n > 0) {
        ssize_t sent = send(fd, l->bytes + l->start, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) return true;
        if (sent <= 0) return false;
        l->start += (int)sent, l->len -= (int)sent, l->given += sent;
        if (l->len == 0) l->start = 0;
        if (all.f.rate) l->next_at = now + sent * 1000 / all.f.rate;
        forget_marks(l);
    }
    bool dark = l->dark || (all.f.blackhole & way);
    if (l->ended && l->len == 0 && !l->shut && !dark) {
        l->shut = true;
        shutdown(fd, SHUT_WR);
    }
    return true;
}

static bool is_stalled(const lane *l, int way) { return (all.f.way & way) && all.f.stall_at >= 0 && l->given >= all.f.stall_at; }

static bool has_room(const lane *l, int way) {
    return !l->ended && l->len < ROOM && l->mark_count < MARKS && !is_stalled(l, way);
}

static bool is_past(const lane *l, int way, int64_t limit) { return (all.f.way & way) && limit >= 0 && l->given >= limit; }

/* What the counts say about the whole connection. */
static void judge(pair *p) {
    if (is_past(&p->to, NEAP_WAY_TO, all.f.reset_at) || is_past(&p->from, NEAP_WAY_FROM, all.f.reset_at)) end(p, reset);
    else if (is_past(&p->to, NEAP_WAY_TO, all.f.close_at) || is_past(&p->from, NEAP_WAY_FROM, all.f.close_at)) end(p, close_fd);
    else if (p->to.shut && p->from.shut) end(p, close_fd);
    else if (p->muted && p->client >= 0 && p->to.len == 0) close(p->client), p->client = -1;
}

/* ---- the process ---- */

static void take_connection(void) {
    int client = accept(all.listener, NULL, NULL);
    if (client < 0) return;
    all.counts.connections++;
    pair *p = NULL;
    for (int i = 0; i < MOST && !p; i++)
        if (!all.pairs[i].used) p = &all.pairs[i];
    int server = p ? call() : -1;
    if (server < 0) {
        close(client);
        return;
    }
    memset(p, 0, sizeof *p);
    p->used = true, p->client = client, p->server = server;
    set_up(client), set_up(server);
    judge(p);
}

/* Whoever connects is refused, and nobody else is given the port meanwhile: it is bound, and not listened on. At our beginning the
 * interpreter may not have closed its own end of the listener yet. */
static int hold(void) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    for (int i = 0; bind(fd, (struct sockaddr *)&all.place, sizeof all.place); i++) {
        if (i == HOLD_MS) _exit(1);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return fd;
}

static void set_listening(void) {
    if (all.f.refuse && all.listener >= 0) close(all.listener), all.listener = -1, all.held = all.is_tcp ? hold() : -1;
    if (all.f.refuse || all.listener >= 0 || !all.is_tcp) return;
    if (listen(all.held, 64)) _exit(1);
    all.listener = all.held;
}

static void obey(void) {
    neap_proxy_ask message;
    if (recv(all.control, &message, sizeof message, 0) != (ssize_t)sizeof message) _exit(0);
    if (message.what == NEAP_ASK_SET) {
        if (message.arm) all.lost = false;
        all.f = message.faults;
        set_listening();
    }
    all.counts.open = 0;
    for (int i = 0; i < MOST; i++) {
        if (message.what == NEAP_ASK_CUT && all.pairs[i].used) end(&all.pairs[i], reset);
        all.counts.open += all.pairs[i].used;
    }
    send(all.control, &all.counts, sizeof all.counts, MSG_NOSIGNAL);
}

/* Milliseconds until a lane may write again that may not now; -1 when none waits for time. */
static int until_next(int64_t now) {
    int64_t least = -1;
    for (int i = 0; i < MOST; i++) {
        const lane *lanes[] = {&all.pairs[i].to, &all.pairs[i].from};
        for (int k = 0; k < 2 && all.pairs[i].used; k++) {
            if (!lanes[k]->mark_count) continue;
            int64_t at = lanes[k]->marks[0].due > lanes[k]->next_at ? lanes[k]->marks[0].due : lanes[k]->next_at;
            if (at > now && (least < 0 || at - now < least)) least = at - now;
        }
    }
    return (int)least;
}

static short interest(const lane *in, int in_way, const lane *out, int out_way, int64_t now) {
    return (short)((has_room(in, in_way) ? POLLIN : 0) | (allowed(out, out_way, now) > 0 ? POLLOUT : 0));
}

/* A descriptor without interest is left out of the poll, else its hang-up would come again and again. */
static struct pollfd watch(int fd, short events) { return (struct pollfd){events ? fd : -1, events, 0}; }

static bool is_readable(const struct pollfd *fd) { return (fd->events & POLLIN) && (fd->revents & ~POLLOUT); }

static void serve_pair(pair *p, const struct pollfd *client, const struct pollfd *server) {
    bool ok = true;
    int64_t now = now_ms();
    if (is_readable(client)) ok = take(p, &p->to, NEAP_WAY_TO);
    if (ok && p->server >= 0 && is_readable(server)) ok = take(p, &p->from, NEAP_WAY_FROM);
    if (ok) ok = give(p, &p->to, NEAP_WAY_TO, now_ms());
    if (ok && p->client >= 0) ok = give(p, &p->from, NEAP_WAY_FROM, now);
    if (!ok) end(p, p->broken ? reset : close_fd);
    else judge(p);
}

static void turn(void) {
    struct pollfd fds[2 + 2 * MOST] = {{all.control, POLLIN, 0}, {all.listener, POLLIN, 0}};
    int64_t now = now_ms();
    for (int i = 0; i < MOST; i++) {
        pair *p = &all.pairs[i];
        fds[2 + 2 * i] = p->used ? watch(p->client, interest(&p->to, NEAP_WAY_TO, &p->from, NEAP_WAY_FROM, now)) : watch(-1, 0);
        fds[3 + 2 * i] = p->used ? watch(p->server, interest(&p->from, NEAP_WAY_FROM, &p->to, NEAP_WAY_TO, now)) : watch(-1, 0);
    }
    poll(fds, 2 + 2 * MOST, until_next(now));
    if (fds[0].revents) obey();
    for (int i = 0; i < MOST; i++)
        if (all.pairs[i].used) serve_pair(&all.pairs[i], &fds[2 + 2 * i], &fds[3 + 2 * i]);
    if (fds[1].revents && all.listener >= 0) take_connection();
}

_Noreturn void neap_proxy_serve(int listener, int control, const neap_faults *faults) {
    socklen_t len = sizeof all.place;
    signal(SIGINT, SIG_IGN);
    all.listener = listener, all.control = control, all.f = *faults;
    all.is_tcp = getsockname(listener, (struct sockaddr *)&all.place, &len) == 0 && all.place.sin_family == AF_INET;
    set_listening();
    for (;;) turn();
}
