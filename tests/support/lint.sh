#!/bin/sh
# lint.sh: what the compiler does not say. The build before this was made with -Werror.
set -u
failed=0
check() { # check NAME COMMAND...
  printf '  LINT  %s\n' "$1"; shift
  "$@" || failed=1
}

# ctuuninitvar takes a function that fills a structure for one that reads it; gcc and the sanitizers see the real case.
check cppcheck cppcheck --quiet --std=c11 --language=c --inline-suppr --error-exitcode=1 --enable=warning,performance,portability \
  --suppress=missingIncludeSystem --suppress=missingInclude --suppress=ctuuninitvar \
  -D_GNU_SOURCE -DNEAP_VERSION='"0"' -DNEAP_SHARE='"/"' -DNEAP_PG_QUERY='"libpg_query.so"' -DNEAP_HIREDIS='"libhiredis.so"' -I runtime -I tests/support -I tests/fuzz runtime tests/support tests/fuzz
check luacheck luacheck --quiet --no-color --config tests/luacheckrc stdlib tests runbooks
check floors lua5.4 tests/support/floors.lua
for script in .ci/run tests/support/*.sh tests/support/tools/*.sh tests/support/servers/*.sh tests/fuzz/*.sh; do check "$script" sh -n "$script"; done
exit $failed
