/* ssh_native.h -- what the parts of the libssh2 back end know of each other; nobody else includes this.
 *
 *     ssh_native.c          a session's life: its turn, the way there, handshake, keepalive, loss, leaving
 *     ssh_native_link.c     the bytes below libssh2: a socket or a stream through another session
 *     ssh_native_host.c     which host keys may be offered, and whether the one that came is the host's
 *     ssh_native_auth.c     who we are: agent, key files, certificates     ssh_native_agent.c  ssh_native_key.c
 *     ssh_native_channel.c  channels: a command, a tunnel     ssh_native_lane.c  their streams
 *     ssh_native_dial.c     dialers over tunnels
 *
 * libssh2 never blocks on writing here. Its bytes go through callbacks into a buffer of ours that takes all of them, and who
 * produces many (a channel's writer) looks at that buffer first. So "would block" always means: something must arrive. All that
 * libssh2 asks of callers who write to a socket (repeat with the same pointer, let no other call in between, keepalives
 * that break half-sent packets) is thereby impossible to get wrong, instead of got right. */
#ifndef NEAP_DRIVE_SSH_NATIVE_H
#define NEAP_DRIVE_SSH_NATIVE_H

#include <libssh2.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "drive/ssh.h"
#include "loop/net.h"
#include "loop/timer.h"

/* A function that only later versions have, or NULL. */
void *neap_libssh2_find(const char *name);
/* Is the library of at least this number? 0x010b00 is 1.11.0. */
bool neap_libssh2_is(int number);
enum { NEAP_LIBSSH2_1_11 = 0x010b00 };

/* The link ---------------------------------------------------------------------------------- */

enum { NEAP_SSH_OUT_MOST = 256 * 1024, NEAP_SSH_FIRST_SIZE = 128 };

typedef struct neap_ssh_link neap_ssh_link;
/* Bytes came, room came, or the end came. */
typedef void (*neap_ssh_link_fn)(void *arg);
neap_ssh_link *neap_ssh_link_of_fd(neap_loop *loop, int fd, neap_ssh_link_fn moved, void *arg);
neap_ssh_link *neap_ssh_link_of_stream(neap_loop *loop, neap_stream *stream, neap_ssh_link_fn moved, void *arg);
ssize_t neap_ssh_link_take(neap_ssh_link *l, char *buffer, size_t len);       /* bytes, or -EAGAIN, also at the end; -EPIPE once cut */
ssize_t neap_ssh_link_put(neap_ssh_link *l, const char *data, size_t len);    /* all of it, or -EPIPE once cut */
void neap_ssh_link_flush(neap_ssh_link *l);
size_t neap_ssh_link_queued(const neap_ssh_link *l);                          /* bytes that did not leave yet */
bool neap_ssh_link_waits(const neap_ssh_link *l);                             /* bytes came that nobody has taken; not those in the socket */
bool neap_ssh_link_ended(const neap_ssh_link *l);                             /* no more will come, and all was taken */
const char *neap_ssh_link_reason(const neap_ssh_link *l);                     /* of the end */
int64_t neap_ssh_link_alive_ms(const neap_ssh_link *l);                       /* when the far end last gave a sign */
const char *neap_ssh_link_first(const neap_ssh_link *l);                      /* the first line that came, for errors; "" before */
void neap_ssh_link_cut(neap_ssh_link *l);                                     /* close it; taking and putting fail from now on */
void neap_ssh_link_free(neap_ssh_link *l);                                    /* NULL allowed */

/* Turns: at most 64 handshakes at once -------------------------------------------------------- */

typedef struct neap_ssh_turn { neap_list node; void (*go)(void *arg); void *arg; bool has; } neap_ssh_turn;
void neap_ssh_turn_init(neap_ssh_turn *t, void (*go)(void *arg), void *arg);
void neap_ssh_turn_ask(neap_ssh_turn *t);                                     /* `go` comes now or later */
void neap_ssh_turn_give(neap_ssh_turn *t);                                    /* back, or out of the queue; twice is harmless */

/* The session --------------------------------------------------------------------------------- */

typedef enum { NEAP_SSH_QUEUED, NEAP_SSH_REACHING, NEAP_SSH_SHAKING, NEAP_SSH_PROVING, NEAP_SSH_OPEN, NEAP_SSH_GONE, NEAP_SSH_LEAVING } neap_ssh_state;

typedef struct neap_ssh_channel neap_ssh_channel;
typedef struct neap_ssh_auth neap_ssh_auth;

typedef struct neap_ssh_native {
    neap_ssh ssh;                        /* first */
    neap_ssh_state state;
    const neap_ssh_host *host;           /* until it is open; what is needed later is copied */
    char *name, *user;
    int64_t alive_ms, silent_ms;         /* ask after so long, give up after so long */
    struct neap_ssh_native *via;         /* the session this one goes through, owned */
    neap_dialer *dialer;
    neap_dialing *dialing;
    neap_connecting *connecting;
    neap_ssh_turn turn;
    neap_ssh_link *link;
    LIBSSH2_SESSION *lib;
    neap_ssh_auth *auth;
    neap_timer *kick, *clock;            /* kick: pump soon; clock: the deadline, later the keepalive, last the politeness */
    int tries;
    bool pumping, again, retrying, doomed;               /* doomed: to be destroyed from the next timer */
    neap_ssh_opened_fn opened;
    void *opened_arg;
    neap_ssh_lost_fn lost;
    void *lost_arg;
    neap_err err;                        /* why it is GONE */
    bool garbled;                        /* because of what came, not because nothing more came */
    neap_ssh_card card;
    char backend[32], fingerprint[64], key_type[64], address[NEAP_NET_TEXT_SIZE];
    char *authenticated;
    neap_list channels, dialers;
    neap_ssh_channel *opening;           /* libssh2 keeps the state of one opening per session */
    int64_t left_ms;                     /* when a command was last over for us */
    bool pinging;                        /* the opening is our sign of life */
    int64_t asked_ms;                    /* when it was asked about its silence; 0: it was not, or it has spoken since */
    char *piece;                         /* what a reader is shown */
} neap_ssh_native;

void neap_ssh_native_kick(neap_ssh_native *s);
/* The connection is over. In the pump; the rest follows when it ends. */
void neap_ssh_native_fail(neap_ssh_native *s, neap_err *err);
/* The same, with what libssh2 says of `rc`. */
void neap_ssh_native_fail_lib(neap_ssh_native *s, int rc, const char *what);
/* Does this answer of libssh2 mean that the connection is over? */
bool neap_ssh_is_fatal(int rc);
neap_ssh_native *neap_ssh_native_from(neap_ssh *s);

/* Host keys ----------------------------------------------------------------------------------- */

bool neap_ssh_native_prefer(neap_ssh_native *s, neap_err *err);               /* before the handshake */
bool neap_ssh_native_check_key(neap_ssh_native *s, neap_err *err);            /* after it */

/* Who we are ---------------------------------------------------------------------------------- */

/* Begin; `neap_ssh_auth_step` goes on whenever something came: 1 let in, 0 not yet, -1 err. */
neap_ssh_auth *neap_ssh_auth_new(neap_ssh_native *s);
int neap_ssh_auth_step(neap_ssh_auth *a, neap_err *err);
void neap_ssh_auth_free(neap_ssh_auth *a);                                    /* NULL allowed */
bool neap_ssh_auth_waits_for_agent(const neap_ssh_auth *a);

/* An agent: one question at a time. `answered` gets the body of its answer (type first), or NULL and err. */
typedef struct neap_ssh_agent neap_ssh_agent;
typedef void (*neap_ssh_agent_fn)(void *arg, const unsigned char *body, size_t len, const neap_err *err);
neap_ssh_agent *neap_ssh_agent_new(neap_loop *loop, const char *path, neap_err *err);
void neap_ssh_agent_ask(neap_ssh_agent *a, const neap_buf *question, neap_ssh_agent_fn answered, void *arg);
void neap_ssh_agent_free(neap_ssh_agent *a);                                  /* NULL allowed */

/* The public half of a key file (PATH.pub, or the head of PATH itself), and whether the private half is locked. */
typedef struct neap_ssh_key { char *type; unsigned char *blob; size_t len; bool locked, readable; } neap_ssh_key;
void neap_ssh_key_read(neap_ssh_key *k, const char *path);
bool neap_ssh_key_read_public(neap_ssh_key *k, const char *path);             /* a .pub file, a certificate among them */
void neap_ssh_key_close(neap_ssh_key *k);

/* uint32-counted strings of the protocol, in a run of bytes. False at its end. */
typedef struct neap_ssh_reader { const unsigned char *at, *end; } neap_ssh_reader;
bool neap_ssh_read_u32(neap_ssh_reader *r, uint32_t *out);
bool neap_ssh_read_string(neap_ssh_reader *r, const unsigned char **out, size_t *len);
void neap_ssh_put_u32(neap_buf *b, uint32_t n);
void neap_ssh_put_string(neap_buf *b, const void *data, size_t len);

/* Channels ------------------------------------------------------------------------------------ */

typedef enum { NEAP_SSH_CHANNEL_EXEC, NEAP_SSH_CHANNEL_TCP, NEAP_SSH_CHANNEL_UNIX } neap_ssh_channel_kind;

/* One direction, or for a tunnel both, as a stream. */
typedef struct neap_ssh_lane {
    neap_stream stream;                  /* first */
    neap_ssh_channel *channel;
    int source;                          /* of what is read: 0 data, 1 stderr, -1: it is not read */
    bool writes, handed, freed, ended;
    neap_stream_read_fn got;             /* NULL: no read pending */
    void *got_arg;
    size_t most;
    neap_stream_done_fn done;            /* NULL: neither write nor shut pending */
    void *done_arg;
    neap_buf left;                       /* bytes that came before the connection was lost */
} neap_ssh_lane;

struct neap_ssh_channel {
    neap_ssh_exec exec;                  /* first */
    neap_list node;                      /* of its session */
    neap_loop *loop;
    neap_ssh_native *session;            /* NULL: over */
    neap_ssh_channel_kind kind;
    LIBSSH2_CHANNEL *lib;
    enum { NEAP_SSH_WAITS, NEAP_SSH_OPENS, NEAP_SSH_ASKS, NEAP_SSH_LIVES, NEAP_SSH_ENDS } state;
    char *text;                          /* command, host or path */
    neap_buf message;                    /* of the request to open; libssh2 keeps no copy */
    neap_ssh_lane lanes[3];              /* a tunnel has the first alone */
    neap_buf out;                        /* written, and not yet taken by libssh2 */
    size_t out_at;
    bool eof_wanted, eof_sent, closed, dropped;          /* closed: by the far end; dropped: to be closed, nobody listens any more */
    int64_t asked_ms, pause_ms;          /* when it first asked for room, and how long until it asks again */
    bool pauses;
    int holders;                         /* who has it: the exec's owner, a dial, each stream handed out */
    neap_timer *late;                    /* ends a pause; tells from the loop what a channel without a session has to tell */
    neap_err err;                        /* why it has none */
    neap_ssh_end_fn ended;
    void (*ready)(void *arg, const neap_err *err);                            /* a tunnel is open, or is not */
    void *arg;
};

/* With one hold. Without a session (NULL) it never opens: see neap_ssh_channel_tell. */
neap_ssh_channel *neap_ssh_channel_new(neap_loop *loop, neap_ssh_native *s, neap_ssh_channel_kind kind, const char *text, int port);
void neap_ssh_channels_pump(neap_ssh_native *s);
/* The session is lost: every channel is told. err NULL: it is freed, and no command is told of its end. */
void neap_ssh_channels_end(neap_ssh_native *s, const neap_err *err);
bool neap_ssh_channels_leave(neap_ssh_native *s);                             /* close what is open; true when nothing is left */
void neap_ssh_channel_tell(neap_ssh_channel *c, const neap_err *err);         /* end it from the loop, soon */
void neap_ssh_channel_drop(neap_ssh_channel *c);                              /* close it; its streams are closed too */
void neap_ssh_channel_release(neap_ssh_channel *c);                           /* one hold less */
neap_stream *neap_ssh_channel_lane(neap_ssh_channel *c, int n);               /* hand a stream out, once */
void neap_ssh_lane_init(neap_ssh_channel *c, int n, int source, bool writes);
/* The pump's part of a channel's streams: move what can be moved. False: the session failed. */
bool neap_ssh_lanes_move(neap_ssh_channel *c);
void neap_ssh_lanes_salvage(neap_ssh_channel *c);                             /* take what libssh2 still has, before it goes */
void neap_ssh_lanes_end(neap_ssh_channel *c, const neap_err *err);            /* answer what is pending; err NULL: the ordinary end */
void neap_ssh_lanes_no_writing(neap_ssh_channel *c);                          /* the far end takes nothing any more */
bool neap_ssh_lanes_have_left(const neap_ssh_channel *c);
void neap_ssh_lanes_late(neap_ssh_channel *c);                                /* give what was salvaged to who asks */

extern const neap_ssh_class neap_ssh_native_class;
void neap_ssh_native_free(neap_ssh *s);
neap_ssh_exec *neap_ssh_native_exec(neap_ssh *s, const char *command, neap_ssh_end_fn ended, void *arg);
neap_stream *neap_ssh_native_exec_stream(neap_ssh_exec *e, int n);
void neap_ssh_native_exec_free(neap_ssh_exec *e);
neap_dialer *neap_ssh_native_dial_tcp(neap_ssh *s, const char *host, int port);
neap_dialer *neap_ssh_native_dial_unix(neap_ssh *s, const char *path);
void neap_ssh_native_dialers_end(neap_ssh_native *s);                         /* they dial nowhere from now on */

#endif
