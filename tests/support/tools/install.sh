#!/bin/sh
# install.sh: the migration tools as their lockfiles say, in build/tools, with prisma.sh and drizzle.sh beside them.
#
# Skipped aloud, and with success, when there is no npm or no registry answers: what needs a tool says so itself.
set -u
here=$(dirname "$0")
to=build/tools
npm_log=$(mktemp)
trap 'rm -f "$npm_log"' EXIT

install() { # install NAME: into $to/NAME, unless what is there came from the same files
  name=$1
  stamp=$to/$name/.installed
  mark=$(cat "$here/$name/package.json" "$here/$name/package-lock.json" | cksum)
  mkdir -p "$to/$name"
  cp -R "$here/$name/." "$to/$name/"
  cp "$here/$name.sh" "$to/$name.sh"
  chmod 755 "$to/$name.sh"
  [ -d "$to/$name/node_modules" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$mark" ] && return 0
  printf '  NPM   %s\n' "$name"
  if (cd "$to/$name" && npm ci --ignore-scripts --no-audit --no-fund) >"$npm_log" 2>&1; then
    echo "$mark" >"$stamp"
    return 0
  fi
  rm -rf "$to/$name" "$to/$name.sh"
  printf '  SKIP  %s: npm could not install it (%s)\n' "$name" "$(grep -m 1 -i 'error' "$npm_log" || echo 'no reason given')"
}

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
  echo '  SKIP  prisma and drizzle: there is no npm on this machine'
  exit 0
fi
install prisma
install drizzle
