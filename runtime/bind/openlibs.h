/* openlibs.h -- every native module. */
#ifndef NEAP_BIND_OPENLIBS_H
#define NEAP_BIND_OPENLIBS_H

#include "script/state.h"

extern const neap_opener neap_openers[];

#endif
