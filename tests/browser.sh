#!/bin/sh
# Provides a real Chromium at target/servers/bin/ for the tests of the page: a
# link to the installed program if there is one, else the distribution's
# package, see tests/packages.sh.
#
# stdout: one line. stderr: progress and errors.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=tests/packages.sh
. tests/packages.sh

report() {
    found=$(version chromium "$bin/chromium") || return 1
    echo "chromium $found ($bin/chromium)"
}

# The usual case must be fast.
report && exit 0

lock
mkdir -p "$bin"
report && exit 0

installed=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -n "$installed" ] && version chromium "$installed" >/dev/null; then
    ln -s "$installed" "$work/link"
    mv -fT "$work/link" "$bin/chromium"
else
    from_sources chromium || {
        complain
        say "no chromium: install it in a directory of PATH (Debian: the package chromium)"
        exit 1
    }
fi
report
