#!/bin/sh
# build.sh ROOT SCRIPTS VERSION DIR: pack what is in ROOT; called by ../build.sh.
set -eu
root=$1 scripts=$2 version=$3 to=$4
case ${ARCH:-} in
amd64) target=--target=x86_64 ;;
arm64) target=--target=aarch64 ;;
*) target= ;;
esac
command -v rpmbuild >/dev/null || {
	echo "rpm/build.sh: no rpmbuild: try: apt-get install rpm, or: dnf install rpm-build" >&2
	exit 1
}

# The directories that not every system has: several packages can have the same one.
(cd "$root" && find . -type d \( -path './etc/tokenfs' -o -path './usr/*/*' ! -path ./usr/share/doc ! -path './usr/share/man*' \) |
	sort | sed 's|^\.|%dir |') >"$scripts/files"
(cd "$root" && find etc -type f | sort | sed 's|^|%config(noreplace) /|') >>"$scripts/files"
(cd "$root" && find usr -type f | sort | sed 's|^|/|') >>"$scripts/files"

find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
rpmbuild -bb --quiet $target \
	--define "_topdir $root.rpmbuild" --define "_rpmdir $(realpath "$to")" \
	--define "packed $root" --define "scripts $scripts" --define "packed_version $version" \
	"$(dirname "$0")/tokenfs.spec"
