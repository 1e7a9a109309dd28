#!/bin/sh
# suites.sh: what others wrote to find fault with filesystems, on tokenfs and on a
# tmpfs beside it: pjdfstest (permissions, errors and times of every call, as several
# users), and from xfstests fsx (one file, random calls, every byte compared) and
# fsstress (a tree, random calls by several processes).
#
#   PJDFSTEST=DIR XFSTESTS=DIR   where they are unpacked; else they are cloned
#   PROGRAM=FILE                 the tokenfs to test (bin/tokenfs)
#   SEEDS="1 2 3" OPERATIONS=100000
#
# Needs root, for the suites change users. Exit status: 0 nothing that tmpfs does
# not do, too; 1 something; 2 a suite could not be had or built.
set -eu
cd "$(dirname "$0")/../.."
program=$(realpath "${PROGRAM:-bin/tokenfs}")
seeds=${SEEDS:-1 2 3} operations=${OPERATIONS:-100000}
[ "$(id -u)" = 0 ] || {
	echo "suites.sh: the suites change users, which only root can: run it with sudo" >&2
	exit 2
}
integration/test/packages.sh fuse3 perl gcc make git autoconf automake libtool-bin pkg-config gettext \
	acl attr uuid-dev libacl1-dev libattr1-dev libaio-dev libgdbm-dev xfslibs-dev

work=$(mktemp -d)
# Everything is looked for by whoever the suites become.
chmod 755 "$work"
mount=$work/tokenfs tmpfs=$work/tmpfs
mkdir "$mount" "$tmpfs"
chmod 700 "$mount"
# shellcheck disable=SC2317 # the trap calls it
tidy() {
	"$program" unmount --mountpoint "$mount" >/dev/null 2>&1 || true
	umount "$tmpfs" 2>/dev/null || true
	rm -rf "$work"
}
trap tidy EXIT
trap 'exit 1' HUP INT TERM

# have NAME DIR URL COMMAND...: NAME's source in $work/NAME, built by COMMAND there.
have() {
	name=$1 dir=$2 url=$3
	shift 3
	if [ -n "$dir" ]; then
		cp -r "$dir" "$work/$name"
	elif ! git clone -q --depth 1 "$url" "$work/$name"; then
		echo "suites.sh: NOT RUN: cannot clone $url: unpack it and say where" >&2
		exit 2
	fi
	(cd "$work/$name" && sh -ec "$*") >"$work/$name.log" 2>&1 || {
		tail -20 "$work/$name.log" >&2
		echo "suites.sh: NOT RUN: cannot build $name" >&2
		exit 2
	}
}
have pjdfstest "${PJDFSTEST-}" https://github.com/pjd/pjdfstest 'autoreconf -ifs; ./configure; make pjdfstest'
have xfstests "${XFSTESTS-}" https://github.com/kdave/xfstests \
	'make configure; ./configure; make -C include; make -C lib; make -C ltp fsx fsstress'

"$program" mount -o allow_other --size 256M "$mount"
mount -t tmpfs -o nosuid,nodev,size=256M tmpfs "$tmpfs"
chmod 755 "$mount" "$tmpfs"
failed=0

# What tmpfs fails, or a kernel, is not ours: the two results are compared.
for dir in "$tmpfs" "$mount"; do
	(cd "$dir" && prove -r "$work/pjdfstest/tests") >"$dir.pjd" 2>&1 || true
	sed -n '/^Test Summary Report/,$ { s|.*/pjdfstest/tests/||; /^Files=/!p }' "$dir.pjd" >"$dir.failed"
	grep -o '^Files=.* Tests=[1-9][0-9]*' "$dir.pjd" >"$dir.count" || {
		tail -20 "$dir.pjd"
		echo "FAILED  pjdfstest on ${dir##*/}: it ran no test"
		failed=1
	}
	echo "pjdfstest on ${dir##*/}: $(tr '\n' ' ' <"$dir.count")$(tail -1 "$dir.pjd")"
done
if ! cmp "$tmpfs.count" "$mount.count"; then
	echo "FAILED  pjdfstest: not as many tests as on tmpfs"
	failed=1
fi
if ! diff -u "$tmpfs.failed" "$mount.failed"; then
	echo "FAILED  pjdfstest: not as on tmpfs"
	failed=1
fi

for seed in $seeds; do
	if (cd "$mount" && "$work/xfstests/ltp/fsx" -q -N "$operations" -S "$seed" fsx) >"$work/fsx.log" 2>&1; then
		echo "fsx: $operations operations, seed $seed: every byte as it should be"
	else
		tail -40 "$work/fsx.log"
		echo "FAILED  fsx, seed $seed"
		failed=1
	fi
	# It checks nothing itself: the filesystem must still answer, and be empty when all is removed.
	if (cd "$mount" && mkdir stress && "$work/xfstests/ltp/fsstress" -d stress -p 4 -n $((operations / 100)) -s "$seed" &&
		find stress -type f -exec cat {} + >/dev/null && rm -rf stress) >"$work/fsstress.log" 2>&1; then
		echo "fsstress: 4 processes, seed $seed: all readable and removable"
	else
		tail -40 "$work/fsstress.log"
		echo "FAILED  fsstress, seed $seed"
		failed=1
	fi
	rm -rf "$mount"/fsx* "$mount/stress"
done
left=$(find "$mount" -mindepth 1)
if [ -n "$left" ]; then
	printf '%s\n' "$left" | head
	echo "FAILED  something is left on the mount"
	failed=1
fi
exit $failed
