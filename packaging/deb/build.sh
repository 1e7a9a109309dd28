#!/bin/sh
# build.sh PROGRAM VERSION DIR: pack PROGRAM as a Debian package in DIR. The same
# program and commit give the same bytes.
set -eu
program=$1 version=$2 to=$3
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM
umask 022
chmod 755 "$root"

# A version begins with a digit; what has no tag comes before all that have one.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
case $version in
v[0-9]*) version=${version#v} ;;
[0-9]*.*) ;;
*) version="0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$version" ;;
esac
version=$(echo "$version" | tr -c 'A-Za-z0-9.+~\n' +)

make -s -C "$here/../.." install PROGRAM="$program" DESTDIR="$root" PREFIX=/usr
# For hosts without a systemd user manager: an administrator copies the profile
# to /usr/share/pam-configs and runs pam-auth-update.
install -D -m 0755 "$program-pam" "$root/usr/libexec/tokenfs-pam"
install -D -m 0644 "$here/../pam/tokenfs" "$root/usr/share/doc/tokenfs/examples/pam-configs-tokenfs"
# Debian's place for completions that packages bring, and its form of pages.
mkdir -p "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/share/zsh/site-functions/_tokenfs" "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
cat "$root"/usr/share/doc/tokenfs/LICENSE >"$root/usr/share/doc/tokenfs/copyright"

mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do
	install -m 0755 "$here/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find etc -type f | sort | sed 's|^|/|') >"$root/DEBIAN/conffiles"
(cd "$root" && find usr -type f | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<CONTROL
Package: tokenfs
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: tokenfs maintainers <maintainers@tokenfs.invalid>
Section: utils
Priority: optional
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
Depends: fuse3
Recommends: libpam-systemd
Description: token caches in memory, sealed
 A filesystem for what the Azure CLI, git-credential-manager, kubelogin and
 every other MSAL application would otherwise leave as plain files on disk.
 Each user who logs in has one; it is wiped when the last login ends.
CONTROL
# The files' times are those of the commit, their order is dpkg-deb's.
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$to"
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$to/tokenfs_${version}_$(dpkg --print-architecture).deb"
