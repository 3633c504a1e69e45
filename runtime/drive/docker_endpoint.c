/* docker_endpoint.c -- see docker_endpoint.h. The order is docker/cli's resolveContextName, the addresses are its ParseHost and
 * connhelper/ssh, the files are those of its context store: contexts/meta/<sha256 of the name>/meta.json beside contexts/tls/. */
#include "drive/docker_endpoint.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"

#define LOCAL "/var/run/docker.sock"

enum { PORT_PLAIN = 2375, PORT_TLS = 2376, CONFIG_SIZE = 4 << 20 };

void neap_docker_endpoint_close(neap_docker_endpoint *e) {
    free(e->path), free(e->host), free(e->user), free(e->ca), free(e->cert), free(e->key), free(e->source);
    *e = (neap_docker_endpoint){0};
}

static const char *env(const neap_docker_where *w, const char *name) {
    const char *value = w->env(w->arg, name);
    return value && *value ? value : NULL;
}

static char *join(const char *dir, const char *name) { return neap_asprintf("%s/%s", dir, name); }

/* Addresses ---------------------------------------------------------------------------------------- */

static bool refuse(neap_err *err, const char *text, const char *why) {
    return neap_err_set(err, NEAP_E_CONFIG, "\"%s\" is no address of an Engine: %s", text, why);
}

static bool read_port(const char *text, int *port) {
    char *end;
    long value = strtol(text, &end, 10);
    *port = (int)value;
    return *text >= '0' && *text <= '9' && !*end && value > 0 && value < 65536;
}

/* "host", "host:port", "[::1]:port", ":port" */
static bool read_authority(neap_docker_endpoint *e, const char *text, size_t len, const char *whole, neap_err *err) {
    char *copy = neap_strndup(text, len), *host = copy, *colon = strrchr(copy, ':');
    bool good = true;
    if (*copy == '[') {
        char *close = strchr(copy, ']');
        good = close && (!close[1] || close[1] == ':');
        host = copy + 1;
        colon = good && close[1] ? close + 1 : NULL;
        if (close) *close = 0;
    } else if (colon && strchr(copy, ':') != colon) {
        good = false;
    }
    if (good && colon) *colon = 0;
    if (good && colon && colon[1]) good = read_port(colon + 1, &e->port);
    if (good) e->host = neap_strdup(*host ? host : "localhost");
    free(copy);
    return good || refuse(err, whole, "the port is no port");
}

static bool read_tcp(neap_docker_endpoint *e, const char *at, const char *whole, bool tls, neap_err *err) {
    size_t len = strcspn(at, "/?#");
    e->scheme = NEAP_DOCKER_TCP;
    e->port = tls ? PORT_TLS : PORT_PLAIN;
    if (memchr(at, '@', len)) return refuse(err, whole, "a user has no place in it");
    if (at[len] && strcmp(at + len, "/") != 0) return refuse(err, whole, "a path behind the port is not supported");
    return read_authority(e, at, len, whole, err);
}

static bool read_ssh(neap_docker_endpoint *e, const char *at, const char *whole, neap_err *err) {
    size_t len = strcspn(at, "/?#");
    const char *user = memchr(at, '@', len);
    e->scheme = NEAP_DOCKER_SSH;
    if (user && memchr(at, ':', (size_t)(user - at))) return neap_err_set(err, NEAP_E_CONFIG, "an Engine's ssh address must not hold a password");
    if (strpbrk(at, "?#")) return refuse(err, whole, "ssh takes neither a query nor a fragment");
    if (user) e->user = neap_strndup(at, (size_t)(user - at));
    if (at[len] && at[len + 1]) e->path = neap_strdup(at + len);
    if (user) len -= (size_t)(user + 1 - at), at = user + 1;
    if (!len || *at == ':') return refuse(err, whole, "it names no host");
    if (*at == '-') return refuse(err, whole, "the host begins with a dash");
    return read_authority(e, at, len, whole, err);
}

bool neap_docker_endpoint_read(neap_docker_endpoint *out, const char *text, bool tls, neap_err *err) {
    neap_docker_endpoint e = {.scheme = NEAP_DOCKER_UNIX};
    const char *colon = strstr(text, "://"), *at = colon ? colon + 3 : text;
    size_t len = colon ? (size_t)(colon - text) : 0;
    bool good;
    if (colon && len == 4 && strncmp(text, "unix", len) == 0) good = true, e.path = neap_strdup(*at ? at : LOCAL);
    else if (!colon || (len == 3 && strncmp(text, "tcp", len) == 0)) good = *text ? read_tcp(&e, at, text, tls, err) : refuse(err, text, "it is empty");
    else if (len == 3 && strncmp(text, "ssh", len) == 0) good = read_ssh(&e, at, text, err);
    else good = neap_err_set(err, NEAP_E_UNSUPPORTED, "an Engine cannot be reached by \"%.*s\"", (int)len, text) || neap_err_hint(err, "Known are unix://, tcp:// and ssh://.");
    if (good && e.scheme == NEAP_DOCKER_UNIX && *e.path != '/') good = refuse(err, text, "the path of the socket is not absolute");
    if (good) *out = e;
    else neap_docker_endpoint_close(&e);
    return good;
}

/* Files -------------------------------------------------------------------------------------------- */

/* The object in a JSON file. NULL without err: there is no such file. */
static json_t *read_json(const char *path, neap_err *err) {
    FILE *file = fopen(path, "re");
    if (!file) {
        if (errno != ENOENT && errno != ENOTDIR) neap_err_set(err, NEAP_E_CONFIG, "%s cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    neap_buf text = NEAP_BUF_INIT;
    size_t got = 1;
    while (got && text.len <= CONFIG_SIZE) {
        got = fread(neap_buf_room(&text, 4096), 1, 4096, file);
        text.len += got;
    }
    json_error_t where;
    json_t *object = json_loadb(text.data, text.len, 0, &where);
    if (!json_is_object(object)) {
        neap_err_set(err, NEAP_E_CONFIG, "%s is not a JSON object (line %d)", path, object ? 1 : where.line);
        json_decref(object);
        object = NULL;
    }
    neap_buf_wipe(&text);                            /* config.json holds the credentials of registries */
    fclose(file);
    return object;
}

static char *existing(const char *dir, const char *name) {
    char *path = join(dir, name);
    if (access(path, F_OK) == 0) return path;
    free(path);
    return NULL;
}

static void find_certificates(neap_docker_endpoint *e, const char *dir) {
    e->ca = existing(dir, "ca.pem");
    e->cert = existing(dir, "cert.pem");
    e->key = existing(dir, "key.pem");
}

static char *config_dir(const neap_docker_where *w) {
    if (w->config) return neap_strdup(w->config);
    if (env(w, "DOCKER_CONFIG")) return neap_strdup(env(w, "DOCKER_CONFIG"));
    return join(env(w, "HOME") ? env(w, "HOME") : "", ".docker");
}

/* Contexts ----------------------------------------------------------------------------------------- */

/* No file: an address (NULL: the local socket), with TLS as the variables say. */
static bool find_plain(neap_docker_endpoint *out, const neap_docker_where *w, const char *dir, const char *host, const char *source, neap_err *err) {
    bool verify = env(w, "DOCKER_TLS_VERIFY") != NULL, tls = verify || env(w, "DOCKER_TLS") != NULL;
    const char *local = tls ? "tcp://localhost:2376" : "unix://" LOCAL;
    if (!neap_docker_endpoint_read(out, host ? host : local, tls, err)) return false;
    out->source = neap_strdup(source);
    out->verify = true;
    if (!tls || out->scheme != NEAP_DOCKER_TCP) return true;
    out->tls = true;
    out->verify = verify;
    find_certificates(out, env(w, "DOCKER_CERT_PATH") ? env(w, "DOCKER_CERT_PATH") : dir);
    return true;
}

static bool is_context_name(const char *name) {
    for (const char *c = name; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!plain && (c == name || !strchr("_.+-", *c))) return false;
    }
    return strlen(name) >= 2;
}

static bool no_context(neap_err *err, const char *name, const char *dir, const char *source) {
    neap_err_set(err, NEAP_E_CONFIG, "there is no docker context \"%s\" in %s (asked for by %s)", name, dir, source);
    return neap_err_hint(err, "`docker context ls` shows the contexts there are.");
}

static bool read_context(neap_docker_endpoint *out, const char *dir, const char *id, const char *name, const char *source, neap_err *err) {
    neap_buf path = NEAP_BUF_INIT;
    neap_buf_addf(&path, "%s/contexts/meta/%s/meta.json", dir, id);
    neap_err bad = NEAP_ERR_INIT;
    json_t *meta = read_json(path.data, &bad), *docker = json_object_get(json_object_get(meta, "Endpoints"), "docker");
    const char *host = json_string_value(json_object_get(docker, "Host"));
    bool skip = json_is_true(json_object_get(docker, "SkipTLSVerify")), good = false;
    if (bad.code) neap_err_move(err, &bad);
    else if (!meta) no_context(err, name, dir, source);
    else if (!docker) neap_err_set(err, NEAP_E_CONFIG, "the docker context \"%s\" holds no endpoint of an Engine", name);
    else good = neap_docker_endpoint_read(out, host && *host ? host : "unix://" LOCAL, false, err);
    neap_buf_clear(&path);
    neap_buf_addf(&path, "%s/contexts/tls/%s/docker", dir, id);
    if (good) {
        find_certificates(out, path.data);
        out->tls = out->scheme == NEAP_DOCKER_TCP && (skip || out->ca || out->cert || out->key);
        out->verify = !skip;
    }
    json_decref(meta);
    neap_buf_close(&path);
    return good;
}

static bool find_context(neap_docker_endpoint *out, const neap_docker_where *w, const char *dir, const char *name, const char *source, neap_err *err) {
    unsigned char digest[NEAP_HASH_SIZE];
    char id[NEAP_HASH_HEX_SIZE];
    if (strcmp(name, "default") == 0) {
        const char *host = env(w, "DOCKER_HOST");
        return find_plain(out, w, dir, host, host ? "DOCKER_HOST" : "the default context", err);
    }
    if (!is_context_name(name)) return neap_err_set(err, NEAP_E_CONFIG, "\"%s\" is no name of a docker context (asked for by %s)", name, source);
    neap_hash_of(name, strlen(name), digest);
    neap_hash_hex(digest, id);
    if (!read_context(out, dir, id, name, source, err)) return false;
    out->source = neap_asprintf("context %s (%s)", name, source);
    return true;
}

static bool find(neap_docker_endpoint *out, const neap_docker_where *w, const char *dir, neap_err *err) {
    neap_err bad = NEAP_ERR_INIT;
    if (w->host && w->context) return neap_err_set(err, NEAP_E_CONFIG, "a context and an address of an Engine are given; only one can be meant");
    if (w->host) return find_plain(out, w, dir, w->host, "the inventory", err);
    if (w->context) return find_context(out, w, dir, w->context, "the inventory", err);
    if (env(w, "DOCKER_HOST")) return find_plain(out, w, dir, env(w, "DOCKER_HOST"), "DOCKER_HOST", err);
    if (env(w, "DOCKER_CONTEXT")) return find_context(out, w, dir, env(w, "DOCKER_CONTEXT"), "DOCKER_CONTEXT", err);
    char *path = join(dir, "config.json");
    json_t *config = read_json(path, &bad);
    const char *current = json_string_value(json_object_get(config, "currentContext"));
    bool good = false;
    if (bad.code) neap_err_move(err, &bad);
    else if (current && *current) good = find_context(out, w, dir, current, "config.json", err);
    else good = find_plain(out, w, dir, NULL, "the default", err);
    json_decref(config);
    free(path);
    return good;
}

bool neap_docker_endpoint_find(neap_docker_endpoint *out, const neap_docker_where *where, neap_err *err) {
    char *dir = config_dir(where);
    bool good = find(out, where, dir, err);
    free(dir);
    return good;
}
