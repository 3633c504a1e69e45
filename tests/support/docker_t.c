/* docker_t.c -- the parsers of drive/docker*.c and drive/http1_parse.c, given bytes in pieces; and the choice of an Engine. */
#include <stdlib.h>
#include <string.h>

#include "drive/docker_endpoint.h"
#include "drive/docker_frames.h"
#include "drive/docker_log.h"
#include "drive/http1_parse.h"
#include "script/raise.h"
#include "testlib.h"

/* T.http1(bytes, piece[, bodiless]) -> {status=, length=, body=, left=, chunks of what it told: "head body end"} | nil, why */
static int http1(lua_State *L) {
    static const char *const lengths[] = {"none", "length", "chunked", "close"};
    size_t len, piece = (size_t)luaL_checkinteger(L, 2), at = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    neap_http1_parse p;
    neap_http1_event event = NEAP_HTTP1_MORE;
    neap_buf body = NEAP_BUF_INIT;
    neap_http1_parse_init(&p, lua_toboolean(L, 3));
    int heads = 0;
    while (event != NEAP_HTTP1_BAD && event != NEAP_HTTP1_END && event != NEAP_HTTP1_UPGRADED) {
        size_t n = len - at < piece ? len - at : piece;
        char *copy = neap_alloc(n + 1);              /* of its own, so that a sanitizer sees a step too far */
        memcpy(copy, bytes + at, n);
        size_t took = neap_http1_step(&p, copy, n, &event);
        if (event == NEAP_HTTP1_BODY) neap_buf_add(&body, p.body, p.body_len);
        if (event == NEAP_HTTP1_GOT_HEAD) heads++;
        free(copy);
        at += took;
        if (event == NEAP_HTTP1_MORE && at == len) event = neap_http1_step_end(&p);
    }
    if (event == NEAP_HTTP1_BAD) {
        lua_pushnil(L);
        lua_pushstring(L, p.why);
    } else {
        size_t header_len = 0;
        const char *header = neap_http1_header(&p, "x-test", &header_len);
        lua_createtable(L, 0, 6);
        lua_pushinteger(L, p.status), lua_setfield(L, -2, "status");
        lua_pushinteger(L, heads), lua_setfield(L, -2, "heads");
        lua_pushstring(L, lengths[p.length]), lua_setfield(L, -2, "length");
        lua_pushlstring(L, body.data ? body.data : "", body.len), lua_setfield(L, -2, "body");
        lua_pushlstring(L, bytes + at, len - at), lua_setfield(L, -2, "rest");
        if (header) lua_pushlstring(L, header, header_len), lua_setfield(L, -2, "header");
    }
    neap_buf_close(&body);
    neap_http1_parse_close(&p);
    return event == NEAP_HTTP1_BAD ? 2 : 1;
}

/* T.docker_frames(bytes, piece) -> {out=, err=, system=, whole=} | nil: no frames */
static int frames(lua_State *L) {
    size_t len, piece = (size_t)luaL_checkinteger(L, 2), at = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    neap_docker_frames f = {0};
    neap_docker_event event = NEAP_DOCKER_MORE;
    neap_buf out[4] = {{0}};
    while (at < len && event != NEAP_DOCKER_NOT_FRAMES) {
        at += neap_docker_frames_step(&f, bytes + at, len - at < piece ? len - at : piece, &event);
        if (event == NEAP_DOCKER_BYTES || event == NEAP_DOCKER_SYSTEM) neap_buf_add(&out[f.stream], f.data, f.len);
    }
    lua_createtable(L, 0, 4);
    for (int i = 1; i < 4; i++) {
        lua_pushlstring(L, out[i].data ? out[i].data : "", out[i].len);
        lua_setfield(L, -2, (const char *[]){"", "out", "err", "system"}[i]);
    }
    lua_pushboolean(L, neap_docker_frames_is_whole(&f)), lua_setfield(L, -2, "whole");
    for (int i = 0; i < 4; i++) neap_buf_close(&out[i]);
    if (event == NEAP_DOCKER_NOT_FRAMES) lua_pushnil(L);
    return 1;
}

static const char *env_of(void *arg, const char *name) {
    lua_State *L = arg;
    lua_getfield(L, 1, name);
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1);
    return value;
}

static void set_text(lua_State *L, const char *name, const char *value) {
    if (!value) return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

/* T.docker_endpoint(env, {host=, context=, config=}) -> table | nil, err */
static int endpoint(lua_State *L) {
    const char *given[3], *const names[] = {"host", "context", "config"};
    neap_err err = NEAP_ERR_INIT;
    neap_docker_endpoint e = {0};
    for (int i = 0; i < 3; i++) lua_getfield(L, 2, names[i]), given[i] = lua_tostring(L, -1);
    neap_docker_where where = {given[0], given[1], given[2], env_of, L};
    if (!neap_docker_endpoint_find(&e, &where, &err)) return neap_fail(L, &err);
    lua_createtable(L, 0, 8);
    set_text(L, "scheme", ((const char *const[]){"unix", "tcp", "ssh"})[e.scheme]);
    set_text(L, "path", e.path), set_text(L, "host", e.host), set_text(L, "user", e.user), set_text(L, "source", e.source);
    set_text(L, "ca", e.ca), set_text(L, "cert", e.cert), set_text(L, "key", e.key);
    if (e.port) lua_pushinteger(L, e.port), lua_setfield(L, -2, "port");
    if (e.tls) lua_pushstring(L, e.verify ? "verified" : "not verified"), lua_setfield(L, -2, "tls");
    neap_docker_endpoint_close(&e);
    return 1;
}

/* T.docker_time(text) -> "seconds.nanoseconds" | nil */
static int docker_time(lua_State *L) {
    char out[NEAP_DOCKER_TIME_SIZE];
    if (neap_docker_time(luaL_checkstring(L, 1), out)) lua_pushstring(L, out);
    else lua_pushnil(L);
    return 1;
}

static const luaL_Reg docker[] = {{"http1", http1}, {"docker_frames", frames}, {"docker_endpoint", endpoint}, {"docker_time", docker_time}, {NULL, NULL}};
NEAP_TEST_LIBRARY(docker)
