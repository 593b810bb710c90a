#!/usr/bin/env bash
# Runs the Facewire part of compose.yaml on this machine without a registry: podman-compose starts every service from the images
# of build-local.sh with a read-only root and no capability, against servers that a local build starts. Then, from containers
# too: people are enrolled, probes published, and every ending counted.
#
#   deploy/run-local.sh --people DIR         # DIR/<person>/*: the first file of each is enrolled, the others are probes
#
#   --most N           people at most, of those with two files or more (default: 20)
#   --facewire PATH    the local build that starts NATS, Postgres and Qdrant (default: target/release/facewire, else debug)
#   --tag TAG          of localhost/facewire and localhost/facewire-models (default: local)
#   --kube FILE        `podman play kube` of this file in place of the services in it: a Deployment of the chart and its ConfigMap,
#                      rendered with nats.url=nats://10.0.2.2:24222, qdrant.url=http://10.0.2.2:26334, the Postgres URL from the
#                      secret `facewire-postgres`, key `url`. Needs slirp4netns
#   --compose PATH     the podman-compose program (a pinned version from PyPI; default: podman-compose)
#   --python PATH      a Python with PyYAML (default: python3)
#
# Exit status 0: every crop has one ending, no message was given up, and nobody was taken for somebody else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
people='' most=20 facewire='' tag=local kube='' compose=podman-compose python=python3
while [ $# -gt 0 ]; do
    case "$1" in
    --people) people=$(realpath "$2") ;;
    --most) most=$2 ;;
    --facewire) facewire=$2 ;;
    --tag) tag=$2 ;;
    --kube) kube=$2 ;;
    --compose) compose=$2 ;;
    --python) python=$2 ;;
    *)
        sed -n '2,/^set /{/^#/p}' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
if [ ! -d "$people" ]; then
    echo "name a folder with --people DIR" >&2
    exit 2
fi
for built in "$here"/../target/{release,debug}/facewire; do
    if [ -z "$facewire" ] && [ -x "$built" ]; then facewire=$built; fi
done

work=$(mktemp -d)
# Postgres runs as another user.
chmod 0711 "$work"
export FACEWIRE_IMAGE="localhost/facewire:$tag" FACEWIRE_MODELS_IMAGE="localhost/facewire-models:$tag"
# Podman where there is no systemd; limits that a container of its own may have.
cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
CONF
export CONTAINERS_CONF="$work/containers.conf"

servers=''
stop() {
    set +e
    if [ -n "$kube" ]; then
        podman play kube --down "$kube"
        podman secret rm facewire-postgres
    fi
    "$compose" --file "$work/compose.yaml" down --volumes --timeout 40
    if [ -n "$servers" ]; then
        kill "$servers"
        wait "$servers"
    fi
    rm -rf "$work"
} >/dev/null 2>&1
trap stop EXIT

# Servers alone; it notes their URLs, Postgres' with its password.
start_servers() {
    "$facewire" --data "$work/data" up --no-services --nats-port 24222 --qdrant-port 26334 >"$work/servers.log" 2>&1 &
    servers=$!
    until [ -e "$work/data/endpoints.json" ]; do
        if ! kill -0 "$servers" 2>/dev/null; then
            cat "$work/servers.log" >&2
            return 1
        fi
        sleep 0.2
    done
    read -r nats postgres qdrant < <("$python" -c '
import json, sys
print(*(json.load(open(sys.argv[1]))[server] for server in ("nats", "postgres", "qdrant")))' "$work/data/endpoints.json")
}

# A command of Facewire in a container of its own, beside the services.
ask() {
    podman run --rm --no-healthcheck --network host --read-only --cap-drop all --security-opt no-new-privileges \
        --volume "$people:/people:ro" --env FACEWIRE__NATS__URL="$nats" --env FACEWIRE__POSTGRES__URL="$postgres" \
        --env FACEWIRE__QDRANT__URL="$qdrant" --env FACEWIRE__TELEMETRY__FILTER=error "$FACEWIRE_IMAGE" "$@"
}

# Until a container says that it is ready.
ready() {
    local tries=0
    until podman exec "$1" /usr/bin/facewire health >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" = 240 ] || [ "$(podman inspect --format '{{.State.Running}}' "$1")" != true ]; then
            podman logs --tail 30 "$1" >&2
            echo "$1 does not become ready" >&2
            return 1
        fi
        sleep 0.5
    done
}

# The services of the compose file, without those that `--kube` has.
services() {
    "$python" - "$work/compose.yaml" "$kube" <<'PYTHON'
import sys
import yaml

compose, kube = sys.argv[1:]
documents = list(yaml.safe_load_all(open(kube))) if kube else []
labels = [found["metadata"].get("labels", {}) for found in documents if found and found["kind"] == "Deployment"]
played = {found.get("app.kubernetes.io/component") for found in labels}
services = yaml.safe_load(open(compose))["services"]
print(*(name for name, service in services.items() if service["command"][0] == "run" and name not in played), sep="\n")
PYTHON
}

start_services() {
    local here_services
    (umask 077 && "$python" "$here/compose/local.py" "$nats" "$postgres" "$qdrant" >"$work/compose.yaml")
    # In their order: depends_on waits by timers of systemd.
    for once in models migrate; do
        "$compose" --file "$work/compose.yaml" run --rm -T "$once" >&2
    done
    mapfile -t here_services < <(services)
    "$compose" --file "$work/compose.yaml" up --detach "${here_services[@]}" >&2
    mapfile -t containers < <(podman ps --quiet --filter label=io.podman.compose.project=facewire-local)
    [ "${#containers[@]}" = "${#here_services[@]}" ]
    if [ -n "$kube" ]; then start_kube; fi
}

# A pod has a network of its own, in which this machine's loopback is 10.0.2.2.
start_kube() {
    # A secret as podman 4.3 keeps Kubernetes' ones: the values by their keys.
    (umask 077 && printf '{"url":"%s"}' \
        "$(printf %s "${postgres//127.0.0.1/10.0.2.2}" | base64 --wrap=0)" >"$work/secret.json")
    podman secret create facewire-postgres "$work/secret.json" >/dev/null
    podman play kube --network slirp4netns:allow_host_loopback=true "$kube" >&2
    mapfile -t -O "${#containers[@]}" containers < <(podman ps --quiet --filter label=app.kubernetes.io/name=facewire)
}

# Every container as it is to be: no writable root, no capability, no root user.
confined() {
    podman inspect --format '{{.Name}} {{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}} {{.Config.User}}' "$@" |
        while read -r name readonly capabilities user; do
            echo "$name: read-only root $readonly, capabilities $capabilities, user $user"
            [ "$readonly $capabilities ${user%%:*}" = 'true [] 65532' ]
        done
}

demo() {
    local number=0 expected=0 person files
    for person in "$people"/*/; do
        person=$(basename "$person")
        mapfile -t files < <(cd "$people" && find "$person" -type f | sort | sed 's|^|/people/|')
        if [ "${#files[@]}" -lt 2 ] || [ "$number" = "$most" ]; then continue; fi
        number=$((number + 1))
        ask enroll --collection office --person "$person" --subject "p-$number" --json "${files[0]}" >>"$work/enrolled"
        ask publish --collection office --camera "p-$number" --json "${files[@]:1}" >/dev/null
        expected=$((expected + ${#files[@]}))
    done
    # The stream holds every result; it ends when it has seen all of them.
    ask watch --collection office --all --count "$expected" --json >"$work/results"
    ask dead list --json >"$work/dead"
    "$python" "$here/compose/tally.py" "$expected" "$work/results" "$work/dead"
}

start_servers
containers=()
start_services
for container in "${containers[@]}"; do ready "$container"; done
confined "${containers[@]}"
demo
