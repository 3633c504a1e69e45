/* docker_frames.c -- the frames of a container's output: however the bytes are cut, each stream gets the same bytes. */
#include <string.h>

#include "base/buf.h"
#include "drive/docker_frames.h"
#include "fuzz.h"

typedef struct streams { neap_buf of[4]; int ended; bool whole; } streams;

static void read_all(streams *s, const char *data, size_t size, size_t piece) {
    neap_docker_frames f = {0};
    neap_docker_event event = NEAP_DOCKER_MORE;
    size_t at = 0, offered = 0;
    memset(s, 0, sizeof *s);
    while (event != NEAP_DOCKER_NOT_FRAMES && at < size) {
        if (at == offered) offered = size - at < piece ? size : at + piece;
        size_t taken = neap_docker_frames_step(&f, data + at, offered - at, &event);
        NEAP_FUZZ_CHECK(taken <= offered - at);
        NEAP_FUZZ_CHECK(event != NEAP_DOCKER_MORE || taken == offered - at);
        if (event == NEAP_DOCKER_BYTES || event == NEAP_DOCKER_SYSTEM) {
            NEAP_FUZZ_CHECK(f.stream >= 0 && f.stream <= 3 && (event == NEAP_DOCKER_SYSTEM) == (f.stream == 3));
            NEAP_FUZZ_CHECK(f.data >= data + at && f.data + f.len <= data + offered);
            neap_buf_add(&s->of[f.stream], f.data, f.len);
        }
        at += taken;
    }
    s->ended = event == NEAP_DOCKER_NOT_FRAMES;
    s->whole = neap_docker_frames_is_whole(&f);
}

NEAP_FUZZ(docker_frames) {
    if (size < 2) return 0;
    streams whole, pieces;
    read_all(&whole, (const char *)data + 1, size - 1, size);
    read_all(&pieces, (const char *)data + 1, size - 1, 1 + data[0] % 16);
    NEAP_FUZZ_CHECK(whole.ended == pieces.ended && whole.whole == pieces.whole);
    for (int i = 0; i < 4; i++) {
        NEAP_FUZZ_CHECK(whole.of[i].len == pieces.of[i].len);
        NEAP_FUZZ_CHECK(!whole.of[i].len || memcmp(whole.of[i].data, pieces.of[i].data, whole.of[i].len) == 0);
        neap_buf_close(&whole.of[i]);
        neap_buf_close(&pieces.of[i]);
    }
    return 0;
}
