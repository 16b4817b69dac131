#!/bin/sh
# Puts every image at hand that docker-compose.yml and the Dockerfile name. One that is neither here nor in a registry
# that answers gets a stand-in of the same name: Debian's packages behind the entry point, the users and the tools of
# the official image, for what the project uses of it. The versions are Debian's, and not those that the
# names say.
#
# They stay, and would be taken for the official ones by whoever comes next: `standins.sh remove` takes them away, and
# what was built from them.
#
# Needs docker; for stand-ins also root, debootstrap, and the Rust toolchain of this machine.
# stdout: one line for each image, with what is in it. stderr: progress, and what went wrong.
# usage: standins.sh [remove]
set -eu
cd "$(dirname "$0")/../.."

label=weightd.stand-in
say() {
    echo "standins: $*" >&2
}

if [ "${1:-}" = remove ]; then
    # The newest come first, and with them what was built from the others.
    docker images --quiet --filter "label=$label" | awk '!seen[$0]++' | while read -r image; do
        docker rmi --force "$image" >/dev/null
    done
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# usage: here IMAGE
here() {
    docker image inspect "$1" >/dev/null 2>&1
}

# usage: build IMAGE FOLDER, with the Dockerfile on stdin
build() {
    cat >"$2/Dockerfile"
    docker build --quiet --label "$label=$version" --tag "$1" "$2" >/dev/null
}

# --- the stand-ins -------------------------------------------------------------------------------------------------

# debian:SUITE-slim
debian() {
    suite=${1#debian:}
    suite=${suite%-slim}
    # The mirror is debootstrap's own choice.
    debootstrap --variant=minbase "$suite" "$work/root" >"$work/log" 2>&1 || {
        tail -n 5 "$work/log" >&2
        return 1
    }
    rm -rf "$work/root/var/cache/apt/archives"/*.deb "$work/root/var/lib/apt/lists"/*
    version="Debian $(cat "$work/root/etc/debian_version")"
    tar -C "$work/root" -c . | docker import --change "LABEL $label=\"$version\"" --change 'CMD ["bash"]' - "$1" >/dev/null
    rm -rf "$work/root"
}

# rust:VERSION-SUITE; with this machine's toolchain, whichever version that is, and the CAs that it trusts: it may see
# the registry of crates through a proxy.
rust() {
    version=$(rustc --version)
    tools=$(rustc --print sysroot)
    mkdir "$work/rust"
    cp -r "$tools/bin" "$tools/lib" "$work/rust"
    cp /etc/ssl/certs/ca-certificates.crt "$work/rust/lib"
    build "$1" "$work/rust" <<DOCKERFILE
FROM $debian
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev
ENV CARGO_HOME=/usr/local/cargo
COPY . /usr/local/
RUN mv /usr/local/lib/ca-certificates.crt /etc/ssl/certs/
DOCKERFILE
    rm -rf "$work/rust"
}

# haproxy:VERSION; of Debian's newest, which is nearest to it. A mirror may keep it past its date: only the signature counts.
haproxy() {
    version="HAProxy of debian:sid"
    mkdir "$work/haproxy"
    cat >"$work/haproxy/docker-entrypoint.sh" <<'SH'
#!/bin/sh
set -e
case $1 in -*) set -- haproxy "$@" ;; esac
if [ "$1" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
SH
    chmod +x "$work/haproxy/docker-entrypoint.sh"
    build "$1" "$work/haproxy" <<DOCKERFILE
FROM $debian
RUN sed 's/^deb \([^ ]*\) [^ ]*/deb [check-valid-until=no] \1 sid/' /etc/apt/sources.list >/etc/apt/sources.list.d/sid.list && \
    apt-get update && apt-get install -y --no-install-recommends --target-release sid haproxy ca-certificates && \
    usermod --uid 99 haproxy && groupmod --gid 99 haproxy && \
    mkdir -p /usr/local/etc/haproxy && chown haproxy:haproxy /var/lib/haproxy
STOPSIGNAL SIGUSR1
COPY docker-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["docker-entrypoint.sh"]
USER haproxy
WORKDIR /var/lib/haproxy
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
DOCKERFILE
}

# hashicorp/consul:VERSION; the official one is Alpine's: busybox, with curl, dumb-init and su-exec, which is gosu here.
consul() {
    tests/servers.sh >&2
    servers=${CARGO_TARGET_DIR:-target}/servers
    version="Consul $("$servers/bin/consul" version | sed -n '1s/.* v//p')"
    mkdir "$work/consul"
    program=$servers/consul/usr/bin/consul
    [ -x "$program" ] || program=$(readlink -f "$servers/bin/consul")
    cp "$program" "$work/consul/consul"
    cat >"$work/consul/docker-entrypoint.sh" <<'SH'
#!/usr/bin/dumb-init /bin/sh
set -e
case $1 in -*) set -- consul "$@" ;; esac
if [ "$1" = agent ]; then
    shift
    set -- consul agent -data-dir=/consul/data -config-dir=/consul/config "$@"
elif consul --help "$1" 2>&1 | grep -q "consul $1"; then
    set -- consul "$@"
fi
if [ "$1" = consul ] && [ -z "${CONSUL_DISABLE_PERM_MGMT+x}" ]; then
    chown consul:consul /consul/data /consul/config
    set -- su-exec consul:consul "$@"
fi
exec "$@"
SH
    chmod +x "$work/consul/docker-entrypoint.sh"
    build "$1" "$work/consul" <<DOCKERFILE
FROM $debian
RUN groupadd --gid 1000 consul && useradd --gid consul --uid 100 --no-create-home consul && \
    apt-get update && apt-get install -y --no-install-recommends busybox ca-certificates curl dumb-init gosu jq && \
    mkdir -p /consul/data /consul/config && chown -R consul:consul /consul && \
    ln -s "\$(command -v gosu)" /usr/local/bin/su-exec && \
    for tool in awk grep sed wget; do ln -s /bin/busybox "/usr/local/bin/\$tool"; done && \
    ln -sf busybox /bin/sh
COPY consul /bin/
COPY docker-entrypoint.sh /usr/local/bin/
VOLUME /consul/data
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["agent", "-dev", "-client", "0.0.0.0"]
DOCKERFILE
}

# prom/prometheus:VERSION; the official one has busybox's tools too.
prometheus() {
    version="Prometheus of $debian"
    mkdir "$work/prometheus"
    build "$1" "$work/prometheus" <<DOCKERFILE
FROM $debian
RUN apt-get update && apt-get install -y --no-install-recommends busybox prometheus && \
    ln -s /bin/busybox /usr/local/bin/wget && \
    mkdir -p /prometheus && chown nobody:nogroup /prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE
}

# --- which images there have to be -----------------------------------------------------------------------------------

names=$({
    sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile
    sed -n 's/^ *image: \(.*:.*\)/\1/p' docker-compose.yml
} | sort -u)
debian=$(echo "$names" | grep '^debian:')

# The one the others are built from comes first.
for image in $debian $names; do
    here "$image" && continue
    say "pulling $image"
    timeout 300 docker pull --quiet "$image" >/dev/null 2>"$work/pull" && continue
    say "no $image: $(tail -n 1 "$work/pull")"
    say "building a stand-in for $image"
    here "$debian" || [ "$image" = "$debian" ] || exit 1
    case $image in
    debian:*) debian "$image" ;;
    rust:*) rust "$image" ;;
    haproxy:*) haproxy "$image" ;;
    hashicorp/consul:*) consul "$image" ;;
    prom/prometheus:*) prometheus "$image" ;;
    *)
        say "there is no recipe for $image"
        exit 1
        ;;
    esac
done

for image in $names; do
    what=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image")
    echo "$image: ${what:-as published}${what:+ (stand-in)}"
done
