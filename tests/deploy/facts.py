"""What the chart says of the program: names, ports, subjects and settings, for the comparison with the code's own tables."""

import rules


def variables(container: dict) -> dict[str, str]:
    """A variable from a secret has a value that a URL, a key and a path all can be."""
    return {item["name"]: item.get("value", "nats://from-a-secret") for item in container.get("env", [])}


def cores(quantity: str | int | float) -> int:
    """Of a limit, as a program sees them that counts its processors: whole ones, at least one."""
    text = str(quantity)
    return max(1, int(float(text[:-1]) / 1000 if text.endswith("m") else float(text)))


def pod_facts(document: dict) -> dict:
    pod = rules.pod_spec(document)
    container = pod["containers"][0]
    return {
        "kind": document["kind"],
        "service": rules.component(document),
        "args": container["args"],
        "env": variables(container),
        "ports": {port["name"]: port["containerPort"] for port in container.get("ports", [])},
        "probes": {
            name: container[name]["httpGet"]["path"]
            for name in ("startupProbe", "livenessProbe", "readinessProbe")
            if name in container
        },
        "mounts": [mount["mountPath"] for mount in container["volumeMounts"]],
        "cores": cores(container["resources"]["limits"]["cpu"]),
        "grace": pod.get("terminationGracePeriodSeconds"),
    }


def scaling_facts(document: dict) -> dict:
    spec = document["spec"]
    trigger = spec["triggers"][0]
    return {
        "service": rules.component(document),
        "max": spec["maxReplicaCount"],
        "type": trigger["type"],
        "metadata": trigger["metadata"],
    }


def of(documents: list[dict]) -> dict:
    config = next(d for d in documents if d["kind"] == "ConfigMap" and "facewire.toml" in d.get("data", {}))
    return {
        "toml": config["data"]["facewire.toml"],
        "pods": [pod_facts(document) for document in documents if rules.pod_spec(document)],
        "scaling": [scaling_facts(document) for document in documents if document["kind"] == "ScaledObject"],
    }
