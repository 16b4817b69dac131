# Packages of the distribution, unpacked below the target folder and never
# installed: no root is needed, no service is started, and apt's own files stay
# as they are. To be read by the scripts beside it, in the project's root:
#
#   lock                    first: nobody else downloads, $work is ours
#   from_sources NAME [PACKAGE]
#                           a package of the machine's own sources
#   from_release NAME RELEASE COMPONENT...
#                           one of another release of the same distribution
#   system                  which that is, and its release
#   complain                why there is none
#
# Both put the program at $bin/NAME and its package at $servers/NAME.
# shellcheck shell=sh

# apt's answers are read below, so they have to be in one language.
export LC_ALL=C

# Cargo reads a relative target directory from where it is started, which for
# the Makefile is the project's root: here too.
servers=${CARGO_TARGET_DIR:-target}/servers
bin=$servers/bin

# What to call this script.
script=${0##*/}
script=${script%.sh}

say() {
    echo "$script: $*" >&2
}

# The version a program says it has; fails when it does not run.
# usage: version haproxy|consul|systemd-analyze PROGRAM
version() {
    [ -x "$2" ] || return 1
    case $1 in
    haproxy) banner=$("$2" -v 2>/dev/null </dev/null) || return 1 ;;
    consul) banner=$("$2" version 2>/dev/null </dev/null) || return 1 ;;
    systemd-analyze) banner=$("$2" --version 2>/dev/null </dev/null) || return 1 ;;
    esac
    # "HAProxy version 2.6.12-1 2025/10/03 - ...", "Consul v1.8.7", "systemd 252 (252.38-1)".
    banner=${banner%%
*}
    banner=${banner#* }
    banner=${banner#version }
    banner=${banner#v}
    echo "${banner%% *}"
}

# Test programs may be started side by side; one of them downloads.
lock() {
    mkdir -p "$servers"
    exec 9>"$servers/.lock"
    flock 9
    # What a killed run left behind: with the lock held it is nobody's.
    rm -rf "$servers"/.new.*
    work=$(mktemp -d "$(cd "$servers" && pwd)/.new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# --- apt, with everything it writes below $work -----------------------------

# usage: apt_get CONFIG ARGUMENT...; what it says is kept for `complain`.
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
# Read after the machine's own configuration, so proxies, sources, pins and
# keys stay those of the machine.
configure() {
    mkdir -p "$work/$1/lists/partial" "$work/$1/archives/partial" "$work/$1/log"
    {
        cat <<CONF
// Nothing is locked because nothing shared is written.
Debug::NoLocking "true";
// The sandbox user of apt may not be able to enter the project's folder.
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
// One source that does not answer must not hold up the others for long.
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Cache "$work/$1";
Dir::Cache::archives "$work/$1/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "$work/$1/log";
// As root these would act on the machine's own caches.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
        # Only the package lists are wanted, not what apt-file and the like add.
        apt-config dump 2>/dev/null |
            sed -n 's/^\(Acquire::IndexTargets::deb::[^: ]*\)::MetaKey .*/\1/p' |
            while read -r target; do
                [ "$target" = Acquire::IndexTargets::deb::Packages ] ||
                    echo "$target::DefaultEnabled \"false\";"
            done
        cat
    } >"$work/$1.conf"
}

# The lists to look packages up in: the machine's while they serve, then ours.
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
    # A source that fails is of no interest if the others have the package.
    apt_get private update || true
}

# usage: start NAME [LOADER]: writes the program that starts servers/NAME.
start() {
    libs=
    # systemd keeps a library of its own beside the others.
    for dir in "$tree"/lib/*-linux-* "$tree"/usr/lib/*-linux-* "$tree"/usr/lib \
        "$tree"/lib/systemd "$tree"/usr/lib/*-linux-*/systemd "$tree"/usr/lib/systemd; do
        for file in "$dir"/*.so*; do
            [ ! -e "$file" ] || libs=$libs:\$tree${dir#"$tree"}
            break
        done
    done
    mkdir -p "$work/bin"
    {
        echo '#!/bin/sh'
        # Relative to itself, so that the target folder can be moved or copied.
        echo "bin=\$(CDPATH='' cd -- \"\${0%/*}\" && pwd)"
        echo "tree=\${bin%/*}/$1"
        # `exec`, so that the pid is the server's.
        if [ -n "${2-}" ]; then
            # On a reload HAProxy starts itself anew by the name it was given: that has to lead here again, and
            # the shell that reads this must not find those libraries in its environment.
            echo "exec \"\$tree/$2\" --library-path \"${libs#:}\" --argv0 \"\$bin/$1\" \"\$tree/$program\" \"\$@\""
        else
            [ -z "$libs" ] || echo "export LD_LIBRARY_PATH=\"${libs#:}\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\""
            echo "exec \"\$tree/$program\" \"\$@\""
        fi
    } >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# usage: unpack NAME CONFIG: the downloaded packages become servers/NAME, with
# a program in servers/bin that starts it, if that works.
unpack() {
    # Beside bin, as they will be.
    tree=$work/$1
    rm -rf "$tree"
    mkdir "$tree"
    for deb in "$work/$2/archives"/*.deb; do
        case ${deb##*/} in
        # The machine's loader fits the machine's C library only.
        libc6_* | libc-bin_*) continue ;;
        esac
        dpkg-deb -x "$deb" "$tree" 2>>"$work/errors" || return 1
        rm -f "$deb"
    done
    program=
    for file in usr/sbin/"$1" usr/bin/"$1"; do
        [ ! -x "$tree/$file" ] || program=$file
    done
    [ -n "$program" ] || return 1

    start "$1"
    if ! version "$1" "$work/bin/$1" >/dev/null; then
        # Of a release that is newer than the machine: with its own C library, and the loader that fits that.
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
    # The program comes last: with it in place the server is complete.
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

# A package of the machine's own sources, with what it needs and lacks here.
# usage: from_sources PROGRAM [PACKAGE]
from_sources() {
    have_apt || return 1
    package=${2:-$1}
    [ -n "$lists" ] || use_machine_lists
    known "$package" || return 1
    say "downloading $package"
    apt_get "$lists" --download-only install "$package" && unpack "$1" "$lists" && return 0
    # Lists that are some weeks old name files the mirror has replaced.
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
# It comes from the mirror this machine has for its own system, and is believed
# only if the system's key has signed it.
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
    # apt reads its sources itself, in whichever format they are. Another
    # archive may have a suite of the same name; the system's key tells them apart.
    apt-get -c "$work/$lists.conf" update --print-uris 2>/dev/null </dev/null |
        sed -nE "s#^'(.*)/dists/(${system#* }|(old)*stable|testing|unstable|sid)/(InRelease|Release)' .*#\1#p" |
        sort -u >"$work/mirrors"
    # Nothing is installed as far as that release is concerned: what is, is of another.
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
