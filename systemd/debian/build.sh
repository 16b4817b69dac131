#!/bin/sh
# Builds the Debian packages, target/debian/weightd_*.deb and target/debian/rolloutd_*.deb. The programs
# print the manual pages and completions, which are not in the source tree. The same commit gives the
# same packages.
set -eu
cd "$(dirname "$0")/../.."

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
# cargo-deb packs the binaries from this directory; see [package.metadata.deb] in Cargo.toml, and its
# variant for rolloutd.
programs=$target/release
printed=target/package
tools=$target/tools
version=3.8.0

# Usage: is_right PROGRAM. Whether PROGRAM is cargo-deb of this version.
is_right() {
    [ "$("$1" --version 2>/dev/null)" = "cargo-deb $version" ]
}

# cargo-deb from PATH, else the one that this script installs.
packer=$(command -v cargo-deb) && is_right "$packer" || packer=$tools/bin/cargo-deb
if ! is_right "$packer"; then
    echo "deb: installing cargo-deb $version below $tools" >&2
    # Without optimisation, except for the compression: cargo-deb runs for seconds, and a second release build takes longer
    # than the package's own. In a target directory of its own: its dependencies must not rebuild those of weightd.
    CFLAGS="-O2 ${CFLAGS:-}" "$cargo" install --quiet --locked --debug --root "$tools" --target-dir "$tools/build" \
        --version "=$version" cargo-deb
    rm -rf "$tools/build"
fi

# The same command as that of `make bench`, so that each finds what the other has built.
"$cargo" build --locked --release --bins

rm -rf "$printed"
mkdir -p "$printed/man" "$printed/bash" "$printed/zsh" "$printed/fish"
for daemon in weightd rolloutd; do
    "$programs/$daemon" --man >"$printed/man/$daemon.8"
    for shell in bash zsh fish; do
        "$programs/$daemon" --completions "$shell" >"$printed/$shell/$daemon"
    done
done
"$programs/weightctl" man >"$printed/man/weightctl.1"
# One page for each command in the main page.
sed -n 's/^.*weightctl\\-\([a-z]*\)(1).*$/\1/p' "$printed/man/weightctl.1" | while read -r verb; do
    "$programs/weightctl" man "$verb" >"$printed/man/weightctl-$verb.1"
done
for shell in bash zsh fish; do
    "$programs/weightctl" completions "$shell" >"$printed/$shell/weightctl"
done
# The licences of all linked crates.
"$cargo" tree --locked --edges normal --prefix none --no-dedupe --format '{p}	{l}' |
    sed '/^weightd /d; s/ (proc-macro)//' | sort -u | gzip -9n >"$printed/crates.gz"

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    # Without git: the date of the last entry in the changelog.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) ||
        SOURCE_DATE_EPOCH=$(date -d "$(sed -n 's/^ -- .*>  //p' systemd/debian/changelog | head -n 1)" +%s)
fi
export SOURCE_DATE_EPOCH
"$packer" --no-build --locked --quiet
"$packer" --no-build --locked --quiet --variant rolloutd
