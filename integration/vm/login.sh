# shellcheck shell=sh
# login.sh: a user's login and logout, to be sourced after machine.sh.

# login_test plain|secretmem: alice logs in, works and logs out; then root looks
# for what she left. Prints a line for each check; fails when one failed.
login_test() {
	login_failed=0
	echo "a login of alice"
	login alice "timeout 900 /srv/integration/vm/guest/session $1" || login_failed=1
	# systemd ends the user's manager a while after the last logout.
	# shellcheck disable=SC2016 # the guest expands it
	if gone=$(as root '
		for _ in $(seq 300); do
			left=$(ls -d /run/user/1000 2>/dev/null; pgrep -a -u alice; grep " /run/user/1000" /proc/mounts)
			[ -n "$left" ] || exit 0
			sleep 0.2
		done
		echo "$left"; exit 1'); then
		echo "ok      after the logout nothing is left: no process, no mount, no /run/user/1000"
	else
		echo "FAILED  after the logout something is left"
		printf '%s\n' "$gone" | sed 's/^/          /'
		login_failed=1
	fi
	leave root
	return $login_failed
}

# unit_test: alice logs in where the user unit is installed: what the login tests in
# a container see, on this kernel, and what a container has no memory cgroups for.
unit_test() {
	unit_failed=0
	echo "a login of alice with the user unit"
	as root 'make -s -C /srv install PROGRAM=bin/tokenfs && systemctl --global -q preset tokenfs.service &&
		mkdir -p /etc/tokenfs && echo "grace = 2s" >/etc/tokenfs/config' || return 1

	# seen WHAT STATUS: report a check by its exit status.
	seen() {
		if [ "$2" = 0 ]; then echo "ok      $1"; else
			echo "FAILED  $1"
			unit_failed=1
		fi
	}
	status=0
	# shellcheck disable=SC2016 # the guest expands it
	login alice 'for i in $(seq 300); do
			grep -q " $XDG_RUNTIME_DIR/tokenfs " /proc/self/mountinfo && break
			[ "$i" -gt 1 ] || echo "        (not at the first command: an emulated CPU may take longer than a login waits)"
			sleep 0.1
		done && echo secret >"$XDG_RUNTIME_DIR/tokenfs/token" && tokenfs status | sed -n "s/^memory/        memory/p"' || status=1
	seen "it is mounted for the login" $status
	status=0
	# shellcheck disable=SC2016 # the guest expands it
	swap=$(login alice 'cat /sys/fs/cgroup/$(systemctl --user show -P ControlGroup tokenfs)/memory.swap.max') || status=1
	[ "$swap" = 0 ] || status=1
	seen "its processes cannot be swapped out (memory.swap.max is ${swap:-?})" $status

	# The worker weighs more than the keeper, and its end is not the unit's.
	status=0
	# shellcheck disable=SC2016 # the guest expands it
	oom=$(login alice 'cd "$XDG_RUNTIME_DIR/tokenfs" && echo secret >token
		systemctl --user set-property --runtime tokenfs MemoryMax=24M
		head -c 40M /dev/zero 2>/dev/null >big; rm -f big
		systemctl --user set-property --runtime tokenfs MemoryMax=infinity
		group=/sys/fs/cgroup/$(systemctl --user show -P ControlGroup tokenfs)
		for i in $(seq 300); do
			tokenfs status >/dev/null 2>&1 && break
			sleep 0.1
		done
		echo "$(sed -n "s/^oom_kill //p" "$group/memory.events" 2>/dev/null) kills, restarts of the unit $(systemctl --user show -P NRestarts tokenfs), $(systemctl --user is-active tokenfs), mounts $(grep -c " $XDG_RUNTIME_DIR/tokenfs " /proc/self/mountinfo)"
		cd / && ls "$XDG_RUNTIME_DIR/tokenfs" >/dev/null') || status=1
	case $oom in *' active, mounts 1') ;; *) status=1 ;; esac
	seen "out of memory, it goes on or begins anew, and leaves no dead mount ($oom)" $status

	status=0
	# shellcheck disable=SC2016 # the guest expands it
	as root '
		for _ in $(seq 300); do
			[ -n "$(ls -d /run/user/1000 2>/dev/null; pgrep -u alice; grep " /run/user/1000" /proc/mounts)" ] || exit 0
			sleep 0.2
		done
		exit 1' || status=1
	seen "after the logout nothing is left: no process, no mount, no /run/user/1000" $status
	status=0
	as root "! grep -q ' /run/user/0/tokenfs ' /proc/self/mountinfo" || status=1
	seen "root's own login has none" $status
	leave root
	return $unit_failed
}
