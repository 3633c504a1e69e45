/* docker_frames.h -- the frames in which an Engine sends stdout and stderr of a container without a terminal: 8 bytes (stream, three
 * zeros, length big-endian), then the bytes. A pure parser: whoever has bytes offers them and is told whose they are.
 *
 * Stream 3 is an error of the Engine's own in the middle of the data (moby's stdcopy: Systemerr); what came before it is not whole. */
#ifndef NEAP_DRIVE_DOCKER_FRAMES_H
#define NEAP_DRIVE_DOCKER_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    NEAP_DOCKER_MORE,          /* everything offered was taken */
    NEAP_DOCKER_BYTES,         /* f->stream (0, 1 or 2; 0 is an echo of stdin and counts as 1), f->data, f->len, inside what was offered */
    NEAP_DOCKER_SYSTEM,        /* the same of stream 3: words of an error; the frame is not over before its length is */
    NEAP_DOCKER_NOT_FRAMES     /* no frame; final */
} neap_docker_event;

typedef struct neap_docker_frames {
    int stream;
    const char *data;
    size_t len;

    unsigned char header[8];
    int have;                  /* bytes of the header */
    uint32_t left;             /* of the frame */
    bool broken;
} neap_docker_frames;          /* zeroed is ready */

/* How many of the bytes were taken; ask again with the rest after BYTES and SYSTEM. */
size_t neap_docker_frames_step(neap_docker_frames *f, const char *data, size_t len, neap_docker_event *event);

/* Did the bytes so far end between two frames? */
static inline bool neap_docker_frames_is_whole(const neap_docker_frames *f) { return !f->broken && !f->left && !f->have; }

#endif
