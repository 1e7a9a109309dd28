#!/bin/sh
# Installs the programs that the tests here run, where they are missing: from
# Debian or Ubuntu for everybody; from npm and the Go module proxy into
# $TOKENFS_TEST_APPS, or else into /var/tmp/tokenfs-test-apps.
set -eu

here=$(dirname "$0")
apps=${TOKENFS_TEST_APPS:-/var/tmp/tokenfs-test-apps}

wanted='azure-cli python3-msal-extensions gh git e2fsprogs'
wants() { # COMMAND PACKAGE...: the command may have come from elsewhere
	command -v "$1" >/dev/null || { shift; wanted="$wanted $*"; }
}
wants npm npm
wants docker docker.io
wants kubectl kubernetes-client
wants g++ g++
wants make make
wants pkg-config pkg-config
"$here/../packages.sh" $wanted libsecret-1-dev

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
# loaded; what is published ready-made is not on npm.
keytar=$apps/node_modules/keytar
if ! [ -e "$keytar/build/Release/keytar.node" ]; then
	gyp=$(npm root -g)/npm/node_modules/node-gyp/bin/node-gyp.js
	[ -e "$gyp" ] || gyp=$(command -v node-gyp || echo node-gyp-is-missing)
	run sh -c "cd '$keytar' && node '$gyp' rebuild --nodedir=/usr" ||
		echo 'NOT BUILT: keytar. The tests of MSAL for Node will not run.' >&2
fi

echo "\$ go build -C $here/testdata/go -o $apps/apps"
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -C "$here/testdata/go" -trimpath -o "$apps/apps" .

if ! [ -e "$apps/kubelogin" ]; then
	run env CGO_ENABLED=0 GOFLAGS=-mod=mod GOBIN="$apps" go install github.com/Azure/kubelogin@v0.2.18
fi
