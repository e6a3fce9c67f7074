#!/usr/bin/env bash
# Carries the uncommitted changes of each stage forward through all stages behind it. Every
# hop is a three-way merge by git: the base is the stage as committed, one side the stage as
# it is now, the other the next stage. READMEs and testdata belong to one chapter and stay.
#
# It stops at the first conflict, with the usual markers in the next stage's files. Resolve
# them and run it again: a hop that was made is not made again until the next commit.
#
# The last hop, to final, is made file by file: those that it has still in common with the
# last chapter. The rest of final says the same in a shape of its own, and is mended by hand.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

stages=(ch[0-9][0-9]-*)
in_final=(flags.go flags_test.go main_other.go
	internal/cgroup/{cpuset,cpuset_test}.go
	internal/image/unpack.go
	internal/network/{bridge,ipam,nat,ports,ports_test}.go
	internal/shim/logentry.go)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
index=$work/index
export GIT_AUTHOR_NAME=forward GIT_AUTHOR_EMAIL=forward GIT_COMMITTER_NAME=forward GIT_COMMITTER_EMAIL=forward

# own STAGE: the pathspecs of what a stage hands on.
own() { printf '%s\n' "$1" ":!$1/README*" ":!$1/testdata"; }

# tree_now STAGE prints the tree of the stage as it is in the working tree.
tree_now() {
	rm -f "$index"
	own "$1" | GIT_INDEX_FILE=$index git add --all --pathspec-from-file=-
	GIT_INDEX_FILE=$index git write-tree --prefix="$1/"
}

# tree_committed STAGE prints the tree of the stage as it is in HEAD.
tree_committed() {
	GIT_INDEX_FILE=$index git read-tree HEAD
	GIT_INDEX_FILE=$index git rm -r -q --cached --ignore-unmatch -- "$1/README*" "$1/testdata"
	GIT_INDEX_FILE=$index git write-tree --prefix="$1/"
}

# carried STAGE prints the tree that the next stage already has all changes of. The ref
# that remembers it names the commit that it holds for.
carried() {
	local ref=refs/forward/carried/$1
	if [ "$(git log -1 --format=%s "$ref" 2>/dev/null)" = "$(git rev-parse HEAD)" ]; then
		git rev-parse "$ref^{tree}"
	else
		tree_committed "$1"
	fi
}

# hop STAGE NEXT carries what has changed in STAGE to NEXT.
hop() {
	local stage=$1 next=$2 base theirs ours root merged conflict=
	base=$(carried "$stage")
	theirs=$(tree_now "$stage")
	if [ "$base" = "$theirs" ]; then
		return
	fi
	ours=$(tree_now "$next")
	# merge-tree wants commits, and puts the names that it gets into conflict markers.
	root=$(git commit-tree -m base "$base")
	git update-ref "refs/forward/$stage" "$(git commit-tree -p "$root" -m "$(git rev-parse HEAD)" "$theirs")"
	git update-ref "refs/forward/$next" "$(git commit-tree -p "$root" -m "$next" "$ours")"
	merged=$(git merge-tree --write-tree "forward/$next" "forward/$stage") || conflict=$merged
	merged=${merged%%$'\n'*}
	if [ "$ours" != "$merged" ]; then
		echo "$stage -> $next:" "$(git diff --name-only "$ours" "$merged" | xargs)"
		git diff --binary "$ours" "$merged" | git apply --directory="$next"
	fi
	git update-ref "refs/forward/carried/$stage" "refs/forward/$stage"
	if [ -n "$conflict" ]; then
		grep '^CONFLICT' <<<"$conflict" >&2
		echo "forward: resolve this in $next, and run me again" >&2
		exit 1
	fi
}

# hop_to_final carries what has changed in the last chapter to final.
hop_to_final() {
	local stage=${stages[-1]} base theirs path file conflicts=()
	base=$(carried "$stage")
	theirs=$(tree_now "$stage")
	if [ "$base" = "$theirs" ]; then
		return
	fi
	for path in "${in_final[@]}"; do
		file=$(basename "$path")
		if [ ! -e "final/$path" ] || git diff --quiet "$base" "$theirs" -- "$file"; then
			continue
		fi
		echo "$stage -> final: $path"
		git show "$base:$file" >"$work/base"
		git show "$theirs:$file" >"$work/theirs"
		git merge-file -q -L final -L base -L "$stage" "final/$path" "$work/base" "$work/theirs" || conflicts+=("$path")
	done
	git update-ref "refs/forward/carried/$stage" "$(git commit-tree -m "$(git rev-parse HEAD)" "$theirs")"
	if [ ${#conflicts[@]} -gt 0 ]; then
		echo "forward: resolve this in final: ${conflicts[*]}" >&2
		exit 1
	fi
}

if git grep -l --untracked '^<<<<<<< ' -- "${stages[@]}" final ':!*/README*' >&2; then
	echo "forward: resolve these conflicts first" >&2
	exit 1
fi
for ((i = 0; i + 1 < ${#stages[@]}; i++)); do
	if git rev-parse --quiet --verify "HEAD:${stages[i]}" >/dev/null; then
		hop "${stages[i]}" "${stages[i + 1]}"
	fi
done
hop_to_final
