"""What a good set of objects is, whatever the values: nothing dangles, pods are locked down, hooks come first, drains have time, and
the network lets through what a pod needs. No schema may come in."""

import collections
import json
import pathlib
import re
import tomllib

import yaml

SERVICES = ["ingest", "quality", "embed-gpu", "match", "enrich", "reconciler", "gateway", "jobs"]
COMPONENT = "app.kubernetes.io/component"
# Whoever has rows and is no stage, and `match`, searches.
SEARCHES = {"match", "reconciler", "gateway", "jobs", "migrate"}
# What needs which port, told by the variables, settings or volumes that a pod has.
POSTGRES, QDRANT, NATS, COLLECTOR = (5432, "TCP"), (6334, "TCP"), (4222, "TCP"), (4317, "TCP")
HTTPS, IDENTITY, DNS = (443, "TCP"), (80, "TCP"), [(53, "UDP"), (53, "TCP")]
# Files of the image itself, with `models.volume.type: none`.
IMAGE = "/usr/share/facewire/"
# Who reads a path of the file; all pods read what is not here.
READERS = {"gateway.tls": {"gateway"}, "models.directory": {"quality", "embed-gpu"}, "models.head": SEARCHES | {"quality", "embed-gpu"}}


def title(document: dict) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def component(document: dict) -> str:
    return document["metadata"]["labels"][COMPONENT]


def pod_template(document: dict) -> dict | None:
    if document["kind"] == "Pod":
        return document
    if document["kind"] in ("Deployment", "Job"):
        return document["spec"]["template"]
    return None


def pod_spec(document: dict) -> dict | None:
    template = pod_template(document)
    return template and template["spec"]


def annotations(document: dict) -> dict:
    return document["metadata"].get("annotations") or {}


def is_hook(document: dict) -> bool:
    return "helm.sh/hook" in annotations(document)


def settings(documents: list[dict]) -> dict:
    return tomllib.loads(next(d["data"]["facewire.toml"] for d in documents if "facewire.toml" in d.get("data", {})))


def policies(documents: list[dict]) -> list[dict]:
    """Facewire's own: the servers' are their chart's."""
    return [d for d in documents if d["kind"] == "NetworkPolicy" and component(d) != "nats-servers"]


def locked_down(document: dict) -> list[str]:
    pod, faults = pod_spec(document), []
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        faults.append("the pod is not non-root with seccomp")
    if pod.get("automountServiceAccountToken") is not False:
        faults.append("a token is mounted")
    if pod.get("enableServiceLinks") is not False:
        faults.append("variables of Services reach the program")
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container.get("securityContext", {})
        closed = own.get("readOnlyRootFilesystem") and own.get("capabilities") == {"drop": ["ALL"]}
        if not closed or own.get("allowPrivilegeEscalation") is not False:
            faults.append(f"container {container['name']} can do more than it needs")
        limits = container.get("resources", {}).get("limits", {})
        if not {"cpu", "memory", "ephemeral-storage"} <= limits.keys():
            faults.append(f"container {container['name']} has no limits")
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        tmp = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp"]
        if not tmp or "emptyDir" not in volumes[tmp[0]]:
            faults.append(f"container {container['name']} has no place for temporary files")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        faults += [f"volume {name} does not exist" for name in mounted - volumes.keys()]
    return [f"{title(document)}: {fault}" for fault in faults]


def secrets(documents: list[dict]) -> list[str]:
    """By reference only; and a pod has its own key for NATS, and no other's."""
    faults = [f"{title(document)}: the chart holds no secrets" for document in documents if document["kind"] == "Secret"]
    for document in documents:
        pod = pod_spec(document)
        if not pod:
            continue
        for item in pod["containers"][0].get("env", []):
            secret = re.search(r"POSTGRES__URL|API_KEY|ACCESS_KEY|PASSWORD|SEED$", item["name"])
            if secret and "secretKeyRef" not in item.get("valueFrom", {}):
                faults.append(f"{title(document)}: {item['name']} is not from a secret")
                continue
            key = item["valueFrom"]["secretKeyRef"]["key"] if "POSTGRES__URL" in item["name"] else None
            if key in {*SERVICES, "migrate"} - {component(document)}:
                faults.append(f"{title(document)}: it has the URL of {key}")
        for volume in pod["volumes"]:
            items = volume.get("secret", {}).get("items")
            owner = component(document)
            if volume["name"] == "nats" and (not items or any(i["key"].rsplit(".", 1)[0] != owner for i in items)):
                faults.append(f"{title(document)}: it sees keys of other users")
    return faults


def references(documents: list[dict]) -> list[str]:
    """ConfigMaps, accounts, claims and targets exist, and those of hooks are there before them."""
    faults = []
    there = {title(document): document for document in documents}
    for document in documents:
        pod = pod_spec(document)
        wanted = []
        if pod:
            account = pod["serviceAccountName"]
            # Accounts that the chart does not create are somebody else's.
            if any(d["kind"] == "ServiceAccount" for d in documents):
                wanted.append(f"ServiceAccount/{account}")
            wanted += [f"ConfigMap/{v['configMap']['name']}" for v in pod["volumes"] if "configMap" in v]
        if document["kind"] in ("ScaledObject", "HorizontalPodAutoscaler"):
            wanted.append(f"Deployment/{document['spec']['scaleTargetRef']['name']}")
        for name in wanted:
            other = there.get(name)
            if other is None:
                faults.append(f"{title(document)}: {name} does not exist")
            elif is_hook(document) and document["kind"] == "Job":
                weight = lambda d: int(annotations(d).get("helm.sh/hook-weight", 0))
                if not is_hook(other) or weight(other) >= weight(document):
                    faults.append(f"{title(document)}: {name} is made after it")
    return faults


def authorities(documents: list[dict]) -> list[str]:
    """All pods trust the same authorities: each reaches some server over TLS."""
    trusting = {}
    for document in documents:
        pod = pod_spec(document)
        if pod:
            names = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
            trusting[title(document)] = names.get("SSL_CERT_FILE")
    if len(set(trusting.values())) == 1:
        return []
    return [f"{name}: it does not trust the authorities" for name, file in trusting.items() if not file]


def paths(table: dict, name: str = "") -> list[tuple[str, str]]:
    """Settings, each with its value, whose value is an absolute path."""
    below = [(f"{name}.{key}".lstrip("."), value) for key, value in table.items()]
    tables = [found for key, value in below if isinstance(value, dict) for found in paths(value, key)]
    return tables + [(key, value) for key, value in below if isinstance(value, str) and value.startswith("/")]


def is_mounted(path: str, container: dict, volumes: dict) -> bool:
    """A secret's volume has the files that it lists, where it lists some."""
    for mount in container["volumeMounts"]:
        if path == mount["mountPath"] or path.startswith(f"{mount['mountPath']}/"):
            items = volumes[mount["name"]].get("secret", {}).get("items")
            return not items or path.removeprefix(f"{mount['mountPath']}/") in {item["path"] for item in items}
    return path.startswith(IMAGE)


def mounts(documents: list[dict]) -> list[str]:
    """Every volume is seen by somebody, and every path that a variable or a setting names lies in one."""
    faults, named = [], paths(settings(documents))
    for document in documents:
        pod = pod_spec(document)
        if not pod:
            continue
        containers = pod["containers"] + pod.get("initContainers", [])
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        unseen = volumes.keys() - {mount["name"] for container in containers for mount in container["volumeMounts"]}
        faults += [f"{title(document)}: volume {name} is mounted nowhere" for name in sorted(unseen)]
        readers = lambda setting: next((who for start, who in READERS.items() if setting.startswith(start)), None)
        wanted = [(containers[0], path) for key, path in named if component(document) in (readers(key) or {component(document)})]
        for container in containers:
            values = [item.get("value", "").removeprefix("file://") for item in container.get("env", [])]
            wanted += [(container, value) for value in values if value.startswith("/")]
        faults += [f"{title(document)}: {path} is not mounted" for container, path in wanted if not is_mounted(path, container, volumes)]
    return faults


def variables_once(documents: list[dict]) -> list[str]:
    """The API server merges `env` by name: applied on its side, a list with a name twice is refused."""
    faults = []
    for document in documents:
        pod = pod_spec(document)
        for container in pod["containers"] + pod.get("initContainers", []) if pod else []:
            names = [item["name"] for item in container.get("env", [])]
            twice = sorted({name for name in names if names.count(name) > 1})
            faults += [f"{title(document)}: container {container['name']} has {name} twice" for name in twice]
    return faults


def replicas(documents: list[dict]) -> list[str]:
    """Either a number, or somebody who decides it; never two."""
    scaled = [d["spec"]["scaleTargetRef"]["name"] for d in documents if d["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    faults = [f"{name} is scaled twice" for name in set(scaled) if scaled.count(name) > 1]
    for document in documents:
        if document["kind"] == "Deployment" and ("replicas" in document["spec"]) == (document["metadata"]["name"] in scaled):
            faults.append(f"{title(document)}: `replicas` stands where something scales, or is missing where nothing does")
        # KEDA wants the number without work below the least one with some.
        if document["kind"] == "ScaledObject" and document["spec"]["minReplicaCount"] <= document["spec"].get("idleReplicaCount", 0):
            faults.append(f"{title(document)}: what is scaled to zero comes back with no replica")
    return faults


def hooks(documents: list[dict]) -> list[str]:
    jobs = [document for document in documents if document["kind"] == "Job"]
    wrong = [d for d in jobs if set(annotations(d).get("helm.sh/hook", "").split(",")) != {"pre-install", "pre-upgrade"}]
    return [f"{title(document)}: the migration is no hook before installations and upgrades" for document in wrong]


def drains(documents: list[dict]) -> list[str]:
    grace = int(settings(documents)["shutdown"]["grace"].removesuffix("s"))
    faults = []
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        pod = pod_spec(document)
        sleep = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod.get("terminationGracePeriodSeconds", 30) < grace + sleep + 5:
            faults.append(f"{title(document)}: it is killed before its drain of {grace} s after {sleep} s is over")
        if component(document) == "gateway" and not sleep:
            faults.append(f"{title(document)}: requests still reach it when it stops")
    return faults


def rollouts(documents: list[dict]) -> list[str]:
    """A rollout is given up only when a pod had all of its time to start, and an old one to end before it."""
    faults = []
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        pod = pod_spec(document)
        probe = pod["containers"][0]["startupProbe"]
        needed = probe["periodSeconds"] * probe["failureThreshold"] + pod["terminationGracePeriodSeconds"]
        if document["spec"].get("progressDeadlineSeconds", 600) <= needed:
            faults.append(f"{title(document)}: its rollout is given up within the {needed} s that a pod may take")
    return faults


def selects(selector: dict, labels: dict) -> bool:
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def holds_for(policy: dict, labels: dict) -> bool:
    """Whether a NetworkPolicy selects a pod. An expression without its meaning here is no `NotIn`."""
    selector = policy["spec"]["podSelector"]
    without = all(e["operator"] == "NotIn" and labels.get(e["key"]) not in e["values"] for e in selector.get("matchExpressions", []))
    return selects(selector["matchLabels"], labels) and without


def selectors(documents: list[dict]) -> list[str]:
    """Whatever selects pods finds some."""
    labels = [pod_template(d)["metadata"]["labels"] for d in documents if pod_spec(d)]
    services = [d["metadata"]["labels"] for d in documents if d["kind"] == "Service"]
    faults = []
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        among = services if kind == "ServiceMonitor" else labels
        selector = {
            "Service": lambda: spec["selector"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
        }.get(kind, lambda: spec["selector"]["matchLabels"])
        if kind not in ("Service", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "ServiceMonitor", "Deployment"):
            continue
        if component(document) == "nats-servers":
            continue
        if not any(selects(selector(), them) for them in among):
            faults.append(f"{title(document)}: it selects nothing")
    return faults


def egress(document: dict, endpoint: str) -> list[tuple[int, str]]:
    """Ports that a pod has to reach, told by its variables and by where the collector is; each as often as something needs it."""
    container, pod = pod_spec(document)["containers"][0], pod_spec(document)
    names = {item["name"]: item.get("value", "") for item in container["env"]}
    loads = [item["name"] for each in pod.get("initContainers", []) for item in each.get("env", [])]
    needed = [*DNS, NATS]
    needed += [POSTGRES] if "FACEWIRE__POSTGRES__URL" in names else []
    needed += [QDRANT] if component(document) in SEARCHES else []
    needed += [HTTPS] if names.get("FACEWIRE__IMAGES__URL", "").startswith("s3:") else []
    needed += [HTTPS] if "URL" in loads else []
    # Webhooks.
    needed += [HTTPS] if component(document) == "gateway" else []
    return needed + ([COLLECTOR] if endpoint else [])


def network(documents: list[dict]) -> list[str]:
    """Where there are policies: everything is denied, and each pod reaches what its variables and settings name, and nothing else."""
    found = policies(documents)
    if not found:
        return []
    endpoint = settings(documents)["telemetry"].get("otlp", {}).get("endpoint", "")
    faults = []
    for document in documents:
        template = pod_template(document)
        if not template:
            continue
        ours = [policy["spec"] for policy in found if holds_for(policy, template["metadata"]["labels"])]
        if not any(not spec.get("egress") and not spec.get("ingress") for spec in ours):
            faults.append(f"{title(document)}: nothing denies what is not listed")
        ports = lambda way: [(port["port"], port["protocol"]) for spec in ours for rule in spec.get(way, []) for port in rule["ports"]]
        out, needed = collections.Counter(ports("egress")), collections.Counter(egress(document, endpoint))
        if needed - out:
            faults.append(f"{title(document)}: it cannot reach {sorted(needed - out)}")
        # Who reaches a bucket may ask for the identity that opens it.
        more = set(out - needed) - ({IDENTITY} if needed[HTTPS] else set())
        if more:
            faults.append(f"{title(document)}: it reaches {sorted(more)}, which it does not need")
        listens = {(port["containerPort"], "TCP") for port in template["spec"]["containers"][0].get("ports", [])}
        if listens != set(ports("ingress")):
            faults.append(f"{title(document)}: it listens on {sorted(listens)} and is reached on {sorted(ports('ingress'))}")
    return faults


def ways_in(documents: list[dict]) -> list[str]:
    """A Service leads to the port that it is for, and a budget lets a pod go: without, no node could ever be drained."""
    faults = []
    for document in documents:
        spec = document.get("spec", {})
        wanted = {"gateway": "http", "health": "health"}.get(component(document)) if document["kind"] == "Service" else None
        if wanted and [port["targetPort"] for port in spec["ports"]] != [wanted]:
            faults.append(f"{title(document)}: it leads to another port than {wanted}")
        if document["kind"] == "PodDisruptionBudget" and spec["maxUnavailable"] in (0, "0%"):
            faults.append(f"{title(document)}: it lets no pod go")
    return faults


def labels_are_text(documents: list[dict]) -> list[str]:
    faults = []
    for document in documents:
        parts = [document["metadata"], (pod_template(document) or {}).get("metadata", {})]
        values = [v for part in parts for key in ("labels", "annotations") for v in (part.get(key) or {}).values()]
        if any(not isinstance(value, str) for value in values):
            faults.append(f"{title(document)}: a label or annotation is no text")
    return faults


def complete(documents: list[dict]) -> list[str]:
    """A Deployment, and where there is more than one pod a budget, for each service that is enabled; names within 63 characters."""
    faults = [f"{title(d)}: its name is too long" for d in documents if len(d["metadata"]["name"]) > 63]
    deployed = {component(d) for d in documents if d["kind"] == "Deployment"}
    budgets = {component(d) for d in documents if d["kind"] == "PodDisruptionBudget"}
    faults += [f"{name} is no service" for name in deployed - set(SERVICES)]
    faults += [f"{name} has no PodDisruptionBudget" for name in deployed - budgets]
    titles = [title(document) for document in documents]
    return faults + [f"{name} is there twice" for name in sorted(set(titles)) if titles.count(name) > 1]


def faults(documents: list[dict]) -> list[str]:
    found = [fault for document in documents if pod_spec(document) for fault in locked_down(document)]
    every = [secrets, references, authorities, mounts, variables_once, replicas, hooks, drains, rollouts]
    for rule in [*every, selectors, network, ways_in, labels_are_text, complete]:
        found += rule(documents)
    return found


def copies(documents: list[dict], deploy: pathlib.Path) -> list[str]:
    """Alerts, rules and dashboards are those of `deploy/`."""
    found = []
    for document in documents:
        if document["kind"] == "PrometheusRule":
            read = lambda name: yaml.safe_load((deploy / "prometheus" / name).read_text(encoding="utf-8"))["groups"]
            wanted = [{"interval": "30s"} | group for group in read("rules.yaml") + read("alerts.yaml")]
            if document["spec"]["groups"] != wanted:
                found.append("the PrometheusRule is not what deploy/prometheus has")
    boards = {k: v for d in documents if d["kind"] == "ConfigMap" for k, v in d["data"].items() if k.endswith(".json")}
    if boards:
        wanted = {f"facewire-{p.name}": p for p in (deploy / "grafana" / "dashboards").glob("*.json")}
        same = boards.keys() == wanted.keys() and all(
            json.loads(boards[name]) == json.loads(path.read_text(encoding="utf-8")) for name, path in wanted.items()
        )
        if not same:
            found.append("the dashboards are not those of deploy/grafana")
    return found
