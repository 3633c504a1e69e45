/* main.c -- neap: a scriptable runbook interpreter. Everything begins in cli/host.c; the commands
 * are Lua, in stdlib/command. */
#include <malloc.h>

#include "bind/system_lua.h"
#include "cli/host.h"

int main(int argc, char **argv) {
    mallopt(M_ARENA_MAX, 1);     /* the pool's threads wait for disks; an arena for each of them costs half a megabyte */
    neap_system_harden();
    return neap_host_run("command.main", argc, argv);
}
