/* term_lua.c -- native.term: the screen and the keyboard.
 *
 * Promises: writing never waits and never raises (outlet.h); reading a line waits on the loop, can be cancelled,
 * and gives the terminal its settings back on every way out: the line came, the wait was stopped, the
 * state is closed, the process exits, a signal ends it, Ctrl-Z.
 *
 * The kernel edits the line (canonical mode): backspace, ^U and UTF-8 work as everywhere, and half a line never
 * reaches us. What was typed before the question is thrown away: nobody can have answered it yet.
 *
 * The settings to restore are in one static place, because a signal handler must find them; therefore one
 * question at a time.
 */
#include "bind/term_lua.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "bind/callback.h"
#include "drive/outlet.h"
#include "bind/secret_lua.h"
#include "bind/signal.h"
#include "guard/vault.h"
#include "loop/watch.h"
#include "script/function.h"
#include "script/raise.h"
#include "script/task.h"

#define OUTLETS_META "neap.outlets"

enum { LINE_MOST = 4096, LAST_WORDS_MS = 2000 };

/* ---- settings ---- */

static struct termios saved, asking;
static atomic_int asked_fd = -1;                    /* whose settings are changed; -1: none */
static struct sigaction before_stop;

void neap_term_restore(void) {
    int fd = atomic_exchange(&asked_fd, -1);
    if (fd >= 0) (void)tcsetattr(fd, TCSANOW, &saved);
}

/* Ctrl-Z: the shell gets its terminal back; after `fg` the question goes on as it was. */
static void on_stop_key(int number) {
    int error = errno, fd = atomic_load(&asked_fd);
    sigset_t one, old;
    if (fd >= 0) (void)tcsetattr(fd, TCSANOW, &saved);
    sigemptyset(&one);
    sigaddset(&one, number);
    struct sigaction ours, standard = {.sa_handler = SIG_DFL};
    sigaction(number, &standard, &ours);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &one, &old);      /* stops here */
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    sigaction(number, &ours, NULL);
    if (fd >= 0 && atomic_load(&asked_fd) == fd) (void)tcsetattr(fd, TCSANOW, &asking);
    errno = error;
}

static bool settings_take(int fd, bool mask) {
    static bool at_exit;
    if (tcgetattr(fd, &saved) != 0) return false;
    if (!at_exit) atexit(neap_term_restore);
    at_exit = true;
    asking = saved;
    asking.c_lflag |= ICANON | ISIG | ECHOE | ECHOK;
    asking.c_iflag |= ICRNL;
    if (mask) asking.c_lflag = (asking.c_lflag & ~(tcflag_t)ECHO) | ECHONL;
    else asking.c_lflag |= ECHO;
    struct sigaction stop = {.sa_handler = on_stop_key, .sa_flags = SA_RESTART};
    sigemptyset(&stop.sa_mask);
    sigaction(SIGTSTP, &stop, &before_stop);
    atomic_store(&asked_fd, fd);
    return tcsetattr(fd, TCSAFLUSH, &asking) == 0;
}

static void settings_give_back(void) {
    if (atomic_load(&asked_fd) < 0) return;
    (void)tcflush(atomic_load(&asked_fd), TCIFLUSH);          /* half a line typed is nobody's answer */
    neap_term_restore();
    sigaction(SIGTSTP, &before_stop, NULL);
}

/* ---- asking ---- */

typedef struct ask_op {
    neap_op     op;
    int         fd;
    neap_watch *watch;
    char       *line;               /* in the vault: it may be a password */
    size_t      len;
    char       *label;              /* the answer becomes a secret of this name */
    bool        mask, ended;
} ask_op;

static bool is_asking;

static void ask_end(ask_op *a) {
    neap_watch_free(a->watch);
    a->watch = NULL;
    if (a->fd < 0) return;
    settings_give_back();
    close(a->fd);
    a->fd = -1;
    is_asking = false;
}

static void on_keys(void *arg, int events) {
    ask_op *a = arg;
    (void)events;
    ssize_t n = read(a->fd, a->line + a->len, LINE_MOST - a->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) a->len += (size_t)n;
    bool whole = a->len && a->line[a->len - 1] == '\n';
    if (n > 0 && !whole && a->len < LINE_MOST) return;        /* ^D in the middle of a line */
    a->ended = !whole;
    if (whole) a->len--;
    ask_end(a);
    neap_op_finish(&a->op);
}

static void ask_cancel(neap_op *op, bool force) {
    ask_op *a = (ask_op *)op;
    (void)force;
    if (a->mask && a->fd >= 0 && write(a->fd, "\n", 1) < 0) { /* the terminal is gone; nothing to tidy */ }
    ask_end(a);
    neap_op_finish(op);
}

static int ask_deliver(lua_State *L, neap_op *op) {
    ask_op *a = (ask_op *)op;
    neap_err err = NEAP_ERR_INIT;
    if (a->ended) {
        neap_err_set(&err, NEAP_E_CLOSED, "the terminal was closed instead of an answer");
        return neap_fail(L, &err);
    }
    if (a->label) return neap_push_secret(L, a->label, a->line, a->len, &err) ? 1 : neap_fail(L, &err);
    lua_pushlstring(L, a->line, a->len);
    return 1;
}

static void ask_drop(neap_op *op) {
    ask_op *a = (ask_op *)op;
    ask_end(a);
    neap_vault_free(a->line);
    free(a->label);
}

static const neap_op_class ask_class = {"an answer", ask_cancel, ask_deliver, ask_drop};

/* A descriptor of our own for the terminal: non-blocking without changing the shell's. -1: there is none. */
static int open_terminal(void) {
    const char *path = isatty(STDIN_FILENO) ? "/proc/self/fd/0" : "/dev/tty";
    int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) fd = open("/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd;
}

/* Nobody could answer: say so without waiting. */
static int fail_ask(lua_State *L, neap_code code, const char *message, const char *hint) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, code, "%s", message);
    neap_err_hint(&err, "%s", hint);
    return neap_fail(L, &err);
}

/* The whole prompt; a terminal that does not take it within a moment would not take keys either. */
static void show_prompt(int fd, const char *text, size_t len) {
    while (len) {
        ssize_t n = write(fd, text, len);
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (n < 0 && (errno != EAGAIN || poll(&p, 1, 100) != 1)) return;
        if (n > 0) text += n, len -= (size_t)n;
    }
}

/* read_line(prompt, {mask=, secret=label}) -> text | secret | nil, err (waits). The prompt must have been escaped. Effect: pure. */
static int term_read_line(lua_State *L) {
    size_t len;
    const char *prompt = luaL_checklstring(L, 1, &len), *label = NULL;
    bool mask = false;
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "secret");
        label = luaL_optstring(L, -1, NULL);
        lua_getfield(L, 2, "mask");
        mask = label || lua_toboolean(L, -1);
    }
    if (is_asking) return fail_ask(L, NEAP_E_BUSY, "another question is being asked", "Ask one after the other.");
    ask_op *a = (ask_op *)neap_op_new(L, sizeof *a, &ask_class);
    a->fd = -1;
    a->label = label ? neap_strdup(label) : NULL;
    a->mask = mask;
    a->line = neap_vault_alloc(LINE_MOST);
    int fd = open_terminal();
    if (fd < 0 || !settings_take(fd, mask)) {
        if (fd >= 0) close(fd);
        neap_term_restore();
        return fail_ask(L, NEAP_E_CLOSED, "there is no terminal to ask on", "Give the answer on the command line, or run it where somebody can answer.");
    }
    a->fd = fd;
    is_asking = true;
    show_prompt(fd, prompt, len);
    a->watch = neap_watch_new(neap_host_of(L)->loop, fd, NEAP_WATCH_READ, on_keys, a);
    return neap_await(L, &a->op);
}

/* ---- the screen ---- */

typedef struct outlets { neap_outlet *of[3]; } outlets;

static lua_State *resize_state;
static int resize_ref = LUA_NOREF;

static int outlets_gc(lua_State *L) {
    outlets *o = lua_touserdata(L, 1);
    for (int fd = 1; fd <= 2; fd++) {
        neap_outlet_free(o->of[fd], LAST_WORDS_MS);
        o->of[fd] = NULL;
    }
    if (resize_state == neap_callback_main(L)) (void)neap_signal_on_resize(NULL, NULL, NULL);
    return 0;
}

static neap_outlet *outlet_of(lua_State *L, int fd) {
    outlets *o = lua_touserdata(L, lua_upvalueindex(1));
    if (!o->of[fd]) o->of[fd] = neap_outlet_new(neap_host_of(L)->loop, fd);
    return o->of[fd];
}

static int check_output(lua_State *L, int index) {
    lua_Integer fd = luaL_checkinteger(L, index);
    luaL_argcheck(L, fd == 1 || fd == 2, index, "1 or 2 is needed");
    return (int)fd;
}

/* write(fd, text) -> true | nil, err: now or when there is room; {closed} when nobody reads any more. Effect: pure. */
static int term_write(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    size_t len;
    int fd = check_output(L, 1);
    const char *text = luaL_checklstring(L, 2, &len);
    if (!neap_outlet_write(outlet_of(L, fd), text, len, &err)) return neap_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

typedef struct flush_op { neap_op op; neap_outlet *outlet; } flush_op;

static void on_flushed(void *arg) {
    flush_op *f = arg;
    f->outlet = NULL;
    neap_op_finish(&f->op);
}

static void flush_drop(neap_op *op) {
    flush_op *f = (flush_op *)op;
    if (f->outlet) neap_outlet_on_empty(f->outlet, NULL, NULL);
    f->outlet = NULL;
}

static void flush_cancel(neap_op *op, bool force) {
    (void)force;
    flush_drop(op);
    neap_op_finish(op);
}

static int flush_deliver(lua_State *L, neap_op *op) {
    (void)op;
    lua_pushboolean(L, 1);
    return 1;
}

static const neap_op_class flush_class = {"a slow reader of our output", flush_cancel, flush_deliver, flush_drop};

/* flush(fd) -> true (waits) when everything written has gone out, or nobody reads it any more. One waiter per descriptor.
 * Effect: pure. */
static int term_flush(lua_State *L) {
    neap_outlet *o = outlet_of(L, check_output(L, 1));
    flush_op *f = (flush_op *)neap_op_new(L, sizeof *f, &flush_class);
    if (neap_outlet_is_empty(o)) {
        neap_op_finish(&f->op);
    } else {
        f->outlet = o;
        neap_outlet_on_empty(o, on_flushed, f);
    }
    return neap_await(L, &f->op);
}

/* is_tty(fd) -> boolean. Effect: pure. */
static int term_is_tty(lua_State *L) {
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* size() -> columns, rows: of the screen, 80 by 24 where there is none. Effect: pure. */
static int term_size(lua_State *L) {
    struct winsize size = {0};
    for (int fd = 1; fd >= 0 && !size.ws_col; fd--)
        if (ioctl(fd, TIOCGWINSZ, &size) != 0) size.ws_col = 0;
    lua_pushinteger(L, size.ws_col ? size.ws_col : 80);
    lua_pushinteger(L, size.ws_row ? size.ws_row : 24);
    return 2;
}

static void on_resized(int number, int count) {
    (void)number, (void)count;
    lua_rawgeti(resize_state, LUA_REGISTRYINDEX, resize_ref);
    neap_callback_call(resize_state, 0);
}

/* on_resize(fn | nil) -> true | nil, err. fn may not wait. Effect: pure. */
static int term_on_resize(lua_State *L) {
    neap_err err = NEAP_ERR_INIT;
    bool on = !lua_isnoneornil(L, 1);
    if (on) luaL_checktype(L, 1, LUA_TFUNCTION);
    int before = resize_ref;
    lua_settop(L, 1);
    resize_ref = on ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
    resize_state = neap_callback_main(L);
    luaL_unref(L, LUA_REGISTRYINDEX, before);
    if (!neap_signal_on_resize(neap_host_of(L)->loop, on ? on_resized : NULL, &err)) return neap_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg module[] = {
    {"is_tty", term_is_tty}, {"size", term_size}, {"write", term_write}, {"flush", term_flush},
    {"read_line", term_read_line}, {"on_resize", term_on_resize}, {NULL, NULL}};

int neap_open_term(lua_State *L) {
    lua_newtable(L);
    outlets *o = lua_newuserdatauv(L, sizeof *o, 0);
    memset(o, 0, sizeof *o);
    if (luaL_newmetatable(L, OUTLETS_META)) {
        neap_function_push(L, "outlets:__gc", outlets_gc, 0);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    neap_function_set(L, "native.term.", module, 1);    /* every function shares the outlets */
    return 1;
}
