#!/bin/sh
# install.sh ROOT: the binary, its manual pages, completions of three shells and the runbooks, under ROOT (DESTDIR and
# PREFIX already joined). Pages and completions come out of the binary itself, so they cannot be older than it.
set -eu
root=$1
neap=${NEAP_BINARY:-./neap}
install -D -m 755 "$neap" "$root/bin/neap"

mkdir -p "$root/share/man"
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
for page in $("$neap" man --list); do "$neap" man "$page" >"$pages/$page"; done
for page in "$pages"/*.[1-9]; do
  install -D -m 644 "$page" "$root/share/man/man${page##*.}/${page##*/}"
done

completion() { # completion SHELL FILE
  mkdir -p "$(dirname "$root/share/$2")"
  "$neap" completion "$1" >"$root/share/$2"
}
completion bash bash-completion/completions/neap
completion zsh zsh/site-functions/_neap
completion fish fish/vendor_completions.d/neap.fish

find runbooks -name '*.lua' | while read -r runbook; do
  install -D -m 644 "$runbook" "$root/share/neap/$runbook"
done
