#!/bin/sh
# build.sh deb|rpm PROGRAM VERSION DIR: pack PROGRAM as such a package in DIR. The
# same program and commit give the same bytes.
set -eu
format=$1 program=$2 version=$3 to=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
umask 022
chmod 755 "$work"
root=$work/root scripts=$work/scripts
mkdir -p "$root" "$scripts" "$to"

# A version begins with a digit; what has no tag comes before all that have one.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
case $version in
v[0-9]*) version=${version#v} ;;
[0-9]*.*) ;;
*) version="0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$version" ;;
esac
version=$(echo "$version" | tr -c 'A-Za-z0-9.+~\n' +)

make -s -C "$here/.." install PROGRAM="$program" DESTDIR="$root" PREFIX=/usr
# For hosts without a systemd user manager: an administrator of Debian copies the
# profile to /usr/share/pam-configs and runs pam-auth-update.
install -D -m 0755 "$program-pam" "$root/usr/libexec/tokenfs-pam"
install -D -m 0644 "$here/pam/tokenfs" "$root/usr/share/doc/tokenfs/examples/pam-configs-tokenfs"
find "$root/usr/share/man" -type f -exec gzip -9n {} +

for script in "$here/$format"/p*; do
	cat "$here/scripts.sh" "$script" >"$scripts/${script##*/}"
	chmod 755 "$scripts/${script##*/}"
done
"$here/$format/build.sh" "$root" "$scripts" "$version" "$to"
