#!/bin/sh
# host.sh SYSTEM INSTALLED RUN: sshd on SYSTEM, with the files of INSTALLED over it,
# in namespaces of its own, as on a host with another init or in a container. It
# lasts as long as this process, and SYSTEM is never changed; RUN is an empty
# directory for what it needs.
set -eu
if [ "${4:-}" != inside ]; then
	exec unshare --mount --propagation private --pid --net --uts --ipc --fork --kill-child "$0" "$@" inside
fi
system=$1 installed=$2 run=$3

mount -t tmpfs -o mode=755 none "$run"
root=$run/root
mkdir "$run/changes" "$run/work" "$root"
mount -t overlay -o "lowerdir=$installed:$system,upperdir=$run/changes,workdir=$run/work" none "$root"
mount -t proc none "$root/proc"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -t tmpfs -o mode=755 none "$root/dev"
node() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
node null 1 3
node zero 1 5
node random 1 8
node urandom 1 9
node tty 5 0
node fuse 10 229
mkdir "$root/dev/pts" "$root/dev/shm" "$root/run/sshd"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 none "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/tmp/outside"
cd "$root"
pivot_root . tmp/outside
exec /bin/sh -euc '
	umount -l /tmp/outside
	rmdir /tmp/outside
	ip link set lo up
	DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable tokenfs
	for user in alice bob carol; do useradd -m -s /bin/bash $user; done
	useradd -r -m -s /bin/bash service
	/usr/sbin/sshd -D -e &
	while ! wait $!; do :; done
' </dev/null
