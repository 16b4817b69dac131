#!/bin/bash
# Installs, upgrades, removes and purges the Debian packages in a clean root that systemd has booted, beside a real HAProxy
# and a real Consul, and checks what is there after each step. The root is of this machine's own release, from its own
# sources; it has a network of its own, and is gone afterwards.
#
# usage: tests/package/run.sh WEIGHTD ROLLOUTD; as root, with the packages mmdebstrap, systemd-container and lintian.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."

package=$(realpath "$1")
controller=$(realpath "$2")
servers=$(realpath "${CARGO_TARGET_DIR:-target}/servers")
# What has nothing of weightd in it is kept for the next run.
clean=target/package-test/clean
mkdir -p target/package-test
work=$(mktemp -d "$PWD/target/package-test/run.XXXXXX")
root=$work/root
nspawn=

leave() {
    if [[ -n $nspawn ]]; then
        kill "$nspawn" 2>/dev/null || true
        wait "$nspawn" || true
    fi
    rm -rf "$work"
}
trap leave EXIT

step() { printf '\n== %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# usage: check WHAT COMMAND...
check() {
    local what=$1 said
    shift
    said=$("$@" 2>&1) || fail "$what: \`$*\` says: $said"
    echo "   $what"
}
# usage: is WHAT EXPECTED COMMAND...
is() {
    local what=$1 expected=$2 said
    shift 2
    said=$("$@" 2>&1) || true
    [[ $said == "$expected" ]] || fail "$what: \`$*\` says $said, and not $expected"
    echo "   $what: $said"
}
# usage: until WHAT COMMAND...; for at most a minute
until_() {
    local what=$1 tries
    shift
    for ((tries = 0; tries < 240; tries++)); do
        if "$@" >/dev/null 2>&1; then
            echo "   $what"
            return
        fi
        sleep 0.25
    done
    fail "$what: \`$*\` does not end well"
}

for tool in mmdebstrap systemd-nspawn lintian; do
    command -v "$tool" >/dev/null || fail "no $tool: apt-get install mmdebstrap systemd-container lintian"
done
[[ $(id -u) == 0 ]] || fail "it takes root to make a root"

# --- the clean root ---------------------------------------------------------

sources() {
    local id codename
    # shellcheck disable=SC1091 # every Debian has it
    id=$(. /etc/os-release && echo "$ID") codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v id="$id" -v suite="$codename" \
            'tolower($1) == id && ($3 == suite || index($3, suite "-") == 1) { print "deb", $2, $3, $4 }' | sort -u
}
if [[ ! -d $clean ]]; then
    step "a clean root"
    # shellcheck disable=SC1091
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
    sources | mmdebstrap --quiet --variant=minbase --format=directory --include=systemd,dbus,haproxy,man-db,bash-completion,zsh,fish \
        --dpkgopt='path-include=/usr/share/man/*' "$suite" "$work/clean" -
    mv "$work/clean" "$clean"
fi
cp -a "$clean" "$root"
cp "$package" "$root/srv/weightd.deb"
cp "$controller" "$root/srv/rolloutd.deb"
cp tests/package/tab.zsh "$root/srv/"

step "a newer package"
dpkg-deb -R "$package" "$work/newer"
sed -i 's/^Version: .*/Version: 99.0-1/' "$work/newer/DEBIAN/control"
echo '# A default that is new.' >>"$work/newer/etc/weightd/weightd.toml"
(cd "$work/newer" && find usr etc -type f -printf '%P\0' >/dev/null && find usr etc -type f -print0 | sort -z |
    xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/newer" "$root/srv/newer.deb" >/dev/null

# --- without systemd --------------------------------------------------------

step "in a root that is not booted"
still() {
    # What it says itself is not what the command says.
    systemd-nspawn --quiet --directory="$root" --private-network --register=no --keep-unit --pipe \
        sh -c 'exec "$@" 2>&1' - "$@" </dev/null 2>/dev/null
}
everything() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \) -prune -o -print | sort); }
everything >"$work/before"
check "it is installed" still dpkg -i /srv/weightd.deb
is "the user is there" "/var/lib/weightd:/usr/sbin/nologin" still sh -c 'getent passwd weightd | cut -d: -f6-'
check "it is purged" still dpkg --purge weightd
# What dpkg and the user's database keep of everything.
left() {
    everything | comm -13 "$work/before" - | grep -vE '^\./(var/(lib|log|cache)/(dpkg|apt|man|systemd/catalog)|etc/(passwd|group|shadow|gshadow)-$|etc/\.pwd\.lock|usr/share/(man|applications))' || true
}
is "what is left of it" "" left
is "but for the user" weightd still sh -c 'getent passwd weightd | cut -d: -f1'

# --- with systemd -----------------------------------------------------------

step "booting"
systemd-nspawn --quiet --directory="$root" --private-network --register=no --keep-unit --boot \
    --bind-ro="$servers:/opt/servers" --console=pipe </dev/null >"$work/console" 2>&1 &
nspawn=$!
leader() {
    leader=$(<"/proc/$nspawn/task/$nspawn/children")
    leader=${leader%% *}
    [[ -n $leader ]]
}
until_ "it is a machine" leader
inside() {
    nsenter --all --target "$leader" -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@" </dev/null
}
booted() { [[ $(inside systemctl is-system-running) =~ ^(running|degraded)$ ]]; }
until_ "it is up" booted

cat >"$root/etc/haproxy/haproxy.cfg" <<'CFG'
global
    stats socket /run/haproxy/admin.sock mode 660 group haproxy level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend app
    server blue 127.0.0.1:81 weight 1
    server green 127.0.0.1:82 weight 1
CFG
check "HAProxy is up" inside systemctl restart haproxy
check "Consul is up" inside systemd-run --quiet --unit=consul /opt/servers/bin/consul agent -dev
until_ "Consul serves" inside bash -c '/opt/servers/bin/consul kv put weightd/weights/app "{\"weights\":{\"blue\":90,\"green\":10}}"'

weights() {
    inside weightctl status --local -o json | tr -d ' \n' | grep -o '"observed":[0-9]*,"configured"' | cut -d, -f1 | tr '\n' ' '
}
in_haproxy() {
    inside perl -MIO::Socket::UNIX -e '
        my $admin = IO::Socket::UNIX->new("/run/haproxy/admin.sock") or die "no socket: $!";
        print $admin "show servers state app\n";
        while (<$admin>) { my @row = split; push @weights, "$row[3]=$row[7]" if @row > 7 && $row[1] eq "app" }
        print join(" ", @weights), "\n"'
}
service() { echo "$(inside systemctl is-enabled weightd 2>/dev/null) $(inside systemctl is-active weightd)"; }
pid() { inside systemctl show --value --property MainPID weightd; }

step "install"
check "it is installed" inside apt-get install --yes /srv/weightd.deb
is "the service is neither enabled nor started" "disabled inactive" service
is "nothing was written yet" "" inside sh -c 'ls -d /var/lib/weightd 2>/dev/null'
is "each file is as it was packed" "" inside dpkg --verify weightd
is "the configuration is its own" "/etc/weightd/weightd.toml" \
    inside sh -c 'dpkg-query --showformat="\${Conffiles}" -W weightd | cut -d" " -f2 | grep .'
check "the configuration is valid" inside weightd --check
check "the unit is sound" inside systemd-analyze verify weightd.service
for page in weightd weightctl weightctl-set weightctl-status; do
    is "man $page has no fault" "" inside sh -c "man --warnings $page 2>&1 >/dev/null"
done
is "bash finds the completions" "complete -F _weightctl weightctl" \
    inside bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader weightctl; complete -p weightctl'
is "fish completes" "blue=,green=" inside fish -c 'string join , (complete -C "weightctl set app " | cut -f 1)'
is "zsh completes" "weightctl override app blue=90 green=10" inside timeout 60 zsh -f /srv/tab.zsh

step "upgrade before it was ever started"
check "it is upgraded" inside dpkg -i /srv/newer.deb
is "nothing is started" "disabled inactive" service
is "the new default is there" "# A default that is new." inside tail -n 1 /etc/weightd/weightd.toml
check "and back" inside dpkg -i /srv/weightd.deb

step "configure and start"
sed -i 's/^resync = .*/resync = "5s"/' "$root/etc/weightd/weightd.toml"
check "it is started" inside systemctl enable --now weightd
converged() { [[ $(weights) == '"observed":90 "observed":10 ' ]]; }
until_ "HAProxy has the weights" converged
is "who runs it" "weightd" inside sh -c "ps -o user= -p $(pid) 2>/dev/null || stat -c %U /proc/$(pid)"

step "upgrade while it runs"
before=$(pid)
check "it is upgraded" inside dpkg --force-confold -i /srv/newer.deb
is "it runs" "enabled active" service
[[ $(pid) != "$before" ]] || fail "it was not restarted"
until_ "HAProxy has the weights" converged
is "the operator's configuration is kept" 'resync = "5s"' inside grep '^resync' /etc/weightd/weightd.toml
check "the new one lies beside it" inside test -f /etc/weightd/weightd.toml.dpkg-dist

step "upgrade while it is stopped"
check "it is stopped" inside systemctl stop weightd
check "it is upgraded" inside dpkg --force-confold -i /srv/weightd.deb
is "it stays stopped" "enabled inactive" service
check "it is started" inside systemctl start weightd

step "rolloutd on the same machine"
check "it is installed" inside apt-get install --yes /srv/rolloutd.deb
unit() { echo "$(inside systemctl is-enabled "$1" 2>/dev/null) $(inside systemctl is-active "$1")"; }
for file in "$root"/usr/lib/systemd/system/rolloutd*.service; do
    name=${file##*/}
    is "$name is neither enabled nor started" "disabled inactive" unit "$name"
    check "$name is sound" inside systemd-analyze verify "$name"
done
is "each file is as it was packed" "" inside dpkg --verify rolloutd
is "the configuration is its own" "/etc/weightd/rolloutd.toml" \
    inside sh -c 'dpkg-query --showformat="\${Conffiles}" -W rolloutd | cut -d" " -f2 | grep .'
check "the configuration is valid" inside rolloutd --check
is "man rolloutd has no fault" "" inside sh -c "man --warnings rolloutd 2>&1 >/dev/null"
is "bash finds the completions" "complete -F _rolloutd rolloutd" \
    inside bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader rolloutd; complete -p rolloutd | sed "s/ -o [a-z]*//g"'
check "it is started" inside systemctl enable --now rolloutd
leads() {
    inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/9112 && printf "GET /ready HTTP/1.0\r\n\r\n" >&3 && grep -q "it leads" <&3'
}
until_ "it leads" leads
is "who runs it" "rolloutd" inside sh -c "stat -c %U /proc/$(inside systemctl show --value --property MainPID rolloutd)"
check "tokens are put beside the configuration" inside touch /etc/weightd/rolloutd.token /etc/weightd/page.token
check "it is purged" inside dpkg --purge rolloutd
is "it is stopped" "inactive" inside systemctl is-active rolloutd
is "what is left of it" "" \
    inside sh -c 'ls -d /etc/weightd/rolloutd* /etc/weightd/page* /usr/bin/rolloutd /usr/share/doc/rolloutd 2>/dev/null'
check "weightd has its configuration" inside test -f /etc/weightd/weightd.toml
until_ "HAProxy has the weights" converged

step "remove"
check "a token is put beside the configuration" inside touch /etc/weightd/consul.token
check "it is removed" inside dpkg -r weightd
is "it is stopped" "inactive" inside systemctl is-active weightd
is "HAProxy keeps its weights" "blue=90 green=10" in_haproxy
is "what stays" "/etc/weightd/consul.token /etc/weightd/weightd.toml /run/weightd /var/lib/weightd " \
    inside sh -c 'ls -d /etc/weightd/consul.token /etc/weightd/weightd.toml /var/lib/weightd /run/weightd /usr/bin/weight* 2>/dev/null | tr "\n" " "'
check "it is installed again" inside dpkg -i /srv/weightd.deb
is "it is enabled as before, and not started" "enabled inactive" service
check "it is started" inside systemctl start weightd
until_ "HAProxy has the weights" converged

step "purge"
check "it is purged" inside dpkg --purge weightd
is "it is stopped" "inactive" inside systemctl is-active weightd
is "HAProxy keeps its weights" "blue=90 green=10" in_haproxy
is "what is left by its name" "" inside sh -c 'find /etc /usr /var /run -xdev -name "*weight*" -not -path "*/dpkg/*" -not -path "/var/cache/man/*"'
is "but for the user" weightd inside sh -c 'getent passwd weightd | cut -d: -f1'
is "no unit has failed" "" inside systemctl --failed --plain --no-legend

step "lintian"
lintian --allow-root --display-info --fail-on error,warning "$package" "$controller"
step "the packages"
for deb in "$package" "$controller"; do
    dpkg-deb --info "$deb" | sed -n 's/^ \(Package\|Version\|Architecture\|Depends\|Suggests\|Installed-Size\):/   \1:/p'
    printf '   %s bytes, %s files\n' "$(stat -c %s "$deb")" "$(dpkg-deb --fsys-tarfile "$deb" | tar -t | grep -vc '/$')"
done
