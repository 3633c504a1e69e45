/* pg_copy.c -- COPY as a stream.
 *
 *   QUEUED -> STARTING -> ACTIVE -> ENDING -> DONE        (a lost connection leads to DONE from anywhere)
 *
 * COPY has no place in a pipeline, so it waits until everything before it is answered, leaves pipeline mode, and enters it
 * again at its end. Success is only the final COMMAND_OK followed by NULL: a reader gets its end, and `shut` its done, no
 * earlier. A COPY that is given up early is drained: COPY TO is cancelled, COPY FROM is ended with an error message, and the
 * stream's memory stays until the server has agreed.
 *
 * Rows are gathered only while somebody reads; otherwise the socket is not even looked at (pg.c).
 */
#include "drive/pg_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

typedef enum { COPY_QUEUED, COPY_STARTING, COPY_ACTIVE, COPY_ENDING, COPY_DONE } copy_phase;

enum { PIECE = 56 * 1024, LEAST = 48 * 1024, MARGIN = 8 * 1024, GRACE_MS = 5000 };     /* margin: the last row of a piece goes beyond it */

typedef struct pg_copy {
    neap_stream stream;
    neap_pg *c;                   /* NULL once DONE by loss */
    copy_phase phase;
    bool out, freed, calling;
    bool told;                    /* `ready` was called: a COPY that fails before that is reported through it */
    void (*ready)(void *arg, neap_stream *stream, const neap_err *err);
    void *ready_arg;
    neap_stream_read_fn got;      /* the pending read */
    void *got_arg;
    size_t most;
    neap_buf piece;               /* rows gathered for the reader */
    neap_stream_done_fn written, shut;
    void *written_arg, *shut_arg;
    const char *data;             /* of the pending write, until libpq took it */
    size_t len;
    bool ending;                  /* PQputCopyEnd still to be called */
    neap_err err;
} pg_copy;

static void copy_free(pg_copy *copy) {
    neap_buf_close(&copy->piece);
    neap_err_close(&copy->err);
    free(copy);
}

/* ---- calling back ---- */

/* The piece is taken out first: the reader may ask for the next one from within its callback, or free the stream. Its memory is the
 * connection's to keep until the next piece but one, because fresh memory costs a page fault for every 4 KB. */
static void end_read(pg_copy *copy, ssize_t len, const neap_err *err) {
    neap_pg *c = copy->c;
    neap_stream_read_fn got = copy->got;
    neap_buf piece = copy->piece;
    copy->piece = (neap_buf)NEAP_BUF_INIT;
    copy->got = NULL;
    if (c) neap_pg_enter(c);
    if (got) got(copy->got_arg, piece.data, len, err);
    if (c && c->copy) {
        neap_buf_close(&c->spare);
        c->spare = piece;
    } else {
        neap_buf_close(&piece);
    }
    if (c) neap_pg_leave(c);
}

/* Room for a piece: the spare one, or new. */
static void begin_piece(neap_pg *c, pg_copy *copy, size_t most) {
    copy->piece = c->spare;
    c->spare = (neap_buf)NEAP_BUF_INIT;
    neap_buf_clear(&copy->piece);
    neap_buf_reserve(&copy->piece, most + MARGIN);
}

static void end_write(pg_copy *copy, const neap_err *err) {
    neap_stream_done_fn written = copy->written;
    copy->written = NULL;
    copy->data = NULL;
    if (written) written(copy->written_arg, err);
}

static void end_shut(pg_copy *copy, const neap_err *err) {
    neap_stream_done_fn shut = copy->shut;
    copy->shut = NULL;
    if (shut) shut(copy->shut_arg, err);
}

/* The copy is over; copy->err says how. Frees what nobody holds any more. */
static void over(pg_copy *copy) {
    const neap_err *err = copy->err.code ? &copy->err : NULL;
    copy->phase = COPY_DONE;
    copy->c = NULL;
    if (copy->freed || !copy->told) {
        if (!copy->freed) copy->ready(copy->ready_arg, NULL, err);
        copy_free(copy);
        return;
    }
    copy->calling = true;                          /* a callback may free the stream: its memory goes at the end */
    end_write(copy, err);
    end_shut(copy, err);
    end_read(copy, err ? -1 : 0, err);
    copy->calling = false;
    if (copy->freed) copy_free(copy);
}

void neap_pg_copy_fail(pg_copy *copy, const neap_err *err) {
    neap_err_close(&copy->err);
    neap_err_set(&copy->err, err->code, "%s", err->message ? err->message : "the connection was lost");
    if (copy->c) copy->c->copy = NULL;
    over(copy);
}

/* ---- the protocol ---- */

static void keep_error(pg_copy *copy, const PGresult *result) {
    if (!copy->err.code) neap_pg_error(&copy->err, result);
}

static void not_a_copy(pg_copy *copy) {
    if (!copy->err.code) neap_err_set(&copy->err, NEAP_E_USAGE, "the statement is not a COPY with the client");
}

/* Take results until NULL, which ends the copy. */
static void take_end(neap_pg *c, pg_copy *copy) {
    while (!PQisBusy(c->conn)) {
        PGresult *result = PQgetResult(c->conn);
        if (!result) {
            c->copy = NULL;
            neap_buf_close(&c->spare);
            c->state = PG_OPEN;
            PQenterPipelineMode(c->conn);
            over(copy);
            neap_pg_cancel_due(c);
            neap_pg_pump(c);
            return;
        }
        if (PQresultStatus(result) == PGRES_COMMAND_OK) c->copied = atoll(PQcmdTuples(result));
        else keep_error(copy, result);
        PQclear(result);
    }
}

static void abort_copy(neap_pg *c, pg_copy *copy) {
    if (copy->out) {
        neap_pg_cancel(c, copy, GRACE_MS);
    } else {
        PQputCopyEnd(c->conn, "given up by the client");
        copy->phase = COPY_ENDING;
    }
}

static void take_start(neap_pg *c, pg_copy *copy) {
    if (PQisBusy(c->conn)) return;
    PGresult *result = PQgetResult(c->conn);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COPY_OUT || status == PGRES_COPY_IN) {
        copy->out = status == PGRES_COPY_OUT;
        copy->phase = COPY_ACTIVE;
        copy->told = true;
        if (copy->freed) abort_copy(c, copy);
        else copy->ready(copy->ready_arg, &copy->stream, NULL);
    } else {
        if (status == PGRES_FATAL_ERROR) keep_error(copy, result);
        else not_a_copy(copy);
        copy->phase = COPY_ENDING;                 /* its NULL may come with the next packet */
        if (result) take_end(c, copy);
    }
    PQclear(result);
}

/* Gather rows up to the size asked for. Less than LEAST waits for the rows that follow or for the end: a piece for every packet would
 * cost a thread's turn for every packet. True when a piece went out. */
static bool take_rows(neap_pg *c, pg_copy *copy) {
    char *row = NULL;
    int len = 0;
    size_t most = copy->most ? copy->most : PIECE;
    if (copy->got && !copy->piece.data) begin_piece(c, copy, most);
    while ((copy->got || copy->freed) && copy->piece.len < most) {
        len = PQgetCopyData(c->conn, &row, 1);
        if (len <= 0) break;
        if (!copy->freed) neap_buf_add(&copy->piece, row, (size_t)len);
        PQfreemem(row);
    }
    bool whole = copy->piece.len >= (most < LEAST ? most : LEAST) || (len < 0 && copy->piece.len > 0);
    bool gone = copy->got && whole;
    if (gone) end_read(copy, (ssize_t)copy->piece.len, NULL);
    if (len < 0 && c->copy == copy) {
        copy->phase = COPY_ENDING;
        take_end(c, copy);
    }
    return gone;
}

static void put_rows(neap_pg *c, pg_copy *copy) {
    bool pending = false;
    if (copy->data) {
        int rc = PQputCopyData(c->conn, copy->data, (int)copy->len);
        if (rc == 0) return;
        copy->data = NULL;
    }
    if (copy->written && neap_pg_flush(c, &pending) && !pending) end_write(copy, NULL);
    if (c->copy != copy || !copy->ending || copy->data) return;
    if (PQputCopyEnd(c->conn, NULL) != 0) copy->phase = COPY_ENDING;
}

bool neap_pg_copy_is_full(const neap_pg *c) {
    const pg_copy *copy = c->state == PG_COPYING ? c->copy : NULL;
    return copy && copy->out && copy->phase == COPY_ACTIVE && !copy->got && !copy->freed;
}

void neap_pg_copy_pump(neap_pg *c) {
    for (;;) {
        pg_copy *copy = c->copy;
        copy_phase before = copy ? copy->phase : COPY_DONE;
        bool gone = false;
        if (!copy || c->state != PG_COPYING) return;
        if (before == COPY_STARTING) take_start(c, copy);
        else if (before == COPY_ENDING) take_end(c, copy);
        else if (copy->out) gone = take_rows(c, copy);
        else put_rows(c, copy);
        if (c->copy != copy) return;
        if (copy->phase == before && !(gone && copy->phase == COPY_ACTIVE && copy->got)) return;
    }
}

void neap_pg_copy_begin(neap_pg *c, pg_request *r) {
    pg_copy *copy = r->copy;
    neap_err err = NEAP_ERR_INIT;
    c->copy = copy;
    c->copied = -1;
    c->state = PG_COPYING;
    copy->phase = COPY_STARTING;
    bool sent = PQexitPipelineMode(c->conn) && PQsendQueryParams(c->conn, r->sql, 0, NULL, NULL, NULL, NULL, 0);
    r->copy = NULL;
    neap_pg_request_free(r);
    if (sent) return;
    neap_pg_error_lost(&err, c->conn);
    neap_pg_die(c, &err);
}

/* ---- the stream ---- */

static bool refuse_done(pg_copy *copy, neap_stream_done_fn done, void *arg) {
    neap_err err = NEAP_ERR_INIT;
    if (copy->phase == COPY_ACTIVE && !copy->out) return false;
    if (copy->phase == COPY_DONE && !copy->out && !copy->err.code) {   /* shut before, and confirmed */
        done(arg, NULL);
        return true;
    }
    if (copy->err.code) {
        done(arg, &copy->err);
        return true;
    }
    neap_err_set(&err, NEAP_E_USAGE, "this copy cannot be written to");
    done(arg, &err);
    neap_err_close(&err);
    return true;
}

static void stream_read(neap_stream *s, size_t most, neap_stream_read_fn got, void *arg) {
    pg_copy *copy = (pg_copy *)s;
    if (copy->phase == COPY_DONE) {
        got(arg, NULL, copy->err.code ? -1 : 0, copy->err.code ? &copy->err : NULL);
        return;
    }
    copy->got = got;
    copy->got_arg = arg;
    copy->most = most < PIECE ? most : PIECE;
    neap_pg_pump(copy->c);
}

static void stream_write(neap_stream *s, const char *data, size_t len, neap_stream_done_fn done, void *arg) {
    pg_copy *copy = (pg_copy *)s;
    if (refuse_done(copy, done, arg)) return;
    copy->data = data;
    copy->len = len;
    copy->written = done;
    copy->written_arg = arg;
    neap_pg_pump(copy->c);
}

static void stream_shut(neap_stream *s, neap_stream_done_fn done, void *arg) {
    pg_copy *copy = (pg_copy *)s;
    if (refuse_done(copy, done, arg)) return;
    copy->ending = true;
    copy->shut = done;
    copy->shut_arg = arg;
    neap_pg_pump(copy->c);
}

static void stream_stop(neap_stream *s) {
    pg_copy *copy = (pg_copy *)s;
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_CANCELLED, "the copy was stopped");
    end_write(copy, &err);
    end_shut(copy, &err);
    end_read(copy, -1, &err);
    neap_err_close(&err);
}

static void stream_free(neap_stream *s) {
    pg_copy *copy = (pg_copy *)s;
    stream_stop(s);
    if (copy->phase == COPY_DONE && !copy->calling) {
        copy_free(copy);
        return;
    }
    copy->freed = true;
    if (copy->phase == COPY_DONE) return;
    if (copy->phase == COPY_ACTIVE) abort_copy(copy->c, copy);
    neap_pg_pump(copy->c);
}

static const neap_stream_class copy_class = {"a COPY", stream_read, stream_write, stream_shut, stream_stop, stream_free};

void neap_pg_copy(neap_pg *c, const char *sql, void (*ready)(void *arg, neap_stream *stream, const neap_err *err), void *arg) {
    pg_copy *copy = neap_zalloc(sizeof *copy);
    pg_request *r = neap_zalloc(sizeof *r);
    copy->stream.class = &copy_class;
    copy->c = c;
    copy->err = (neap_err)NEAP_ERR_INIT;
    copy->ready = ready;
    copy->ready_arg = arg;
    neap_list_init(&r->node);
    r->copy = copy;
    r->sql = neap_strdup(sql);
    neap_list_append(&c->waiting, &r->node);
    neap_pg_enter(c);                              /* who is told at once may free the connection */
    if (c->state == PG_DEAD) neap_pg_fail_all(c, &c->why);
    else neap_pg_pump(c);
    neap_pg_leave(c);
}

int64_t neap_pg_copied(const neap_pg *c) { return c->copied; }
