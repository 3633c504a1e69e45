/* docker_endpoint.h -- where the user's docker would go: the same answer as the docker CLI's, from the same files and variables. Nothing
 * is written and nothing is asked of the network.
 *
 *     given: a host ─► it
 *            a context ─► it           ("default" is the context that is no file: DOCKER_HOST, else the local socket)
 *     else:  DOCKER_HOST ─► DOCKER_CONTEXT ─► currentContext of config.json ─► the local socket
 *
 * The CLI goes on with a warning when config.json cannot be read; here that is an error, because what would follow is another Engine
 * than the one that was meant. */
#ifndef NEAP_DRIVE_DOCKER_ENDPOINT_H
#define NEAP_DRIVE_DOCKER_ENDPOINT_H

#include <stdbool.h>
#include "base/err.h"

typedef enum { NEAP_DOCKER_UNIX, NEAP_DOCKER_TCP, NEAP_DOCKER_SSH } neap_docker_scheme;

typedef struct neap_docker_endpoint {
    neap_docker_scheme scheme;
    char *path;                       /* of the socket; with ssh the socket on that host, or NULL */
    char *host, *user;                /* user: ssh, or NULL */
    int port;                         /* ssh: 0 when none is named */
    bool tls, verify;
    char *ca, *cert, *key;            /* files that exist, or NULL */
    char *source;                     /* "DOCKER_HOST", "context prod (config.json)", "the default" */
} neap_docker_endpoint;

typedef struct neap_docker_where {
    const char *host, *context, *config;        /* as given; NULL: not. config: the directory of config.json */
    const char *(*env)(void *arg, const char *name);       /* NULL or "": not set */
    void *arg;
} neap_docker_where;

/* False and err (CONFIG, or UNSUPPORTED for a scheme that is not ours); `out` needs closing only on true. */
bool neap_docker_endpoint_find(neap_docker_endpoint *out, const neap_docker_where *where, neap_err *err);
void neap_docker_endpoint_close(neap_docker_endpoint *e);

/* One address as DOCKER_HOST has it. `tls` decides the port that is not named. False as above. */
bool neap_docker_endpoint_read(neap_docker_endpoint *out, const char *text, bool tls, neap_err *err);

#endif
