# Unpacks packages of the distribution below the target directory, without an
# installation: this needs no root, starts no service, and changes no file of
# apt. The other scripts in this directory source it in the project's root:
#
#   lock                    first: excludes other downloads, creates $work
#   from_sources NAME [PACKAGE]
#                           a package from the machine's own sources
#   from_release NAME RELEASE COMPONENT...
#                           a package of another release of the distribution
#   system                  the distribution and its release
#   complain                prints apt's errors
#
# Both from_* put the program at $bin/NAME and its package at $servers/NAME.
# shellcheck shell=sh

# The code below parses apt's output, so the language must be fixed.
export LC_ALL=C

# A relative target directory is relative to the project's root, as for cargo in
# the Makefile.
servers=${CARGO_TARGET_DIR:-target}/servers
bin=$servers/bin

# The name of this script in messages.
script=${0##*/}
script=${script%.sh}

say() {
    echo "$script: $*" >&2
}

# The version that a program prints; fails if the program does not run.
# usage: version haproxy|consul|systemd-analyze|prometheus|chromium PROGRAM
version() {
    [ -x "$2" ] || return 1
    case $1 in
    haproxy) banner=$("$2" -v 2>/dev/null </dev/null) || return 1 ;;
    consul) banner=$("$2" version 2>/dev/null </dev/null) || return 1 ;;
    systemd-analyze | prometheus | chromium) banner=$("$2" --version 2>/dev/null </dev/null) || return 1 ;;
    esac
    # "HAProxy version 2.6.12-1 2025/10/03 - ...", "Consul v1.8.7", "systemd 252 (252.38-1)",
    # "prometheus, version 2.42.0+ds (branch: ...", "Chromium 150.0.1 ...".
    banner=${banner%%
*}
    banner=${banner#* }
    banner=${banner#version }
    banner=${banner#v}
    echo "${banner%% *}"
}

# Several test programs may run at the same time; only one downloads.
lock() {
    mkdir -p "$servers"
    exec 9>"$servers/.lock"
    flock 9
    # The files of a killed run. With the lock, no other run uses them.
    rm -rf "$servers"/.new.*
    work=$(mktemp -d "$(cd "$servers" && pwd)/.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# --- apt, which writes only below $work --------------------------------------

# usage: apt_get CONFIG ARGUMENT...; stores its output for `complain`.
apt_get() {
    conf=$work/$1.conf
    shift
    apt-get -qq -y -c "$conf" "$@" </dev/null >>"$work/errors" 2>&1 9>&-
}

complain() {
    [ ! -f "$work/errors" ] || sed -n "s/^[EW]: /$script: apt: /p" "$work/errors" | tail -n 3 >&2
    rm -f "$work/errors"
}

# usage: configure NAME, with more settings on stdin.
# apt reads it after the machine's own configuration, so the machine's proxies,
# sources, pins and keys stay valid.
configure() {
    mkdir -p "$work/$1/lists/partial" "$work/$1/archives/partial" "$work/$1/log"
    {
        cat <<CONF
// No lock, because nothing shared is written.
Debug::NoLocking "true";
// The sandbox user of apt may not be able to open the project's directory.
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
// A source that does not answer must not delay the others for long.
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Cache "$work/$1";
Dir::Cache::archives "$work/$1/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "$work/$1/log";
// As root, these would change the machine's own caches.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
        # Only the package lists, without the lists of apt-file and similar tools.
        apt-config dump 2>/dev/null |
            sed -n 's/^\(Acquire::IndexTargets::deb::[^: ]*\)::MetaKey .*/\1/p' |
            while read -r target; do
                [ "$target" = Acquire::IndexTargets::deb::Packages ] ||
                    echo "$target::DefaultEnabled \"false\";"
            done
        cat
    } >"$work/$1.conf"
}

# The lists in use: first the machine's; if they are outdated, private ones.
lists=
use_machine_lists() {
    configure machine </dev/null
    LISTS=
    eval "$(apt-config shell LISTS Dir::State::lists/d)"
    for file in "$LISTS"/*_Packages*; do
        if [ -r "$file" ]; then
            lists=machine
            return 0
        fi
    done
    use_private_lists
}
use_private_lists() {
    say "reading the package lists of this machine's sources"
    configure private <<CONF
Dir::State::lists "$work/private/lists";
CONF
    lists=private
    # A failed source does not matter if another one has the package.
    apt_get private update || true
}

# usage: start NAME [LOADER]: writes the script that starts servers/NAME.
start() {
    libs=
    # systemd and PulseAudio have private libraries next to the others.
    for dir in "$tree"/lib/*-linux-* "$tree"/usr/lib/*-linux-* "$tree"/usr/lib \
        "$tree"/lib/systemd "$tree"/usr/lib/*-linux-*/systemd "$tree"/usr/lib/systemd \
        "$tree"/usr/lib/*-linux-*/pulseaudio; do
        for file in "$dir"/*.so*; do
            [ ! -e "$file" ] || libs=$libs:\$tree${dir#"$tree"}
            break
        done
    done
    mkdir -p "$work/bin"
    {
        echo '#!/bin/sh'
        # Relative to the script, so that the target directory can be moved or copied.
        echo "bin=\$(CDPATH='' cd -- \"\${0%/*}\" && pwd)"
        echo "tree=\${bin%/*}/$1"
        # With `exec`, the pid is the pid of the server.
        if [ -n "${2-}" ]; then
            # On a reload, HAProxy executes argv[0] again. That must be this script, and the shell that reads the
            # script must not have these libraries in its environment.
            echo "exec \"\$tree/$2\" --library-path \"${libs#:}\" --argv0 \"\$bin/$1\" \"\$tree/$program\" \"\$@\""
        else
            [ -z "$libs" ] || echo "export LD_LIBRARY_PATH=\"${libs#:}\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\""
            echo "exec \"\$tree/$program\" \"\$@\""
        fi
    } >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# usage: unpack NAME CONFIG: unpacks the downloaded packages to servers/NAME and
# writes a script to servers/bin that starts the program. Fails if it does not run.
unpack() {
    # Next to bin, as in the final place.
    tree=$work/$1
    rm -rf "$tree"
    mkdir "$tree"
    for deb in "$work/$2/archives"/*.deb; do
        case ${deb##*/} in
        # The machine's loader works only with the machine's C library.
        libc6_* | libc-bin_*) continue ;;
        esac
        dpkg-deb -x "$deb" "$tree" 2>>"$work/errors" || return 1
        rm -f "$deb"
    done
    program=
    # The last one counts: usr/bin/chromium is a script with absolute paths.
    for file in usr/sbin/"$1" usr/bin/"$1" usr/lib/"$1"/"$1"; do
        [ ! -x "$tree/$file" ] || program=$file
    done
    [ -n "$program" ] || return 1

    start "$1"
    if ! version "$1" "$work/bin/$1" >/dev/null; then
        # A newer release than the machine's needs its own C library and the loader of that library.
        loader=
        for deb in "$work/$2/archives"/libc6_*.deb; do
            [ ! -e "$deb" ] || dpkg-deb -x "$deb" "$tree" 2>>"$work/errors" || return 1
        done
        for file in "$tree"/lib/*-linux-*/ld-linux*.so.* "$tree"/usr/lib/*-linux-*/ld-linux*.so.*; do
            [ ! -x "$file" ] || loader=${file#"$tree/"}
        done
        [ -z "$loader" ] || start "$1" "$loader"
    fi
    if ! version "$1" "$work/bin/$1" >/dev/null; then
        say "the $1 of the package does not run here"
        rm -rf "${work:?}/bin" "${work:?}/$1"
        return 1
    fi
    # The script is moved last: its presence means that the server is complete.
    mkdir -p "$bin"
    rm -rf "${servers:?}/$1"
    mv -T "$work/$1" "$servers/$1"
    mv -fT "$work/bin/$1" "$bin/$1"
    rmdir "$work/bin"
}

have_apt() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null
}

known() {
    candidate=$(apt-cache -c "$work/$lists.conf" policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
    [ -n "$candidate" ] && [ "$candidate" != "(none)" ]
}

# A package from the machine's own sources, with its missing dependencies.
# usage: from_sources PROGRAM [PACKAGE]
from_sources() {
    have_apt || return 1
    package=${2:-$1}
    [ -n "$lists" ] || use_machine_lists
    known "$package" || return 1
    say "downloading $package"
    apt_get "$lists" --download-only install "$package" && unpack "$1" "$lists" && return 0
    # Old lists name files that the mirror has replaced.
    [ "$lists" = machine ] || return 1
    use_private_lists
    known "$package" && apt_get private --download-only install "$package" && unpack "$1" private
}

# "debian bookworm"
system() {
    # shellcheck disable=SC1091 # every Debian has it
    (. /etc/os-release && echo "$ID ${VERSION_CODENAME:-sid}")
}

# usage: from_release NAME RELEASE COMPONENT...
# Uses the mirror of this machine's own system, and accepts the package only with
# a signature of the system's key.
from_release() {
    have_apt || return 1
    name=$1 release=$2
    shift 2
    components=$*
    system=$(system)
    case $system in
    debian\ *) set -- debian-archive-keyring.pgp debian-archive-keyring.gpg debian-archive-bullseye-stable.gpg ;;
    ubuntu\ *) set -- ubuntu-archive-keyring.gpg ;;
    *) return 1 ;;
    esac
    keyring=
    for file; do
        file=/usr/share/keyrings/$file
        [ ! -r "$file" ] || [ -n "$keyring" ] || keyring=$file
    done
    [ -n "$keyring" ] || return 1

    [ -n "$lists" ] || use_machine_lists
    say "downloading $name from ${system% *} $release"
    # apt parses its sources in any format. Another archive may have a suite of the
    # same name; the system's key excludes it.
    apt-get -c "$work/$lists.conf" update --print-uris 2>/dev/null </dev/null |
        sed -nE "s#^'(.*)/dists/(${system#* }|(old)*stable|testing|unstable|sid)/(InRelease|Release)' .*#\1#p" |
        sort -u >"$work/mirrors"
    # An empty status: the installed packages are of another release.
    : >"$work/status"
    while read -r mirror; do
        rm -rf "$work/release"
        configure release <<CONF
Dir::State::lists "$work/release/lists";
Dir::State::status "$work/status";
Dir::Etc::sourcelist "$work/release.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
CONF
        echo "deb [arch=$(dpkg --print-architecture) signed-by=$keyring] $mirror $release $components" \
            >"$work/release.list"
        apt_get release update || continue
        apt_get release --download-only install "$name" || continue
        unpack "$name" release && return 0
    done <"$work/mirrors"
    return 1
}
