#!/bin/sh
# build.sh ROOT SCRIPTS VERSION DIR: pack what is in ROOT; called by ../build.sh.
# ARCH is the architecture of the programs, in Go's and Debian's words.
set -eu
arch=${ARCH:-$(dpkg --print-architecture)}
root=$1 scripts=$2 version=$3 to=$4

# Debian's place for completions that packages bring.
mkdir -p "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/share/zsh/site-functions/_tokenfs" "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"
cat "$root"/usr/share/doc/tokenfs/LICENSE >"$root/usr/share/doc/tokenfs/copyright"

# Of files alone: how large a directory is depends on where this runs.
size=$(find "$root" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
cp -R "$scripts" "$root/DEBIAN"
(cd "$root" && find etc -type f | sort | sed 's|^|/|') >"$root/DEBIAN/conffiles"
(cd "$root" && find usr -type f | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<CONTROL
Package: tokenfs
Version: $version
Architecture: $arch
Maintainer: tokenfs maintainers <maintainers@tokenfs.invalid>
Section: utils
Priority: optional
Installed-Size: $size
Depends: fuse3
Recommends: libpam-systemd
Description: token caches in memory, sealed
 A filesystem for what the Azure CLI, git-credential-manager, kubelogin and
 every other MSAL application would otherwise leave as plain files on disk.
 Each user who logs in has one; it is wiped when the last login ends.
CONTROL
# The files' times are those of the commit, their order is dpkg-deb's.
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$to/tokenfs_${version}_$arch.deb"
