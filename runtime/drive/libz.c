/* libz.c -- zlib, loaded when it is first used (base/forward.h). */
#include <zlib.h>

#include "base/forward.h"

#define LIBRARY "libz.so.1"

FORWARD(int, deflate, (z_streamp strm, int flush), (strm, flush))
FORWARD(int, deflateEnd, (z_streamp strm), (strm))
FORWARD(int, deflateInit2_, (z_streamp strm, int level, int method, int windowBits, int memLevel, int strategy, const char *version, int stream_size), (strm, level, method, windowBits, memLevel, strategy, version, stream_size))
FORWARD(int, inflate, (z_streamp strm, int flush), (strm, flush))
FORWARD(int, inflateEnd, (z_streamp strm), (strm))
FORWARD(int, inflateInit2_, (z_streamp strm, int windowBits, const char *version, int stream_size), (strm, windowBits, version, stream_size))
FORWARD(int, inflateReset, (z_streamp strm), (strm))
