/* child.c -- a child process, its group and its end.
 *
 *     RUNNING --exit callback--> GONE --free--> memory freed after libuv's close callback
 *        | end: TERM (and CONT) to the group, timer --grace--> KILL to the group
 *        | free: KILL to the group, nobody listens any more
 *
 * What it promises
 *   - The child leads a session of its own, so one signal reaches everything it started; what left the group by
 *     starting another session is not reached, and has_left tells of what stayed and outlived its leader.
 *   - Its environment is exactly the one given. Its descriptors are three: pipes of ours or /dev/null.
 *   - libuv alone waits for children, and the handle is closed in the exit callback, never before: otherwise
 *     the child would stay a zombie until we end.
 *   - The program is looked up here, in the parent, so that "no such program" is a sentence and not the
 *     exit code of a half-made child.
 *
 * Standard streams are pipes, not the socket pairs libuv would make: a shell that opens /dev/stderr fails on
 * a socket. Once the leader of an ended group has gone, the rest is killed at once: the number of the group is
 * only certain to be ours in that moment. When we are process 1, members of the group that died later are
 * collected here as well, by group, never by "any child".
 */
#include "loop/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "loop/timer.h"

struct neap_child {
    uv_process_t uv;
    neap_loop *loop;
    int pid;
    bool exited, closed, freed, ending, left;
    neap_timer *grace;
    neap_stream *streams[3];
    neap_child_exit_fn on_exit;
    void *arg;
};

/* Finding the program ---------------------------------------------------------------------- */

static const char *path_of(const char *const *env) {
    for (; env && *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0 && (*env)[5]) return *env + 5;
    const char *ours = getenv("PATH");
    return ours && *ours ? ours : "/usr/local/bin:/usr/bin:/bin";
}

static bool is_program(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Relative entries of PATH are passed over: what they mean depends on where somebody stands. */
static bool find_program(neap_buf *out, const char *name, const char *path) {
    if (strchr(name, '/')) { neap_buf_adds(out, name); return true; }
    for (const char *at = path; at; ) {
        const char *end = strchr(at, ':');
        size_t len = end ? (size_t)(end - at) : strlen(at);
        neap_buf_clear(out);
        neap_buf_add(out, at, len);
        neap_buf_addf(out, "/%s", name);
        if (len && at[0] == '/' && is_program(out->data)) return true;
        at = end ? end + 1 : NULL;
    }
    return false;
}

static bool check_place(const neap_child_options *o, neap_buf *program, neap_err *err) {
    if (!o->argv || !o->argv[0] || !o->argv[0][0]) return neap_err_set(err, NEAP_E_USAGE, "no program is named");
    const char *path = path_of(o->env);
    if (!find_program(program, o->argv[0], path)) {
        neap_err_set(err, NEAP_E_REMOTE, "there is no program \"%s\"", o->argv[0]);
        return neap_err_hint(err, "It was looked for in PATH=%s.", path);
    }
    struct stat st;
    if (o->cwd && (stat(o->cwd, &st) != 0 || !S_ISDIR(st.st_mode)))
        return neap_err_set(err, NEAP_E_REMOTE, "there is no directory \"%s\" to run \"%s\" in", o->cwd, o->argv[0]);
    return true;
}

/* Pipes ------------------------------------------------------------------------------------ */

typedef struct ends { int ours[3], theirs[3]; } ends;

static void close_all(int fds[3]) {
    for (int n = 0; n < 3; n++) if (fds[n] >= 0) close(fds[n]);
}

static bool open_pipes(ends *e, int wanted, neap_err *err) {
    for (int n = 0; n < 3; n++) e->ours[n] = e->theirs[n] = -1;
    for (int n = 0; n < 3; n++) {
        int pair[2];
        if (!(wanted & 1 << n)) continue;
        if (pipe2(pair, O_CLOEXEC) < 0) {
            neap_loop_fail(err, -errno, "cannot make a pipe");
            close_all(e->ours);
            close_all(e->theirs);
            return false;
        }
        e->ours[n] = pair[n == 0];                   /* their stdin is read by them, so the write end is ours */
        e->theirs[n] = pair[n != 0];
    }
    return true;
}

/* The end ---------------------------------------------------------------------------------- */

static void destroy(neap_child *c) {
    for (int n = 0; n < 3; n++) neap_stream_free(c->streams[n]);
    free(c);
}

static void on_closed(uv_handle_t *uv) {
    neap_child *c = (neap_child *)((char *)uv - offsetof(neap_child, uv));
    c->closed = true;
    if (c->freed) destroy(c);
}

static void signal_group(const neap_child *c, int number) { kill(-c->pid, number); }

static void settle_group(neap_child *c) {
    c->left = kill(-c->pid, 0) == 0;
    if (c->left && (c->ending || c->freed)) signal_group(c, SIGKILL);
    if (getpid() == 1) while (waitpid(-c->pid, NULL, WNOHANG) > 0) ;
}

static void on_exited(uv_process_t *uv, int64_t status, int number) {
    neap_child *c = uv->data;
    if (!c) { uv_close((uv_handle_t *)uv, NULL); return; }
    c->exited = true;
    neap_timer_free(c->grace);
    c->grace = NULL;
    settle_group(c);
    uv_close((uv_handle_t *)uv, on_closed);
    if (!c->freed && c->on_exit) c->on_exit(c->arg, number ? -1 : (int)status, number);
}

static void on_grace(void *arg) { signal_group(arg, SIGKILL); }

void neap_child_end(neap_child *c, int64_t grace_ms) {
    if (c->exited) return;
    c->ending = true;
    if (grace_ms <= 0) { signal_group(c, SIGKILL); return; }
    signal_group(c, SIGTERM);
    signal_group(c, SIGCONT);                        /* a stopped process would not notice */
    if (!c->grace) c->grace = neap_timer_new(c->loop, on_grace, c);
    neap_timer_start(c->grace, grace_ms);
}

void neap_child_free(neap_child *c) {
    if (!c) return;
    c->freed = true;
    if (!c->exited) signal_group(c, SIGKILL);
    else if (c->closed) destroy(c);
}

/* The beginning ---------------------------------------------------------------------------- */

static int spawn(neap_child *c, const neap_child_options *o, const char *program, const ends *e) {
    uv_stdio_container_t stdio[3];
    for (int n = 0; n < 3; n++) {
        stdio[n].flags = e->theirs[n] >= 0 ? UV_INHERIT_FD : UV_IGNORE;
        stdio[n].data.fd = e->theirs[n];
    }
    uv_process_options_t options = {
        .exit_cb = on_exited, .file = program, .args = (char **)o->argv, .env = (char **)o->env, .cwd = o->cwd,
        .flags = UV_PROCESS_DETACHED, .stdio_count = 3, .stdio = stdio,
    };
    return uv_spawn(neap_loop_uv(c->loop), &c->uv, &options);
}

static void abandon(neap_child *c) {
    c->freed = true;
    uv_close((uv_handle_t *)&c->uv, on_closed);
}

neap_child *neap_child_new(neap_loop *loop, const neap_child_options *o, neap_child_exit_fn on_exit, void *arg, neap_err *err) {
    neap_buf program = NEAP_BUF_INIT;
    neap_child *c = NULL;
    ends e;
    if (!check_place(o, &program, err) || !open_pipes(&e, o->pipes, err)) goto out;
    c = neap_zalloc(sizeof *c);
    c->loop = loop;
    c->on_exit = on_exit;
    c->arg = arg;
    int result = spawn(c, o, program.data, &e);
    c->uv.data = c;
    close_all(e.theirs);
    if (result < 0) {
        neap_loop_fail(err, result, "cannot start \"%s\"", o->argv[0]);
        close_all(e.ours);
        abandon(c);
        c = NULL;
        goto out;
    }
    c->pid = uv_process_get_pid(&c->uv);
    for (int n = 0; n < 3; n++)
        if (e.ours[n] >= 0) c->streams[n] = neap_stream_of_fd(loop, e.ours[n]);
out:
    neap_buf_close(&program);
    return c;
}

/* Questions -------------------------------------------------------------------------------- */

neap_stream *neap_child_stream(neap_child *c, int n) {
    neap_stream *s = c->streams[n];
    c->streams[n] = NULL;
    return s;
}

int neap_child_pid(const neap_child *c) { return c->pid; }

neap_loop *neap_child_loop(const neap_child *c) { return c->loop; }

bool neap_child_has_left(const neap_child *c) { return c->left; }

/* The second field is the program's name in brackets and may hold anything, so counting begins behind the last
 * bracket. A zombie is gone: it does nothing any more. */
int64_t neap_child_started(int pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    text[len > 0 ? len : 0] = 0;
    char *at = strrchr(text, ')');
    if (!at || !at[1] || strchr("ZXx", at[2])) return 0;
    for (int field = 2; field < 22 && at; field++) at = strchr(at + 1, ' ');
    return at ? strtoll(at, NULL, 10) : 0;
}
