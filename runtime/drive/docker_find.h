/* docker_find.h -- which container is meant? Exactly one of a list, by what the inventory says of it: never by a part of a name, and
 * never the first of several. A pure function of the Engine's list. */
#ifndef NEAP_DRIVE_DOCKER_FIND_H
#define NEAP_DRIVE_DOCKER_FIND_H

#include <jansson.h>
#include "base/buf.h"
#include "base/err.h"

/* NULL: does not matter. */
typedef struct neap_docker_wanted {
    const char *project, *service, *index;      /* compose; one-off containers of `docker compose run` never count */
    const char *name, *id, *image;              /* name as `docker ps` shows it; image as the container was made from */
} neap_docker_wanted;

/* The one running container of the list (GET /containers/json?all=1), or NULL and err (CONFIG): none, with what is there but not
 * running; or several, with their names. `stopped`: one that does not run will do when it is the only one. */
json_t *neap_docker_find(json_t *list, const neap_docker_wanted *w, bool stopped, neap_err *err);

#endif
