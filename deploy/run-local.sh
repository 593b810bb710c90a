#!/usr/bin/env bash
# Runs the Facewire part of compose.yaml on this machine without a registry: podman-compose starts every service from the images
# of build-local.sh with a read-only root and no capability, against servers that a local build starts. Then, from containers
# too: people are enrolled, probes published, and every ending counted. play-kube.sh does the same with the chart.
#
#   deploy/run-local.sh --people DIR         # DIR/<person>/*: the first file of each is enrolled, the others are probes
#
#   --most N           people at most, of those with two files or more (default: 20)
#   --facewire PATH    the local build that starts NATS, Postgres and Qdrant (default: target/release/facewire, else debug)
#   --tag TAG          of localhost/facewire and localhost/facewire-models (default: local)
#   --compose PATH     the podman-compose program (a pinned version from PyPI; default: podman-compose)
#   --python PATH      a Python with PyYAML (default: python3)
#
# Exit status 0: every crop has one ending, no message was given up, and nobody was taken for somebody else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/local.sh
source "$here/local.sh"
compose=podman-compose
options compose "$@"
prepare

stop() {
    set +e
    "$compose" --file "$work/compose.yaml" down --volumes --timeout 40
    stop_servers
} >/dev/null 2>&1
trap stop EXIT

# The services of the compose file.
services() {
    "$python" - "$work/compose.yaml" <<'PYTHON'
import sys
import yaml

services = yaml.safe_load(open(sys.argv[1]))["services"]
print(*(name for name, service in services.items() if service["command"][0] == "run"), sep="\n")
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
}

start_servers
containers=()
start_services
for container in "${containers[@]}"; do ready "$container"; done
confined "${containers[@]}"
demo
