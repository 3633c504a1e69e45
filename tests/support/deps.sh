#!/bin/sh
# deps.sh: make sure that everything is there which building, testing and showing neap needs.
#
# Asks for each thing itself (a header, a program, a Lua module), not for a package, so that a compiler or a node from
# elsewhere counts; installs only what is missing, with apt-get of Debian 12 or 13, through sudo when not root.
# Nothing is printed and nothing is asked of the network when all is there.
set -eu

missing= client=
need() { # need PACKAGE TEST...: the package is missing when the test fails
  package=$1; shift
  if ! "$@" >/dev/null 2>&1; then missing="$missing $package"; fi
}
program() { command -v "$1"; }
library() { pkg-config --exists "$1"; }
lua_module() { lua5.4 -e "require '$1'"; }
postgres() { ls /usr/lib/postgresql/*/bin/postgres; }

need gcc program gcc
need libc6-dev test -e /usr/include/stdlib.h
need make program make
need git program git
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
need pkg-config program pkg-config
need lua5.4 program lua5.4
need liblua5.4-dev library lua5.4
need libuv1-dev library libuv
need libpq-dev library libpq
need libsqlite3-dev library sqlite3
need libssl-dev library libssl
need libssh2-1-dev library libssh2
need libhiredis-dev library hiredis
need libcurl4-openssl-dev library libcurl
need libzstd-dev library libzstd
need zlib1g-dev library zlib
need libjansson-dev library jansson
need libutf8proc-dev library libutf8proc
need libpg-query-dev test -e /usr/include/pg_query.h
need postgresql postgres
need redis-server program redis-server
need redis-tools program redis-cli
need openssh-client program ssh
need openssh-server test -x /usr/sbin/sshd
need openssl program openssl
need sudo program sudo
need libssh-dev library libssh
need docker.io test -x /usr/sbin/dockerd -o -x /usr/bin/dockerd
program docker >/dev/null || client=yes               # a part of docker.io, or a package beside it: asked again below
need containerd program containerd
need runc test -x /usr/sbin/runc -o -x /usr/bin/runc
need iptables test -x /usr/sbin/iptables
need iproute2 program ip
need busybox-static test -x /bin/busybox
need dash program dash
need zstd program zstd
need lua-busted lua_module busted.runner
need lua-check program luacheck
need cppcheck program cppcheck
need gcovr program gcovr
need strace program strace
need procps program ps
need nodejs program node
program node >/dev/null && need npm program npm      # some packages of nodejs bring npm along: asked again below

[ -n "$missing$client" ] || exit 0

if [ ! -e /etc/debian_version ]; then
  echo "deps: this is no Debian; install by hand what these packages hold:$missing" >&2
  exit 1
fi
root=
if [ "$(id -u)" != 0 ]; then
  root=sudo
  if ! command -v sudo >/dev/null; then
    echo "deps: not root and no sudo; ask an administrator for: apt-get install$missing" >&2
    exit 1
  fi
fi

# The tests start servers of their own; the package must not make and start one.
case $missing in *postgresql*)
  $root mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' | $root tee /etc/postgresql-common/createcluster.d/no-main.conf >/dev/null ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; }
install() { # install PACKAGE...
  echo "  APT   $*"
  apt install -y --no-install-recommends "$@" && return 0
  tail -n 30 "$log" >&2
  echo "deps: apt-get could not install: $*" >&2
  return 1
}
apt update || echo 'deps: apt-get update failed; going on with what is known' >&2
[ -z "$missing" ] || install $missing
if ! program npm >/dev/null; then install npm; fi
if ! program docker >/dev/null; then install docker-cli; fi
