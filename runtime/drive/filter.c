/* filter.c -- zstd and gzip behind one function.
 *
 * zstd writes its checksum, level 3; gzip level 6, as the programs do. An expander of zstd takes windows up to 8 MiB, which covers every
 * level up to 19: a frame that wants more is refused instead of paid for, because a few bytes could ask for 2 GiB.
 */
#include "drive/filter.h"

#include <stdlib.h>
#define ZLIB_CONST                                 /* it does not write to its input */
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"

enum { ZSTD_LEVEL = 3, WINDOW_LOG_MOST = 23, GZIP_LEVEL = 6, GZIP_WINDOW = 15 + 16, GZIP_MEMORY = 8 };

struct neap_filter {
    neap_filter_format format;
    bool expand;
    bool whole;                    /* the input so far ends where a frame ends */
    bool over;                     /* the last byte was given */
    ZSTD_CCtx *packer;
    ZSTD_DCtx *unpacker;
    z_stream zlib;
};

neap_filter *neap_filter_new(neap_filter_format format, bool expand) {
    neap_filter *f = neap_zalloc(sizeof *f);
    f->format = format;
    f->expand = expand;
    if (format == NEAP_FILTER_ZSTD && expand) {
        f->unpacker = ZSTD_createDCtx();
        ZSTD_DCtx_setParameter(f->unpacker, ZSTD_d_windowLogMax, WINDOW_LOG_MOST);
    } else if (format == NEAP_FILTER_ZSTD) {
        f->packer = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(f->packer, ZSTD_c_compressionLevel, ZSTD_LEVEL);
        ZSTD_CCtx_setParameter(f->packer, ZSTD_c_checksumFlag, 1);
    } else if (expand) {
        inflateInit2(&f->zlib, GZIP_WINDOW);
    } else {
        deflateInit2(&f->zlib, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY);
    }
    return f;
}

void neap_filter_free(neap_filter *f) {
    if (!f) return;
    if (f->packer) ZSTD_freeCCtx(f->packer);
    if (f->unpacker) ZSTD_freeDCtx(f->unpacker);
    if (f->format == NEAP_FILTER_GZIP && f->expand) inflateEnd(&f->zlib);
    if (f->format == NEAP_FILTER_GZIP && !f->expand) deflateEnd(&f->zlib);
    free(f);
}

typedef struct step { const char **in; size_t *len; bool last; char *out; size_t room, made; } step;

static ssize_t refuse(neap_err *err, const char *reason) {
    neap_err_set(err, NEAP_E_INVALID, "it cannot be expanded: %s", reason);
    return -1;
}

/* Steps: false and err when the input is no good. --------------------------------------------- */

static bool run_zstd(neap_filter *f, step *s, neap_err *err) {
    ZSTD_inBuffer in = {*s->in, *s->len, 0};
    ZSTD_outBuffer out = {s->out, s->room, s->made};
    size_t left = f->expand ? ZSTD_decompressStream(f->unpacker, &out, &in)
                            : ZSTD_compressStream2(f->packer, &out, &in, s->last ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left)) return refuse(err, ZSTD_getErrorName(left)) >= 0;
    if (in.pos || out.pos > s->made) f->whole = left == 0;
    if (!f->expand && s->last && left == 0) f->over = true;
    *s->in += in.pos;
    *s->len -= in.pos;
    s->made = out.pos;
    return true;
}

static bool run_gzip(neap_filter *f, step *s, neap_err *err) {
    z_stream *z = &f->zlib;
    if (f->expand && f->whole && *s->len) inflateReset(z);           /* one more member */
    z->next_in = (const Bytef *)*s->in;
    z->avail_in = (uInt)*s->len;
    z->next_out = (Bytef *)s->out + s->made;
    z->avail_out = (uInt)(s->room - s->made);
    if (f->expand && f->whole && !*s->len) return true;
    int result = f->expand ? inflate(z, Z_NO_FLUSH) : deflate(z, s->last ? Z_FINISH : Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return refuse(err, z->msg ? z->msg : "it is not gzip") >= 0;
    if (f->expand && (z->avail_in != *s->len || result == Z_STREAM_END)) f->whole = result == Z_STREAM_END;
    if (!f->expand && result == Z_STREAM_END) f->over = true;
    *s->in += *s->len - z->avail_in;
    *s->len = z->avail_in;
    s->made = s->room - z->avail_out;
    return true;
}

ssize_t neap_filter_run(neap_filter *f, const char **in, size_t *len, bool last, char *out, size_t room, neap_err *err) {
    step s = {in, len, last, out, room, 0};
    while (s.made < room && !f->over) {
        size_t made = s.made, left = *len;
        bool good = f->format == NEAP_FILTER_ZSTD ? run_zstd(f, &s, err) : run_gzip(f, &s, err);
        if (!good) return -1;
        if (s.made == made && *len == left) break;
    }
    if (!s.made && last && f->expand && !f->whole) return refuse(err, "it was cut short");
    return (ssize_t)s.made;
}
