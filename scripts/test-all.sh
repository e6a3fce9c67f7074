#!/usr/bin/env bash
# Runs every test of every stage, and ends with "N passed, N failed, N skipped". Tests need
# root: as another user they are built as that user and run with sudo. Where the Vagrant VM
# is up, they run in there, on a fresh copy of this directory.
#
#   scripts/test-all.sh [PATTERN...]     packages, else all
#
# Strict: what this machine lacks is a failure, except for the cgroup version that it does
# not have. MYDOCKER_TEST_NEGATIVE=1 runs each chapter's scripts against the chapter before.
set -euo pipefail
cd "$(dirname "$0")/.."

if compgen -G '.vagrant/machines/*/*/id' >/dev/null &&
	vagrant status --machine-readable | grep ',state,running$' >/dev/null; then
	vagrant rsync
	exec vagrant ssh --command "cd /vagrant && MYDOCKER_TEST_NEGATIVE=${MYDOCKER_TEST_NEGATIVE:-} MYDOCKER_CRASH_ROUNDS=${MYDOCKER_CRASH_ROUNDS:-} scripts/test-all.sh $*"
fi
if [ "$(uname)" != Linux ]; then
	echo "test-all: needs Linux: vagrant up first" >&2
	exit 1
fi

if command -v apt-get >/dev/null; then
	scripts/setup.sh
fi

# Always the same image, so that the tests know what is in it.
IMAGE_FROM=$(command -v apt-get >/dev/null && echo debian) scripts/image.sh .cache/busybox.tar

# No cgo, as everywhere in the project: so the test binaries run in a jail too.
export CGO_ENABLED=0 MYDOCKER_TEST_STRICT=1
run_as_root=()
if [ "$(id -u)" != 0 ]; then
	run_as_root=(-exec "sudo --preserve-env=MYDOCKER_TEST_STRICT,MYDOCKER_TEST_NEGATIVE,MYDOCKER_CRASH,MYDOCKER_CRASH_ROUNDS,MYDOCKER_CRASH_SEED")
fi
if [ $# = 0 ]; then
	set -- work
fi
go test -count=1 -v -timeout 10m "${run_as_root[@]}" "$@" 2>&1 | scripts/counts.sh
