#!/usr/bin/env bash
# Unpacks a Debian or Ubuntu package for this machine into a directory, without installing it.
#
#   scripts/package.sh PACKAGE DIRECTORY
set -euo pipefail

package=$1 directory=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

download() { (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package") 2>>"$work/log"; }

echo "downloading the package $package" >&2
if ! download; then
	# The lists of packages are old, or there are none yet. Only root may fetch them.
	if ! { apt-get -qq update 2>>"$work/log" && download; }; then
		cat "$work/log" >&2
		exit 1
	fi
fi
mkdir -p "$directory"
dpkg-deb -x "$work"/*.deb "$directory"
