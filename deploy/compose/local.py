"""The Facewire part of compose.yaml for servers that run on this machine already: for deploy/run-local.sh. The same containers,
limits aside, in the host's network, each with a port of its own for its health.

    local.py NATS_URL POSTGRES_URL QDRANT_URL >compose.local.yaml
"""

import pathlib
import sys

import yaml

FIRST_PORT = 18080
SERVERS = ["NATS", "POSTGRES", "QDRANT"]


def main():
    compose = yaml.safe_load((pathlib.Path(__file__).parent.parent / "compose.yaml").read_text())
    urls = dict(zip((f"FACEWIRE__{server}__URL" for server in SERVERS), sys.argv[1:], strict=True))
    services = {}
    for name, service in compose["services"].items():
        if not service["image"].startswith("${FACEWIRE_") or "profiles" in service:
            continue
        for key in ("networks", "ports", "depends_on", "deploy", "logging"):
            service.pop(key, None)
        service["restart"] = "no"
        # The healthcheck's timer is systemd's: run-local.sh asks instead.
        service["healthcheck"] = {"disable": True}
        service.setdefault("network_mode", "host")
        environment = service.setdefault("environment", {})
        # Without a collector, and a key that the servers do not ask for.
        for key in list(environment):
            if key in urls:
                environment[key] = urls[key]
            elif key.startswith(("FACEWIRE__TELEMETRY__OTLP", "FACEWIRE__QDRANT__A")):
                del environment[key]
        if service["command"][0] == "run":
            environment["FACEWIRE__HEALTH__LISTEN"] = f"127.0.0.1:{FIRST_PORT + len(services)}"
        if "FACEWIRE__GATEWAY__LISTEN" in environment:
            environment["FACEWIRE__GATEWAY__LISTEN"] = f"127.0.0.1:{FIRST_PORT - 1}"
        services[name] = service
    volumes = {name: {} for name in ("models", "images")}
    yaml.safe_dump({"name": "facewire-local", "services": services, "volumes": volumes}, sys.stdout, sort_keys=False)


main()
