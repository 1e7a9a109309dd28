#!/bin/sh
# boot.sh SYSTEM INSTALLED RUN NAME: boot SYSTEM, with the files of INSTALLED over
# it, as a container with its own systemd. It lasts as long as the container,
# which is never changed on disk; RUN is an empty directory for what it needs.
#
# It asks little of the machine: root, /dev/fuse and nspawn. Nothing here needs
# systemd outside, a network, or cgroups in the layout that systemd likes: all
# mounts are made where only this process and its children see them.
set -eu
if [ "${5:-}" != inside ]; then
	exec unshare --mount --propagation private "$0" "$@" inside
fi
system=$1 installed=$2 run=$3 name=$4

mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$name"
echo $$ >"/sys/fs/cgroup/$name/cgroup.procs"
mount -t tmpfs -o mode=755 none "$run"
mkdir "$run/changes" "$run/work" "$run/root"
mount -t overlay -o "lowerdir=$installed:$system,upperdir=$run/changes,workdir=$run/work" none "$run/root"
# The machine's own node may be root's alone, or not one that can be mounted over.
mknod -m 666 "$run/fuse" c 10 229
mount -t tmpfs none /run # where nspawn keeps something of its own

# Its filter would refuse memfd_secret and mlock, and so have the tests see
# another tokenfs than users do.
exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$run/root" \
	--machine="$name" --register=no --keep-unit --private-network --console=pipe \
	--bind="$run/fuse:/dev/fuse" --system-call-filter='memfd_secret @memlock'
