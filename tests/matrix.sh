#!/bin/sh
# Runs the integration tests on each supported version of HAProxy: the packages
# of four releases of Debian, each with its own libraries, unpacked at
# target/servers/RELEASE, see tests/packages.sh. The tests must be built.
#
# usage: [RELEASES="bullseye sid"] tests/matrix.sh [ARGUMENT OF THE TEST PROGRAM]...
#
# stdout: one line per version. stderr: progress and errors.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=tests/packages.sh
. tests/packages.sh

# 2.2, 2.6, 3.0 and 3.2.
releases=${RELEASES:-bullseye bookworm trixie sid}
all=$servers

# usage: use RELEASE
use() {
    servers=$all/$1
    bin=$servers/bin
}

# Usually there is nothing to download.
missing=
for release in $releases; do
    use "$release"
    version haproxy "$bin/haproxy" >/dev/null || missing="$missing $release"
done
if [ -n "$missing" ]; then
    servers=$all
    lock
    for release in $missing; do
        use "$release"
        from_release haproxy "$release" main || {
            complain
            say "no haproxy of $release: run this on Debian with a mirror that has $release"
            exit 1
        }
        rm -f "$work/errors"
    done
    rm -rf "$work"
    exec 9>&-
fi

# The number in front of a word in cargo's last line: "191 passed; 0 failed; ...".
count() {
    result=$(sed -n "s/^test result: .* \([0-9][0-9]*\) $1;.*/\1/p" "$log")
    echo "${result:-0}"
}

verdict=0
for release in $releases; do
    use "$release"
    version=$(version haproxy "$bin/haproxy")
    log=$servers/tests.log
    say "$version of $release"
    start=$(date +%s)
    ended=0
    TEST_HAPROXY=$(cd "$bin" && pwd)/haproxy "${CARGO:-cargo}" test --locked --test it -- "$@" >"$log" 2>&1 || ended=$?
    passed=$(count passed)
    run=$((passed + $(count failed)))
    echo "haproxy $version: $passed of $run tests passed, in $(($(date +%s) - start)) s"
    # No test that ran is a failure.
    if [ "$ended" != 0 ] || [ "$run" = 0 ]; then
        verdict=1
        sed -n 's/^test \(.*\) \.\.\. FAILED$/matrix: failed: \1/p' "$log" >&2
        say "complete output: $log"
    fi
done
exit $verdict
