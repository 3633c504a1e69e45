/* sshconf_t.c -- T.known_hosts and its kin: what drive/knownhosts.c says, for the specs. Keys are base64, as in the files. */
#include <stdlib.h>
#include <string.h>

#include "drive/knownhosts.h"
#include "testlib.h"

static const char *const levels[] = {"yes", "accept-new", "no", NULL};
static const char *const words[] = {"ok", "unknown", "changed", "other type", "revoked"};

typedef struct question {
    neap_ssh_host host;
    char *files[2];
    neap_known_hosts *known;
} question;

static char *text_field(lua_State *L, const char *name) {
    lua_getfield(L, 1, name);
    return (char *)(uintptr_t)lua_tostring(L, -1);     /* lives as long as the table, which is argument 1 */
}

/* [-0, +n, e] the fields hostname port alias strict file (to learn into), and files = {paths} that are read */
static void read_question(lua_State *L, question *q) {
    neap_err err = NEAP_ERR_INIT;
    luaL_checktype(L, 1, LUA_TTABLE);
    *q = (question){.known = neap_known_hosts_new()};
    q->host.name = q->host.hostname = text_field(L, "hostname");
    if (!q->host.name) q->host.name = q->host.hostname = (char *)(uintptr_t)"host.example";
    q->host.key_alias = text_field(L, "alias");
    lua_getfield(L, 1, "port");
    q->host.port = (int)luaL_optinteger(L, -1, 22);
    const char *level = text_field(L, "strict");
    for (int i = 0; levels[i]; i++) if (level && strcmp(level, levels[i]) == 0) q->host.strict = i;
    lua_getfield(L, 1, "files");
    for (int i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING; i++, lua_pop(L, 1)) {
        if (i == 1) q->files[0] = (char *)(uintptr_t)lua_tostring(L, -1);
        if (neap_known_hosts_add_file(q->known, lua_tostring(L, -1), &err)) continue;
        lua_pushstring(L, err.message);
        neap_err_close(&err);
        neap_known_hosts_free(q->known);
        lua_error(L);
    }
    q->host.known_hosts = q->files;
}

static void decode_key(lua_State *L, neap_buf *blob) {
    const char *key = text_field(L, "key");
    if (!key || !neap_base64_decode(blob, key, strlen(key))) luaL_error(L, "key is no base64");
}

/* T.known_hosts{…, key=} -> {status, line=, file=, type=, pinned=, admitted=, message=, hint=} */
static int known_hosts(lua_State *L) {
    question q;
    neap_buf blob = NEAP_BUF_INIT;
    neap_err err = NEAP_ERR_INIT;
    read_question(L, &q);
    decode_key(L, &blob);
    neap_known_result r = neap_known_hosts_check(q.known, &q.host, (unsigned char *)blob.data, blob.len);
    lua_newtable(L);
    lua_pushstring(L, words[r.status]), lua_setfield(L, -2, "status");
    lua_pushinteger(L, r.line), lua_setfield(L, -2, "line");
    lua_pushstring(L, r.file), lua_setfield(L, -2, "file");
    lua_pushstring(L, r.type), lua_setfield(L, -2, "type");
    lua_pushstring(L, r.fingerprint), lua_setfield(L, -2, "pinned");
    lua_pushboolean(L, neap_known_hosts_admit(&q.host, &r, (unsigned char *)blob.data, blob.len, &err)), lua_setfield(L, -2, "admitted");
    lua_pushstring(L, err.message), lua_setfield(L, -2, "message");
    lua_pushstring(L, err.hint), lua_setfield(L, -2, "hint");
    neap_err_close(&err);
    neap_buf_close(&blob);
    neap_known_hosts_free(q.known);
    return 1;
}

/* T.known_algorithms{…}, algorithms -> the list to offer, the types that are pinned */
static int known_algorithms(lua_State *L) {
    question q;
    const char *given = luaL_optstring(L, 2, NULL);
    read_question(L, &q);
    char *list = neap_known_hosts_algorithms(q.known, &q.host, given), *types = neap_known_hosts_types(q.known, &q.host);
    lua_pushstring(L, list);
    lua_pushstring(L, types);
    free(list), free(types);
    neap_known_hosts_free(q.known);
    return 2;
}

/* T.known_bad{files=} -> {{line=, why=, file=}, …} */
static int known_bad(lua_State *L) {
    question q;
    read_question(L, &q);
    lua_newtable(L);
    const neap_known_bad *bad;
    for (size_t i = 0; (bad = neap_known_hosts_bad(q.known, i)); i++) {
        lua_createtable(L, 0, 3);
        lua_pushinteger(L, bad->line), lua_setfield(L, -2, "line");
        lua_pushstring(L, bad->why), lua_setfield(L, -2, "why");
        lua_pushstring(L, bad->file), lua_setfield(L, -2, "file");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    neap_known_hosts_free(q.known);
    return 1;
}

/* T.known_learn{…, key=}: append to the first file */
static int known_learn(lua_State *L) {
    question q;
    neap_buf blob = NEAP_BUF_INIT;
    neap_err err = NEAP_ERR_INIT;
    read_question(L, &q);
    decode_key(L, &blob);
    bool ok = neap_known_hosts_learn(&q.host, (unsigned char *)blob.data, blob.len, &err);
    lua_pushboolean(L, ok);
    lua_pushstring(L, err.message);
    neap_err_close(&err);
    neap_buf_close(&blob);
    neap_known_hosts_free(q.known);
    return 2;
}

/* T.fingerprint(base64) -> "SHA256:…" | nil */
static int fingerprint(lua_State *L) {
    neap_buf blob = NEAP_BUF_INIT;
    char text[NEAP_FINGERPRINT_SIZE];
    size_t len;
    const char *key = luaL_checklstring(L, 1, &len);
    bool ok = neap_base64_decode(&blob, key, len) && neap_hostkey_type_of_blob((unsigned char *)blob.data, blob.len);
    if (ok) neap_hostkey_fingerprint((unsigned char *)blob.data, blob.len, text);
    neap_buf_close(&blob);
    if (ok) lua_pushstring(L, text);
    else lua_pushnil(L);
    return 1;
}

static const luaL_Reg sshconf[] = {{"known_hosts", known_hosts}, {"known_algorithms", known_algorithms}, {"known_bad", known_bad},
                                   {"known_learn", known_learn}, {"fingerprint", fingerprint}, {NULL, NULL}};
NEAP_TEST_LIBRARY(sshconf)
