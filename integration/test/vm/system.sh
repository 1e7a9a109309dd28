#!/bin/sh
# system.sh: build the guest's disk (build/vm/system.img), take its kernel
# (build/vm/vmlinuz) and make the ssh key that opens it. Root only.
# What is there already is kept until one of the files it is made from changes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
vm=$here/../../../build/vm
mkdir -p "$vm"
vm=$(cd "$vm" && pwd)

key=$(cat "$here/system.sh" "$here/guest/provision" | sha256sum | cut -d' ' -f1)
[ "$(cat "$vm/system.key" 2>/dev/null)" != "$key" ] || exit 0
rm -f "$vm/system.key"

packages=linux-image-cloud-amd64,systemd-sysv,udev,dbus-user-session,libpam-systemd
packages=$packages,openssh-server,iproute2,kmod,procps
packages=$packages,fuse3,python3-msal-extensions,sqlite3,git,attr,acl,make

# Where this machine gets bookworm from is where the guest gets it from;
# anywhere else mmdebstrap knows the public mirror.
sources=
for f in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
	if grep -qs bookworm "$f"; then sources="$sources $f"; fi
done

[ -f "$vm/id" ] || ssh-keygen -q -t ed25519 -N '' -C tokenfs-vm -f "$vm/id"

root=$(mktemp -d "$vm/root.XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

echo "building the guest's system, once (log: build/vm/system.log)" >&2
# The kernel has nvme and ext4 built in: it boots without an initramfs.
# shellcheck disable=SC2086 # the sources are separate words
INITRD=No mmdebstrap --variant=minbase --include=$packages \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--customize-hook="'$here/guest/provision' \"\$1\" '$vm/id.pub'" \
	bookworm "$root" $sources >"$vm/system.log" 2>&1 || {
	tail -20 "$vm/system.log" >&2
	echo "system.sh: mmdebstrap failed; all of its output is in build/vm/system.log" >&2
	exit 1
}

cp "$root"/boot/vmlinuz-* "$vm/vmlinuz.new"
mv "$vm/vmlinuz.new" "$vm/vmlinuz"
rm -f "$vm/system.img"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$vm/system.img" 2G >>"$vm/system.log"
echo "$key" >"$vm/system.key"
