/* docker_log.h -- what a container has written since a time: inspected first (a container with a terminal logs without frames, and "since
 * it was started" is a time of its own), then read until the end or until nobody wants more. */
#ifndef NEAP_DRIVE_DOCKER_LOG_H
#define NEAP_DRIVE_DOCKER_LOG_H

#include "drive/docker.h"

typedef struct neap_docker_log neap_docker_log;

typedef struct neap_docker_log_options {
    const char *container;            /* id or name */
    int64_t since_ms;                 /* wall clock; 0: everything; -1: since it was started */
    int64_t tail;                     /* the last lines; -1: all */
    bool follow;                      /* until the container ends */
} neap_docker_log_options;

typedef void (*neap_docker_log_fn)(void *arg, int stream, const char *data, size_t len);      /* stream 1 or 2; may free the log */
typedef void (*neap_docker_log_end_fn)(void *arg, const neap_err *err);                       /* once */

neap_docker_log *neap_docker_log_start(neap_docker *e, const neap_docker_log_options *o, neap_docker_log_fn wrote, neap_docker_log_end_fn ended, void *arg);
void neap_docker_log_free(neap_docker_log *g);            /* never calls back again; NULL allowed; also from within a callback */

/* "2026-11-21T07:37:39.123456789Z" as the Engine's `since` has it: "1795246659.123456789". False when it is no such time. */
enum { NEAP_DOCKER_TIME_SIZE = 40 };
bool neap_docker_time(const char *text, char out[NEAP_DOCKER_TIME_SIZE]);

#endif
