"""The bill of materials of an image, CycloneDX 1.5, to standard output: the crates that the production build links, the
packages of its base, and ONNX Runtime and the models by deploy/artifacts.lock. Nothing but Python and Cargo; compiles nothing.

    deploy/sbom.py --runtime onnxruntime-cpu --packages DIR     # DIR: var/lib/dpkg/status.d of the base
"""

import argparse
import json
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCKED = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"')


def component(purl, name, version, licence=None, sha256=None):
    made = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licence:
        made["licenses"] = [{"expression": licence}] if " " in licence else [{"license": {"name": licence}}]
    if sha256:
        made["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return made


def crates():
    """What the binary links, as tests/it/tidy/production.rs asks for it."""
    command = ["cargo", "tree", "--locked", "-p", "facewire", "--no-default-features", "-e", "normal", "--prefix", "none"]
    told = subprocess.run(
        [*command, "--no-dedupe", "--format", "{p}\t{l}"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    lock = (ROOT / "Cargo.lock").read_text()
    sums = {(name, version): sum for name, version, sum in LOCKED.findall(lock)}
    found = {}
    for line in filter(None, told.splitlines()):
        package, licence = line.split("\t")
        name, version = package.split(" ")[0], package.split(" ")[1].removeprefix("v")
        found[name, version] = component(
            f"pkg:cargo/{name}@{version}", name, version, licence.replace("/", " OR "), sums.get((name, version))
        )
    return [found[key] for key in sorted(found)]


def packages(folder):
    """Debian's packages of the base: a file each, as dpkg-deb prints it."""
    made = []
    for path in sorted(folder.iterdir()):
        fields = dict(line.split(": ", 1) for line in path.read_text().splitlines() if not line.startswith(" ") and ": " in line)
        name, version, machine = fields["Package"], fields["Version"], fields["Architecture"]
        made.append(component(f"pkg:deb/debian/{name}@{version}?arch={machine}", name, version))
    return made


def artifacts(runtime):
    made = []
    for line in (ROOT / "deploy/artifacts.lock").read_text().splitlines():
        if line.startswith("#"):
            continue
        which, machine, client, name, version, sha256 = line.split()
        if which in (runtime, "models") and machine in (platform.machine(), "any"):
            kind = {"pip": "pypi", "npm": "npm"}[client]
            made.append(component(f"pkg:{kind}/{name}@{version}", name, version, "MIT", sha256))
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--packages", type=pathlib.Path, help="none for a base that lists its own")
    arguments = parser.parse_args()
    version = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    components = crates() + artifacts(arguments.runtime)
    if arguments.packages:
        components += packages(arguments.packages)
    root = {"type": "container", "bom-ref": "facewire", "name": "facewire", "version": version}
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": root}, "components": components}
    print(json.dumps(bom, indent=1))


main()
