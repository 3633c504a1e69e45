/* libzstd.c -- zstd, loaded when it is first used (base/forward.h). */
#include <zstd.h>

#include "base/forward.h"

#define LIBRARY "libzstd.so.1"

FORWARD(size_t, ZSTD_CCtx_setParameter, (ZSTD_CCtx *cctx, ZSTD_cParameter param, int value), (cctx, param, value))
FORWARD(size_t, ZSTD_compressStream2, (ZSTD_CCtx *cctx, ZSTD_outBuffer *output, ZSTD_inBuffer *input, ZSTD_EndDirective endOp), (cctx, output, input, endOp))
FORWARD(ZSTD_CCtx *, ZSTD_createCCtx, (void), ())
FORWARD(ZSTD_DCtx *, ZSTD_createDCtx, (void), ())
FORWARD(size_t, ZSTD_DCtx_setParameter, (ZSTD_DCtx *dctx, ZSTD_dParameter param, int value), (dctx, param, value))
FORWARD(size_t, ZSTD_decompressStream, (ZSTD_DStream *zds, ZSTD_outBuffer *output, ZSTD_inBuffer *input), (zds, output, input))
FORWARD(size_t, ZSTD_freeCCtx, (ZSTD_CCtx *cctx), (cctx))
FORWARD(size_t, ZSTD_freeDCtx, (ZSTD_DCtx *dctx), (dctx))
FORWARD(const char *, ZSTD_getErrorName, (size_t code), (code))
FORWARD(unsigned, ZSTD_isError, (size_t code), (code))
