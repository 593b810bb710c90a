"""What the values lay over the chart's own: variables, settings of `config`, patches, and names that YAML would read as something
else. Rendering is the caller's; no schema may come in but by what he passes."""

import concurrent.futures
import pathlib

import yaml

import rules

CI = pathlib.Path(__file__).parents[2] / "helm" / "facewire" / "ci"
# Settings that the chart makes and that have no value of their own.
FREE = {"models.directory", "telemetry.otlp.metrics"}
# Values that make the chart set all that it can set.
ALL = [
    "telemetry.filter=info",
    "gateway.tls.existingSecret=tls",
    "models.head.fingerprint=0123456789abcdef",
    "models.head.existingClaim=heads",
    "services.embed-gpu.provider=cuda",
]


def leaves(table: dict, path: str = "") -> set[str]:
    below = [(f"{path}.{key}" if path else key, value) for key, value in table.items()]
    return {leaf for name, value in below for leaf in (leaves(value, name) if isinstance(value, dict) else [name])}


def set_by_the_chart(documents: list[dict], values: str) -> set[str]:
    """Settings in the file and in the pods' variables, without those of this values file's own `config`."""
    own = yaml.safe_load((CI / f"{values}-values.yaml").read_text(encoding="utf-8")).get("config", {})
    found = leaves(rules.settings(documents)) - leaves(own)
    pods = [pod for document in documents if (pod := rules.pod_spec(document))]
    names = [item["name"] for pod in pods for item in pod["containers"][0]["env"]]
    prefix = "FACEWIRE__"
    return found | {name.removeprefix(prefix).lower().replace("__", ".") for name in names if name.startswith(prefix)}


def settings_with_a_value(render) -> list[str]:
    """`config` may set nothing that the chart sets from a value: ports and periods would not follow, and a variable goes over it."""
    cases = {}
    for sets in (ALL, [*ALL, "nats.auth=creds"]):
        documents, error = render("production", sets)
        if error:
            return [f"{' '.join(sets)}: {error}"]
        cases |= dict.fromkeys(set_by_the_chart(documents, "production") - FREE, sets)
    if len(cases) < 30:
        return [f"the chart sets no more than {sorted(cases)}"]

    def fault(case) -> str | None:
        path, sets = case
        documents, error = render("production", [*sets, f"config.{path}=x"])
        refused = documents is None and f"config.{path}:" in error
        return None if refused else f"config.{path} is not refused: {error}"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [said for said in pool.map(fault, cases.items()) if said]


def settings_without_one(render) -> list[str]:
    """The rest of `config` is in the file."""
    sets = ["config.nats.request_timeout=7s", "config.models.directory=/elsewhere", "config.images.allow_http=true"]
    # Of the ports that the values say.
    sets += ["config.health.listen=[::]:8080", "config.gateway.listen=[::]:8090"]
    documents, error = render("production", sets)
    if error:
        return [f"{' '.join(sets)}: {error}"]
    file = rules.settings(documents)
    found = (file["nats"]["request_timeout"], file["models"]["directory"], file["images"]["allow_http"])
    found += (file["health"]["listen"], file["gateway"]["listen"])
    return [] if found == ("7s", "/elsewhere", True, "[::]:8080", "[::]:8090") else [f"{' '.join(sets)}: the file has {found}"]


def variables(render) -> list[str]:
    """Those of the values stand in place of the chart's, which then asks for nothing, and one `valueFrom` in place of another."""
    url, faults = "FACEWIRE__POSTGRES__URL", []
    others = [f"services.{name}.enabled=false" for name in rules.SERVICES if name != "match"]
    own = f"env.{url}.valueFrom.secretKeyRef"
    sets = ["postgres.existingSecret=", "migrate.enabled=false", *others, f"services.match.{own}.name=own", f"services.match.{own}.key=uri"]
    sets += [f"defaults.env.{url}.valueFrom.fieldRef.fieldPath=metadata.name", "defaults.env.SSL_CERT_FILE=/etc/own.crt"]
    documents, error = render("small", sets)
    if error:
        return [f"{' '.join(sets)}: {error}"]
    for document in documents:
        if document["kind"] == "Deployment":
            env = {item["name"]: item for item in rules.pod_spec(document)["containers"][0]["env"]}
            if env[url].get("valueFrom") != {"secretKeyRef": {"name": "own", "key": "uri"}}:
                faults.append(f"{rules.title(document)}: {url} is {env[url]}")
    return faults + rules.variables_once(documents)


def patched_config(render) -> list[str]:
    """A patch of the ConfigMap restarts the pods and reaches the migration; one of its labels does not restart them."""
    patch = "merge.ConfigMap/config"
    marks = []
    for sets in ([], [f"{patch}.data.note=more"], [f"{patch}.metadata.labels.note=more"]):
        documents, error = render("production", sets)
        if error:
            return [f"{' '.join(sets)}: {error}"]
        deployments = [document for document in documents if document["kind"] == "Deployment"]
        marks.append({rules.annotations(rules.pod_template(d))["checksum/config"] for d in deployments})
        with_note = [rules.title(d) for d in documents if "note" in d.get("data", {})]
        wanted = 2 if any(".data." in setting for setting in sets) else 0
        if len(with_note) != wanted:
            return [f"{' '.join(sets)}: the patch is in {with_note}"]
    plain, data, labels = marks
    return [] if plain == labels != data and len(plain) == 1 else [f"merge of ConfigMap/config: the pods have {marks}"]


def odd_names(render, known) -> list[str]:
    """Namespaces, accounts and variables that YAML reads as a number or a truth."""
    faults = []
    for namespace, account in (("no", "on"), ("1234", "off"), ("1e3", "y")):
        sets = ["serviceAccounts.create=false", "networkPolicy.natsServers.namespace=off", "defaults.env.NO=text"]
        documents, error = render("production", [*sets, f"serviceAccounts.name={account}"], namespace)
        if error:
            return [f"namespace {namespace}, account {account}: {error}"]
        found = [f"{rules.title(document)}: {fault}" for document in documents if (fault := known.fault(document, "1.34"))]
        for document in documents:
            pod, wanted = rules.pod_spec(document), "off" if rules.component(document) == "nats-servers" else namespace
            if document["metadata"]["namespace"] != wanted:
                found.append(f"{rules.title(document)} is not in {wanted}")
            if pod and pod["serviceAccountName"] != account:
                found.append(f"{rules.title(document)} has another account")
            if pod and {"name": "NO", "value": "text"} not in pod["containers"][0]["env"]:
                found.append(f"{rules.title(document)} has not the variable")
        faults += [f"namespace {namespace}, account {account}: {fault}" for fault in found]
    return faults


def faults(render, known) -> list[str]:
    """`render(values, sets, namespace)` gives the objects, or why there are none."""
    found = settings_with_a_value(render) + settings_without_one(render)
    return found + variables(render) + patched_config(render) + odd_names(render, known)
