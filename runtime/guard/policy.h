/* policy.h -- what is never run in a protected environment, whoever asks and whatever flag is given. */
#ifndef NEAP_GUARD_POLICY_H
#define NEAP_GUARD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "guard/guard.h"

/* Is this act held against the rules at all? Commands of every kind, those that are declared to be reads too, and Redis. */
bool neap_policy_concerns(neap_primitive primitive);
/* Does no rule forbid this spelling of it? False and err (REFUSED, by the rule's name, with the reason and what to do instead). */
bool neap_policy_check(const char *spelling, neap_err *err);
/* The rules one by one, for the manual and the tests: NULL behind the last. */
const char *neap_policy_name(size_t index, const char **why);

#endif
