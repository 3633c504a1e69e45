#!/bin/sh
# deps.sh: clang with libFuzzer, which only `make fuzz` needs. Nothing is printed when it is there.
set -eu
works() { # a program that fuzzes can be linked
  dir=$(mktemp -d)
  printf 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n && 0; }\n' >"$dir/a.c"
  clang -fsanitize=fuzzer,address,undefined -o "$dir/a" "$dir/a.c" >/dev/null 2>&1
  status=$?
  rm -rf "$dir"
  return $status
}
works && exit 0
root=
[ "$(id -u)" = 0 ] || root=sudo
echo '  APT   clang libclang-rt-dev'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
$root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends clang libclang-rt-dev >"$log" 2>&1 || cat "$log" >&2
works || { echo 'fuzz: clang cannot link a fuzzer; install clang and its runtime library (compiler-rt)' >&2; exit 1; }
