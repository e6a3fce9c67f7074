#!/usr/bin/env bash
# Takes protections out of a copy of the code, one at a time, and makes sure that a test notices.
# Ends with "N passed, N failed, N skipped".
#
#   scripts/test-mutants.sh [NAME...]    of a patch in scripts/mutants; all if none is named
#
# The first line of a patch names the package and the test: "./final TestScripts/exec$".
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE_FROM=$(command -v apt-get >/dev/null && echo debian) scripts/image.sh .cache/busybox.tar
export CGO_ENABLED=0 MYDOCKER_TEST_STRICT=1
run_as_root=()
[ "$(id -u)" = 0 ] || run_as_root=(sudo --preserve-env=MYDOCKER_TEST_STRICT)

patches=()
for name in "$@"; do
	patches+=("$PWD/scripts/mutants/$name.patch")
done
[ $# -gt 0 ] || patches=("$PWD"/scripts/mutants/*.patch)

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy" .cache/busybox.tar
cd "$copy"

passed=0 failed=0
report() {
	case $1 in
	ok) passed=$((passed + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
	printf '%-5s %s\n' "$@"
}

# check PACKAGE PATTERN runs tests. It returns 1 if one fails, and 2 if they cannot be run.
check() {
	go test -c -vet=off -o "$copy/test" "$1" >"$copy/output" 2>&1 || return 2
	(cd "$1" && timeout 300 "${run_as_root[@]}" "$copy/test" -test.timeout 280s -test.v -test.run "$2") >"$copy/output" 2>&1 &&
		! grep -q 'no tests to run' "$copy/output" && return 0
	grep -q -e '^ *--- FAIL' -e '^panic:' "$copy/output" || return 2
	return 1
}

# tests PACKAGE prints the tests that the patches of a package name.
tests() { head -qn 1 "${patches[@]}" | sed -n "s,^$1 ,,p" | sort -u; }

# select_tests TEST prints a pattern that matches no other test.
select_tests() { sed -e 's,/,$/^,' -e 's,.*,^&$,' <<<"$1"; }

# Without a mutant all tests pass.
for package in $(head -qn 1 "${patches[@]}" | cut -d' ' -f1 | sort -u); do
	all=$(tests "$package" | sed 's,^[^/]*/,,' | paste -sd '|')
	case $(tests "$package") in
	TestScripts/*) pattern="^TestScripts\$/^($all)\$" ;;
	*) pattern="^($all)\$" ;;
	esac
	check "$package" "$pattern" || {
		report FAIL "$package fails without a mutant:"
		cat "$copy/output"
	}
done

for patch in "${patches[@]}"; do
	name=$(basename "$patch" .patch)
	read -r package test <"$patch"
	if ! git apply "$patch" 2>"$copy/output"; then
		report FAIL "$name: the patch does not apply any more:"
		cat "$copy/output"
		continue
	fi
	status=0
	check "$package" "$(select_tests "$test")" || status=$?
	case $status in
	0) report FAIL "$name survives $package $test" ;;
	1) report ok "$name" ;;
	*) report FAIL "$name: $package $test cannot run:" && cat "$copy/output" ;;
	esac
	git apply -R "$patch"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
