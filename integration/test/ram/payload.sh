#!/bin/sh
# payload.sh: put a test build of tokenfs, all that belongs to it, and the programs of
# the RAM proof on a disk for the guest (build/ram/payload.img). Wants bin/tokenfs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
vm=$PWD/build/ram
stage=$(mktemp -d "$vm/payload.XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
export CGO_ENABLED=0

mkdir "$stage/bin"
make -s install DESTDIR="$stage/install" >/dev/null
go build -trimpath -tags tokenfs_reveal -ldflags "-s -w -X main.releaseVersion=$(git describe --tags --always --dirty)" \
	-o "$stage/bin/tokenfs" ./cmd/tokenfs
install -m 711 "$stage/bin/tokenfs" "$stage/install/usr/local/bin/tokenfs"
go build -trimpath -ldflags '-s -w' -o "$stage/bin/tell" ./integration/test/ram/guest/tell
# No libc, no vector registers, no stack protector's canary: nothing but the source.
gcc -O1 -g0 -static -nostdlib -nostartfiles -ffreestanding -fno-builtin -fno-tree-vectorize \
	-fno-stack-protector -mgeneral-regs-only -fno-pie -no-pie -fno-asynchronous-unwind-tables \
	-Wall -Wextra -Werror -o "$stage/bin/app" "$here/guest/app/app.c"
install -m 755 -t "$stage/bin" "$here/guest/each" "$here/guest/rivals"
chmod 755 "$stage"

rm -f "$vm/payload.img"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$stage" "$vm/payload.img" 96M >/dev/null
go build -o "$vm/ram" ./integration/test/ram
