#!/bin/sh
# run.sh [--kernel debian|backports]... [--init-on-free on|off]... [--only STATE]... [--cpu CPU]
#
# The RAM proof: tokens are kept on tokenfs, and on what a user could have instead, in an
# emulated machine; after each event in their life all of its memory, its swap and its
# disk are searched for the tokens, the keys and what is sealed, and an attacker's
# program is let loose on the dump.
#
#   --kernel K        Debian 12's own, or the current one of its backports, which has
#                     memfd_secret(2); default: both
#   --init-on-free W  boot with init_on_free=1, or as Debian boots; default: both
#   --only STATE      one of the states in states.sh; may be repeated
#   --cpu CPU         what QEMU is to emulate; default: $machine_cpu below
#
# Needs root, bin/tokenfs, and from Debian what it then installs itself. Prints each
# look, then the tables; results are left in build/ram/results, a file a run. Exit status: 0 all is as
# the file limits tells, 1 something is not or was not run, 2 usage.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../../.." && pwd)
vm=$repo/build/ram

usage() {
	sed -n '2,/^# the file/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

# shellcheck source=SCRIPTDIR/../vm/machine.sh
. "$here/../vm/machine.sh"
# shellcheck source=SCRIPTDIR/states.sh
. "$here/states.sh"

# The clock goes by instructions: on a busy host the machine is slow and does not know
# it, so none of its time limits passes for that. QEMU 7.2 gets cmpxchg16b's flags wrong
# with one CPU.
machine_cpu='-accel tcg,thread=single -icount shift=3 -cpu Westmere,-cx16 -smp 1'
machine_memory=512
machine_boot_limit=1200 machine_login_limit=240
kernels='' inits='' only=''
while [ $# -gt 0 ]; do
	[ $# -gt 1 ] || usage
	case $1 in
	--kernel) kernels="$kernels $2" ;;
	--init-on-free) inits="$inits $2" ;;
	--only) only="$only $2" ;;
	--cpu) machine_cpu="-accel tcg,thread=single -icount shift=3 -smp 1 -cpu $2" ;;
	*) usage ;;
	esac
	shift 2
done
for state in $only; do
	case " $states $last_states " in
	*" $state "*) ;;
	*)
		echo "run.sh: there is no state $state, but these: $states $last_states" >&2
		exit 2
		;;
	esac
done

if [ "$(id -u)" != 0 ]; then
	echo "run.sh: only root can build the machine's disk: run it with sudo" >&2
	exit 1
fi
"$here/../packages.sh" mmdebstrap qemu-system-x86 qemu-utils openssh-client e2fsprogs gcc libc6-dev
"$here/../vm/system.sh" ram "$here/guest/provision" gocryptfs gnome-keyring libsecret-tools openssh-client
"$here/payload.sh"

ram=$vm/ram results=$vm/results/$(date +%Y%m%d-%H%M%S)
mkdir -p "$vm/results"
program=$(git -C "$repo" describe --tags --always --dirty)
work=$(mktemp -d /dev/shm/ram.XXXXXX)
trap 'halt; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# start KERNEL INIT: boot a machine whose memory is a file, and whose disk and swap are
# files that can be searched afterwards.
start() {
	machine_run=$(mktemp -d "$work/machine.XXXXXX")
	machine_kernel=$(cd "$vm" && printf '%s\n' vmlinuz-* | sort -V | if [ "$1" = debian ]; then head -n 1; else tail -n 1; fi)
	qemu-img create -q -f qcow2 -F raw -b "$vm/system.img" "$machine_run/disk"
	truncate -s 640M "$machine_run/swap"
	mkswap "$machine_run/swap" >/dev/null 2>&1
	machine_disk="file=$machine_run/disk,format=qcow2,snapshot=off,cache=unsafe"
	machine_more="-machine memory-backend=ram
		-object memory-backend-file,id=ram,size=${machine_memory}M,mem-path=$machine_run/ram,share=on
		-drive file=$machine_run/swap,format=raw,snapshot=off,cache=unsafe,if=none,id=swap
		-device nvme-ns,bus=disks,nsid=3,drive=swap
		-qmp unix:$machine_run/monitor,server=on,wait=off"
	arguments='nokaslr no_timer_check hibernate=nocompress'
	[ "$2" = off ] || arguments="$arguments init_on_free=1"
	# shellcheck disable=SC2086 # several words
	boot "$vm/payload.img" $arguments
	as root 'cp -a /srv/install/. / && printf "grace = 1s\n" >/etc/tokenfs/config && systemctl daemon-reload'
	release=$(as root 'uname -r')
}

# go_through STATE: in a machine that is up, or in a new one.
go_through() {
	state=$1 systems=$filesystems tokens=4 size=16384 named=0 note=''
	seed=$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n')
	begin=$(date +%s)
	set +e
	(
		set -e
		"state_$(echo "$state" | tr - _)"
	)
	status=$?
	set -e
	if [ $status != 0 ]; then
		echo "== $variant: $state: NOT RUN to its end: see above; the last words of the machine:"
		tail -n 3 "$machine_run/console"
		missing="$missing $variant/$state"
	fi
	echo "   $(($(date +%s) - begin)) s"
}

missing=
for kernel in ${kernels:-debian backports}; do
	for init in ${inits:-off on}; do
		variant=$kernel
		[ "$init" = off ] || variant=$kernel+init
		for state in ${only:-$states $last_states}; do
			if [ -z "$machine_pid" ] && ! start "$kernel" "$init"; then
				missing="$missing $variant/$state"
				halt
				continue
			fi
			go_through "$state"
			case " $last_states " in *" $state "*) halt ;; esac
		done
		halt
	done
done
status=0
"$ram" report "$results" || status=1
[ -z "$missing" ] || { echo "not run:$missing"; status=1; }
exit $status
