#!/bin/sh
# What the scripts of both packages do. It goes before each of them, in deb and
# rpm, which say when.
#
# Nothing here runs as a user, looks into a user's directories or asks a user's
# process: root would wait for it, and what runs as a user on root's terminal can
# type there. A new program, and its removal, the users' keepers notice by themselves.
set -e
umask 022

preset() {
	command -v systemctl >/dev/null || return 0
	systemctl --global --quiet preset tokenfs.service || :
}

disable() {
	command -v systemctl >/dev/null || return 0
	systemctl --global --quiet disable tokenfs.service || :
}

reload() { [ ! -d /run/systemd/system ] || systemctl daemon-reload || :; }

# Tells keepers that a program which is missing was removed for good.
mark=/run/tokenfs/removed
unmark() { rm -f $mark; }
mark() {
	mkdir -p -m 0755 ${mark%/*}
	echo /usr/bin/tokenfs >$mark
	sed -n 's/^.* - fuse\.tokenfs .*user_id=\([0-9]*\).*/\1/p' /proc/self/mountinfo | sort -nu |
		while read -r uid; do
			echo "tokenfs: what $(id -nu "$uid" 2>/dev/null || echo "uid $uid") has mounted ends within seconds: sign in anew where a token was in it" >&2
		done
}
