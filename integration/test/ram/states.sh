# shellcheck shell=sh disable=SC2016 # the guest expands what is in single quotes
# states.sh: the states of a token's life, to be sourced by run.sh. A state is a
# function state_NAME, with _ for -, that gives tokens to $systems, does to them what
# the state is called after, and looks. What may be found then is told by the file limits.

# In this order a machine goes through them. The last ones end it.
states='nothing held written read rewritten replaced deleted truncated wiped-path wiped unmounted'
states="$states worker-killed upgraded linked run-ended keeper-killed both-killed logged-out"
states="$states pressure oom suspended"
last_states='panic hibernated'

# A state is of these where it names no others: the agents' programs are slow.
filesystems='tokenfs ext4 tmpfs gocryptfs'
all="$filesystems keyring ssh-agent"

# plant VERB: the client gives its tokens to each of $systems.
plant() { each "put $1"; }

# each COMMAND: for each token; see guest/each.
each() { as alice "/srv/bin/each $seed $state $size $tokens '$systems' '$1'"; }

# read_back: twice each, so that every serving thread has had a token's key. It comes
# after remember, for which one of them has had all keys.
read_back() { each 'get get; get get'; }

# plant_names: tokens as names of files, and as targets of links; kernels keep both.
plant_names() {
	named=4
	as alice "/srv/bin/each $seed $state $size $named '$systems' \
		'case \$system in
		keyring | ssh-agent) ;;
		*) app name \$seed \$state.\$system.n\$i 200 \$directory; app symlink \$seed \$state.\$system.t\$i 900 \$path.link ;;
		esac'"
}

# mounted: tokenfs, with what a few apps have in it beside the tokens; and its rivals.
mounted() {
	as alice "PATH=/srv/bin:\$PATH; tokenfs mount --on-logout keep >/dev/null 2>&1 && rivals $systems &&
		{ [ -e \$XDG_RUNTIME_DIR/tokenfs/fill ] || head -c 2M /dev/urandom >\$XDG_RUNTIME_DIR/tokenfs/fill; }"
}

# remember WHAT: the keys that tokenfs has now, and its sealed blocks, for the search.
remember() { as root '/srv/bin/tell alice' | "$ram" remember -machine "$machine_run" -to "$work/$state.$1"; }

# look [OPTION...]: dump and search.
look() {
	"$ram" look -machine "$machine_run" -kernel "$variant" -release "$release" -program "$program" \
		-seed "$seed" -state "$state" -systems "$systems" -tokens "$tokens" -size "$size" -named "$named" \
		-results "$results" -note "$note" "$@"
}
look_at_secrets() { look -secrets "$work/$state.now" "$@"; }

# The client alone. It must leave nothing, or nothing else here says anything.
state_nothing() {
	systems=nothing
	each 'app null $seed $token $size'
	look
}

state_held() {
	systems=$all
	mounted
	plant put
	plant_names
	remember now
	read_back
	look_at_secrets -live
}

state_written() {
	mounted
	ways='put-small put-direct put-splice put-mmap'
	each "set -- $ways; shift \$((i % 4)); put \$1 2>/dev/null ||
		{ echo \$1 fails on \$system; put put; }" | sort | uniq -c >"$work/written"
	note="written by $ways$(sed 's/^ */; /' "$work/written" | tr -d '\n')"
	remember now
	look_at_secrets -live
}

state_read() {
	mounted
	plant put
	ways='get get-mmap get-direct get-splice get-sendfile'
	each "for way in $ways; do get \$way 2>/dev/null || echo \$way fails on \$system; done" |
		sort | uniq -c >"$work/read"
	note="by $ways$(sed 's/^ */; /' "$work/read" | tr -d '\n')"
	remember now
	look_at_secrets -live
}

# ended COMMAND: what COMMAND does to each token of $systems is the end of it, and the
# session lives on.
ended() {
	mounted
	remember earlier
	plant put
	remember now
	read_back
	each "$1"
	look_at_secrets -earlier "$work/$state.earlier"
}
state_rewritten() { ended 'app put $seed new.$token $size $path'; }
state_replaced() { ended 'app put-replace $seed new.$token $size $path'; }
state_deleted() { systems=$all; ended drop; }
state_truncated() { ended ': >$path'; }
state_wiped_path() { systems=tokenfs; ended 'tokenfs wipe $path'; }

# over: tokens are held and read, and what opens them is known. After the end of
# tokenfs's nothing more is started in the guest: it would be given the pages that were
# freed, and hide what is in them.
over() {
	mounted
	plant put
	plant_names
	remember now
	read_back
}

state_wiped() {
	over
	as alice 'rm -rf ~/t/* $XDG_RUNTIME_DIR/t/* $XDG_RUNTIME_DIR/plain/*; exec tokenfs wipe'
	look_at_secrets
}

end_agents='pkill -u alice -x gnome-keyring-d; pkill -u alice -x ssh-agent; rm -f $XDG_RUNTIME_DIR/agent'

state_unmounted() {
	systems='tokenfs gocryptfs keyring ssh-agent'
	over
	as alice "fusermount3 -u \$XDG_RUNTIME_DIR/plain; rm -rf \$XDG_RUNTIME_DIR/gc; $end_agents; exec tokenfs unmount"
	look_at_secrets
}

# A logout as users have it, with the unit.
state_logged_out() {
	systems='tokenfs ext4 tmpfs'
	# What is left over from a login keeps its directory.
	as alice "tokenfs unmount 2>/dev/null; fusermount3 -u \$XDG_RUNTIME_DIR/plain 2>/dev/null; $end_agents
		systemctl --user start tokenfs"
	over
	# Waits without a new process, which would be given the pages that were freed.
	as root 'mkfifo -m 600 /run/never 2>/dev/null; exec 9<>/run/never
		for _ in $(seq 1200); do [ -e /run/user/1000 ] || exit 0; read -rt 0.5 -u 9; done; ls -la /run/user/1000; exit 1' &
	leave alice
	wait $!
	look_at_secrets
}

kill_tokenfs() {
	systems='tokenfs gocryptfs'
	over
	as root "kill -KILL $1"
	pause
}
# pause: not in the guest, where a new process would be given the pages that were freed.
pause() { sleep 5; }
keeper='$(pgrep -o -u alice -x tokenfs)'
worker='$(pgrep -u alice -x tokenfs-worker)'
buried() { as root 'umount -l /run/user/1000/tokenfs /run/user/1000/plain 2>/dev/null; true'; }

state_worker_killed() {
	systems=tokenfs
	over
	as root "kill -KILL $worker"
	read_back
	look_at_secrets -live
}

# The worker's and the keeper's successors, and what handed the filesystem over.
state_upgraded() {
	systems=tokenfs
	over
	as alice 'tokenfs upgrade'
	read_back
	look_at_secrets -live
}

# An app's tokens that were on disk, and were read there, are moved in.
state_linked() {
	systems=tokenfs tokens=1
	mounted
	as alice 'rm -rf ~/.azure; mkdir -m 700 ~/.azure'
	each 'app put $seed $token $size ~/.azure/msal_token_cache.json; sync -f ~/.azure'
	as alice 'tokenfs link azure-cli'
	each 'app get $seed $token $size ~/.azure/msal_token_cache.json; sync -f ~'
	remember now
	look_at_secrets -live
	as alice 'tokenfs unlink azure-cli'
}

# A filesystem that one command had, and all that served it.
state_run_ended() {
	systems=tokenfs
	as alice 'tokenfs unmount 2>/dev/null; mkfifo -m 600 ~/end 2>/dev/null
		setsid tokenfs run --private off -- sh -c "read _ <~/end" >/tmp/run 2>&1 </dev/null &
		for _ in $(seq 600); do grep -q " $XDG_RUNTIME_DIR/tokenfs fuse" /proc/mounts && exit; sleep 0.2; done; cat /tmp/run; exit 1'
	over
	as alice 'echo >~/end'
	pause
	look_at_secrets
}

state_keeper_killed() {
	kill_tokenfs "$keeper \$(pgrep -u alice -x gocryptfs)"
	look_at_secrets
	buried
}
state_both_killed() {
	kill_tokenfs "$keeper $worker"
	look_at_secrets
	buried
}

# Everything of alice's that can be swapped out is.
state_pressure() {
	systems=$all
	over
	as root 'swapon /dev/nvme0n3 2>/dev/null
		for _ in 1 2 3 4 5; do echo 300M >/sys/fs/cgroup/user.slice/memory.reclaim; done 2>/dev/null; sync'
	note="$(as root 'awk "NR == 2 {print \$4}" /proc/swaps') KiB swapped out"
	look_at_secrets -live
}

state_oom() {
	over
	as root 'swapoff -a; dmesg -C; tail /dev/zero' || true
	note=$(as root 'dmesg | sed -n "s/.*Out of memory: //p" | cut -d, -f1 | tr "\n" ";"')
	case $note in *illed*) ;; *) echo "nothing was killed: $note" >&2; return 1 ;; esac
	look_at_secrets -live
	systems=tokenfs
	if read_back; then echo "   tokenfs has its tokens"; else echo "   tokenfs has LOST its tokens"; fi
}

state_suspended() {
	over
	as root 'echo mem >/sys/power/state' &
	"$ram" await "$machine_run" suspended
	look_at_secrets -live
	"$ram" wakeup "$machine_run"
	wait $!
}

state_panic() {
	over
	as root 'echo 1 >/proc/sys/kernel/sysrq; echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger' &
	for _ in $(seq 300); do
		! grep -q 'Kernel panic' "$machine_run/console" || break
		sleep 1
	done
	note=$(grep -m 1 -o 'Kernel panic.*' "$machine_run/console")
	look_at_secrets -live
	kill $!
}

# Refused while memfd_secret is in use; else an image of all that is in memory.
state_hibernated() {
	over
	as root 'swapon /dev/nvme0n3 2>/dev/null; cat /sys/block/nvme0n3/dev >/sys/power/resume
		{ echo shutdown >/sys/power/disk && echo disk >/sys/power/state; } 2>&1; echo refused' >"$work/hibernated" &
	for _ in $(seq 300); do
		if is_off; then
			note='an image was written, and the machine is off'
			look_at_secrets -off -live
			return
		fi
		! grep -q '^refused' "$work/hibernated" || break
		sleep 1
	done
	note="refused: $(head -n 1 "$work/hibernated")"
	look_at_secrets -live
}

# is_off: QEMU has ended; a child of another shell is a zombie by then.
is_off() { ! kill -0 "$machine_pid" 2>/dev/null || grep -q '^State:.Z' "/proc/$machine_pid/status"; }
