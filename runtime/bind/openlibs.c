/* openlibs.c -- the table of contents of bind/. */
#include "bind/openlibs.h"

#include <stddef.h>

int neap_open_guard(lua_State *L);
int neap_open_task(lua_State *L);
int neap_open_value(lua_State *L);

const neap_opener neap_openers[] = {
    {"native.guard", neap_open_guard},
    {"native.task", neap_open_task},
    {"native.value", neap_open_value},
    {NULL, NULL}};
