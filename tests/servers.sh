#!/bin/sh
# Provides a real haproxy, a real consul and a real prometheus at
# target/servers/bin/ for the tests and the demo, and systemd-analyze for the
# tests of the unit: a link to the installed program if there is one, else the
# distribution's package, see tests/packages.sh.
#
# stdout: one line per program. stderr: progress and errors.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=tests/packages.sh
. tests/packages.sh

report() {
    if haproxy=$(version haproxy "$bin/haproxy") && consul=$(version consul "$bin/consul") &&
        systemd=$(version systemd-analyze "$bin/systemd-analyze") &&
        prometheus=$(version prometheus "$bin/prometheus"); then
        echo "haproxy $haproxy ($bin/haproxy)"
        echo "consul $consul ($bin/consul)"
        echo "systemd-analyze $systemd ($bin/systemd-analyze)"
        echo "prometheus $prometheus ($bin/prometheus)"
    else
        return 1
    fi
}

# The usual case must be fast.
report && exit 0

lock
mkdir -p "$bin"
report && exit 0

# Links an installed program.
link() {
    name=$1
    old_ifs=$IFS
    IFS=:
    set -f
    # The system's directories for servers are not in every user's PATH.
    # shellcheck disable=SC2086 # PATH is split on purpose
    set -- $PATH /usr/local/sbin /usr/sbin
    set +f
    IFS=$old_ifs
    for dir; do
        # A relative entry would be wrong in a link.
        case $dir in /*) ;; *) continue ;; esac
        # If PATH contains the directory of the links, a link would point to itself.
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

# Without its pages, which are two thirds of it: the tests ask its API.
prometheus_package() {
    from_sources prometheus && rm -rf "$servers/prometheus/usr/share" "$servers/prometheus/usr/bin/promtool"
}

# usage: provide NAME HINT COMMAND...: links the installed program, else runs the command.
provide() {
    program_name=$1 hint=$2
    shift 2
    version "$program_name" "$bin/$program_name" >/dev/null && return 0
    link "$program_name" || "$@" || {
        complain
        say "no $program_name: install it in a directory of PATH ($hint)"
        exit 1
    }
    rm -f "$work/errors"
}

provide haproxy 'Debian, Ubuntu: the package haproxy' from_sources haproxy
provide consul 'only the program is needed' consul_package
provide systemd-analyze 'Debian, Ubuntu: apt-get install systemd' from_sources systemd-analyze systemd
provide prometheus 'Debian, Ubuntu: the package prometheus; only the program is needed' prometheus_package
report
