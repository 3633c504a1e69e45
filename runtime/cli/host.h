/* host.h -- the process: loop, guard, Lua state, and the one task that is the command. */
#ifndef NEAP_CLI_HOST_H
#define NEAP_CLI_HOST_H

/* Run module `entry` (a function of the argument list) to its end; its exit code. */
int neap_host_run(const char *entry, int argc, char **argv);

#endif
