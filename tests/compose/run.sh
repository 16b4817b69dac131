#!/bin/sh
# Proves docker-compose.yml, as it is: it comes up healthy, shifts traffic, keeps its weights and loses no request over
# reloads and a restart of HAProxy, waits for both nodes of the fleet, rolls back, keeps users on their side, and leaves
# nothing behind.
#
# Needs docker with compose v2, and the ports of docker-compose.yml on 127.0.0.1; see standins.sh for the images.
# The stack is a project of its own, beside one that may be there.
set -eu
cd "$(dirname "$0")/../.."
# shellcheck source=tests/compose/traffic.sh
. tests/compose/traffic.sh
export COMPOSE_PROJECT_NAME=weightd-proof

# How long anything may take, in seconds.
patience=${PATIENCE:-120}

say() {
    echo "== $*"
}
fail() {
    echo "compose: $*" >&2
    exit 1
}
now() {
    date +%s.%N
}
since() {
    echo "$1 $(now)" | awk '{ printf "%.1f s\n", $2 - $1 }'
}
# Shows a command as it would be typed, and runs it.
run() {
    echo "\$ $*"
    "$@"
}

work=$(mktemp -d)
everything="--profile fleet --profile metrics --profile rollout"
# shellcheck disable=SC2086 # they are two flags
down() {
    docker compose $everything down -v --remove-orphans >"$work/down" 2>&1 || {
        cat "$work/down" >&2
        return 1
    }
}
finish() {
    status=$?
    trap - EXIT
    if [ $status -ne 0 ]; then
        # shellcheck disable=SC2086
        docker compose $everything ps -a >&2 || true
        # shellcheck disable=SC2086
        docker compose $everything logs --tail 15 >&2 || true
    fi
    down || status=1
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# usage: until_true COMMAND...
until_true() {
    deadline=$(($(date +%s) + patience))
    until "$@"; do
        [ "$(date +%s)" -lt $deadline ] || fail "not within $patience s: $*"
        sleep 0.2
    done
}

in_weightd() {
    docker compose exec -T weightd "$@"
}

# --- what the traffic says -------------------------------------------------------------------------------------------

# The last complete lines. usage: traffic COUNT
traffic() {
    docker compose logs --no-log-prefix --tail "$1" traffic | traffic_lines
}
# usage: counted failed|refused|of
counted() {
    traffic 1 | traffic_count "$1"
}
# The share of green in the last three lines, against that which was asked for: at most 2 points off.
# usage: share_is PERCENT
share_is() {
    traffic 3 | traffic_share_is "$1"
}
# Three more lines have to come, of which none is from before. usage: becomes PERCENT
becomes() {
    before=$(counted of)
    until_true more "$((before + 60))"
    until_true share_is "$1"
    echo "   green has $1 %:  $(traffic 1)"
}
more() {
    [ "$(counted of)" -gt "$1" ]
}
# usage: none_failed WHAT
none_failed() {
    [ "$(counted failed)" = 0 ] || fail "$1: requests failed: $(traffic 1)"
    echo "   $1: failed 0, refused $(counted refused), of $(counted of)"
}

# --- what weightd says ----------------------------------------------------------------------------------------------

# The processes of HAProxy that weightd has seen.
processes() {
    docker compose exec -T consul curl -sf http://weightd:9110/metrics |
        awk '/^weightd_haproxy_processes_total/ { print $2 }'
}
another_process() {
    [ "$(processes)" -gt "$1" ]
}
# HAProxy has the weights that Consul has.
converged() {
    in_weightd weightctl status --local >"$work/status" 2>&1
}

# Nobody is root, may write to its root or has a capability, and what is published is published on this host only.
# usage: locked [COMPOSE FLAG...]
locked() {
    for service in $(docker compose "$@" ps --services); do
        id=$(docker compose ps -q "$service")
        user=$(docker compose exec -T "$service" id -u)
        [ "$user" != 0 ] || fail "$service runs as root"
        [ "$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$id")" = true ] || fail "$service may write to its root"
        caps=$(docker compose exec -T "$service" sed -n 's/^CapEff:\t*//p' /proc/self/status)
        [ "$caps" = 0000000000000000 ] || fail "$service has capabilities: $caps"
        ports=$(docker inspect --format '{{range .HostConfig.PortBindings}}{{range .}}{{.HostIp}}:{{.HostPort}} {{end}}{{end}}' "$id")
        for port in $ports; do
            [ "${port%:*}" = 127.0.0.1 ] || fail "$service is published at $port"
        done
        echo "   $service: uid $user, read-only root, no capability, published at ${ports:-nothing}"
    done
}

# ---------------------------------------------------------------------------------------------------------------------

say "images"
docker version --format 'docker {{.Client.Version}}, engine {{.Server.Version}}'
docker compose version
tests/compose/standins.sh
run docker compose build --quiet
docker image inspect --format 'weightd: {{.Size}} bytes, user {{.Config.User}}, entry point {{.Config.Entrypoint}}' weightd
docker run --rm --network none --entrypoint sh weightd -c 'weightd --version && weightctl --version && rolloutd --version && ls -l /usr/bin/weight* /usr/bin/rolloutd && id'
[ "$(docker image inspect --format '{{.Config.User}}' weightd)" = weightd ] || fail "the image runs as root"

say "up"
start=$(now)
run docker compose up -d --wait --wait-timeout "$patience"
echo "   all healthy after $(since "$start")"
docker compose exec -T haproxy haproxy -v | sed -n '1s/ - .*//p'
docker compose exec -T consul consul version | sed -n '/^Consul v/p'
in_weightd ls -l /run/haproxy/admin.sock
until_true more 0

say "who may what"
locked

say "shifts"
run docker compose exec -T weightd weightctl set app blue=100 green=0 --create --yes
becomes 0
run docker compose exec -T weightd weightctl set app blue=90 green=10 --reason '10 % canary' --yes
until_true converged
becomes 10
run docker compose exec -T weightd weightctl get app
run docker compose exec -T weightd weightctl status --local
run docker compose exec -T weightd weightctl set app blue=50 green=50 --yes
becomes 50
run docker compose exec -T weightd weightctl set app blue=0 green=100 --yes
becomes 100
run docker compose exec -T weightd weightctl set app blue=75 green=25 --yes
becomes 25
none_failed "after five shifts"
[ "$(counted refused)" = 0 ] || fail "connections were refused without a restart: $(traffic 1)"

say "reloads of HAProxy"
for _ in 1 2 3; do
    seen=$(processes)
    run docker compose kill -s USR2 haproxy
    until_true another_process "$seen"
    until_true converged
    becomes 25
done
none_failed "after three reloads"
[ "$(counted refused)" = 0 ] || fail "connections were refused by a reload: $(traffic 1)"

say "a restart of HAProxy"
seen=$(processes)
run docker compose restart haproxy
until_true another_process "$seen"
until_true converged
becomes 25
none_failed "after the restart"

say "restarts of weightd and of Consul"
refused=$(counted refused)
run docker compose restart weightd
until_true converged
becomes 25
run docker compose restart consul
until_true in_weightd weightctl set app blue=60 green=40 --yes
becomes 40
none_failed "after both"
[ "$(counted refused)" = "$refused" ] || fail "connections were refused without a restart of HAProxy: $(traffic 1)"

say "a fleet of two, and Prometheus"
# shellcheck disable=SC2086
run docker compose $everything up -d --wait --wait-timeout "$patience"
# usage: waits COMMAND...; a command of weightctl ends with 0 only when both nodes have it
waits() {
    run docker compose exec -T weightd weightctl "$@" --yes --wait >"$work/waits" 2>&1 || {
        cat "$work/waits" >&2
        fail "weightctl $*"
    }
    cat "$work/waits"
    grep -q "^done: 2 of 2 nodes have" "$work/waits" || fail "weightctl $* does not say that both nodes have it"
}
both_known() {
    in_weightd weightctl status >"$work/status" 2>&1 && grep -q "2 of 2 in sync" "$work/status"
}
until_true both_known
waits set app blue=30 green=70
becomes 70
run docker compose exec -T weightd-2 weightctl status --local
waits rollback app --step
becomes 40
waits set app blue=30 green=70
becomes 70
# shellcheck disable=SC2086
locked $everything
both_scraped() {
    docker compose exec -T prometheus wget -q -O - 'http://127.0.0.1:9090/api/v1/query?query=sum(weightd_converged)' \
        >"$work/query" 2>&1 && grep -q '"2"\]' "$work/query"
}
until_true both_scraped
echo "   Prometheus: sum(weightd_converged) is 2"
none_failed "at the end"

say "sticky users"
waits set shop blue=100 green=0 --create
waits set shop blue=50 green=50
for user in alice bob carol dave erin frank; do
    side=$(in_weightd weightctl whois shop "$user" -o json | sed -n 's/.*"side": "\(.*\)",.*/\1/p')
    case $side in
    to) side=green ;;
    from) side=blue ;;
    *) fail "whois says nothing of $user" ;;
    esac
    for balancer in haproxy haproxy-2; do
        answer=$(docker compose exec -T traffic curl -sf -b "uid=$user" "http://$balancer:8080/shop")
        [ "$answer" = "$side" ] || fail "$user is on $answer at $balancer, and not on $side"
    done
    echo "   $user: $side on both"
done
waits rollback shop
for user in alice bob; do
    answer=$(docker compose exec -T traffic curl -sf -b "uid=$user" http://haproxy:8080/shop)
    [ "$answer" = blue ] || fail "$user is on $answer after the rollback"
done

say "a rollout"
waits set app blue=100 green=0
# usage: phase PHASE; where the rollout is
phase() {
    docker compose exec -T consul consul kv get weightd/rollouts/state/app 2>&1 | grep -q "\"phase\":\"$1\""
}
run docker compose exec -T weightd weightctl rollout start app --to green --mode watch --yes
until_true phase preflight
run docker compose exec -T weightd weightctl rollout status app
run docker compose exec -T weightd weightctl rollout abort app --yes
until_true phase rolled_back

say "down"
# shellcheck disable=SC2086
run docker compose $everything down -v
for kind in "ps -a" "volume ls" "network ls"; do
    # shellcheck disable=SC2086
    left=$(docker $kind -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
    [ -z "$left" ] || fail "docker $kind: $left is left"
done
echo "   nothing is left"
