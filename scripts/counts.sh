#!/usr/bin/env bash
# Reads the output of go test -v and shows of it what matters: what failed tests have said,
# why others were skipped, a line per package, and last "N passed, N failed, N skipped".
set -euo pipefail

awk '
{ sub(/\r$/, "") }

# What a test says stands behind the line that begins it. How it ended comes much later for
# a subtest, so all that was said is kept until then.
/^=== (RUN|CONT|NAME) / { test = $3; next }
/^ *--- PASS/ { passed++; delete said[$3]; test = ""; next }
/^ *--- FAIL/ { failed++; package_failed = 1; print; printf "%s", said[$3]; delete said[$3]; test = ""; next }
/^ *--- SKIP/ { skipped++; print; printf "%s", said[$3]; delete said[$3]; test = ""; next }
/^panic: / { for (name in said) printf "%s", said[name]; test = "" }

/^(FAIL|ok|\?)[ \t]+[^ \t]/ {
	if ($1 == "FAIL" && !package_failed) failed++ # it did not even get to a test
	package_failed = 0
	test = ""
	print
	next
}
/^(PASS|FAIL|exit status)/ { next }
test != "" { said[test] = said[test] $0 "\n"; next }
{ print }

END {
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed > 0 || passed == 0
}'
