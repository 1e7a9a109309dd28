#!/bin/sh
# Installs Debian or Ubuntu packages that are missing, saying so: packages.sh NAME...
set -eu

missing=
for package; do
	case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || :) in
	*'ok installed') ;;
	*) missing="$missing $package" ;;
	esac
done
if [ -z "$missing" ]; then
	echo "installed already: $*"
	exit
fi

sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo=sudo
fi
install="apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null || ! command -v ${sudo:-sh} >/dev/null; then
	echo "packages.sh: missing:$missing: as root on Debian or Ubuntu try: $install" >&2
	exit 1
fi
run() {
	echo "\$ $*"
	"$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run $sudo apt-get update
run $sudo env DEBIAN_FRONTEND=noninteractive $install
