#!/bin/sh
# release.sh VERSION DIR: build what a release is in DIR: programs, packages and
# lists of components for each architecture, and SHA256SUMS over all of it. The
# same commit gives the same bytes.
set -eu
version=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2"
to=$(cd "$2" && pwd)
cd "$here/.."
components=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

command -v rpmbuild >/dev/null || {
	echo "release.sh: no rpmbuild: try: apt-get install rpm" >&2
	exit 1
}
case $version in
*dirty* | unknown) echo "release.sh: $version: commit everything first" >&2; exit 1 ;;
esac

rm -rf "$to"/*
make -s build VERSION="$version" # manual pages and completions come from the native program
for arch in amd64 arm64; do
	for program in tokenfs tokenfs-pam; do
		out=$to/$program-linux-$arch
		CGO_ENABLED=0 GOARCH=$arch go build -trimpath -ldflags "-s -w -X main.releaseVersion=$version" -o "$out" "./cmd/$program"
		go run "$components" bin -json -std -noserial -notimestamp -version "$version" -output "$out.cdx.json" "$out" >/dev/null 2>&1 ||
			{ echo "release.sh: no list of components for $out: try: go run $components bin $out" >&2; exit 1; }
	done
	mkdir "$to/$arch"
	cp "$to/tokenfs-linux-$arch" "$to/$arch/tokenfs"
	cp "$to/tokenfs-pam-linux-$arch" "$to/$arch/tokenfs-pam"
	for format in deb rpm; do
		ARCH=$arch packaging/build.sh "$format" "$to/$arch/tokenfs" "$version" "$to"
	done
	rm -r "${to:?}/$arch"
done
find "$to" -mindepth 2 -name '*.rpm' -exec mv {} "$to" \;
find "$to" -mindepth 1 -type d -empty -delete
(cd "$to" && sha256sum -- * >SHA256SUMS)
cat "$to/SHA256SUMS"
echo "sign $to/SHA256SUMS: its digests cover everything else"
