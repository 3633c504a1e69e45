/* main.c -- neap: a scriptable runbook interpreter. Everything begins in cli/host.c; the commands
 * are Lua, in stdlib/command. */
#include "bind/system_lua.h"
#include "cli/host.h"

int main(int argc, char **argv) {
    neap_system_harden();
    return neap_host_run("command.main", argc, argv);
}
