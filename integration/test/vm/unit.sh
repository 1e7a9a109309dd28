# shellcheck shell=sh disable=SC2016 # the guest expands it
# unit.sh: from login to logout with the package installed, on this kernel, with
# memory cgroups, which the login tests' container has none of; to be sourced after
# machine.sh.

# unit_test: installs the package, and goes through a few logins of alice. Prints a
# line for each check; fails when one failed.
unit_test() {
	unit_failed=0
	echo "logins of alice with the package installed"
	# A login waits 1.5 s for the unit; an emulated CPU is some twenty times slower.
	as root 'dpkg -i /srv/bin/tokenfs_*.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; exit 1; }
		rm /usr/local/bin/tokenfs # another one, for the tests
		mkdir -p /etc/systemd/user/tokenfs.service.d
		printf "[Service]\nTimeoutStartSec=30s\n" >/etc/systemd/user/tokenfs.service.d/vm.conf
		printf "grace = 20s\n" >/etc/tokenfs/config' || return 1

	mounted='grep -q " $XDG_RUNTIME_DIR/tokenfs fuse" /proc/self/mounts'
	group='group=/sys/fs/cgroup$(systemctl --user show -P ControlGroup tokenfs)'
	answers='for _ in $(seq 600); do tokenfs status >/dev/null 2>&1 && break; sleep 0.1; done; tokenfs status >/dev/null'
	seen "the first command finds it mounted, and saves a token" \
		as alice "$mounted && echo secret >\$XDG_RUNTIME_DIR/tokenfs/token"
	seen "a second login beside it finds the token" \
		login alice 'grep -q secret $XDG_RUNTIME_DIR/tokenfs/token'
	seen "the unit's processes cannot be swapped out" \
		as alice "$group; test \$(cat \$group/memory.swap.max) = 0"
	seen "their memory and their number are limited" \
		as alice "$group; for limit in memory.max pids.max; do test \$(cat \$group/\$limit) -gt 0 || exit 1; done"

	# The kernel takes the worker, and the write that it was at is another one's.
	seen "out of memory for a moment, a worker is killed, and nothing is lost" \
		as alice "$group; keeper=\$(systemctl --user show -P MainPID tokenfs)
			killed() { sed -n 's/^oom_kill //p' \$group/memory.events; }
			limit() { systemctl --user set-property --runtime tokenfs MemoryMax=\$1; }
			before=\$(cat \$group/memory.max)
			limit 24M
			timeout 120 head -c 40M /dev/zero >\$XDG_RUNTIME_DIR/tokenfs/big & writer=\$!
			for _ in \$(seq 200); do test \$(killed) -gt 0 && break; sleep 0.1; done
			limit \$before
			wait \$writer && $answers && echo \"\$(killed) killed\" && test \$(killed) -gt 0 &&
			test \$(wc -c <\$XDG_RUNTIME_DIR/tokenfs/big) = \$((40 << 20)) &&
			rm \$XDG_RUNTIME_DIR/tokenfs/big && grep -q secret \$XDG_RUNTIME_DIR/tokenfs/token &&
			test \$(systemctl --user show -P MainPID tokenfs) = \$keeper"

	leave alice
	seen "a reconnect within the grace finds the token" \
		login alice 'grep -q secret $XDG_RUNTIME_DIR/tokenfs/token'
	seen "after the last logout nothing is left: no process, no mount, no /run/user/1000" \
		as root "$(within 'test -z "$(ls -d /run/user/1000 2>/dev/null; pgrep -u alice; grep " /run/user/1000" /proc/mounts)"')"

	seen "a process outlives its login and holds a token open" \
		login alice 'cd $XDG_RUNTIME_DIR/tokenfs && echo secret >token && rm -f /home/alice/read && mkfifo /home/alice/now &&
			{ nohup sh -c "read _ </home/alice/now; cat <&3; echo \$?" 3<token >/home/alice/read 2>&1 & }'
	seen "once the grace is over an empty filesystem is there instead" \
		as root "$(within 'grep -q " /run/user/1000/tokenfs fuse" /proc/mounts && names=$(runuser -u alice -- ls -A /run/user/1000/tokenfs 2>&1) && test -z "$names"')"
	seen "and that process cannot read its token" \
		as root "echo >/home/alice/now; $(within 'test -s /home/alice/read && ! grep -q secret /home/alice/read && grep "Input/output error" /home/alice/read')"
	seen "with its end, nothing is left" \
		as root "$(within 'test -z "$(ls -d /run/user/1000 2>/dev/null; pgrep -u alice)"')"

	seen "a user manager is killed, with a session open" \
		as alice "$mounted"
	seen "and is gone" \
		as root "manager=\$(systemctl show -P MainPID user@1000) && kill -KILL \$manager && $(within '! kill -0 $manager 2>/dev/null')"
	leave alice
	seen "it leaves no dead mount, and nothing else" \
		as root "$(within 'test -z "$(ls -d /run/user/1000 2>/dev/null; grep " /run/user/1000" /proc/mounts)"')"
	seen "the next login has a working one" \
		login alice "$mounted && echo new >\$XDG_RUNTIME_DIR/tokenfs/token && tokenfs status >/dev/null"
	leave root # a login from before the package was there
	seen "root's own logins have none" \
		login root 'test -d /run/user/0 && ! grep " /run/user/0/tokenfs " /proc/mounts'
	leave root
	return $unit_failed
}

# seen WHAT COMMAND...: report a check by COMMAND's exit status, with what it printed.
seen() {
	what=$1
	shift
	if output=$("$@" 2>&1); then
		echo "ok      $what${output:+ ($output)}"
	else
		echo "FAILED  $what"
		printf '%s\n' "$output" | sed 's/^/          /'
		unit_failed=1
	fi
}

# within TEST: a command that waits for TEST to hold, and fails after a minute.
within() { echo "for _ in \$(seq 300); do $1 && exit; sleep 0.2; done; exit 1"; }
