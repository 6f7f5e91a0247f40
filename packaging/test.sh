#!/usr/bin/env bash
# Runs every check and every test, and ends with one line `N passed, N failed, N skipped` over all of them.
#
# A test that cannot run here prints a line `SKIPPED: reason` and returns; it is counted as skipped, not as passed. A test
# harness counts by test, a check (formatting, lints, …) counts as one.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
passed=0 failed=0 skipped=0

check() { # name command...
  local name=$1
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name" | tee -a "$log/failures"
  fi
}

check format cargo fmt --all --check
check lints cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
check arrows cargo run --quiet --locked -p xtask -- arrows
check docs env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --locked
# Whom the detectors ban in captures whose truth is known: nobody who is benign.
if [ -f ../shared/data/truth/scan_flood.tsv ]; then
  check detection cargo run --quiet --locked -p xtask -- detection --check
else
  echo "SKIPPED: detection: ../shared/data is not beside the checkout"
  skipped=$((skipped + 1))
fi

if [ "$(id -u)" -ne 0 ]; then
  echo
  echo "NOT ROOT: the tests that make network namespaces are skipped. Run \`sudo -E env PATH=\$PATH make test\` for all of them."
fi

# --show-output: without it the harness swallows what a passing test printed, the SKIPPED lines among it.
printf '\n== tests: cargo test --workspace\n'
cargo test --workspace --locked --no-fail-fast -- --show-output >"$log/tests" 2>&1
status=$?
# The heading of each output block names its test, so that a test with several SKIPPED lines counts once.
awk -v failures="$log/failures" -v reasons="$log/reasons" '
  /^     Running |^   Doc-tests / { suite = $0 }
  /^---- .* stdout ----$/ { test = suite " " $2 }
  /^(successes|failures):$/ { test = "" }
  /SKIPPED: / { sub(/.*SKIPPED: /, ""); print > reasons; if (test == "") test = suite " " NR; if (!(test in seen)) { seen[test] = 1; skipped++ } next }
  /^test .* \.\.\. FAILED$/ { print "FAILED: " $2 " (" suite ")" > failures }
  /^test result: / { for (i = 1; i <= NF; i++) { if ($i == "passed;") p += $(i-1); if ($i == "failed;") f += $(i-1); if ($i == "ignored;") s += $(i-1) } }
  END { print p + 0, f + 0, s + 0, skipped + 0 }
' "$log/tests" >"$log/sums"
read -r p f ignored unrun <"$log/sums"
if [ "$status" -ne 0 ]; then
  cat "$log/tests"
  if [ "$f" -eq 0 ]; then
    f=1
    echo "FAILED: cargo test did not run to its end" >>"$log/failures"
  fi
else
  grep -E '^(     Running|   Doc-tests|test result)' "$log/tests"
fi
passed=$((passed + p - unrun)) failed=$((failed + f)) skipped=$((skipped + ignored + unrun))

echo
if [ -s "$log/reasons" ]; then
  sort "$log/reasons" | uniq -c | sort -rn | sed 's/^ *\([0-9]*\) /SKIPPED (\1×): /'
fi
[ ! -s "$log/failures" ] || sort -u "$log/failures"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
