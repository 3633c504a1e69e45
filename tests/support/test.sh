#!/bin/sh
# test.sh INTERPRETER BINARY: run every suite, show what fails and what is skipped, end with one line of counts.
#
# A suite writes "passed failed skipped state" into its count file while it runs. A state other than "done" means that the
# interpreter died or the time limit ended it: that is one more failure, with the name of the test that ran.
set -u
interpreter=$1 NEAP_BINARY=$2
export NEAP_BINARY
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
passed=0 failed=0 skipped=0

suite() { # suite NAME COMMAND...
  name=$1; shift
  printf '  TEST  %s\n' "$name"
  NEAP_TEST_COUNTS=$counts/$name timeout --foreground --kill-after=20 "${NEAP_TEST_LIMIT:-40m}" "$@"
  code=$?
  p=0 f=0 s=0 state='not started'
  [ -f "$counts/$name" ] && read -r p f s state <"$counts/$name"
  if [ "$state" != 'done' ]; then
    printf '\nFAIL  suite %s ended with status %s: %s\n' "$name" "$code" "$state"
    f=$((f + 1))
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

suite specs "$interpreter" tests/support/busted.lua ${NEAP_TEST_FILES:-}

printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed -eq 0 ]
