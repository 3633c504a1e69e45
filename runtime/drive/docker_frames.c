/* docker_frames.c -- see docker_frames.h. A length may be anything up to 4 GiB and costs nothing: no frame is ever gathered. */
#include "drive/docker_frames.h"

#include <string.h>

/* True when the header is complete and makes sense. */
static bool read_header(neap_docker_frames *f) {
    const unsigned char *h = f->header;
    f->left = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
    f->stream = h[0];
    f->have = 0;
    return h[0] <= 3 && !h[1] && !h[2] && !h[3];
}

size_t neap_docker_frames_step(neap_docker_frames *f, const char *data, size_t len, neap_docker_event *event) {
    size_t took = 0;
    *event = f->broken ? NEAP_DOCKER_NOT_FRAMES : NEAP_DOCKER_MORE;
    while (*event == NEAP_DOCKER_MORE && took < len) {
        if (f->left) {
            f->data = data + took;
            f->len = len - took < f->left ? len - took : f->left;
            f->left -= (uint32_t)f->len;
            took += f->len;
            *event = f->stream == 3 ? NEAP_DOCKER_SYSTEM : NEAP_DOCKER_BYTES;
        } else {
            f->header[f->have++] = (unsigned char)data[took++];
            if (f->have == 8 && !read_header(f)) f->broken = true, *event = NEAP_DOCKER_NOT_FRAMES;
        }
    }
    return took;
}
