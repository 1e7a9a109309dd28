# shellcheck shell=sh
# machine.sh: the virtual machine, to be sourced with $vm set to build/vm.
# One machine at a time per shell; boot, then root and alice, then halt.

machine_run=  # directory of sockets and logs of the running machine
machine_pid=
machine_port=

# What another kind of machine sets before boot, beside $machine_run.
machine_kernel=  # a file in $vm
machine_disk=    # where the system is, instead of a throw-away copy
machine_memory=2048
machine_boot_limit=240 # seconds
machine_login_limit=10
# Emulated on purpose: nested KVM is rarely there, and results must not depend
# on it. Westmere is the oldest model with AES instructions.
machine_cpu='-accel tcg,thread=multi -cpu Westmere -smp 2'
machine_more='' # options of QEMU's

# boot PAYLOAD [KERNEL_ARGUMENT...]: start the machine on a throw-away copy of its
# disks and wait until somebody can log in. PAYLOAD is mounted on /srv/tokenfs.
boot() {
	payload=$1
	shift
	[ -n "$machine_run" ] || machine_run=$(mktemp -d)
	machine_port=${VM_PORT:-$((20000 + $$ % 20000))}
	# One NVMe controller has all disks: the order of several is not the same at each boot.
	# The mitigations guard against speculation, which an emulator does not do; and a
	# busy host must not make the guest distrust the TSC, for every other clock is slow
	# here. restrict=on: nothing gets out of the machine, only ssh gets in. setsid: for
	# the scheduler it is one group, as each other session on a busy host.
	# shellcheck disable=SC2086 # several words each
	setsid qemu-system-x86_64 -M q35 $machine_cpu -m "$machine_memory" \
		-nodefaults -no-user-config -display none -no-reboot -snapshot \
		-kernel "${vm:?}/${machine_kernel:-vmlinuz}" \
		-append "root=/dev/nvme0n1 rw console=ttyS0 quiet mitigations=off tsc=reliable $*" \
		-drive "${machine_disk:-file=$vm/system.img,format=raw},if=none,id=system" \
		-device nvme,id=disks,serial=disks -device nvme-ns,bus=disks,nsid=1,drive=system \
		-drive "file=$payload,if=none,id=payload,format=raw" \
		-device nvme-ns,bus=disks,nsid=2,drive=payload \
		-netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$machine_port-:22" \
		-device virtio-net-pci,netdev=net,romfile= -device virtio-rng-pci \
		-serial "file:$machine_run/console" $machine_more \
		</dev/null >"$machine_run/qemu" 2>&1 &
	machine_pid=$!
	deadline=$(($(date +%s) + machine_boot_limit))
	until as root true 2>/dev/null; do
		if ! kill -0 "$machine_pid" 2>/dev/null || [ "$(date +%s)" -ge "$deadline" ]; then
			tail -n 20 "$machine_run/qemu" "$machine_run/console" >&2
			echo "the machine did not come up; above are its last words" >&2
			return 1
		fi
	done
	as root 'mount /dev/nvme0n2 /srv -o X-mount.mkdir 2>&1 && install -m 755 /srv/bin/tokenfs /usr/local/bin/'
}

# login USER COMMAND: a login of its own, over when COMMAND is.
login() {
	who=$1
	shift
	# shellcheck disable=SC2086 # login_options are several words, or none
	ssh -F none -i "$vm/id" -p "$machine_port" -o BatchMode=yes -o ConnectTimeout=$machine_login_limit \
		-o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o LogLevel=ERROR \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		$login_options "$who@127.0.0.1" "$@" </dev/null
}
login_options=

# as USER COMMAND: in the one long login that USER has until leave USER.
as() {
	login_options="-o ControlMaster=auto -o ControlPersist=yes -o ControlPath=$machine_run/$1"
	status=0
	login "$@" || status=$?
	login_options=
	return $status
}

# leave USER: end the login that `as` keeps.
leave() {
	# shellcheck disable=SC2086 # login_options are several words, or none
	ssh -F none -O exit -o ControlPath="$machine_run/$1" "$1@127.0.0.1" 2>/dev/null || true
}

# halt: pull the plug; the disks are throw-away.
halt() {
	[ -n "$machine_pid" ] || return 0
	kill "$machine_pid" 2>/dev/null || true
	wait "$machine_pid" 2>/dev/null || true
	rm -rf "$machine_run"
	machine_run=
	machine_pid=
}
