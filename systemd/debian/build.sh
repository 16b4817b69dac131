#!/bin/sh
# Builds the Debian package, target/debian/weightd_*.deb. What is not in the tree, manual pages and completions, the
# programs print themselves. The same commit makes the same package.
set -eu
cd "$(dirname "$0")/../.."

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
# Where cargo-deb looks for what it packs; see [package.metadata.deb] in Cargo.toml.
programs=$target/release
printed=target/package
tools=$target/tools
version=3.8.0

# usage: is_right PROGRAM
is_right() {
    [ "$("$1" --version 2>/dev/null)" = "cargo-deb $version" ]
}

# The one on PATH, else our own.
packer=$(command -v cargo-deb) && is_right "$packer" || packer=$tools/bin/cargo-deb
if ! is_right "$packer"; then
    echo "deb: installing cargo-deb $version below $tools" >&2
    # Not optimised, except for the compression: it runs for seconds, and a second release build takes longer than the
    # package's own. Beside what is built here, since it shares no dependency with that.
    CFLAGS="-O2 ${CFLAGS:-}" "$cargo" install --quiet --locked --debug --root "$tools" --target-dir "$tools/build" \
        --version "=$version" cargo-deb
    rm -rf "$tools/build"
fi

# The same command as that of `make bench`, so that each finds what the other has built.
"$cargo" build --locked --release --bins

rm -rf "$printed"
mkdir -p "$printed/man" "$printed/bash" "$printed/zsh" "$printed/fish"
"$programs/weightd" --man >"$printed/man/weightd.8"
"$programs/weightctl" man >"$printed/man/weightctl.1"
# A page for each command that the first one names.
sed -n 's/^.*weightctl\\-\([a-z]*\)(1).*$/\1/p' "$printed/man/weightctl.1" | while read -r verb; do
    "$programs/weightctl" man "$verb" >"$printed/man/weightctl-$verb.1"
done
for shell in bash zsh fish; do
    "$programs/weightd" --completions "$shell" >"$printed/$shell/weightd"
    "$programs/weightctl" completions "$shell" >"$printed/$shell/weightctl"
done
# Whose libraries these are, and under which licences.
"$cargo" tree --locked --edges normal --prefix none --no-dedupe --format '{p}	{l}' |
    sed '/^weightd /d; s/ (proc-macro)//' | sort -u | gzip -9n >"$printed/crates.gz"

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    # Without git, the day of the changelog's last entry.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) ||
        SOURCE_DATE_EPOCH=$(date -d "$(sed -n 's/^ -- .*>  //p' systemd/debian/changelog | head -n 1)" +%s)
fi
export SOURCE_DATE_EPOCH
"$packer" --no-build --locked --quiet
