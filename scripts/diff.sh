#!/usr/bin/env bash
# Shows what one stage changes in another, without what differs for every stage: module
# files, READMEs, and the scripts in testdata.
#
#   scripts/diff.sh FROM TO [git diff options]      as in scripts/diff.sh ch04 ch05
set -euo pipefail
cd "$(dirname "$0")/.."

# stage NAME prints the directory that NAME is, or the beginning of.
stage() {
	local dirs=("$1"*/)
	if [ -z "$1" ] || [ ! -d "${dirs[0]}" ] || [ ${#dirs[@]} != 1 ]; then
		echo "diff: no stage \"$1\" (there are:$(printf ' %s' ch[0-9][0-9]-*))" >&2
		return 1
	fi
	echo "${dirs[0]%/}"
}

if [ $# -lt 2 ]; then
	echo "usage: diff.sh FROM TO, as in: make diff FROM=ch04 TO=ch05" >&2
	exit 1
fi
from=$(stage "$1")
to=$(stage "$2")
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -c --exclude='go.*' --exclude='README*' --exclude=testdata "$from" "$to" | tar -x -C "$work"
cd "$work"
git diff --no-index "$@" "$from" "$to" || [ $? = 1 ] # 1 is: they differ
