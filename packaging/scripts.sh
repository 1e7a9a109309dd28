#!/bin/sh
# What the scripts of both packages do. It goes before each of them, in deb and
# rpm, which say when.
set -e

preset() {
	command -v systemctl >/dev/null || return 0
	systemctl --global --quiet preset tokenfs.service || :
}

disable() {
	command -v systemctl >/dev/null || return 0
	systemctl --global --quiet disable tokenfs.service || :
}

reload() { [ ! -d /run/systemd/system ] || systemctl daemon-reload || :; }

as() {
	user=$1 dir=$2
	shift 2
	runuser -u "$user" -- env XDG_RUNTIME_DIR="$dir" "$@"
}

# Mounted filesystems go on as they are, tokens and all, with the new program. One
# that cannot keeps the old program until its user logs out.
upgrade_mounts() {
	for socket in /run/user/*/tokenfs.sock; do
		[ -S "$socket" ] || continue
		dir=${socket%/*}
		user=$(id -nu "${dir##*/}") || continue
		as "$user" "$dir" tokenfs upgrade >/dev/null ||
			echo "tokenfs: what $user has mounted goes on with the old program until the next logout" >&2
	done
}

# Nobody is to have a mount that nothing can unmount.
remove_mounts() {
	for socket in /run/user/*/tokenfs.sock; do
		[ -S "$socket" ] || continue
		dir=${socket%/*}
		user=$(id -nu "${dir##*/}") || continue
		files=$(as "$user" "$dir" tokenfs status --json | sed -n 's/^ *"files": \([0-9]*\),*$/\1/p' | head -n 1) || files=
		[ "${files:-0}" = 0 ] || echo "tokenfs: $user still had files in it ($files): they are wiped, and $user has to sign in anew" >&2
		as "$user" "$dir" tokenfs unmount >/dev/null || echo "tokenfs: what $user has mounted could not be unmounted: end that session" >&2
		as "$user" "$dir" rm -f "$dir/tokenfs.failed"
		as "$user" "$dir" rmdir "$dir/tokenfs" 2>/dev/null || :
	done
}

