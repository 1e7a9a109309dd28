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

# as USER UID COMMAND...: what a user's processes are told is no part of root's
# environment; and whatever they do, it ends.
as() {
	user=$1 dir=/run/user/$2
	shift 2
	timeout --kill-after=1 20 runuser -u "$user" -- env -i PATH=/usr/bin:/bin XDG_RUNTIME_DIR="$dir" "$@" </dev/null
}

# for_mounts FUNCTION: call it with USER UID MOUNTPOINT for each mounted filesystem,
# wherever it is.
for_mounts() {
	sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - fuse\.tokenfs .*user_id=\([0-9]*\).*/\2 \1/p' /proc/self/mountinfo | sort -u |
		while read -r uid at; do
			user=$(id -nu "$uid") || continue
			# A name has a space as \040 there.
			at=$(printf '%b.' "$(printf '%s' "$at" | sed 's/\\/\\0/g')")
			"$1" "$user" "$uid" "${at%.}"
		done
}

# Who is logged in has a mount now, as the next one who logs in will.
start_mounts() {
	[ -d /run/systemd/system ] && systemctl --global --quiet is-enabled tokenfs.service || return 0
	for manager in /run/user/*/systemd/private; do
		[ -S "$manager" ] || continue
		uid=${manager#/run/user/} uid=${uid%%/*}
		user=$(id -nu "$uid") && [ ! -e "/run/user/$uid/tokenfs.sock" ] || continue
		as "$user" "$uid" systemctl --user daemon-reload || continue
		as "$user" "$uid" systemctl --user --quiet is-enabled tokenfs.service || continue # it is masked
		as "$user" "$uid" systemctl --user start tokenfs.service ||
			echo "tokenfs: $user has a mount from the next login on" >&2
	done
}

# Mounted filesystems go on as they are, tokens and all, with the new program. One
# that cannot keeps the old program until its user logs out.
upgrade_mounts() { for_mounts upgrade_mount; }
upgrade_mount() {
	as "$1" "$2" tokenfs upgrade --mountpoint="$3" >/dev/null ||
		echo "tokenfs: what $1 has mounted goes on with the old program until the next logout" >&2
}

# Nobody is to have a mount that nothing can unmount.
remove_mounts() {
	status=$(mktemp)
	for_mounts remove_mount
	rm -f "$status"
	for note in /run/user/*/tokenfs.failed; do
		[ -e "$note" ] || continue
		uid=${note#/run/user/} uid=${uid%%/*}
		user=$(id -nu "$uid") || continue
		as "$user" "$uid" rm -f "$note"
	done
}
remove_mount() {
	as "$1" "$2" tokenfs status --json --mountpoint="$3" >"$status" || :
	files=$(sed -n 's/^ *"files": \([0-9]*\),*$/\1/p' "$status" | head -n 1)
	[ "${files:-0}" = 0 ] || echo "tokenfs: $1 still had files in it ($files): they are wiped, and $1 has to sign in anew" >&2
	as "$1" "$2" tokenfs unmount --mountpoint="$3" >/dev/null || echo "tokenfs: what $1 has mounted could not be unmounted: end that session" >&2
	case $3 in /run/user/*/tokenfs) as "$1" "$2" rmdir "$3" 2>/dev/null || : ;; esac
}

