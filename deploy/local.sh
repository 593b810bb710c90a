# shellcheck shell=bash disable=SC2154
# Functions of run-local.sh and play-kube.sh: podman on a machine without systemd, servers from a local build, and the demonstration
# whose endings are counted. Sourced; who sources it has set `here`, and calls `options`.
# How the services are started may not come in.

export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}

# Prints the head of the program as its usage.
usage() {
    sed -n '2,/^set /{/^#/p}' "$0" >&2
    exit 2
}

# Reads the options: those of both, and the script's own one, named first, whose default is set.
options() {
    local own=$1
    shift
    people='' most=20 facewire='' tag=local python=python3
    while [ $# -gt 0 ]; do
        case "$1" in
        --people) people=$(realpath "$2") ;;
        --most) most=$2 ;;
        --facewire) facewire=$2 ;;
        --tag) tag=$2 ;;
        --python) python=$2 ;;
        "--$own") printf -v "$own" '%s' "$2" ;;
        *) usage ;;
        esac
        shift 2
    done
}

# Checks the options, and makes the folder `work`.
prepare() {
    local built
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
}

servers=''
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

stop_servers() {
    if [ -n "$servers" ]; then
        kill "$servers"
        wait "$servers"
    fi
    rm -rf "$work"
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
        # One that ended may be started again.
        if [ "$tries" = 240 ]; then
            podman logs --tail 30 "$1" >&2
            echo "$1 does not become ready" >&2
            return 1
        fi
        sleep 0.5
    done
}

# Every container as it is to be: no writable root, no capability, no root user.
confined() {
    podman inspect --format '{{.Name}} {{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}} {{.Config.User}}' "$@" |
        while read -r name readonly capabilities user; do
            echo "$name: read-only root $readonly, capabilities $capabilities, user $user"
            [ "$readonly $capabilities ${user%%:*}" = 'true [] 65532' ]
        done
}

# Enrols, publishes, and counts what became of every crop.
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
