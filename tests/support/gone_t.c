/* gone_t.c -- who is told something lets go of what tells him: of a stream from within what its stop sets off, of an exec, a dial, a connection.
 * A host of fake streams stands in for SSH, because in a real one two things would have to happen in one turn. What is touched
 * afterwards the sanitizer sees; what is told twice, too late or never, the counts say. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drive/docker_exec_private.h"
#include "drive/pg.h"
#include "drive/remote_file_talk.h"
#include "drive/ssh_link.h"
#include "guard/writer.h"
#include "loop/net.h"
#include "testlib.h"

enum { TURNS = 20000, CANCELLED = 100 };

/* A stream of the test's: what is written to it is done at once, unless it holds. --------------------- */

typedef struct end {
    neap_stream stream;            /* first */
    neap_stream_read_fn got;
    neap_stream_done_fn done;
    void *got_arg, *done_arg;
    bool holds, over, freed;
    int shuts;
} end;

static void end_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    end *e = (end *)s;
    (void)most;
    if (e->over) { got(arg, NULL, 0, NULL); return; }
    e->got = got, e->got_arg = arg;
}

static void take(end *e, neap_stream_done_fn done, void *arg) {
    if (!e->holds) { done(arg, NULL); return; }
    e->done = done, e->done_arg = arg;
}

static void end_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    (void)data, (void)len;
    take((end *)s, done, arg);
}

static void end_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    ((end *)s)->shuts++;
    take((end *)s, done, arg);
}

static void end_give(end *e, const char *data, ssize_t len, const neap_err *err) {
    neap_stream_read_fn got = e->got;
    e->got = NULL;
    if (got) got(e->got_arg, data, len, err);
}

static void end_took(end *e, const neap_err *err) {
    neap_stream_done_fn done = e->done;
    e->done = NULL;
    if (done) done(e->done_arg, err);
}

static void end_stop(neap_stream *s) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CANCELLED, "stopped");
    end_give((end *)s, NULL, -1, &err);
    end_took((end *)s, &err);
    neap_err_close(&err);
}

static void end_free(neap_stream *s) {
    end_stop(s);
    ((end *)s)->freed = true;
}

static const neap_stream_class end_class = {"fake", end_read, end_write, end_shut, end_stop, end_free};

/* Who is told ----------------------------------------------------------------------------------------- */

/* Frees its stream at the first word, and counts. */
typedef struct owner { neap_stream *stream; int reads, writes, late; bool let_go; } owner;

static void let_go(owner *o) {
    neap_stream *s = o->stream;
    if (!s) { o->late += o->let_go; return; }
    o->stream = NULL;
    neap_stream_free(s);
    o->let_go = true;
}

static void on_read(void *arg, const char *data, ssize_t len, const neap_err *err) {
    owner *o = arg;
    (void)data, (void)len, (void)err;
    o->reads++;
    let_go(o);
}

static void on_done(void *arg, const neap_err *err) {
    owner *o = arg;
    (void)err;
    o->writes++;
    let_go(o);
}

static bool turn(neap_loop *loop) { return neap_loop_handles(loop) && neap_loop_turn(loop, true); }

static int finish(lua_State *L, neap_loop *loop, const owner *o) {
    for (int i = 0; i < TURNS && turn(loop); i++) {}
    if (neap_loop_close(loop)) return luaL_error(L, "a handle was left in the loop");
    if (o->late) return luaL_error(L, "it was told %d times after it had let go", o->late);
    lua_pushinteger(L, o->reads);
    lua_pushinteger(L, o->writes);
    return 2;
}

static int stop_both(lua_State *L, neap_loop *loop, neap_stream *s) {
    owner o = {.stream = s};
    neap_stream_read(s, 10, on_read, &o);
    neap_stream_write(s, "x", 1, on_done, &o);
    if (!o.let_go) neap_stream_stop(s);
    return finish(L, loop, &o);
}

/* T.gone_file(path) -> reads, writes told: a file whose reader frees it when it is stopped, while it is written too */
static int gone_file(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    return stop_both(L, loop, neap_stream_of_file(loop, open(luaL_checkstring(L, 1), O_RDWR | O_CREAT | O_CLOEXEC, 0600)));
}

/* A fake host ------------------------------------------------------------------------------------------ */

typedef struct host {
    neap_ssh ssh;                  /* first */
    neap_ssh_exec exec;
    end ends[3];
    char nonce[NEAP_REMOTE_NONCE_SIZE];
    neap_ssh_opened_fn opened;
    void *opened_arg;
    int opens;
} host;

static host *the_host;             /* of the test that runs */

static const neap_ssh_card *host_card(neap_ssh *s) {
    static const neap_ssh_card card = {.backend = "fake", .fingerprint = "SHA256:x"};
    (void)s;
    return &card;
}

static void host_on_lost(neap_ssh *s, neap_ssh_lost_fn fn, void *arg) { (void)s, (void)fn, (void)arg; }

static neap_ssh_exec *host_exec(neap_ssh *s, const char *command, neap_ssh_end_fn ended, void *arg) {
    host *h = (host *)s;
    const char *nonce = strstr(command, "' neap ");
    (void)ended, (void)arg;
    if (nonce) snprintf(h->nonce, sizeof h->nonce, "%s", nonce + 7);
    for (int n = 0; n < 3; n++) h->ends[n] = (end){.stream = {&end_class}};
    h->exec.class = s->class;
    return &h->exec;
}

static neap_stream *host_stream(neap_ssh_exec *e, int n) { (void)e; return &the_host->ends[n].stream; }
static void host_exec_free(neap_ssh_exec *e) { (void)e; }
static void host_free(neap_ssh *s) { (void)s; }

static const neap_ssh_class host_class = {"fake", host_card, host_on_lost, host_exec, host_stream, host_exec_free, NULL, NULL, host_free};

static neap_ssh *host_open(neap_loop *loop, const neap_ssh_host *of, neap_ssh_opened_fn opened, void *arg) {
    (void)of;
    the_host->ssh = (neap_ssh){&host_class, loop};
    the_host->opened = opened, the_host->opened_arg = arg;
    the_host->opens++;
    return &the_host->ssh;
}

static neap_ssh_link *link_to(host *h, neap_loop *loop) {
    static const neap_ssh_backends fake = {host_open, NULL};
    neap_ssh_host *of = neap_zalloc(sizeof *of);
    of->name = neap_strdup("fake"), of->hostname = neap_strdup("fake"), of->user = neap_strdup("me");
    *h = (host){0};
    the_host = h;
    return neap_ssh_link_new(loop, of, &fake);
}

/* It is open, and its command exists. */
static void begin(host *h, neap_loop *loop) {
    char word[80];
    h->opened(h->opened_arg, NULL);
    while (!*h->nonce) neap_loop_turn(loop, true);
    int len = snprintf(word, sizeof word, "\036%s b\n", h->nonce);
    if (h->ends[1].got) end_give(&h->ends[1], word, len, NULL);
    len = snprintf(word, sizeof word, "\036%s s 123 456\n", h->nonce);
    end_give(&h->ends[2], word, len, NULL);
}

/* The docker program as a stream ----------------------------------------------------------------------- */

static void on_dialed(void *arg, neap_stream *stream, const neap_err *err) {
    (void)err;
    *(neap_stream **)arg = stream;
}

static neap_stream *dial(host *h, neap_loop *loop, neap_ssh_link *link) {
    neap_stream *stream = NULL;
    neap_dialer *d = neap_ssh_link_dial_docker(link, NULL);
    neap_dial(d, on_dialed, &stream);
    begin(h, loop);
    neap_dialer_release(d);
    neap_ssh_link_release(link);
    h->ends[0].holds = true;
    return stream;
}

/* T.gone_talk() -> reads, writes told: freed by its writer when it is stopped */
static int gone_talk(lua_State *L) {
    host h;
    neap_loop *loop = neap_loop_new();
    neap_stream *s = dial(&h, loop, link_to(&h, loop));
    if (!s) return luaL_error(L, "no stream");
    return stop_both(L, loop, s);
}

/* T.gone_mute() -> reads, writes told: its output ended without a byte, and why is not told yet */
static int gone_mute(lua_State *L) {
    host h;
    neap_loop *loop = neap_loop_new();
    neap_stream *s = dial(&h, loop, link_to(&h, loop));
    owner o = {.stream = s};
    neap_stream_read(s, 10, on_read, &o);
    end_give(&h.ends[1], NULL, 0, NULL);
    if (!o.let_go) neap_stream_stop(s);
    let_go(&o);
    o.late = 0;
    return finish(L, loop, &o);
}

/* A file of the host ------------------------------------------------------------------------------------- */

static void on_line(void *arg, const char *line, const neap_err *err) {
    (void)err;
    *(int *)arg += line ? 1 : CANCELLED;
}

/* T.gone_far() -> reads, writes told: a file of a host that is written, freed by its writer when it is stopped */
static int gone_far(lua_State *L) {
    host h;
    int lines = 0;
    neap_loop *loop = neap_loop_new();
    neap_ssh_link *link = link_to(&h, loop);
    neap_far_request r = {.verb = NEAP_FAR_RECEIVE, .args = {"/x"}, .doing = "write"};
    neap_stream *s = neap_far_open(link, &r, on_line, &lines);
    begin(&h, loop);
    for (const char *c = "7:8 ,\n"; *c; c++) end_give(&h.ends[1], c, 1, NULL);
    if (lines != 1) return luaL_error(L, "it was not opened: %d", lines);
    neap_ssh_link_release(link);
    h.ends[0].holds = true;
    owner o = {.stream = s};
    neap_stream_write(s, "x", 1, on_done, &o);
    neap_stream_stop(s);
    return finish(L, loop, &o);
}

/* stderr of a command ---------------------------------------------------------------------------------- */

static void on_remote_end(void *arg, const neap_remote_end *e, const neap_err *err) { (void)e, (void)err, ++*(int *)arg; }

/* Frees it at its second piece: the one that comes when room is made for the end. */
static void on_error_bytes(void *arg, const char *data, ssize_t len, const neap_err *err) {
    owner *o = arg;
    (void)data, (void)err;
    if (len > 0 && ++o->reads < 2) neap_stream_read(o->stream, 64 * 1024, on_error_bytes, o);
    else let_go(o);
}

/* T.gone_errors() -> pieces read, 0: who reads slowly a stderr that has ended meanwhile, and frees it */
static int gone_errors(lua_State *L) {
    static const neap_remote_events events = {.on_ended = on_remote_end};
    static const neap_remote_names names = {.place = "fake", .program = "x"};
    static char big[512 * 1024];
    host h;
    int ended = 0;
    neap_loop *loop = neap_loop_new();
    neap_ssh_link_release(link_to(&h, loop));
    neap_ssh *ssh = host_open(loop, NULL, NULL, NULL);
    const char *argv[] = {"x", NULL};
    neap_remote_command command = {.argv = argv};
    neap_remote_text text;
    neap_remote_attached(&text, &command, false);
    neap_remote *r = neap_remote_new(ssh, &text, false, &names, &events, &ended);
    owner o = {.stream = neap_remote_stream(r, 2)};
    memset(big, 'x', sizeof big);
    big[snprintf(big, sizeof big, "\036%s b\n", h.nonce)] = 'x';
    end_give(&h.ends[2], big, 320 * 1024, NULL);
    if (h.ends[2].got) return luaL_error(L, "it is read although nobody takes it");
    h.ends[2].over = true;
    neap_stream_read(o.stream, 64 * 1024, on_error_bytes, &o);
    for (int i = 0; i < TURNS && !o.let_go && turn(loop); i++) {}
    neap_remote_free(r);
    return finish(L, loop, &o);
}

/* The link ------------------------------------------------------------------------------------------------ */

typedef struct waiter { neap_ssh_link *link; char why[100]; bool again; } waiter;

static void on_link(void *arg, neap_ssh *ssh, const neap_err *err) {
    waiter *w = arg;
    (void)ssh;
    if (w->again) {
        w->again = false;
        neap_ssh_link_open(w->link, on_link, w);
    }
    snprintf(w->why, sizeof w->why, "%s", err && err->message ? err->message : "");
}

/* T.gone_link() -> what two waiters were told of one failure; the first opens the link again when he hears it */
static int gone_link(lua_State *L) {
    host h;
    neap_err err = NEAP_ERR_INIT;
    neap_loop *loop = neap_loop_new();
    neap_ssh_link *link = link_to(&h, loop);
    waiter first = {link, "", true}, second = {link, "", false};
    neap_ssh_link_open(link, on_link, &first);
    neap_ssh_link_open(link, on_link, &second);
    neap_err_set(&err, NEAP_E_AUTH, "it lets nobody in");
    h.opened(h.opened_arg, &err);
    neap_err_close(&err);
    for (int i = 0; i < TURNS && h.opens < 2; i++) neap_loop_turn(loop, true);
    lua_pushstring(L, first.why);
    lua_pushstring(L, second.why);
    neap_ssh_link_release(link);
    owner none = {0};
    finish(L, loop, &none);
    lua_pop(L, 2);
    return 2;
}

/* A command in a container ----------------------------------------------------------------------------- */

typedef struct container { neap_docker_exec *exec; end wire; int status, ends; neap_code code; owner input; } container;

static void on_exec_end(void *arg, int status, const neap_err *err) {
    container *c = arg;
    c->status = status;
    c->code = err ? err->code : NEAP_OK;
    c->ends++;
}

/* An exec that is held, over a wire of the test's; its input is handed out. */
static void hold_exec(container *c, neap_loop *loop) {
    static const neap_docker_exec_events events = {.ended = on_exec_end};
    neap_dialer *d = neap_dialer_unix(loop, "/nowhere");
    neap_docker *engine = neap_docker_new(d);
    neap_dialer_release(d);
    *c = (container){.exec = neap_zalloc(sizeof(neap_docker_exec)), .wire = {.stream = {&end_class}, .holds = true}};
    *c->exec = (neap_docker_exec){.engine = engine, .events = events, .arg = c, .holds = 1, .status = -1, .state = HELD, .told = 2,
                                  .lost = NEAP_ERR_INIT, .failure = NEAP_ERR_INIT, .wire = &c->wire.stream};
    neap_exec_open_streams(c->exec);
    c->input.stream = neap_docker_exec_stream(c->exec, 0);
}

/* T.gone_exec_early() -> 0, writes told: what was written before the command reads, when its connection is given up */
static int gone_exec_early(lua_State *L) {
    container c;
    neap_loop *loop = neap_loop_new();
    hold_exec(&c, loop);
    neap_docker_exec_release(c.exec, true);
    neap_stream_write(c.input.stream, "x", 1, on_done, &c.input);
    neap_docker_exec_free(c.exec);
    neap_stream_free(c.input.stream);
    return finish(L, loop, &c.input);
}

/* T.gone_exec_input() -> how often the connection was half-closed: its input was freed before the command read from it */
static int gone_exec_input(lua_State *L) {
    container c;
    neap_loop *loop = neap_loop_new();
    hold_exec(&c, loop);
    neap_docker_exec_release(c.exec, true);
    neap_stream_free(c.input.stream);
    end_took(&c.wire, NULL);
    lua_pushinteger(L, c.wire.shuts);
    neap_docker_exec_free(c.exec);
    finish(L, loop, &c.input);
    lua_pop(L, 2);
    return 1;
}

/* T.gone_exec_held() -> status, code, ends told: let go when its connection has ended already */
static int gone_exec_held(lua_State *L) {
    container c;
    neap_loop *loop = neap_loop_new();
    hold_exec(&c, loop);
    c.exec->state = ASKING;
    neap_exec_close_wire(c.exec);
    neap_docker_exec_release(c.exec, true);
    neap_exec_finish(c.exec, 125, NULL);
    neap_stream_free(c.input.stream);
    neap_docker_exec_free(c.exec);
    lua_pushinteger(L, c.status);
    lua_pushstring(L, neap_code_name(c.code));
    lua_pushinteger(L, c.ends);
    finish(L, loop, &c.input);
    lua_pop(L, 2);
    return 3;
}

/* The connection to a database -------------------------------------------------------------------------- */

typedef struct session { neap_pg *pg; int told; } session;

static void on_copy(void *arg, neap_stream *stream, const neap_err *err) {
    session *s = arg;
    (void)stream;
    s->told += err != NULL;
    neap_pg_free(s->pg);
}

/* T.gone_copy() -> how often it was told: a COPY over a dead connection, which is freed when that is heard */
static int gone_copy(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    session s = {.pg = neap_pg_new(loop)};
    owner none = {0};
    neap_pg_kill(s.pg, NEAP_E_CLOSED, "gone");
    neap_pg_copy(s.pg, "COPY t TO STDOUT", on_copy, &s);
    finish(L, loop, &none);
    lua_pushinteger(L, s.told);
    return 1;
}

/* The journal ------------------------------------------------------------------------------------------- */

typedef struct book { neap_writer *writer; int sealed; } book;

static void on_sealed(void *arg, const neap_err *err) {
    book *b = arg;
    b->sealed += err ? CANCELLED : 1;
}

static void on_flushed(void *arg, const neap_err *err) {
    (void)err;
    neap_writer_seal(((book *)arg)->writer, "ok", on_sealed, arg);
}

/* T.gone_seal(state) -> how often it was told: a journal that is sealed by who hears that a record is durable */
static int gone_seal(lua_State *L) {
    neap_loop *loop = neap_loop_new();
    neap_err err = NEAP_ERR_INIT;
    owner none = {0};
    neap_journal *journal = neap_journal_create(luaL_checkstring(L, 1), "r1", &err);
    if (!journal) return luaL_error(L, "%s", err.message);
    book b = {.writer = neap_writer_new(loop, journal, NULL, NULL)};
    neap_writer_append(b.writer, "note", NULL, "{}");
    neap_writer_flush(b.writer, on_flushed, &b);
    for (int i = 0; i < 100 && !b.sealed; i++) neap_loop_turn(loop, true);
    for (int i = 0; i < 10; i++) neap_loop_turn(loop, false), usleep(10000);
    neap_writer_free(b.writer);
    finish(L, loop, &none);
    lua_pushinteger(L, b.sealed);
    return 1;
}

static const luaL_Reg gone[] = {{"gone_file", gone_file}, {"gone_talk", gone_talk}, {"gone_mute", gone_mute}, {"gone_far", gone_far},
                                {"gone_errors", gone_errors}, {"gone_link", gone_link}, {"gone_exec_early", gone_exec_early},
                                {"gone_exec_input", gone_exec_input}, {"gone_exec_held", gone_exec_held}, {"gone_copy", gone_copy},
                                {"gone_seal", gone_seal}, {NULL, NULL}};
NEAP_TEST_LIBRARY(gone)
