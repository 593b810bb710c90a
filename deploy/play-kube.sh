#!/usr/bin/env bash
# Runs the chart's pods on this machine without a cluster and without a registry: Helm renders helm/facewire, and `podman play kube`
# starts the migration, every service and the pod of `helm test` from the images of build-local.sh, against servers that a local
# build starts. Then the demonstration of run-local.sh, and its count. compose/played.py says what podman takes otherwise than a
# cluster. Needs slirp4netns.
#
#   deploy/play-kube.sh --people DIR         # DIR/<person>/*: the first file of each is enrolled, the others are probes
#
#   --most N           people at most, of those with two files or more (default: 20)
#   --facewire PATH    the local build that starts NATS, Postgres and Qdrant (default: target/release/facewire, else debug)
#   --tag TAG          of localhost/facewire and localhost/facewire-models (default: local)
#   --helm PATH        Helm 3 or 4 (default: helm)
#   --python PATH      a Python with PyYAML (default: python3)
#
# Exit status 0: every crop has one ending, no message was given up, nobody was taken for somebody else, and no container was
# started again after all were ready.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/local.sh
source "$here/local.sh"
helm=helm
options helm "$@"
prepare
release=facewire
# A pod has a network of its own, in which this machine's loopback is 10.0.2.2.
loopback=10.0.2.2

stop() {
    set +e
    # Not `play kube --down`: it removes nothing of a file whose pods were not all made.
    podman pod ps --quiet --filter "label=app.kubernetes.io/instance=$release" |
        xargs --no-run-if-empty podman pod rm --force --time 40
    podman secret rm "$release-postgres"
    podman volume rm "${volumes[@]}"
    podman volume ls --quiet | grep -- "^$release-.*-config\$" | xargs --no-run-if-empty podman volume rm
    stop_servers
} >/dev/null 2>&1
volumes=()
trap stop EXIT

# The chart with these servers, and the default pack from its own image.
render() {
    "$helm" template "$release" "$here/../helm/facewire" \
        --set-string "image.repository=localhost/facewire,image.tag=$tag,image.pullPolicy=Never" \
        --set-string "models.volume.type=emptyDir,models.packImage=$FACEWIRE_MODELS_IMAGE" \
        --set-string "nats.url=${nats//127.0.0.1/$loopback},qdrant.url=${qdrant//127.0.0.1/$loopback}" \
        --set-string "postgres.existingSecret=$release-postgres,postgres.key=url" 2>"$work/helm.log" ||
        { cat "$work/helm.log" >&2 && return 1; }
}

# What the chart does not make: the secret, and the volumes that a cluster gives to the pods' group.
lend() {
    local volume
    # As podman 4.3 keeps Kubernetes' secrets: the values by their keys.
    (umask 077 && printf '{"url":"%s"}' \
        "$(printf %s "${postgres//127.0.0.1/$loopback}" | base64 --wrap=0)" >"$work/secret.json")
    podman secret create "$release-postgres" "$work/secret.json" >/dev/null
    for volume in "${volumes[@]}"; do
        podman volume create --opt o=uid=65532,gid=65532 "$volume" >/dev/null
    done
}

play() {
    podman play kube --replace --network "slirp4netns:allow_host_loopback=true" "$work/$1.yaml" >&2
}

# Plays a pod that ends, and takes its exit status. As a Job does, another one after one that failed.
once() {
    local container="$release-$1-facewire" status
    for _ in 1 2 3; do
        play "$1"
        status=$(podman wait "$container")
        podman logs "$container" >&2
        echo "$1: exit status $status"
        if [ "$status" = 0 ]; then break; fi
    done
    [ "$status" = 0 ]
}

start_services() {
    render >"$work/rendered.yaml"
    mapfile -t volumes < <("$python" "$here/compose/played.py" "$work" <"$work/rendered.yaml")
    [ "${#volumes[@]}" -gt 0 ]
    lend
    once migrate
    play services
    # Each pod has one container that stays.
    mapfile -t containers < <(podman ps --all --filter "label=app.kubernetes.io/name=facewire" --format '{{.Names}}' |
        grep -- '-facewire$' | grep -v -- "^$release-migrate-")
    [ "${#containers[@]}" = "$(grep -c '^kind: Deployment$' "$work/services.yaml")" ]
}

# How often each was started again, and whether it runs.
restarts() {
    podman inspect --format '{{.Name}}: {{.RestartCount}} restarts, running {{.State.Running}}' "${containers[@]}"
}

start_servers
containers=()
start_services
for container in "${containers[@]}"; do ready "$container"; done
confined "${containers[@]}"
# What counts is what happens after all were ready.
before=$(restarts)
once test
demo
after=$(restarts)
echo "$after"
if [ "$after" != "$before" ]; then
    echo "when all were ready:"$'\n'"$before" >&2
    exit 1
fi
