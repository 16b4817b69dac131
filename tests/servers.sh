#!/bin/sh
# Puts a real haproxy and a real consul at target/servers/bin/ for the tests and
# the demo, and systemd-analyze for the tests of the unit: a link to the machine's
# own program where there is one, else the distribution's package, see
# tests/packages.sh.
#
# stdout: one line for each program. stderr: progress, and what went wrong.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=tests/packages.sh
. tests/packages.sh

report() {
    if haproxy=$(version haproxy "$bin/haproxy") && consul=$(version consul "$bin/consul") &&
        systemd=$(version systemd-analyze "$bin/systemd-analyze"); then
        echo "haproxy $haproxy ($bin/haproxy)"
        echo "consul $consul ($bin/consul)"
        echo "systemd-analyze $systemd ($bin/systemd-analyze)"
    else
        return 1
    fi
}

# The usual case, which has to cost next to nothing.
report && exit 0

lock
mkdir -p "$bin"
report && exit 0

# Links a program that is already on the machine.
link() {
    name=$1
    old_ifs=$IFS
    IFS=:
    set -f
    # The system's folders for servers are not in every user's PATH.
    # shellcheck disable=SC2086 # PATH is split on purpose
    set -- $PATH /usr/local/sbin /usr/sbin
    set +f
    IFS=$old_ifs
    for dir; do
        # A relative entry would not survive being written into a link.
        case $dir in /*) ;; *) continue ;; esac
        # With our own folder in PATH the link would point at itself.
        # shellcheck disable=SC3013 # dash, bash and busybox have -ef
        [ "$dir" -ef "$bin" ] && continue
        version "$name" "$dir/$name" >/dev/null || continue
        ln -s "$dir/$name" "$work/link"
        mv -fT "$work/link" "$bin/$name"
        return 0
    done
    return 1
}

# The last Debian with Consul is bullseye, the last Ubuntu jammy.
consul_package() {
    from_sources consul && return 0
    case $(system) in
    debian\ *) from_release consul bullseye main ;;
    ubuntu\ *) from_release consul jammy main universe ;;
    *) return 1 ;;
    esac
}

# usage: provide NAME HINT COMMAND...: the machine's own program, else what the command brings.
provide() {
    program_name=$1 hint=$2
    shift 2
    version "$program_name" "$bin/$program_name" >/dev/null && return 0
    link "$program_name" || "$@" || {
        complain
        say "no $program_name: install it so that it is in PATH ($hint)"
        exit 1
    }
    rm -f "$work/errors"
}

provide haproxy 'Debian, Ubuntu: the package haproxy' from_sources haproxy
provide consul 'the program alone is enough' consul_package
provide systemd-analyze 'Debian, Ubuntu: apt-get install systemd' from_sources systemd-analyze systemd
report
