#!/bin/sh
# run.sh [--secretmem] [--user NAME] [--only WHAT] [-- COMMAND...]
#
# Run the tests of every package, as root and as an ordinary user, and then a
# user's logins, without and with the unit, on the kernel that Debian 12 ships, in
# an emulated machine.
#
#   --secretmem   boot with secretmem.enable=1 (Debian's default is off)
#   --user NAME   the tests of one user only: root or alice
#   --only WHAT   one package's tests (fs/conformance), or the login; may be repeated
#   -- COMMAND    run just this in the machine (as root, or as --user), in
#                 /srv, where the repository's files and bin/tokenfs are
#
# Needs root, bin/tokenfs, and from Debian what it then installs itself. Prints
# a table; logs are left in build/vm/plain or build/vm/secretmem. Exit status: 0
# nothing failed (skipped is listed, and is not failed), 1 something did, 2 usage.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../../.." && pwd)
vm=$repo/build/vm

usage() {
	sed -n '2,/^# nothing/s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

mode=plain users='root alice' only='' command=''
while [ $# -gt 0 ]; do
	case $1 in
	--secretmem) mode=secretmem ;;
	--user)
		[ $# -gt 1 ] || usage
		users=$2
		shift
		;;
	--only)
		[ $# -gt 1 ] || usage
		only="$only $2"
		shift
		;;
	--)
		shift
		[ $# -gt 0 ] || usage
		command=$*
		break
		;;
	*) usage ;;
	esac
	shift
done
case $users in root | alice | 'root alice') ;; *) usage ;; esac

if [ "$(id -u)" != 0 ]; then
	echo "run.sh: only root can build the machine's disk: run it with sudo" >&2
	exit 1
fi
"$repo/integration/test/packages.sh" mmdebstrap qemu-system-x86 openssh-client e2fsprogs

# shellcheck source=SCRIPTDIR/machine.sh
. "$here/machine.sh"
# shellcheck source=SCRIPTDIR/login.sh
. "$here/login.sh"
# shellcheck source=SCRIPTDIR/unit.sh
. "$here/unit.sh"

"$here/system.sh"
"$here/payload.sh"

trap halt EXIT
trap 'exit 1' HUP INT TERM
arguments=''
[ "$mode" = plain ] || arguments=secretmem.enable=1
# shellcheck disable=SC2086 # none or one
boot "$vm/payload.img" $arguments

if [ -n "$command" ]; then
	status=0
	as "${users%% *}" "cd /srv && $command" || status=$?
	exit $status
fi

logs=$vm/$mode
rm -rf "$logs"
mkdir -p "$logs"
failures=0
kernel=$(as root 'uname -r')

wanted() { case "$only " in ' ' | *" $1 "*) ;; *) false ;; esac; }

# run_tests USER PACKAGE: one test binary in its package's directory, and a look
# at whether it cleaned up.
run_tests() {
	log=$logs/$1-$(echo "$2" | tr / -).log
	reason=$(sed -n "s|^leave-out $2 ||p" "$here/tests")
	if [ -n "$reason" ]; then
		printf '%-6s %-28s left out: %s\n' "$1" "$2" "$reason" | tee -a "$logs/summary"
		return
	fi
	flags=$(sed -n "s|^test $2 $1 ||p" "$here/tests")
	run=./vm.test
	case $flags in
	on-mount*)
		run="/srv/integration/test/vm/guest/on-mount $run"
		flags=${flags#on-mount}
		;;
	esac
	start=$(date +%s)
	status=0
	as "$1" "cd /srv/$2 && PATH=/srv/integration/test/vm/guest:\$PATH timeout 6000 $run -test.v -test.timeout 95m $flags" \
		>"$log" 2>&1 || status=$?
	seconds=$(($(date +%s) - start))
	left=$(as root "awk '\$3 ~ /^fuse(\\.|\$)/ {print \"mount \" \$2}' /proc/mounts; pgrep -a tokenfs" | tr '\n' ';') || true
	awk -v user="$1" -v package="$2" -v status="$status" -v seconds="$seconds" -v left="$left" \
		-f "$here/report.awk" "$log" >"$log.report" || failures=$((failures + 1))
	tee -a "$logs/summary" <"$log.report"
	if [ -n "$left" ]; then # the next one starts clean
		as root "pkill -9 tokenfs; awk '\$3 ~ /^fuse(\\.|\$)/ {print \$2}' /proc/mounts | xargs -r umount -l" || true
	fi
}

table() {
	{
		echo "Debian 12, kernel $kernel, $mode"
		printf '%-6s %-28s %-9s %5s %6s %7s %8s\n' user package result passed failed skipped time
	} | tee "$logs/summary"
	for user in $users; do
		while read -r package; do
			if wanted "$package"; then run_tests "$user" "$package"; fi
		done <"$vm/packages"
		leave "$user"
	done
}
table
echo

if wanted login; then
	login_test "$mode" >"$logs/login.log" || failures=$((failures + 1))
	unit_test >>"$logs/login.log" || failures=$((failures + 1))
	tee -a "$logs/summary" <"$logs/login.log"
fi

as root dmesg >"$logs/kernel.log"
if grep -E 'BUG: |Oops|blocked for more than|general protection' "$logs/kernel.log"; then
	echo "the kernel complained: see build/vm/$mode/kernel.log"
	failures=$((failures + 1))
fi

[ "$failures" = 0 ] || {
	echo "$failures failed; logs: build/vm/$mode"
	exit 1
}
echo "nothing failed"
