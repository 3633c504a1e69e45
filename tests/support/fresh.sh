#!/bin/sh
# fresh.sh: does a machine that has nothing get from a clone to `make demo` and `make test`?
#
# Makes a Debian of this machine's release in a directory, with this machine's apt sources, certificates and npm
# configuration, clones the committed state of this repository into it and runs each target in a copy of that system, so
# that each alone has to bring what it needs.
# FRESH_TARGETS="demo test" names the targets; FRESH_RELEASE=trixie takes another release from the same mirror.
# Mounts live in a mount namespace and processes in a process namespace, so an interrupt leaves neither.
set -eu
[ "$(id -u)" = 0 ] || { echo 'check-fresh: only root can make a chroot' >&2; exit 1; }
for program in debootstrap unshare git; do
  command -v $program >/dev/null || { echo "check-fresh: needs $program (apt-get install debootstrap util-linux git)" >&2; exit 1; }
done
. /etc/os-release
release=${FRESH_RELEASE:-$VERSION_CODENAME}

work=$(mktemp -d "${FRESH_DIR:-/var/tmp}/neap-fresh.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mirror() {
  apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' | awk -v suite="$VERSION_CODENAME" '$1 == suite { print $2; exit }'
}

copy() { # copy PATH...: what exists of it, to the same place in the base
  for path; do
    [ -e "$path" ] || continue
    mkdir -p "$base$(dirname "$path")"
    cp -aL "$path" "$base$(dirname "$path")/"
  done
}

make_base() {
  base=$work/base
  printf '  FRESH %s\n' "$release"
  debootstrap --variant=minbase --include=ca-certificates,make "$release" "$base" "$(mirror)" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; exit 1; }
  if [ "$release" = "$VERSION_CODENAME" ]; then
    rm -f "$base/etc/apt/sources.list"
    copy /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/keyrings /etc/apt/trusted.gpg.d /etc/apt/preferences.d /usr/share/keyrings
  fi
  copy /etc/resolv.conf /etc/hosts /etc/npmrc /etc/ssl/certs/ca-certificates.crt
  [ -e "$HOME/.npmrc" ] && cp "$HOME/.npmrc" "$base/root/.npmrc"
  printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
  chmod 755 "$base/usr/sbin/policy-rc.d"
  git clone --quiet --no-hardlinks . "$base/root/neap"
}

# In namespaces of its own: /proc, /dev and a shared memory of the chroot, then the target.
INSIDE='
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  mount -t tmpfs tmpfs "$1/dev/shm"
  exec env -u TMPDIR HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$1" sh -c "cd /root/neap && exec make $2"
'

run_target() { # run_target NAME: its status
  printf '  FRESH make %s\n' "$1"
  cp -a "$work/base" "$work/$1"
  status=0
  unshare --mount --pid --fork --kill-child --propagation private sh -euc "$INSIDE" fresh "$work/$1" "$1" || status=$?
  rm -rf --one-file-system "${work:?}/$1"
  return $status
}

make_base
failed=
for target in ${FRESH_TARGETS:-demo test}; do
  run_target "$target" || failed="$failed $target"
done
[ -z "$failed" ] || { echo "check-fresh: failed:$failed"; exit 1; }
echo 'check-fresh: a fresh system passes'
