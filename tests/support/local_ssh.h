/* local_ssh.h -- a neap_ssh whose far end is this machine. */
#ifndef NEAP_TESTS_LOCAL_SSH_H
#define NEAP_TESTS_LOCAL_SSH_H

#include "drive/ssh.h"

/* Fits neap_ssh_open_fn. */
neap_ssh *neap_test_local_open(neap_loop *loop, const neap_ssh_host *host, neap_ssh_opened_fn opened, void *arg);

#endif
