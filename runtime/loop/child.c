/* child.c -- a child process, its group and its end.
 *
 *     HELD --release--> RUNNING --SIGCHLD, waitpid--> GONE --free--> memory freed after libuv's close callback
 *        | we die: it ends   | end: TERM (and CONT) to the group, timer --grace--> KILL to the group
 *        | free: KILL to the group, nobody listens any more
 *
 * What it promises
 *   - The child leads a session of its own, so one signal reaches everything it started; what left the group by
 *     starting another session is not reached.
 *   - Its environment is exactly the one given. Its descriptors are three: pipes of ours or /dev/null.
 *   - A held child waits, forked, for one byte from us before it becomes its program. So its pid can be made durable while nothing
 *     has happened yet, and when we are killed first it sees the end of the pipe and goes. (uv_spawn cannot stop there, hence the
 *     fork of our own. Rejected: a shell in between, which loses names of the environment that are no words, and starting first
 *     and recording after, which leaves a moment in which a kill -9 leaves a child that nobody knows.)
 *   - Each child is waited for by its pid, on SIGCHLD, until it was reaped: otherwise it would stay a zombie until we end.
 *   - The program is looked up here, in the parent, so that "no such program" is a sentence and not the
 *     exit code of a half-made child.
 *
 * Standard streams are pipes, not the socket pairs libuv would make: a shell that opens /dev/stderr fails on
 * a socket. Once the leader of an ended group has gone, the rest is killed at once: the number of the group is
 * only certain to be ours in that moment. When we are process 1, members of the group that died later are
 * collected here as well, by group, never by "any child".
 */
#include "loop/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "loop/timer.h"

enum { PIPE_SIZE = 256 * 1024 };

struct neap_child {
    uv_signal_t uv;               /* SIGCHLD */
    neap_loop *loop;
    int pid;
    int go, said;                 /* a held child is released over `go`; `said` tells why it could not start. Else -1 */
    bool exited, closed, freed, ending, disowned;
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
        (void)fcntl(pair[0], F_SETPIPE_SZ, PIPE_SIZE);   /* fewer turns for bulk; what the machine does not allow is not needed */
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

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Not reaped yet, so the numbers are its own; in its very first moment it leads no group. */
static void signal_group(const neap_child *c, int number) {
    if (kill(-c->pid, number) != 0) kill(c->pid, number);
}

static void settle_group(neap_child *c) {
    if (c->ending || c->freed) kill(-c->pid, SIGKILL);
    if (getpid() == 1) while (waitpid(-c->pid, NULL, WNOHANG) > 0) ;
}

/* Its streams, if nobody took them, are the loop's to close. */
static void on_forgotten(uv_handle_t *uv) {
    neap_child *c = (neap_child *)((char *)uv - offsetof(neap_child, uv));
    if (c->freed) free(c);
}

static void on_sigchld(uv_signal_t *uv, int number) {
    neap_child *c = (neap_child *)((char *)uv - offsetof(neap_child, uv));
    int status;
    (void)number;
    if (c->exited || waitpid(c->pid, &status, WNOHANG) != c->pid) return;
    if (!uv->data) {                                 /* the loop closes; nobody listens, and what the child had may be freed */
        c->exited = true;
        uv_close((uv_handle_t *)uv, on_forgotten);
        return;
    }
    int ended_by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    c->exited = true;
    neap_timer_free(c->grace);
    c->grace = NULL;
    close_fd(&c->go);
    close_fd(&c->said);
    settle_group(c);
    uv_close((uv_handle_t *)uv, on_closed);
    if (!c->freed && c->on_exit) c->on_exit(c->arg, ended_by ? -1 : WEXITSTATUS(status), ended_by);
}

void neap_child_forget(uv_handle_t *handle) {
    neap_child *c = (neap_child *)((char *)handle - offsetof(neap_child, uv));
    handle->data = c->disowned ? c : NULL;
    neap_timer_free(c->grace);                       /* before the loop comes to it: it would be closed, and kept by nobody */
    c->grace = NULL;
    signal_group(c, SIGKILL);
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

void neap_child_disown(neap_child *c, int64_t grace_ms) {
    c->disowned = true;
    neap_child_end(c, grace_ms);
}

void neap_child_free(neap_child *c) {
    if (!c) return;
    c->freed = true;
    if (!c->exited) signal_group(c, SIGKILL);
    else if (c->closed) destroy(c);
}

/* The beginning ---------------------------------------------------------------------------- */

typedef struct start {
    const neap_child_options *options;
    const char *program;
    int stdio[3];                 /* the child's ends, -1: /dev/null */
    int go[2], said[2];           /* we to the child: become it; the child to us: errno, or the end when it became it */
} start;

static bool set_stdio(const int ends[3]) {
    int fds[3];
    for (int n = 0; n < 3; n++) {
        int fd = ends[n] >= 0 ? ends[n] : open("/dev/null", n ? O_WRONLY | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
        fds[n] = fd >= 0 && fd < 3 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : fd;
        if (fds[n] < 0) return false;
    }
    for (int n = 0; n < 3; n++)
        if (dup2(fds[n], n) < 0) return false;
    return true;
}

/* In the child, with all signals blocked; nothing but async-signal-safe calls. */
static void become(const start *s) {
    sigset_t none;
    char byte;
    setsid();
    close(s->go[1]);
    for (int n = 1; n < NSIG; n++) signal(n, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (s->options->leashed) prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (read(s->go[0], &byte, 1) != 1) _exit(127);       /* after the leash: had we died before it, this is the end of the pipe */
    if (set_stdio(s->stdio) && (!s->options->cwd || chdir(s->options->cwd) == 0))
        execve(s->program, (char *const *)s->options->argv, (char *const *)s->options->env);
    int error = errno;
    ssize_t written = write(s->said[1], &error, sizeof error);
    _exit(written == sizeof error ? 127 : 126);
}

/* The child's pid, or -errno. */
static int fork_child(const start *s) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int pid = fork();
    if (pid == 0) become(s);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pid < 0 ? -error : pid;
}

static int spawn(neap_child *c, start *s) {
    int result = 0;
    if (pipe2(s->go, O_CLOEXEC) < 0) return -errno;
    if (pipe2(s->said, O_CLOEXEC) < 0) result = -errno, close(s->go[0]), close(s->go[1]);
    if (result < 0) return result;
    if ((result = uv_signal_start(&c->uv, on_sigchld, SIGCHLD)) == 0) result = c->pid = fork_child(s);
    close(s->go[0]);
    close(s->said[1]);
    c->go = s->go[1];
    c->said = s->said[0];
    return result;
}

/* Waits, as long as an exec takes, until the child became its program or said why not. */
bool neap_child_release(neap_child *c, neap_err *err) {
    int error = 0;
    if (c->go < 0) return true;
    bool told = write(c->go, "g", 1) == 1;
    close_fd(&c->go);
    ssize_t len;
    do len = read(c->said, &error, sizeof error); while (len < 0 && errno == EINTR);
    close_fd(&c->said);
    if (told && len == 0) return true;
    return neap_loop_fail(err, len == sizeof error ? -error : -ESRCH, "cannot start the program");
}

static void abandon(neap_child *c) {
    c->freed = true;
    close_fd(&c->go);
    close_fd(&c->said);
    uv_close((uv_handle_t *)&c->uv, on_closed);
}

static neap_child *new_child(neap_loop *loop, neap_child_exit_fn on_exit, void *arg) {
    neap_child *c = neap_zalloc(sizeof *c);
    c->loop = loop;
    c->on_exit = on_exit;
    c->arg = arg;
    c->go = c->said = -1;
    uv_signal_init(neap_loop_uv(loop), &c->uv);
    c->uv.data = c;
    return c;
}

neap_child *neap_child_new(neap_loop *loop, const neap_child_options *o, neap_child_exit_fn on_exit, void *arg, neap_err *err) {
    neap_buf program = NEAP_BUF_INIT;
    neap_child *c = NULL;
    ends e;
    if (!check_place(o, &program, err) || !open_pipes(&e, o->pipes, err)) goto out;
    c = new_child(loop, on_exit, arg);
    start s = {.options = o, .program = program.data, .stdio = {e.theirs[0], e.theirs[1], e.theirs[2]}};
    int result = spawn(c, &s);
    close_all(e.theirs);
    if (result < 0) {
        neap_loop_fail(err, result, "cannot start \"%s\"", o->argv[0]);
        close_all(e.ours);
        abandon(c);
        c = NULL;
        goto out;
    }
    if (!o->held && !neap_child_release(c, err)) {
        close_all(e.ours);
        neap_child_free(c);
        c = NULL;
        goto out;
    }
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

/* Fields of /proc/PID/stat that come behind the program's name. The second field is that name in brackets and may hold anything, so
 * counting begins behind the last bracket. False when it is gone. A zombie is gone: it does nothing any more. */
static bool read_stat(int pid, int *group, int64_t *started) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    text[len > 0 ? len : 0] = 0;
    char *at = strrchr(text, ')');
    if (!at || !at[1] || strchr("ZXx", at[2])) return false;
    for (int field = 2; field < 22 && at; field++) {
        if (field == 5) *group = atoi(at);
        at = strchr(at + 1, ' ');
    }
    if (at) *started = strtoll(at, NULL, 10);
    return at != NULL;
}

int64_t neap_child_started(int pid) {
    int group;
    int64_t started;
    return read_stat(pid, &group, &started) ? started : 0;
}

bool neap_child_group_lives(int pid, int64_t started) {
    int group = 0;
    int64_t since = 0;
    bool found = false;
    if (pid <= 1 || started <= 0) return false;
    if (read_stat(pid, &group, &since)) return since == started;
    if (kill(-pid, 0) != 0 && errno == ESRCH) return false;
    DIR *proc = opendir("/proc");
    if (!proc) return false;
    for (struct dirent *entry; !found && (entry = readdir(proc)); ) {
        int member = atoi(entry->d_name);
        found = member > 0 && read_stat(member, &group, &since) && group == pid && since >= started;
    }
    closedir(proc);
    return found;
}
