/* signal.h -- signals as news on the loop, and the way out when the loop does not turn.
 *
 * A real handler counts without the loop. The third of INT, TERM and QUIT in a run, or a second one when the first has
 * not been taken up for 5 seconds, ends the process at once by the signal's default action (128+n): the
 * journal already has the intents. Everything else reaches the callback on the loop. */
#ifndef NEAP_BIND_SIGNAL_H
#define NEAP_BIND_SIGNAL_H

#include "base/err.h"
#include "loop/loop.h"

/* `count`: how many stopping signals so far, for HUP and WINCH how many of that one. */
typedef void (*neap_signal_fn)(int signal, int count);

/* Take over INT, TERM, QUIT and HUP (an inherited "ignore" stays), and WINCH. Two callers may register: one for the
 * stopping signals, one for WINCH. NULL gives a group back. */
bool neap_signal_on_stop(neap_loop *loop, neap_signal_fn fn, neap_err *err);
bool neap_signal_on_resize(neap_loop *loop, neap_signal_fn fn, neap_err *err);

/* Restore the terminal and end by this signal. Safe in a handler. */
void neap_signal_die(int signal) __attribute__((noreturn));

#endif
