#!/bin/sh
# system.sh [NAME [HOOK [PACKAGE...]]]: build a guest's disk (build/NAME/system.img),
# take its kernels (build/NAME/vmlinuz-VERSION; vmlinuz is Debian 12's own) and make the
# ssh key that opens it. NAME is vm where none is given. HOOK ROOT is run when the
# PACKAGEs are there, beside what every guest has. Root only.
# What is there already is kept until one of the things it is made from changes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
vm=$here/../../../build/${1:-vm}
hook=${2:-true}
[ $# -lt 2 ] || shift 2
mkdir -p "$vm"
vm=$(cd "$vm" && pwd)

key=$({ cat "$here/system.sh" "$here/guest/provision"; [ "$hook" = true ] || cat "$hook"; echo "$@"; } | sha256sum | cut -d' ' -f1)
[ "$(cat "$vm/system.key" 2>/dev/null)" != "$key" ] || exit 0
rm -f "$vm/system.key" "$vm"/vmlinuz*

packages=linux-image-cloud-amd64,systemd-sysv,udev,dbus-user-session,libpam-systemd
packages=$packages,openssh-server,iproute2,kmod,procps
packages=$packages,fuse3,python3-msal-extensions,sqlite3,git,attr,acl,make
for package; do packages=$packages,$package; done

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

echo "building the guest's system, once (log: $vm/system.log)" >&2
# The kernel has nvme and ext4 built in: it boots without an initramfs.
# shellcheck disable=SC2086 # the sources are separate words
INITRD=No mmdebstrap --variant=minbase --include=$packages \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--customize-hook="'$here/guest/provision' \"\$1\" '$vm/id.pub'" \
	--customize-hook="'$hook' \"\$1\"" \
	bookworm "$root" $sources >"$vm/system.log" 2>&1 || {
	tail -20 "$vm/system.log" >&2
	echo "system.sh: mmdebstrap failed; all of its output is in $vm/system.log" >&2
	exit 1
}

cp "$root"/boot/vmlinuz-* "$vm/"
ln -s "$(cd "$vm" && printf '%s\n' vmlinuz-* | sort -V | head -n 1)" "$vm/vmlinuz"
rm -f "$vm/system.img"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$vm/system.img" 2G >>"$vm/system.log"
echo "$key" >"$vm/system.key"
