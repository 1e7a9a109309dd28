#!/bin/bash
# rpm.sh: build the rpm twice, then install it, upgrade it under a mounted
# filesystem and remove it, with Debian's rpm. Root only. All that happens in a root
# directory which is this machine's, with changes kept apart and without systemd.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "${1:-}" = apart ] || exec unshare --mount --propagation private --pid --fork --kill-child integration/test/rpm.sh apart
work=$(mktemp -d)
# Nothing of it outlives this mount namespace but the directory.
mount -t tmpfs -o mode=755 none "$work"
trap 'umount --lazy "$work"; rmdir "$work"' EXIT
trap 'exit 1' HUP INT TERM
eventually() { for _ in $(seq 300); do "$@" && return; sleep 0.1; done; return 1; }
fail() { echo "FAIL: $*" >&2; exit 1; }
seen() { echo "ok: $*"; }

for v in 1.0.0 1.0.1; do
	make -s rpm VERSION=v$v >"$work/log" 2>&1 || { tail "$work/log"; fail "make rpm"; }
	mv bin/tokenfs-$v-1.*.rpm "$work/$v.rpm"
done
# From scratch, not out of go's cache of linked programs, and later.
rm -rf bin/tokenfs bin/share
make -s rpm VERSION=v1.0.1 >"$work/log" 2>&1 || { tail "$work/log"; fail "make rpm"; }
cmp bin/tokenfs-1.0.1-1.*.rpm "$work/1.0.1.rpm" || fail "two builds of the same version differ"
rm -f bin/tokenfs-1.0.1-1.*.rpm
seen "two builds of the same version are the same bytes"

make -s install DESTDIR="$work/installed" PREFIX=/usr >/dev/null
(cd "$work/installed" && find . -type f | sed 's|^\.||; s|/man/.*|&.gz|' | sort) >"$work/wanted"
rpm -qpl "$work/1.0.0.rpm" | sort >"$work/packed"
[ -z "$(comm -23 "$work/wanted" "$work/packed")" ] || fail "not in the rpm: $(comm -23 "$work/wanted" "$work/packed")"
files=$(rpm -qp --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]' "$work/1.0.0.rpm")
for want in '-rwx--x--x root:root  /usr/bin/tokenfs' '-rw-r--r-- root:root cn /etc/tokenfs/config'; do
	grep -qxF -e "$want" <<<"$files" || fail "not so in the rpm: $want"
done
rpm -qp --requires "$work/1.0.0.rpm" | grep -qx fuse3 || fail "the rpm does not require fuse3"
seen "the rpm has all that make install installs, and requires fuse3"
for _ in once again; do
	make -s uninstall DESTDIR="$work/installed" PREFIX=/usr || fail "make uninstall"
done
left=$(cd "$work/installed" && find . -type f)
[ "$left" = ./etc/tokenfs/config ] || fail "make uninstall leaves: $left"
seen "make uninstall leaves the settings, and can be run again"

root=$work/root
mkdir "$work"/{upper,work,root}
mount -t overlay -o lowerdir=/,upperdir="$work/upper",workdir="$work/work" none "$root"
mount -t proc none "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 none "$root/run"
mkdir "$root/packages"
cp "$work"/*.rpm "$root/packages"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
# Debian's packages are not in rpm's database, so it cannot find fuse3 in it.
rpm() { inside rpm --force-debian --dbpath /packages/database "$@"; }
inside useradd --create-home bob
install -d -o "$(inside id -u bob)" -m 0700 "$root/run/user/$(inside id -u bob)"
as_bob() { inside runuser -u bob -- env XDG_RUNTIME_DIR="/run/user/$(inside id -u bob)" "$@"; }
# As Fedora has it: what no preset enables is disabled.
mkdir -p "$root/usr/lib/systemd/user-preset"
echo 'disable *' >"$root/usr/lib/systemd/user-preset/99-default-disable.preset"
enabled=/etc/systemd/user/basic.target.wants/tokenfs.service

inside find /usr /etc /var -xdev | sort >"$work/before"
rpm -i --nodeps /packages/1.0.0.rpm
[ -L "$root$enabled" ] || fail "not enabled for all users"
as_bob tokenfs mount >/dev/null
as_bob sh -c 'echo token >$XDG_RUNTIME_DIR/tokenfs/cache'
seen "installed and enabled: bob has mounted $(as_bob tokenfs version)"

inside systemctl --global --quiet disable tokenfs.service
rpm -U --nodeps /packages/1.0.1.rpm
eventually as_bob sh -c 'tokenfs status --json | grep -q "\"version\": \"v1.0.1\""' || fail "no upgrade: $(as_bob tokenfs status)"
status=$(as_bob sh -c 'cat $XDG_RUNTIME_DIR/tokenfs/cache; tokenfs status --json')
[[ $status == token* && $status == *'"version": "v1.0.1"'* && $status == *'"upgrades": 1'* ]] || fail "after the upgrade: ${status:0:400}"
[ ! -L "$root$enabled" ] || fail "an upgrade enables what the administrator has disabled"
seen "an upgrade keeps bob's token, and his filesystem runs v1.0.1"

rpm -e tokenfs 2>"$work/log" || { cat "$work/log"; fail "rpm -e"; }
grep -q 'what bob has mounted ends' "$work/log" || { cat "$work/log"; fail "removal does not tell whose mount ends"; }
seen "$(grep 'has mounted ends' "$work/log")"
gone() { ! inside grep -q tokenfs /proc/mounts && ! inside sh -c 'ls -d /run/user/*/tokenfs* 2>/dev/null' && ! inside pgrep -x 'tokenfs.*'; }
eventually gone || fail "left: $(inside sh -c 'grep tokenfs /proc/mounts; ls -d /run/user/*/tokenfs*; pgrep -ax "tokenfs.*"')"
seen "removal ends bob's mount"
inside find /usr /etc /var -xdev | sort >"$work/after"
left=$(comm -13 "$work/before" "$work/after")
[ -z "$left" ] || fail "left behind: $left"
seen "removal leaves nothing"
