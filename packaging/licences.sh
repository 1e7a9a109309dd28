#!/bin/sh
# licences.sh DIR: copy the licences of all that is linked into tokenfs to DIR.
set -eu
mkdir -p "$1"
cp "$(go env GOROOT)/LICENSE" "$1/go"
go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/tokenfs | sort -u |
	while read -r module dir; do
		found=
		for file in "$dir"/LICENSE* "$dir"/COPYING*; do
			[ -f "$file" ] || continue
			cat "$file" >"$1/$(echo "$module" | tr / _)"
			found=yes
		done
		[ "$found" ] || { echo "licences.sh: $module has no licence" >&2; exit 1; }
	done
