#!/bin/sh
# system.sh DIR KIND: build the Debian of that kind that users log in to, in
# DIR/KIND, and the key that opens it, DIR/id. Root only. It is kept until this
# file changes.
#
#   systemd  what most have
#   desktop  that with a display manager, and logind as Debian sets it up
#   elogind  sysvinit and elogind instead of systemd
#   engines  Docker and Podman
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
kind=$2 root=$dir/$2

case $kind in
systemd) packages=polkitd,cron,sudo,tmux,screen,mosh ;;
desktop) packages=lightdm,lightdm-gtk-greeter,xvfb,xauth,x11-utils ;;
elogind) packages=sysvinit-core,elogind,libpam-elogind,polkitd ;;
engines) packages=docker.io,podman,crun,uidmap,iproute2,fuse3,procps,libcap2-bin ;;
*) echo "system.sh: no system is of kind $kind" >&2; exit 2 ;;
esac
case $kind in
systemd | desktop) packages=systemd-sysv,dbus-user-session,libpam-systemd,$packages ;;
esac
case $kind in
engines) ;;
*) packages=$packages,openssh-server,fuse3,procps,iproute2 ;;
esac

exec 9>"$dir/$kind.lock"
flock 9 # one build at a time
key=$(sha256sum <"$here/system.sh" | cut -d' ' -f1)
[ "$(cat "$root.key" 2>/dev/null)" != "$key" ] || exit 0
rm -rf "$root.key" "$root"

"$here/../packages.sh" mmdebstrap gpg mount >&2

# Where this machine gets bookworm from is where the guest gets it from;
# anywhere else mmdebstrap knows the public mirror.
sources=
for f in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
	if grep -qs bookworm "$f"; then sources="$sources $f"; fi
done

echo "building a system for the login tests ($kind), once (log: $root.log)" >&2
# In memory where there is room: it is a third faster.
work=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "$dir")/tokenfs-login.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# shellcheck disable=SC2086 # the sources are separate words
TMPDIR=$work mmdebstrap --variant=minbase --include="$packages" --format=directory \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	bookworm "$root" $sources >"$root.log" 2>&1 || {
	tail -20 "$root.log" >&2
	echo "system.sh: mmdebstrap failed; all of its output is in $root.log" >&2
	exit 1
}
done_building() {
	echo "$key" >"$root.key"
	exit
}
[ "$kind" != engines ] || done_building # nobody logs in there

(
	flock 8
	[ -f "$dir/id" ] || ssh-keygen -q -t ed25519 -N '' -C tokenfs-login -f "$dir/id"
) 8>"$dir/id.lock"
echo tokenfs-login >"$root/etc/hostname"
printf '127.0.0.1 localhost tokenfs-login\n' >"$root/etc/hosts"
# New users come with the key.
mkdir -p "$root/root/.ssh" "$root/etc/skel/.ssh"
cp "$dir/id.pub" "$root/root/.ssh/authorized_keys"
cp "$dir/id.pub" "$root/etc/skel/.ssh/authorized_keys"
chmod 700 "$root/root/.ssh" "$root/etc/skel/.ssh"
printf 'UseDNS no\nPrintMotd no\nPrintLastLog no\nMaxStartups 100\n' >"$root/etc/ssh/sshd_config.d/login.conf"
[ "$kind" != elogind ] || done_building

: >"$root/etc/machine-id" # systemd makes one up at each boot
# What wakes up by itself would run in the middle of a test.
for timer in "$root"/lib/systemd/system/*.timer; do
	systemctl --root="$root" mask -q "${timer##*/}"
done
systemctl --root="$root" mask -q console-getty.service
rm -f "$root/etc/systemd/system/display-manager.service" # a test starts it
if [ "$kind" = systemd ]; then
	# The user manager ends 2 s after the last logout instead of 10.
	mkdir -p "$root/etc/systemd/logind.conf.d"
	printf '[Login]\nUserStopDelaySec=2\n' >"$root/etc/systemd/logind.conf.d/login.conf"
fi
done_building
