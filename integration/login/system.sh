#!/bin/sh
# system.sh DIR: build the Debian that the login tests boot, in DIR/root, and the
# key that opens it, DIR/id. Root only. It is kept until this file changes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

exec 9>"$dir/lock"
flock 9 # one build at a time
key=$(sha256sum <"$here/system.sh" | cut -d' ' -f1)
[ "$(cat "$dir/root.key" 2>/dev/null)" != "$key" ] || exit 0
rm -rf "$dir/root.key" "$dir/root"

"$here/../packages.sh" mmdebstrap gpg mount >&2

packages=systemd-sysv,dbus-user-session,libpam-systemd,openssh-server,fuse3
packages=$packages,polkitd,cron,sudo,tmux,screen,mosh,procps,iproute2

# Where this machine gets bookworm from is where the guest gets it from;
# anywhere else mmdebstrap knows the public mirror.
sources=
for f in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
	if grep -qs bookworm "$f"; then sources="$sources $f"; fi
done

[ -f "$dir/id" ] || ssh-keygen -q -t ed25519 -N '' -C tokenfs-login -f "$dir/id"

echo "building the system of the login tests, once (log: $dir/system.log)" >&2
# In memory where there is room: it is a third faster.
work=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "$dir")/tokenfs-login.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# shellcheck disable=SC2086 # the sources are separate words
TMPDIR=$work mmdebstrap --variant=minbase --include=$packages --format=directory \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	bookworm "$dir/root" $sources >"$dir/system.log" 2>&1 || {
	tail -20 "$dir/system.log" >&2
	echo "system.sh: mmdebstrap failed; all of its output is in $dir/system.log" >&2
	exit 1
}

root=$dir/root
echo tokenfs-login >"$root/etc/hostname"
printf '127.0.0.1 localhost tokenfs-login\n' >"$root/etc/hosts"
: >"$root/etc/machine-id" # systemd makes one up at each boot
# What wakes up by itself would run in the middle of a test.
for timer in "$root"/lib/systemd/system/*.timer; do
	systemctl --root="$root" mask -q "${timer##*/}"
done
systemctl --root="$root" mask -q console-getty.service
mkdir -p "$root/root/.ssh" "$root/etc/skel/.ssh"
# New users come with the key.
cp "$dir/id.pub" "$root/root/.ssh/authorized_keys"
cp "$dir/id.pub" "$root/etc/skel/.ssh/authorized_keys"
chmod 700 "$root/root/.ssh" "$root/etc/skel/.ssh"
printf 'UseDNS no\nPrintMotd no\nPrintLastLog no\nMaxStartups 100\n' >"$root/etc/ssh/sshd_config.d/login.conf"
# The user manager ends 2 s after the last logout instead of 10.
mkdir -p "$root/etc/systemd/logind.conf.d"
printf '[Login]\nUserStopDelaySec=2\n' >"$root/etc/systemd/logind.conf.d/login.conf"
echo "$key" >"$dir/root.key"
