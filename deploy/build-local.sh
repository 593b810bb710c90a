#!/usr/bin/env bash
# Builds Facewire's images on one machine without a registry: the runtime base and the build image are made of Debian's packages
# on the spot, Rust and the crates are this machine's. Needs root, and Debian's mmdebstrap, buildah, podman, runc, catatonit,
# netavark, aardvark-dns; pip and npm for what fetch-artifacts.sh fetches.
#
#   deploy/build-local.sh                    # compiles in the build image
#   deploy/build-local.sh --binary PATH      # takes a binary that is built already (production features; this suite's glibc)
#
#   --suite NAME      Debian's suite of both images (default: this machine's)
#   --tag TAG         of localhost/facewire, -models and -packs (default: local; with --cuda: local-cuda)
#   --cuda IMAGE      ONNX Runtime for CUDA, on this base with CUDA 13 and cuDNN 9
#
# Leaves in target/images: sbom.cdx.json. Prints the images' sizes.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
binary='' suite='' tag='' flavour=cpu cuda=''
while [ $# -gt 0 ]; do
    case "$1" in
    --binary) binary=$2 ;;
    --suite) suite=$2 ;;
    --tag) tag=$2 ;;
    --cuda) flavour=cuda cuda=$2 ;;
    *)
        sed -n '2,/^set /{/^#/p}' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done
# shellcheck source=/dev/null
suite=${suite:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
tag=${tag:-$([ "$flavour" = cuda ] && echo local-cuda || echo local)}
out=target/images
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An image of one tar file or folder: its name, what, where to, further settings of `buildah config`.
image_of() {
    local image=$1 what=$2 where=$3 container
    shift 3
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$what" "$where" >/dev/null
    if [ $# -gt 0 ]; then buildah config "$@" "$container"; fi
    buildah commit --quiet --rm "$container" "$image" >/dev/null
}

# The runtime base: the files of a few packages. Nothing that can be run, no package manager.
runtime_base() {
    local base="$work/base"
    # Unpacked and not installed, so that no package's script has to run. dpkg then knows nothing of them: a file each says so
    # to scanners, and to the SBOM.
    # shellcheck disable=SC2016 # expanded by mmdebstrap's shell
    mmdebstrap --quiet --variant=extract --format=directory \
        --include=base-files,ca-certificates,libc6,libgcc-s1,libstdc++6,netbase,tzdata \
        --extract-hook='mkdir "$1/var/lib/dpkg/status.d"
            for deb in "$1"/var/cache/apt/archives/*.deb; do
                dpkg-deb --field "$deb" >"$1/var/lib/dpkg/status.d/$(dpkg-deb --field "$deb" Package)"
            done' \
        "$suite" "$base"
    # What the packages' scripts would have set up.
    cat "$base"/usr/share/ca-certificates/mozilla/*.crt >"$base/etc/ssl/certs/ca-certificates.crt"
    printf '%s\n' root:x:0:0:root:/nonexistent:/sbin/nologin \
        nonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin >"$base/etc/passwd"
    printf '%s\n' root:x:0: nonroot:x:65532: >"$base/etc/group"
    echo 'hosts: files dns' >"$base/etc/nsswitch.conf"
    # Programs, and packages that came along for scripts that do not run here.
    find "$base"/{bin,sbin,usr/bin,usr/sbin} -mindepth 1 -delete
    find "$base/usr/lib" \( -name 'libssl.*' -o -name 'libcrypto.*' -o -name engines-3 -o -name ossl-modules \) \
        -prune -exec rm -rf {} +
    rm "$base"/var/lib/dpkg/status.d/{debconf,libssl3*,mawk,openssl}
    # Of /etc/resolv.conf and /etc/hostname each container has its own; here they would be this machine's.
    rm -rf "$base"/usr/share/doc/{debconf,libssl3*,mawk,openssl} "$base/usr/lib/ssl" \
        "$base"/etc/{apt,debconf.conf,fstab,hostname,issue,issue.net,resolv.conf,skel,update-motd.d} \
        "$base"/usr/share/{base-files,bash-completion,bug,ca-certificates,debconf,gcc,gdb,lintian,locale,man,perl5,pixmaps} \
        "$base"/usr/lib/*/{gconv,audit} "$base"/var/{cache,lib/apt,log,backups} "${base:?}"/{dev,proc,sys}/*
    find "$base/usr/share/doc" -type f ! -name copyright -delete
    find "$base"/{usr,etc} -depth -type d -empty -delete
    mkdir -p "$base/usr/bin"
    chmod 1777 "$base/tmp"
    image_of localhost/facewire-base:"$tag" "$base" / --env PATH=/usr/bin
}

# The build image: a C compiler. Rust is mounted for the build.
build_image() {
    if buildah inspect --type image localhost/facewire-build:"$suite" >/dev/null 2>&1; then return; fi
    mmdebstrap --quiet --variant=essential --include=ca-certificates,gcc,libc6-dev "$suite" "$work/build.tar"
    image_of localhost/facewire-build:"$suite" "$work/build.tar" / \
        --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

arguments=(
    --file deploy/Dockerfile --ignorefile deploy/Dockerfile.dockerignore
    # Docker's format has a place for HEALTHCHECK.
    --format docker --pull-never
    --build-arg "ONNXRUNTIME=$flavour"
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    # The same sources make the same image.
    --timestamp "$(git log -1 --format=%ct 2>/dev/null || echo 0)"
)

# Compiles in the build image, once for all targets, and takes what that stage leaves.
compile() {
    local image=localhost/facewire-built:"$tag" container
    build_image
    # All crates, so that the build needs no registry: neither its address nor its cache become part of an image.
    cargo fetch --locked --quiet
    buildah bud "${arguments[@]}" --target build --tag "$image" \
        --build-arg BUILD_IMAGE=localhost/facewire-build:"$suite" \
        --build-arg CARGO_HOME=/cargo --build-arg CARGO_NET_OFFLINE=true \
        --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
        --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/cargo/registry:ro" .
    container=$(buildah from --pull-never "$image")
    cp --recursive "$(buildah mount "$container")/out" "$work/build"
    buildah rm "$container" >/dev/null
    buildah rmi "$image" >/dev/null
}

# What the build stage leaves, of a binary that is there.
take() {
    install -D -s -m 0755 "$binary" "$work/build/out/bin/facewire"
    install -d "$work/build/out/data/images" "$work/build/out/data/models"
}

# A target's image.
name_of() {
    case "$1" in
    runtime) echo localhost/facewire ;;
    *) echo "localhost/facewire-$1" ;;
    esac
}

mkdir "$work/build"
runtime_base
arguments+=(--build-arg "RUNTIME_IMAGE=${cuda:-localhost/facewire-base:$tag}")
if [ -n "$binary" ]; then take; else compile; fi
deploy/fetch-artifacts.sh "$flavour"
# In the place of the stage `build`, whose image is named but not used.
arguments+=(--build-context "build=$work/build" --build-arg BUILD_IMAGE=localhost/facewire-base:"$tag")
for target in runtime models packs; do
    buildah bud --quiet "${arguments[@]}" --target "$target" --tag "$(name_of "$target"):$tag" . >/dev/null
done

# A base that was given has its own list of packages.
packages=(--packages "$work/base/var/lib/dpkg/status.d")
if [ -n "$cuda" ]; then packages=(); fi
python3 deploy/sbom.py --runtime "onnxruntime-$flavour" "${packages[@]}" >"$work/sbom.json"
mv "$work/sbom.json" "$out/sbom.cdx.json"

for target in runtime models packs; do
    image="$(name_of "$target"):$tag"
    echo "$image: $(($(podman image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
done
echo "$out/sbom.cdx.json: $(grep -c '"bom-ref"' "$out/sbom.cdx.json") components"
