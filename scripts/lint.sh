#!/usr/bin/env bash
# Checks everything that is not a test: the lock and the tables, the modules, the builds for
# other systems, and what the linters say. Goes on after a failure, so as to tell all of them.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

version=${LINT_VERSION:?is set in the Makefile}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
modules=$(go list -f '{{.Dir}}' -m)
failed=0

# check NAME COMMAND... runs a command that has to succeed. Only if it fails is its output shown.
check() {
	local name=$1
	shift
	if "$@" >"$work/output" 2>&1; then
		echo "ok    $name"
	else
		echo "FAIL  $name"
		cat "$work/output"
		failed=1
	fi
}

check "stages.lock and tables" go run ./internal/tour check
for module in $modules; do
	check "${module#"$PWD"/} is tidy" env GOWORK=off go -C "$module" mod tidy -diff
	check "${module#"$PWD"/} builds alone" env GOWORK=off go -C "$module" build -o /dev/null ./...
done
sums() { find . -name 'go.*' -not -path './.*' -exec sha256sum {} + | sort; }
sums >"$work/before"
check "go work sync" go work sync
sums >"$work/after"
check "go work sync changes nothing" diff "$work/before" "$work/after"
check "builds for arm64" env GOARCH=arm64 go build -o /dev/null work
check "vets for Linux" go vet work
check "vets for macOS" env GOOS=darwin go vet work

linter=bin/golangci-lint-$version
if [ ! -x "$linter" ]; then
	echo "      building golangci-lint $version"
	check "builds golangci-lint" env GOBIN="$work" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
	mkdir -p bin && mv "$work/golangci-lint" "$linter"
fi
# shellcheck disable=SC2086 # the modules are words
check "golangci-lint" "$linter" run ${modules//$'\n'//... }/...

check "shellcheck" shellcheck scripts/*.sh scripts/vm/*.sh bench/*.sh .ci/run
if [ -n "${CI:-}" ] || command -v vagrant >/dev/null; then
	check "Vagrantfile" vagrant validate
fi
exit $failed
