/* docker_find.c -- see docker_find.h. The labels are those of docker/compose (pkg/api/labels.go). */
#include "drive/docker_find.h"

#include <stdlib.h>
#include <string.h>

#define COMPOSE "com.docker.compose."

static const char *text_of(json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static bool has_label(json_t *labels, const char *name, const char *wanted) { return !wanted || strcmp(text_of(labels, name), wanted) == 0; }

/* "/shop-db-1"; links add names with more slashes, which are not its own. */
static bool has_name(json_t *container, const char *wanted) {
    json_t *name, *names = json_object_get(container, "Names");
    size_t i;
    if (!wanted) return true;
    json_array_foreach(names, i, name) {
        const char *text = json_string_value(name);
        if (text && strcmp(text + (*text == '/'), wanted) == 0) return true;
    }
    return false;
}

static bool matches(json_t *container, const neap_docker_wanted *w) {
    json_t *labels = json_object_get(container, "Labels");
    bool composed = w->project || w->service || w->index;
    if (composed && strcmp(text_of(labels, COMPOSE "oneoff"), "True") == 0) return false;
    return has_label(labels, COMPOSE "project", w->project) && has_label(labels, COMPOSE "service", w->service)
        && has_label(labels, COMPOSE "container-number", w->index) && has_name(container, w->name)
        && (!w->id || strcmp(text_of(container, "Id"), w->id) == 0) && (!w->image || strcmp(text_of(container, "Image"), w->image) == 0);
}

static void add_part(neap_buf *out, const char *what, const char *value) {
    if (value) neap_buf_addf(out, "%s%s \"%s\"", out->len ? ", " : "", what, value);
}

static char *describe(const neap_docker_wanted *w) {
    neap_buf out = NEAP_BUF_INIT;
    add_part(&out, "project", w->project), add_part(&out, "service", w->service), add_part(&out, "number", w->index);
    add_part(&out, "name", w->name), add_part(&out, "id", w->id), add_part(&out, "image", w->image);
    return neap_buf_take(&out);
}

static void add_container(neap_buf *out, json_t *container) {
    const char *name = json_string_value(json_array_get(json_object_get(container, "Names"), 0)), *status = text_of(container, "Status");
    neap_buf_addf(out, "%s%s (%s)", out->len ? ", " : "", name ? name + (*name == '/') : text_of(container, "Id"), *status ? status : text_of(container, "State"));
}

static void say_none(const neap_docker_wanted *w, const neap_buf *resting, neap_err *err) {
    char *wanted = describe(w);
    neap_err_set(err, NEAP_E_CONFIG, "no container of %s is running", wanted ? wanted : "this Engine");
    if (resting->len) neap_err_hint(err, "There is %s, which is not running.", resting->data);
    else neap_err_hint(err, "`docker ps --all` on that Engine shows what there is.");
    free(wanted);
}

static void say_many(const neap_docker_wanted *w, int count, const neap_buf *found, neap_err *err) {
    char *wanted = describe(w);
    neap_err_set(err, NEAP_E_CONFIG, "%d containers are %s: %s", count, wanted ? wanted : "there", found->data);
    neap_err_hint(err, "Name one: by its number within the service, its name or its id.");
    free(wanted);
}

json_t *neap_docker_find(json_t *list, const neap_docker_wanted *w, bool stopped, neap_err *err) {
    json_t *container, *one = NULL, *rests = NULL;
    neap_buf found = NEAP_BUF_INIT, resting = NEAP_BUF_INIT;
    int count = 0, still = 0;
    size_t i;
    json_array_foreach(list, i, container) {
        const char *state = text_of(container, "State");
        bool runs = strcmp(state, "running") == 0 || strcmp(state, "paused") == 0 || strcmp(state, "restarting") == 0;
        if (!matches(container, w)) continue;
        add_container(runs ? &found : &resting, container);
        if (runs) one = container, count++;
        else rests = container, still++;
    }
    if (!count && stopped && still == 1) one = rests, count = 1;
    if (!count && stopped && still > 1) say_many(w, still, &resting, err);
    else if (!count) say_none(w, &resting, err);
    else if (count > 1) say_many(w, count, &found, err);
    neap_buf_close(&found);
    neap_buf_close(&resting);
    return count == 1 ? one : NULL;
}
