#!/usr/bin/env bash
# Times final against those of crun, runc, podman and docker that are installed, and prints a table.
#
#   bench/bench.sh [-only GROUP,...] [README...]      as root, when final and bench are in bin/
#
# It also writes the table into the READMEs, between their lines <!-- bench --> and <!-- /bench -->.
#
# All of them run in namespaces of their own, with what they keep in one directory on the disk, and
# what they need only while the machine runs in /run, in memory, where it is by default. So nothing
# of the host's is changed but its cgroups, and these are cleared up.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	echo "bench: must run as root (try sudo)" >&2
	exit 1
fi

state=$(mktemp -d /var/tmp/mydocker-bench.XXXXXX) # not in /tmp, which may be in memory
export state

# The distribution's programs, and not what somebody has in front of them.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

# sandbox ARG... is what runs as process 1. It must be a shell: that buries the orphans.
sandbox() {
	local dir
	ip link set lo up
	mount -t tmpfs none /run
	mount -t tmpfs none /dev/shm # where podman has a lock for every container
	for dir in /etc/cni /var/lib/cni /var/lib/containers; do
		if [ -d "$dir" ]; then
			mkdir -p "$state$dir"
			mount --bind "$state$dir" "$dir"
		fi
	done
	# Where there is v2 beside v1, crun starts nothing.
	if mountpoint -q /sys/fs/cgroup/unified; then
		mount -t tmpfs none /sys/fs/cgroup/unified
	fi
	bin/bench -state "$state" "$@"
}
export -f sandbox

# clean removes what is left when all processes have ended with the sandbox: containers do not
# get to do so. Of the cgroups of final's it takes only those whose containers are ours.
clean() {
	local group
	shopt -s nullglob
	for group in /sys/fs/cgroup/{,*/}mydocker-?????/*/; do
		if [ -d "$state/mydocker/containers/$(basename "$group")" ]; then
			rmdir "$group"
			rmdir --ignore-fail-on-non-empty "$(dirname "$group")"
		fi
	done
	for group in /sys/fs/cgroup/{,*/}mydocker-bench*/; do
		find "$group" -depth -type d -exec rmdir {} ';'
	done
	rm -rf "$state"
}
trap clean EXIT

# As it is when it is installed, like the others: the file that the linker has written starts a few percent slower.
install bin/final "$state/final"

timeout --foreground --signal=KILL 1500 \
	unshare --mount --net --pid --fork --kill-child --mount-proc bash -euc 'sandbox "$@"' bench "$@"
