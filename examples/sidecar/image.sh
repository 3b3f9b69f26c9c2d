#!/bin/sh
# Writes the root file system of a container image to standard output, as a
# tar: the given programs, each at the root under its own name, and the shared
# libraries that they are linked to. Nothing else: no shell, no users, no /etc.
# A static program brings no library.
#
#   image.sh PROGRAM… | podman import - tracegate
#   image.sh PROGRAM… | docker import - tracegate
set -eu

fail() { echo "image.sh: $*" >&2; exit 1; }

[ $# -gt 0 ] || fail "usage: image.sh PROGRAM… >root.tar"
[ ! -t 1 ] || fail "the tar goes to standard output: redirect it, or pipe it to \`podman import -\`"

umask 022 # any user may read the image
root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

# The image needs no symbols, which are most of a build's size.
stripped() {
  # Without binutils, and for a script, as it is.
  strip -o "$2" "$1" 2>/dev/null || cp "$1" "$2"
  chmod 755 "$2"
}

for program; do
  [ -f "$program" ] && [ -x "$program" ] || fail "$program is no program"
  stripped "$program" "$root/${program##*/}"
  # A line is `name => /path (address)`, or `/path (address)` for the loader
  # itself. For a static program ldd fails.
  libraries=$(ldd "$program" 2>/dev/null) || continue
  case $libraries in *'not found'*) fail "$program: a library is missing: $libraries" ;; esac
  for word in $libraries; do
    case $word in
      /*) [ -e "$root$word" ] || install -D -m 755 "$word" "$root$word" ;;
    esac
  done
done

# The same programs make the same image, whoever builds it and when.
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -c .
