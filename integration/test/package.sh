#!/bin/bash
# package.sh: install the Debian package on a Debian that has never seen it, log
# in, upgrade it under a mounted filesystem, remove it. Root only; the machine is
# that of the login tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/build/login
work=$(mktemp -d)
name=tokenfs-package-$$
container=
inside() { nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
as_alice() {
	nsenter --target "$leader" --net ssh -F none -i "$cache/id" -o BatchMode=yes -o LogLevel=ERROR -o ConnectTimeout=10 \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "$@"
}
end() {
	[ ! -s "$work/sleeper" ] || xargs kill <"$work/sleeper" 2>/dev/null || :
	[ -z "$container" ] || { inside systemctl poweroff 2>/dev/null || :; wait "$container" 2>/dev/null || :; }
	rm -rf "$work"
	unshare --mount --propagation private sh -c \
		"mount -t cgroup2 none /sys/fs/cgroup && find /sys/fs/cgroup/$name -depth -type d -exec rmdir {} +" 2>/dev/null || :
}
trap end EXIT
trap 'exit 1' HUP INT TERM
eventually() { for _ in $(seq 300); do "$@" && return; sleep 0.1; done; return 1; }
fail() { echo "FAIL: $*" >&2; exit 1; }
seen() { echo "ok: $*"; }

for v in v1.0.0 v1.0.1; do
	make -s deb VERSION=$v >"$work/log" 2>&1 || { tail "$work/log"; fail "make deb"; }
	mv bin/tokenfs_${v#v}_*.deb "$work/$v.deb"
done
# From scratch, not out of go's cache of linked programs, and on another filesystem.
rm -rf bin/tokenfs bin/share
elsewhere=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || elsewhere=/dev/shm
TMPDIR=$elsewhere make -s deb VERSION=v1.0.1 >"$work/log" 2>&1 || { tail "$work/log"; fail "make deb"; }
cmp bin/tokenfs_1.0.1_*.deb "$work/v1.0.1.deb" || fail "two builds of the same version differ"
rm -f bin/tokenfs_1.0.1_*.deb
seen "two builds of the same version are the same bytes"

# As from a source package: no network, no module cache, no git.
mkdir "$work/vendored" "$work/unpacked"
git ls-files -z | xargs -0 cp --parents -t "$work/vendored"
(cd "$work/vendored" && go mod vendor &&
	GOFLAGS=-mod=vendor GOPROXY=off GOMODCACHE=$work/none make -s deb VERSION=v1.0.1) >"$work/log" 2>&1 || { tail "$work/log"; fail "make deb offline"; }
dpkg-deb -x "$work"/vendored/bin/tokenfs_1.0.1_*.deb "$work/unpacked"
programs=$(find "$work/unpacked" -type f -perm /111)
[ "$(wc -w <<<"$programs")" = 2 ] || fail "other programs than tokenfs and tokenfs-pam: $programs"
modules=$(go version -m $programs | awk '$1 == "dep" { print $2 }' | sort -u | tr / _)
[ "$modules" ] || fail "nothing is linked in: $programs"
for module in $modules; do
	[ -s "$work/unpacked/usr/share/doc/tokenfs/licences/$module" ] || fail "$module has no licence in the package"
done
seen "vendored, it is built offline, with the licences of all that is linked in"

integration/test/login/system.sh "$cache" systemd
mkdir "$work/nothing" "$work/run"
integration/test/login/boot.sh "$cache/systemd" "$work/nothing" "$work/run" "$name" >"$work/console" 2>&1 &
container=$!
leader=
for _ in $(seq 600); do
	leader=$(cat "/proc/$container/task/$container/children" 2>/dev/null || :)
	leader=${leader// /}
	[ -n "$leader" ] && [ "$(inside systemctl is-system-running 2>/dev/null || :)" = running ] && break
	kill -0 "$container" || { cat "$work/console"; fail "the machine does not boot"; }
	sleep 0.1
done
[ "$(inside systemctl is-system-running)" = running ] || fail "the machine has not booted"
for v in v1.0.0 v1.0.1; do inside sh -c "cat >/root/$v.deb" <"$work/$v.deb"; done
for user in alice bob; do inside sh -c "useradd --create-home --shell /bin/bash $user && usermod --password '*' $user"; done
# stay USER SCRIPT: a session of USER's that lasts; returns when SCRIPT is done.
stay() {
	as_alice "$1@127.0.0.1" "$2; echo there; read -r _" < <(sleep 1000 & echo $! >>"$work/sleeper"; wait) >"$work/session.$1" 2>&1 &
	for _ in $(seq 300); do grep -q there "$work/session.$1" && return; sleep 0.1; done
	fail "the session of $1: $(cat "$work/session.$1")"
}

inside find /usr /etc /var -xdev | sort >"$work/before"
stay bob :
inside apt-get install -y /root/v1.0.0.deb >"$work/log" 2>&1 || { tail "$work/log"; fail "apt install"; }
mounted=$(as_alice alice@127.0.0.1 'stat -f -c %T $XDG_RUNTIME_DIR/tokenfs; tokenfs status --json | grep -c "\"active\": true"; tokenfs version')
[[ $mounted == fuse*"tokenfs v1.0.0"* ]] || fail "after apt install a login has: $mounted"
seen "apt install, then a login has a mount: ${mounted//$'\n'/, }"

as_alice bob@127.0.0.1 'test ! -e $XDG_RUNTIME_DIR/tokenfs' || fail "a program was run as who was logged in"
as_alice bob@127.0.0.1 'systemctl --user daemon-reload && systemctl --user start tokenfs' || fail "who was logged in cannot start it"
[[ $(as_alice bob@127.0.0.1 'stat -f -c %T $XDG_RUNTIME_DIR/tokenfs') == fuse* ]] || fail "who was logged in has no mount: $(cat "$work/log")"
seen "so has who was logged in already, and starts it"
limit=$(as_alice alice@127.0.0.1 'systemctl --user show -P MemoryMax tokenfs')
[ "$limit" = $((416 << 20)) ] || fail "systemd takes MemoryMax= as $limit"
# Another mount, under a name that makes scripts stumble, and settings that nobody
# can read.
as_alice bob@127.0.0.1 'mkdir "my $(id -u) mount" && tokenfs mount "my $(id -u) mount" >/dev/null && echo token >"my $(id -u) mount/cache"' || fail "mount elsewhere"
stay alice 'echo token >$XDG_RUNTIME_DIR/tokenfs/cache; exec 3<$XDG_RUNTIME_DIR/tokenfs/cache'
as_alice alice@127.0.0.1 'mkdir .azure && echo "[core]" >.azure/config && tokenfs link azure-cli && test -L .azure' >"$work/log" 2>&1 || { cat "$work/log"; fail "link azure-cli"; }
inside sh -c 'echo nonsense >>/etc/tokenfs/config'
inside apt-get install -y /root/v1.0.1.deb >"$work/log" 2>&1 || { tail "$work/log"; fail "upgrade"; }
# The keepers notice by themselves, each in its own time.
eventually as_alice alice@127.0.0.1 'tokenfs status --json --mountpoint=$XDG_RUNTIME_DIR/tokenfs | grep -q "\"version\": \"v1.0.1\""' || fail "no upgrade: $(as_alice alice@127.0.0.1 'tokenfs status')"
after=$(as_alice alice@127.0.0.1 'cat $XDG_RUNTIME_DIR/tokenfs/cache; tokenfs status --json --mountpoint=$XDG_RUNTIME_DIR/tokenfs')
[[ $after == token* && $after == *'"version": "v1.0.1"'* && $after == *'"upgrades": 1'* ]] || fail "after the upgrade: ${after:0:400}"
eventually as_alice bob@127.0.0.1 'tokenfs status --json --mountpoint="my $(id -u) mount" | grep -q "\"version\": \"v1.0.1\""' || fail "no upgrade of a mount elsewhere"
[ "$(as_alice bob@127.0.0.1 'cat "my $(id -u) mount/cache"')" = token ] || fail "after the upgrade of a mount elsewhere its token is gone"
seen "an upgrade of the package keeps all tokens, and the filesystems run v1.0.1, whatever is in /etc/tokenfs/config"

inside apt-get remove -y tokenfs >"$work/log" 2>&1 || { tail "$work/log"; fail "apt remove"; }
for user in alice bob; do
	grep -q "what $user has mounted ends" "$work/log" || { cat "$work/log"; fail "removal does not tell whose mount ends"; }
done
seen "$(grep 'has mounted ends' "$work/log")"
gone() { ! inside grep -q tokenfs /proc/mounts && ! inside sh -c 'ls -d /run/user/*/tokenfs* 2>/dev/null' && ! inside pgrep -x 'tokenfs.*'; }
eventually gone || fail "left: $(inside sh -c 'grep tokenfs /proc/mounts; ls -d /run/user/*/tokenfs*; pgrep -ax "tokenfs.*"')"
as_alice alice@127.0.0.1 'test ! -L .azure && grep -q core .azure/config' || fail "a linked app was not put back: $(as_alice alice@127.0.0.1 'ls -la')"
seen "removal ends every mount, and puts linked apps back"
inside apt-get install -y /root/v1.0.1.deb >"$work/log" 2>&1 || { tail "$work/log"; fail "apt install after removal"; }
inside systemctl --global --quiet is-enabled tokenfs.service || fail "installed again, it is not enabled"
seen "installed again after a removal, it is enabled again"
inside apt-get purge -y tokenfs >"$work/log" 2>&1 || fail "apt purge"
inside find /usr /etc /var -xdev | sort >"$work/after"
left=$(comm -13 "$work/before" "$work/after" | grep -v -e '^/var/\(log\|cache\|lib/apt\|lib/dpkg\|lib/systemd\|lib/private\|tmp\)' -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-' || :)
[ -z "$left" ] || fail "left behind: $left"
seen "removal leaves nothing"
