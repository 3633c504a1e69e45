/* openlibs.c -- the table of contents of bind/. */
#include "bind/openlibs.h"

#include <stddef.h>

int neap_open_docker(lua_State *L);
int neap_open_file(lua_State *L);
int neap_open_guard(lua_State *L);
int neap_open_http(lua_State *L);
int neap_open_journal(lua_State *L);
int neap_open_keep(lua_State *L);
int neap_open_net(lua_State *L);
int neap_open_pg(lua_State *L);
int neap_open_process(lua_State *L);
int neap_open_redis(lua_State *L);
int neap_open_secret(lua_State *L);
int neap_open_sql(lua_State *L);
int neap_open_ssh(lua_State *L);
int neap_open_system(lua_State *L);
int neap_open_task(lua_State *L);
int neap_open_term(lua_State *L);
int neap_open_text(lua_State *L);
int neap_open_undofile(lua_State *L);
int neap_open_value(lua_State *L);
int neap_open_watch(lua_State *L);

const neap_opener neap_openers[] = {
    {"native.docker", neap_open_docker},
    {"native.file", neap_open_file},
    {"native.guard", neap_open_guard},
    {"native.http", neap_open_http},
    {"native.journal", neap_open_journal},
    {"native.keep", neap_open_keep},
    {"native.net", neap_open_net},
    {"native.pg", neap_open_pg},
    {"native.process", neap_open_process},
    {"native.redis", neap_open_redis},
    {"native.secret", neap_open_secret},
    {"native.sql", neap_open_sql},
    {"native.ssh", neap_open_ssh},
    {"native.system", neap_open_system},
    {"native.task", neap_open_task},
    {"native.term", neap_open_term},
    {"native.text", neap_open_text},
    {"native.undofile", neap_open_undofile},
    {"native.value", neap_open_value},
    {"native.watch", neap_open_watch},
    {NULL, NULL}};
