# shellcheck shell=sh
# login.sh: a user's login and logout, to be sourced after machine.sh.

# login_test plain|secretmem: alice logs in, works and logs out; then root looks
# for what she left. Prints a line for each check; fails when one failed.
login_test() {
	login_failed=0
	echo "a login of alice"
	login alice "timeout 900 /srv/integration/test/vm/guest/session $1" || login_failed=1
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
