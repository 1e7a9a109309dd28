#!/bin/sh
# licences.sh DIR: copy the licences of all that is linked into the programs to DIR.
set -eu
mkdir -p "$1"
cp "$(go env GOROOT)/LICENSE" "$1/go"
# Modules that are vendored have no directory of their own.
modules=$(CGO_ENABLED=0 go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{or .Dir (print "vendor/" .Path)}}{{end}}{{end}}' ./cmd/...)
echo "$modules" | sort -u |
	while read -r module dir; do
		found=
		for file in "$dir"/LICENSE* "$dir"/License* "$dir"/COPYING* "$dir"/NOTICE*; do
			[ -f "$file" ] || continue
			cat "$file" >>"$1/$(echo "$module" | tr / _)"
			found=yes
		done
		[ "$found" ] || { echo "licences.sh: $module has no licence" >&2; exit 1; }
	done
