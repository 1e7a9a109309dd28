#!/bin/sh
# host.sh SYSTEM INSTALLED RUN NAME: sshd on SYSTEM, with the files of INSTALLED
# over it, in namespaces of its own, as on a host with another init or in a
# container. Where SYSTEM has elogind, that runs, too. It lasts as long as this
# process, and SYSTEM is never changed; RUN is an empty directory for what it needs.
set -eu
system=$1 installed=$2 run=$3 name=$4
elogind=
if [ -e "$system/lib/elogind/elogind" ]; then elogind=yes; fi

case ${5:-} in
'')
	exec unshare --mount --propagation private "$0" "$@" alone
	;;
alone)
	set -- "$system" "$installed" "$run" "$name" inside
	if [ "$elogind" ]; then # it makes a cgroup for each session
		mount -t cgroup2 none /sys/fs/cgroup
		mkdir -p "/sys/fs/cgroup/$name"
		echo $$ >"/sys/fs/cgroup/$name/cgroup.procs"
		exec unshare --cgroup --pid --net --uts --ipc --fork --kill-child "$0" "$@"
	fi
	exec unshare --pid --net --uts --ipc --fork --kill-child "$0" "$@"
	;;
esac

mount -t tmpfs -o mode=755 none "$run"
root=$run/root
mkdir "$run/changes" "$run/work" "$root"
mount -t overlay -o "lowerdir=$installed:$system,upperdir=$run/changes,workdir=$run/work" none "$root"
mount -t proc none "$root/proc"
if [ "$elogind" ]; then mount -t sysfs none "$root/sys"; fi
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
exec env elogind="$elogind" /bin/sh -euc '
	umount -l /tmp/outside
	rmdir /tmp/outside
	ip link set lo up
	DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable tokenfs
	for user in alice bob carol; do useradd -m -s /bin/bash $user; done
	useradd -r -m -s /bin/bash service
	if [ "$elogind" ]; then
		ln -s /proc/self/mounts /etc/mtab # sysvinit would do that, and start these
		/etc/init.d/dbus start
		/etc/init.d/elogind start
	fi
	/usr/sbin/sshd -D -e &
	wait $!
' </dev/null
