#!/bin/sh
# payload.sh: compile every package's tests and put them, with bin/tokenfs, its Debian
# package and the files of the repository, on a disk for the guest (build/vm/payload.img).
# Writes the packages that have tests to build/vm/packages, one a line.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
vm=$PWD/build/vm
mkdir -p "$vm"

if [ ! -x bin/tokenfs ]; then
	echo "payload.sh: bin/tokenfs is missing: run \`make build\` first" >&2
	exit 1
fi
module=$(go list -m)
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... |
	sed "s|^$module/||" >"$vm/packages"
while read -r kind package _; do
	[ "$kind" = test ] || [ "$kind" = leave-out ] || continue
	if ! grep -qxF "$package" "$vm/packages"; then
		echo "payload.sh: integration/test/vm/tests names $package, which has no tests: remove its line" >&2
		exit 1
	fi
done <"$here/tests"

stage=$(mktemp -d "$vm/payload.XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
export CGO_ENABLED=0

# Tests start in their package's directory and find there what they read.
git ls-files --cached --others --exclude-standard |
	while IFS= read -r file; do [ ! -e "$file" ] || printf '%s\n' "$file"; done |
	tar -cf - -T - | tar -xf - -C "$stage"
install -D -m 755 -t "$stage/bin" bin/tokenfs bin/tokenfs-pam
packaging/build.sh deb bin/tokenfs "$(git describe --always --dirty)" "$stage/bin"
go build -o "$stage/bin/demo" ./integration/test/demo
go build -o "$stage/bin/manual" ./packaging/manual
install -D -m 644 "$(go env GOROOT)/LICENSE" "$stage/bin/goroot/LICENSE"
# There is no Go in the guest: guest/go hands out what is built here.
while read -r kind tags _; do
	[ "$kind" != build ] || go build -trimpath -tags "$tags" -o "$stage/bin/tokenfs,$tags" ./cmd/tokenfs
done <"$here/tests"
while read -r package; do
	go test -c -trimpath -o "$stage/$package/vm.test" "./$package" ||
		echo "payload.sh: the tests of $package do not compile: they count as failed" >&2
done <"$vm/packages"
chown -R 1000:1000 "$stage" # alice's, who may write beside her tests as any developer

rm -f "$vm/payload.img"
size=$(($(du -sm "$stage" | cut -f1) + 256))M
mke2fs -q -t ext4 -O ^has_journal -m 0 -E root_owner=1000:1000 -d "$stage" "$vm/payload.img" "$size" >/dev/null
