/* file.c -- streams over regular files, through the pool.
 *
 * A file is always "ready", so readiness tells nothing and a slow disk would hold the loop; every read, write, fsync
 * and close is therefore a request of its own, with memory of its own that the next one takes over.
 *
 *     OPEN --free, nothing under way--> closing on the pool --> memory freed
 *       \--free, requests under way--> LEAVING --last request--> closing on the pool --> memory freed
 *
 * A request cannot be taken back once a pool thread has it. A stopped one forgets its caller and finishes alone; the
 * descriptor stays open for it. Offsets are explicit, so that a stopped read moves nothing. A stopped write
 * leaves the file in a state nobody knows, so it is the last one this stream takes.
 *
 * Whoever writes megabytes wants them durable in the end, so the disk is set to work on every AHEAD bytes while more are coming:
 * the final fsync then waits for the last few only. Nothing is waited for and no error is looked at here: fsync reports it.
 */
#include "loop/stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"

enum { ROOM_KEPT = NEAP_FILE_PIECE + NEAP_FILE_PIECE / 4, AHEAD = 8 << 20 };

typedef struct request request;

typedef struct file {
    neap_stream stream;                              /* first */
    uv_loop_t *loop;
    int fd, busy;                                    /* requests a pool thread may still hold */
    bool seekable, broken, freed;
    int64_t read_at, write_at;                       /* -1: the descriptor's own position */
    int64_t ahead_to;                                /* the disk was set to work up to here */
    bool ahead;                                      /* and a pool thread is just doing that */
    request *reading, *writing;                      /* whose callers still wait */
    request *spare;                                  /* memory for the next one: fresh memory costs a page fault for every 4 KB */
} file;

struct request {
    uv_fs_t uv;
    file *owner;
    neap_stream_read_fn got;
    neap_stream_done_fn done;
    void *arg;
    neap_buf piece;                                  /* what is read or written */
    size_t written;                                  /* of it */
};

static request *make_request(file *f, void *arg) {
    request *r = f->spare ? f->spare : neap_zalloc(sizeof *r);
    f->spare = NULL;
    *r = (request){.owner = f, .arg = arg, .piece = r->piece};
    neap_buf_clear(&r->piece);
    r->uv.data = r;
    return r;
}

static void free_request(request *r) {
    if (r) neap_buf_close(&r->piece);
    free(r);
}

static void on_closed(uv_fs_t *uv) {
    uv_fs_req_cleanup(uv);
    free(uv);
}

/* Closing may wait for a network file system, so it is a request too. */
static void leave(file *f) {
    uv_fs_t *uv = neap_zalloc(sizeof *uv);
    if (uv_fs_close(f->loop, uv, f->fd, on_closed) < 0) { close(f->fd); free(uv); }
    free_request(f->spare);
    free(f);
}

/* The request has come back from the pool; `f` may be gone afterwards. */
static void retire(request *r) {
    file *f = r->owner;
    request *other = f->spare;
    bool keep = r->piece.cap <= ROOM_KEPT && (!other || r->piece.cap > other->piece.cap);
    uv_fs_req_cleanup(&r->uv);
    if (keep) f->spare = r;
    free_request(keep ? other : r);
    if (--f->busy == 0 && f->freed) leave(f);
}

static void answer_read(request *r, ssize_t result) {
    neap_err err = NEAP_ERR_INIT;
    if (result < 0) neap_loop_fail(&err, (int)result, "cannot read from the file");
    r->got(r->arg, result > 0 ? r->piece.data : NULL, result < 0 ? -1 : result, result < 0 ? &err : NULL);
    neap_err_close(&err);
}

static void answer_done(neap_stream_done_fn done, void *arg, int result) {
    neap_err err = NEAP_ERR_INIT;
    if (result < 0) neap_loop_fail(&err, result, "cannot write to the file");
    done(arg, result < 0 ? &err : NULL);
    neap_err_close(&err);
}

/* Reading ---------------------------------------------------------------------------------- */

static void on_read(uv_fs_t *uv) {
    request *r = uv->data;
    file *f = r->owner;
    r->piece.len = uv->result > 0 ? (size_t)uv->result : 0;
    r->piece.data[r->piece.len] = 0;
    if (f->reading == r) {
        f->reading = NULL;
        if (f->seekable && uv->result > 0) f->read_at += uv->result;
        answer_read(r, uv->result);
    }
    retire(r);
}

static void file_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    file *f = (file *)s;
    size_t len = most && most < NEAP_FILE_PIECE ? most : NEAP_FILE_PIECE;
    request *r = make_request(f, arg);
    r->got = got;
    neap_buf_reserve(&r->piece, len);
    uv_buf_t piece = uv_buf_init(r->piece.data, (unsigned)len);
    f->busy++;
    f->reading = r;
    int result = uv_fs_read(f->loop, &r->uv, f->fd, &piece, 1, f->read_at, on_read);
    if (result >= 0) return;
    f->reading = NULL;
    answer_read(r, result);
    retire(r);
}

/* Setting the disk to work ------------------------------------------------------------------- */

typedef struct ahead {
    uv_work_t uv;
    file *owner;
    int fd;
    off64_t from, len;
} ahead;

static void run_ahead(uv_work_t *uv) {
    ahead *a = uv->data;
    (void)sync_file_range(a->fd, a->from, a->len, SYNC_FILE_RANGE_WRITE);
}

static void on_ahead(uv_work_t *uv, int status) {
    ahead *a = uv->data;
    file *f = a->owner;
    (void)status;
    free(a);
    f->ahead = false;
    if (--f->busy == 0 && f->freed) leave(f);
}

static void go_ahead(file *f) {
    if (!f->seekable || f->ahead || f->write_at - f->ahead_to < AHEAD) return;
    ahead *a = neap_alloc(sizeof *a);
    *a = (ahead){.owner = f, .fd = f->fd, .from = f->ahead_to, .len = f->write_at - f->ahead_to};
    a->uv.data = a;
    if (uv_queue_work(f->loop, &a->uv, run_ahead, on_ahead) < 0) { free(a); return; }
    f->ahead_to = f->write_at;
    f->ahead = true;
    f->busy++;
}

/* Writing ---------------------------------------------------------------------------------- */

static void on_written(uv_fs_t *uv);

static int write_rest(request *r) {
    file *f = r->owner;
    uv_buf_t piece = uv_buf_init(r->piece.data + r->written, (unsigned)(r->piece.len - r->written));
    return uv_fs_write(f->loop, &r->uv, f->fd, &piece, 1, f->write_at, on_written);
}

/* The caller is told last, so that its next write has the memory of this one; it may free the stream. */
static void end_write(request *r, int result) {
    file *f = r->owner;
    neap_stream_done_fn done = f->writing == r ? r->done : NULL;
    void *arg = r->arg;
    if (done) f->writing = NULL;
    f->busy++;
    retire(r);
    if (done) answer_done(done, arg, result);
    if (--f->busy == 0 && f->freed) leave(f);
}

/* A disk may take less than it was given (a signal, the last free block): the rest is asked for, and the error, if
 * there is one, comes with it. */
static void on_written(uv_fs_t *uv) {
    request *r = uv->data;
    file *f = r->owner;
    if (uv->result < 0 || f->writing != r) { end_write(r, (int)uv->result); return; }
    r->written += (size_t)uv->result;
    if (f->seekable) f->write_at += uv->result;
    if (r->written == r->piece.len) { go_ahead(f); end_write(r, 0); return; }
    uv_fs_req_cleanup(uv);
    int result = write_rest(r);
    if (result < 0) end_write(r, result);
}

static void begin_write(request *r, neap_stream_done_fn done) {
    file *f = r->owner;
    r->done = done;
    f->busy++;
    f->writing = r;
    int result = f->broken ? UV_EPIPE : write_rest(r);
    if (result < 0) end_write(r, result);
}

static void file_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    request *r = make_request((file *)s, arg);
    neap_buf_reserve(&r->piece, len);
    neap_buf_add(&r->piece, data, len);
    begin_write(r, done);
}

void neap_stream_file_give(neap_stream *s, neap_buf *piece, neap_stream_done_fn done, void *arg) {
    request *r = make_request((file *)s, arg);
    neap_buf given = *piece;
    *piece = r->piece;
    r->piece = given;
    begin_write(r, done);
}

/* /dev/null and its kin have nothing to make durable; that is no error. */
static void on_synced(uv_fs_t *uv) {
    int result = (int)uv->result;
    end_write(uv->data, result == UV_EINVAL || result == UV_EROFS || result == UV_ENOTSUP ? 0 : result);
}

static void file_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    file *f = (file *)s;
    request *r = make_request(f, arg);
    r->done = done;
    f->busy++;
    f->writing = r;
    int result = f->broken ? UV_EPIPE : uv_fs_fsync(f->loop, &r->uv, f->fd, on_synced);
    if (result < 0) end_write(r, result);
}

/* Ends ------------------------------------------------------------------------------------- */

static void file_stop(neap_stream *s) {
    file *f = (file *)s;
    request *reading = f->reading, *writing;
    f->busy++;                                       /* a callback may free the stream, and then hears of both */
    f->reading = NULL;
    if (reading) answer_read(reading, UV_ECANCELED);
    writing = f->writing;
    f->writing = NULL;
    if (writing) f->broken = true;
    if (writing) answer_done(writing->done, writing->arg, UV_ECANCELED);
    if (--f->busy == 0 && f->freed) leave(f);
}

static void file_free(neap_stream *s) {
    file *f = (file *)s;
    f->busy++;
    file_stop(s);
    f->freed = true;
    if (--f->busy == 0) leave(f);
}

static const neap_stream_class file_class = {
    "file", file_read, file_write, file_shut, file_stop, file_free,
};

bool neap_stream_is_file(const neap_stream *s) { return s->class == &file_class; }

neap_stream *neap_stream_of_file(neap_loop *loop, int fd) {
    file *f = neap_zalloc(sizeof *f);
    struct stat st;
    off_t at = lseek(fd, 0, SEEK_CUR);
    f->stream.class = &file_class;
    f->loop = neap_loop_uv(loop);
    f->fd = fd;
    f->seekable = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && at >= 0;
    f->read_at = f->write_at = f->ahead_to = f->seekable ? at : -1;
    return &f->stream;
}
