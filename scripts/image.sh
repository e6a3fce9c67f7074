#!/usr/bin/env bash
# Makes the image busybox: an archive of a root file system, as docker export writes it.
# Docker's busybox if there is a Docker that has it, else one built from the package busybox-static.
#
#   scripts/image.sh [FILE]
#
# FILE is /var/lib/mydocker/images/busybox.tar (under $MYDOCKER_ROOT if that is set). With
# IMAGE_FROM=debian Docker is not asked. Does nothing if the file is there.
set -euo pipefail

scripts=$(dirname "$(realpath "$0")")
file=${1:-${MYDOCKER_ROOT:-/var/lib/mydocker}/images/busybox.tar}

say() { echo "image busybox: $*" >&2; }

if [ -s "$file" ]; then
	say "$file is there"
	exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

from_docker() {
	say "exporting Docker's"
	local container
	container=$(docker create busybox) &&
		docker export "$container" >"$work/busybox.tar" &&
		docker rm "$container" >/dev/null
}

from_debian() {
	if ! command -v dpkg-deb >/dev/null; then
		say "needs Docker, or Debian's or Ubuntu's packages"
		exit 1
	fi
	"$scripts/package.sh" busybox-static "$work/package"
	build_rootfs "$(find "$work/package" -path '*/bin/busybox')" "$work/rootfs"
	tar -C "$work/rootfs" --numeric-owner --owner=0 --group=0 --sort=name --mtime=@0 -cf "$work/busybox.tar" .
}

# build_rootfs BUSYBOX ROOTFS lays out a root file system in which busybox is every command.
build_rootfs() {
	local busybox=$1 rootfs=$2 applet
	mkdir -p "$rootfs"/{bin,dev,etc,home,proc,root,sbin,sys,tmp,usr/bin,usr/sbin,var}
	chmod 1777 "$rootfs/tmp"
	chmod 700 "$rootfs/root"
	cp "$busybox" "$rootfs/bin/busybox"
	for applet in $("$busybox" --list-full); do
		[ "$applet" = bin/busybox ] || ln -sf /bin/busybox "$rootfs/$applet"
	done
	printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/nonexistent:/bin/false >"$rootfs/etc/passwd"
	printf '%s\n' root:x:0: nogroup:x:65534: >"$rootfs/etc/group"
}

mkdir -p "$(dirname "$file")"
if [ "${IMAGE_FROM:-}" = debian ] || ! docker info >/dev/null 2>&1 || ! from_docker; then
	from_debian
fi
cp "$work/busybox.tar" "$file.new"
mv "$file.new" "$file"
say "made $file"
