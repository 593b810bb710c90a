"""Checks deploy/Dockerfile and deploy/compose.yaml without a container: by hadolint, the compose schema, and rules of this house.

    check_images.py --hadolint PROGRAM --check-jsonschema PROGRAM --facts FILE

Prints what is wrong, a line each, and ends with status 1. Each rule is also tried on a copy that breaks it. `--facts` writes what
tests/it/deploy/images.rs compares with the code's own tables.
"""

import argparse
import copy
import json
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|API_KEY|SECRET")
# Gives a volume to a user; has no network and one capability.
ROOT_ALLOWED = {"nats-volume"}
# The image holds one program, which cannot ask itself.
WITHOUT_HEALTH = {"otel-collector"}
PUBLISHED = "gateway"
LOOPBACK = "127.0.0.1:"


def environment() -> dict[str, str]:
    """What .env.example sets, and something in the place of what it leaves to the operator."""
    found = {}
    for line in (DEPLOY / ".env.example").read_text().splitlines():
        if set_ := re.fullmatch(r"#?([A-Z_]+)=(.*)", line):
            found[set_[1]] = set_[2] or f"from-env-{set_[1].lower()}"
    return found


def resolved(value, known: dict[str, str]):
    """With every variable replaced, as compose does."""
    if isinstance(value, dict):
        return {key: resolved(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, known) for item in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda found: known.get(found[1], found[3] or ""), value)
    return value


def once(service: dict) -> bool:
    return service.get("restart") == "no"


def confined(compose: dict) -> list[str]:
    faults = []
    for name, service in compose["services"].items():
        user = str(service.get("user", "")).split(":")[0]
        if not user.isdigit() or (user == "0" and name not in ROOT_ALLOWED):
            faults.append(f"{name}: runs as the user {user!r}")
        if service.get("read_only") is not True:
            faults.append(f"{name}: its root can be written")
        if service.get("cap_drop") != ["ALL"] or ("cap_add" in service and name not in ROOT_ALLOWED):
            faults.append(f"{name}: has capabilities")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            faults.append(f"{name}: may gain privileges")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if {"cpus", "memory"} - limits.keys():
            faults.append(f"{name}: has no limit of cores and memory")
        if service.get("restart") not in ("no", "unless-stopped"):
            faults.append(f"{name}: nobody starts it again")
        health = service.get("healthcheck", {})
        if "test" not in health and not once(service) and name not in WITHOUT_HEALTH:
            faults.append(f"{name}: has no health check")
    return faults


def closed(compose: dict) -> list[str]:
    """Who can be reached from where."""
    faults = []
    for name, service in compose["services"].items():
        ports = resolved(service.get("ports", []), {})
        faults += [f"{name}: publishes {port}" for port in ports if name != PUBLISHED and not port.startswith(LOOPBACK)]
        networks = set(service.get("networks", []))
        if "network_mode" in service:
            if service["network_mode"] != "none" or networks:
                faults.append(f"{name}: is in the network {service['network_mode']}")
        elif not networks:
            faults.append(f"{name}: is in compose's own network")
        if {"chain", "edge"} <= networks and name != PUBLISHED:
            faults.append(f"{name}: joins the servers' network to the outside")
    faults += [f"network {name}: leads outside" for name in ("chain", "watch") if not compose["networks"][name].get("internal")]
    return faults


def mounts(compose: dict) -> list[str]:
    faults = []
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                if not (DEPLOY / source).exists():
                    faults.append(f"{name}: {source} is not there")
                if not mount.endswith(":ro"):
                    faults.append(f"{name}: may write {source}")
            elif source not in compose["volumes"]:
                faults.append(f"{name}: the volume {source} is not declared")
    return faults


def settings(compose: dict) -> list[str]:
    """Everything that may be set is in .env.example; no secret has a default."""
    text, example, faults = json.dumps(compose), (DEPLOY / ".env.example").read_text(), []
    used = {found[1]: found for found in VARIABLE.finditer(text)}
    known = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    faults += [f".env.example has no {name}" for name in sorted(used.keys() - known)]
    faults += [f"nobody uses {name} of .env.example" for name in sorted(known - used.keys() - {"COMPOSE_PROFILES"})]
    for found in VARIABLE.finditer(text):
        if SECRET.search(found[1]) and found[2] != "?":
            faults.append(f"{found[1]} has a default, or may be left out")
    given = re.findall(r"^([A-Z_]+)=.", example, re.MULTILINE)
    faults += [f".env.example gives {name}" for name in given if SECRET.search(name)]
    # A secret that is written down instead.
    faults += [f"a password in {url}" for url in re.findall(r"\w+://\w+:(?!\$\{)[^@\"]+@", text)]
    return faults


def scraped(compose: dict) -> list[str]:
    """Prometheus asks every service of ours, and nobody else."""
    config = yaml.safe_load((DEPLOY / "compose/prometheus.yaml").read_text())
    names = set(config["scrape_configs"][0]["dns_sd_configs"][0]["names"])
    ours = {name for name, service in compose["services"].items() if (service.get("command") or [""])[0] == "run"}
    return [f"Prometheus and compose differ in {sorted(names ^ ours)}"] if names != ours else []


def bases(dockerfile: str) -> list[str]:
    """Every base is an argument or a stage before it; every stage that is shipped runs as a number that is not root."""
    faults, stages = [], set()
    for found in re.finditer(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE):
        if found[1] not in stages and not re.fullmatch(r"\$\{[A-Z_]+_IMAGE\}", found[1]):
            faults.append(f"Dockerfile: the base {found[1]} is no argument")
        stages.add(found[2])
    if len(stages) != len(re.findall(r"^FROM ", dockerfile, re.MULTILINE)):
        faults.append("Dockerfile: a stage has no name")
    users = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
    if not users or any(not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users):
        faults.append(f"Dockerfile: runs as {users}")
    runtime = dockerfile[dockerfile.index(" AS runtime") :]
    if re.search(r"^RUN (?!\[)", runtime, re.MULTILINE) or not re.search(r'^ENTRYPOINT \["/usr/bin/facewire"\]$', runtime, re.MULTILINE):
        faults.append("Dockerfile: the runtime image needs a shell")
    return faults


def tools(hadolint: str, schema: str) -> list[str]:
    faults = []
    for words in (
        [hadolint, DEPLOY / "Dockerfile"],
        [schema, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            faults.append(f"{words[0]}: {done.stdout}{done.stderr}")
    return faults


def broken(compose: dict, dockerfile: str) -> list[str]:
    """Each rule on what breaks it: a rule that finds nothing there is none."""

    def without(name, key, value=None):
        changed = copy.deepcopy(compose)
        if value is None:
            del changed["services"][name][key]
        else:
            changed["services"][name][key] = value
        return changed

    opened = copy.deepcopy(compose)
    opened["networks"]["chain"] = {}
    default = json.loads(json.dumps(compose).replace("${NATS_PASSWORD:?set NATS_PASSWORD in .env}", "${NATS_PASSWORD:-secret}"))
    written = json.loads(json.dumps(compose).replace("${NATS_PASSWORD:?set NATS_PASSWORD in .env}", "secret"))
    cases = [
        (confined, without("match", "read_only")),
        (confined, without("match", "cap_drop")),
        (confined, without("match", "security_opt")),
        (confined, without("match", "user")),
        (confined, without("match", "user", "0:0")),
        (confined, without("match", "healthcheck")),
        (confined, without("match", "deploy")),
        (confined, without("match", "restart")),
        (closed, without("postgres", "ports", ["5432:5432"])),
        (closed, without("postgres", "networks", ["chain", "edge"])),
        (closed, without("postgres", "network_mode", "host")),
        (closed, without("postgres", "networks")),
        (closed, opened),
        (mounts, without("nats", "volumes", ["./nowhere:/x:ro"])),
        (mounts, without("nats", "volumes", ["./compose/nats.conf:/x"])),
        (mounts, without("nats", "volumes", ["nowhere:/x"])),
        (settings, without("match", "image", "${UNKNOWN_IMAGE:-x}")),
        (settings, default),
        (settings, written),
        (scraped, {**compose, "services": {key: value for key, value in compose["services"].items() if key != "jobs"}}),
        (bases, dockerfile.replace("FROM ${RUNTIME_IMAGE}", "FROM debian:stable")),
        (bases, dockerfile.replace("USER 65532:65532", "USER nonroot")),
        (bases, dockerfile.replace("USER 65532:65532", "USER 0:0")),
        (bases, dockerfile.replace('ENTRYPOINT ["/usr/bin/facewire"]', "ENTRYPOINT facewire")),
        (bases, dockerfile.replace("STOPSIGNAL", "RUN touch /x\nSTOPSIGNAL")),
    ]
    return [f"{rule.__name__} finds nothing wrong in case {number}" for number, (rule, case) in enumerate(cases) if not rule(case)]


def image_environment(dockerfile: str) -> dict[str, str]:
    """The variables that the image sets itself; its file is in the tree."""
    runtime = dockerfile[dockerfile.index(" AS runtime") : dockerfile.index(" AS pack\n")]
    text = " ".join(re.findall(r"^ENV ((?:.*\\\n)*.*)$", runtime, re.MULTILINE)).replace("\\\n", " ")
    found = dict(item.split("=", 1) for item in text.split())
    if found.pop("FACEWIRE_CONFIG") != re.search(r"^COPY deploy/image.toml (\S+)$", dockerfile, re.MULTILINE)[1]:
        raise SystemExit("Dockerfile: FACEWIRE_CONFIG is not where image.toml lies")
    return found


def facts(compose: dict, dockerfile: str) -> dict:
    services = resolved(compose, environment())["services"]
    ours = {name: service for name, service in services.items() if "/facewire" in service["image"] or "gpu" in service.get("profiles", [])}
    own = image_environment(dockerfile)
    health = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)
    return {
        "health": json.loads(health[1]),
        "exposed": [int(port) for port in re.search(r"^EXPOSE (.*)$", dockerfile, re.MULTILINE)[1].split()],
        "services": [
            {
                "name": name,
                "command": service["command"],
                "env": own | {key: str(value) for key, value in service.get("environment", {}).items()},
                "own": sorted(service.get("environment", {})),
                "mounts": [mount.split(":")[:2] for mount in service.get("volumes", [])],
                "ports": [port.rsplit(":", 1)[1] for port in service.get("ports", [])],
                "health": service.get("healthcheck", {}).get("test", []),
                "grace": service.get("stop_grace_period", "10s"),
            }
            for name, service in ours.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hadolint", required=True)
    parser.add_argument("--check-jsonschema", required=True)
    parser.add_argument("--facts", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    faults = tools(arguments.hadolint, arguments.check_jsonschema)
    for rule in (confined, closed, mounts, settings, scraped):
        faults += rule(compose)
    faults += bases(dockerfile) + broken(compose, dockerfile)
    arguments.facts.write_text(json.dumps(facts(compose, dockerfile), indent=1))
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
