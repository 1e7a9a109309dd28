#!/bin/sh
# engines.sh SYSTEM PROGRAM RUN NAME: Docker's daemon on SYSTEM, in namespaces of its
# own, with PROGRAM as tokenfs in an image called base that Docker and Podman both
# have. It lasts as long as this process, and SYSTEM is never changed; RUN is an
# empty directory for what it needs.
set -eu
system=$1 program=$2 run=$3 name=$4

case ${5:-} in
'')
	exec unshare --mount --propagation private "$0" "$@" alone
	;;
alone)
	mount -t cgroup2 none /sys/fs/cgroup
	mkdir -p "/sys/fs/cgroup/$name"
	echo $$ >"/sys/fs/cgroup/$name/cgroup.procs"
	exec unshare --cgroup --pid --net --uts --ipc --fork --kill-child "$0" "$system" "$program" "$run" "$name" inside
	;;
esac

mount -t tmpfs -o mode=755 none "$run"
root=$run/root
mkdir "$run/changes" "$run/work" "$root"
mount -t overlay -o "lowerdir=$system,upperdir=$run/changes,workdir=$run/work" none "$root"
install -m 0711 "$program" "$root/usr/bin/tokenfs"
mount -t proc none "$root/proc"
mount -t sysfs none "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount -t tmpfs -o mode=755 none "$root/dev"
# Their layers cannot be in an overlay.
mkdir -p "$root/var/lib/docker" "$root/var/lib/containers"
mount -t tmpfs none "$root/var/lib/docker"
mount -t tmpfs none "$root/var/lib/containers"
node() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
node null 1 3
node zero 1 5
node full 1 7
node random 1 8
node urandom 1 9
node tty 5 0
node fuse 10 229
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 none "$root/dev/pts"
mount -t mqueue none "$root/dev/mqueue"
mount -t tmpfs none "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/tmp/outside"
cd "$root"
pivot_root . tmp/outside
exec /bin/sh -euc '
	umount -l /tmp/outside
	rmdir /tmp/outside
	ip link set lo up
	# No network is made: that would be for this machine to allow.
	dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs >/tmp/dockerd.log 2>&1 &
	until docker version >/dev/null 2>&1; do
		kill -0 $! || { cat /tmp/dockerd.log; exit 1; }
		sleep 0.1
	done
	useradd -m alice
	tar -C / --no-recursion -cf - . usr usr/lib etc --recursion bin sbin lib lib64 usr/bin usr/sbin usr/lib64 usr/lib/*-linux-gnu \
		etc/passwd etc/group etc/fuse.conf --exclude="usr/bin/docker*" --exclude="usr/sbin/docker*" --exclude=usr/bin/podman --exclude="usr/bin/containerd*" |
		docker import - base
	docker save base | podman --storage-driver=vfs load
	echo ready
	wait $!
' </dev/null
