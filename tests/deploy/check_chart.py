"""Checks helm/facewire without a cluster: rendered by each Helm that is given, for each values file and each version of Kubernetes.

    check_chart.py --helm PROGRAM... [--schemas DIR] [--facts FILE]

Prints what is wrong, a line each, and ends with status 1. `--facts` writes what the code's own tables are compared with
(tests/it/deploy). What a good object is stands in rules.py, what an API takes in schemas.py, what values
may lay over the chart's own in overrides.py.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

import breakages
import facts
import overrides
import rules
import scan
import schemas
import values_readme

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "helm" / "facewire"
VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
NAMESPACE = "faces"
# YAML reads these as something else than text: labels have to be quoted.
RELEASES = {"small": "facewire", "production": "n", "gpu": "on", "existing-servers": "1e3"}


def helm(program: pathlib.Path, words: list, cwd: pathlib.Path = ROOT) -> tuple[str, str | None]:
    """What it wrote, and what it complains of if it failed."""
    environment = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null"}
    done = subprocess.run([program, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "symbolic link" not in line]
    return done.stdout, None if done.returncode == 0 else "\n".join(lines + done.stdout.splitlines()[-5:])


def render(program, version: str, values: str, sets: list[str] = (), chart: pathlib.Path = CHART, namespace: str = NAMESPACE):
    """The objects, or why there are none."""
    words = ["template", RELEASES[values], chart, "--namespace", namespace, "--kube-version", f"{version}.0"]
    words += ["--values", chart / "ci" / f"{values}-values.yaml"]
    for setting in sets:
        words += ["--set", setting]
    text, error = helm(program, words)
    if error:
        return None, error
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document], None


def lint(program, values: str) -> list[str]:
    words = ["lint", "--strict", CHART, "--kube-version", "1.33.0", "--values", CHART / "ci" / f"{values}-values.yaml"]
    _, error = helm(program, words)
    return [f"{program.name} lint {values}: {error}"] if error else []


def refusals(program, version: str = "1.34") -> list[str]:
    """What must not render, and the words that say why."""
    cases = [
        ("small", ["nats.urll=x"], "urll"),
        ("small", ["services.ingest.keda.lagTreshold=1"], "lagTreshold"),
        ("small", ["services.gate.enabled=true"], "gate"),
        ("small", ["networkPolicy.nats.ports=1"], "ports"),
        ("small", ["config.natss.url=x"], "natss"),
        ("small", ["nats.url=nats://user:secret@nats:4222"], "/nats/url|nats.url"),
        ("small", ["nats.url=wss://nats:443"], "/nats/url|nats.url"),
        ("small", ["nats.url=nats://a:4222\\,ws://b:80"], "/nats/url|nats.url"),
        ("small", ["image.repository="], "image.repository"),
        ("small", ["postgres.existingSecret="], "postgres.existingSecret"),
        ("small", ["nats.auth=nkey"], "nats.existingSecret"),
        ("small", ["qdrant.existingSecret=key"], "allow_key_in_clear"),
        ("production", ["images.endpoint=http://s3.example"], "allow_http"),
        ("small", ["images.url=file:///images"], "images.existingClaim"),
        ("small", ["config.nats.url=nats://u:p@nats:4222"], "config.nats.url"),
        ("small", ["config.shutdown.grace=60s"], "the value shutdown.graceSeconds"),
        ("small", ["config.health.listen=0.0.0.0:9"], "the value health.port"),
        ("small", ["config.gateway.listen=0.0.0.0:9"], "the value gateway.port"),
        ("small", ["config.images.url=s3://faces"], "the value images.url"),
        ("production", ["config.nats.inbox_prefix=_INBOX"], "the value nats.inboxPrefix"),
        ("small", ["config.telemetry.otlp.headers.authorization=Bearer x"], "config.telemetry.otlp.headers"),
        ("small", ["telemetry.otlp.endpoint=https://c:4318", "telemetry.otlp.protocol=http"], "without TLS"),
        ("small", ["telemetry.otlp.endpoint=https://c:4317"], "config.telemetry.otlp.ca"),
        ("small", ["defaults.env.TOKEN.value=x"], "/TOKEN|valueFrom"),
        ("small", ["images.url=s3://faces", "images.existingClaim=faces-images"], "file:///images"),
        ("small", ["models.custom=true", "models.volume.existingClaim="], "models.custom"),
        ("small", ["models.pack=buffalo_l", "models.volume.existingClaim="], "models.pack"),
        ("small", ["models.volume.type=image", "models.volume.image=packs:1"], "Kubernetes 1.35"),
        ("small", ["models.download.url=https://a.example/x", "models.download.image=curl"], "sha256"),
        ("small", ["models.packImage=a:1", "models.download.url=https://a.example/x"], "choose one"),
        ("small", ["models.packImage=a:1", "models.pack=own"], "the pack `default`"),
        ("small", ["models.volume.type=emptyDir"], "models.packImage or models.download"),
        ("production", ["migrate.args={--roles,--revoke}"], "when the rollout has ended"),
        ("production", ["migrate.args={--roles,--role-prefix,a,--revoke}"], "migrate --roles --role-prefix a --revoke`"),
        ("small", ["models.head.fingerprint=0123456789abcdef", "models.volume.existingClaim="], "models.head"),
        ("gpu", ["models.head.existingClaim="], "models.head.existingClaim"),
        ("small", ["models.provider=gpu"], "/models/provider|models.provider"),
        ("small", ["services.quality.provider=cuda:0\\,cpu:0"], "/quality/provider|quality.provider"),
        ("small", ["monitoring.podMonitor.enabled=true", "monitoring.serviceMonitor.enabled=true"], "choose one"),
        ("small", ["merge.Deployment/gate.spec.replicas=1"], "Deployment/gate"),
        ("small", ["merge.Deploymnt/ingest.spec.replicas=1"], "Deploymnt/ingest"),
        ("production", ["keda.trigger=prometheus"], "keda.prometheus.serverAddress"),
    ]
    faults = []
    for values, sets, words in cases:
        documents, error = render(program, version, values, sets)
        if documents is not None:
            faults.append(f"{program.name}: {' '.join(sets)} is not refused")
        elif not any(word in error for word in words.split("|")):
            faults.append(f"{program.name}: {' '.join(sets)} is refused without a word of {words}: {error}")
    documents, error = render(program, "1.29", "small")
    if documents is not None or "1.30" not in error:
        faults.append(f"{program.name}: Kubernetes 1.29 is not refused: {error}")
    return faults


def packaged(program) -> list[str]:
    """The package holds the files behind the links, and renders as the folder does."""
    with tempfile.TemporaryDirectory() as folder:
        _, error = helm(program, ["package", CHART, "--destination", folder])
        if error:
            return [f"{program.name} package: {error}"]
        archive = next(pathlib.Path(folder).glob("*.tgz"))
        words = ["template", "n", archive, "--kube-version", "1.33.0", "--values", CHART / "ci/production-values.yaml"]
        text, error = helm(program, words)
        if error or "FacewireDown" not in text or "schemaVersion" not in text:
            return [f"{program.name}: the package does not render with alerts and dashboards: {error}"]
    return []


def notes(program) -> list[str]:
    """Helm 3 asks a cluster for it, so only Helm 4 is asked. Each case: values, settings, words, and whether they are there."""
    empty = "nothing fills the claim"
    cases = [
        ("production", [], "KEDA 2.20 or newer", True),
        ("production", [], "`facewire migrate --roles --revoke`", True),
        ("production", ["migrate.args={--roles,--role-prefix,a}"], "`facewire migrate --roles --role-prefix a --revoke`", True),
        ("production", ["migrate.enabled=false"], "--revoke", False),
        ("production", [], empty, False),
        ("small", ["models.volume.existingClaim="], empty, True),
        ("small", [], empty, False),
        ("small", [], "--revoke", False),
        ("small", ["migrate.activeDeadlineSeconds=1200"], "--timeout 1260s", True),
        # A pod's progressDeadlineSeconds and a minute: that of the gateway, with its sleep.
        ("small", ["migrate.activeDeadlineSeconds=60", "defaults.startupSeconds=700", "shutdown.graceSeconds=40"], "--timeout 1120s", True),
        ("small", [], "one after the other", False),
        ("small", ["services.match.replicas=3"], "up to 3 of match, 635 s each, are\n`--timeout 1965s`", True),
        ("gpu", ["shutdown.graceSeconds=40"], "--timeout 1310s", True),
        ("gpu", ["services.quality.autoscaling.maxReplicas=8"], "up to 8 of embed-gpu, 1235 s each, are\n`--timeout 9940s`", True),
    ]
    faults = []
    for values, sets, words, wanted in cases:
        arguments = ["install", "n", CHART, "--values", CHART / "ci" / f"{values}-values.yaml", "--dry-run=client"]
        text, error = helm(program, arguments + [word for setting in sets for word in ("--set", setting)])
        said = text.partition("NOTES:")[2]
        if error or (words in said) != wanted:
            faults.append(f"NOTES.txt of {values} {' '.join(sets)}: {words!r} {'is not' if wanted else 'is'} there: {error}")
    return faults


def runbook() -> list[str]:
    """Each alert has a heading in docs/OPERATIONS.md, and each heading of that chapter an alert."""
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    lines = (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8").splitlines()
    headings = {line.removeprefix("### ") for line in lines if line.startswith("### Facewire")}
    return [f"docs/OPERATIONS.md: {name} stands there or in alerts.yaml alone" for name in sorted(alerts ^ headings)]


def yaml_style() -> list[str]:
    files = [CHART / "values.yaml", CHART / "Chart.yaml", *sorted((CHART / "ci").glob("*.yaml"))]
    style = (
        "{extends: default, rules: {line-length: disable, document-start: disable, comments: {min-spaces-from-content: 1},"
        " braces: {max-spaces-inside: 1}}}"
    )
    command = [sys.executable, "-m", "yamllint", "--strict", "-f", "parsable", "-d", style, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()


def all_renders(programs) -> tuple[dict, list[str]]:
    """Objects by values file and version, the same from each Helm."""
    jobs = [(values, version, program) for values in RELEASES for version in VERSIONS for program in programs]
    found, faults = {}, []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (values, version, program), (documents, error) in zip(
            jobs, pool.map(lambda job: render(job[2], job[1], job[0]), jobs)
        ):
            if error:
                faults.append(f"{program.name} {values} {version}: {error}")
            elif found.setdefault((values, version), documents) != documents:
                faults.append(f"{values} {version}: {program.name} renders something else than {programs[0].name}")
    return found, faults


def against_schemas(found: dict, known: schemas.Schemas) -> list[str]:
    """The same object is looked at once for each version."""
    faults, seen = [], set()
    for (values, version), documents in found.items():
        for document in documents:
            mark = version, json.dumps(document, sort_keys=True)
            fault = None if mark in seen else known.fault(document, version)
            seen.add(mark)
            if fault:
                faults.append(f"{values} {version}: {rules.title(document)}: {fault}")
    return faults


def image_volumes(program, known) -> list[str]:
    sets = ["models.volume.type=image", "models.volume.image=registry.example/packs:1"]
    documents, error = render(program, "1.35", "small", sets)
    if error:
        return [f"image volume on 1.35: {error}"]
    found = {("image volume", version): documents for version in ("1.35", "1.37")}
    return against_schemas(found, known) + rules.faults(documents)


def container_images(program) -> list[str]:
    """What a service or all services name as their image goes over the digest of `image`."""
    repository, all_of = "registry.example/facewire", "sha256:" + "0" * 64
    own = "sha256:" + "1" * 64
    cases = [
        ([], f"{repository}@{all_of}"),
        (["services.match.image.tag=t"], f"{repository}:t"),
        ([f"services.match.image.digest={own}"], f"{repository}@{own}"),
        (["services.match.image.tag=t", f"services.match.image.digest={own}"], f"{repository}@{own}"),
        (["services.match.image.repository=other", "image.tag=t"], "other:t"),
        (["defaults.image.tag=t"], f"{repository}:t"),
        ([f"defaults.image.digest={own}", "services.match.image.tag=t"], f"{repository}:t"),
    ]
    faults = []
    for sets, wanted in cases:
        documents, error = render(program, "1.34", "production", sets)
        pods = {rules.title(d): rules.pod_spec(d)["containers"][0]["image"] for d in documents or [] if rules.pod_spec(d)}
        found = pods.get("Deployment/n-facewire-match")
        if error or found != wanted:
            faults.append(f"{' '.join(sets)}: the image is {found}, not {wanted}: {error}")
        rest = f"{repository}@{all_of}"
        if not any("defaults" in setting for setting in sets) and pods.get("Deployment/n-facewire-enrich") != rest:
            faults.append(f"{' '.join(sets)}: another service's image is not {rest}")
    return faults


def variants(program, known) -> list[str]:
    """Values that no file of `ci/` has. The words must be in the objects so named, and in no other of their kind."""
    head = "0123456789abcdef"
    with_images = {"ingest", "quality", "reconciler", "gateway", "jobs"}
    embedding = {"quality", "embed-gpu", "match", "reconciler", "gateway", "jobs"}
    cases = [
        # A bucket, and keys from the pod's identity.
        (["networkPolicy.podIdentity.enabled=true"], "NetworkPolicy", "169.254.170.23/32", with_images),
        ([], "NetworkPolicy", "169.254.", set()),
        # A head in the models' volume: whoever compares embeddings mounts that too. One in a claim is there before it serves.
        ([f"models.head.fingerprint={head}", "models.volume.existingClaim=packs"], "Deployment", '"/models"', embedding),
        # Only an installed pack has the checksums that its fingerprint is of; of `default` the program has them.
        (["models.pack=buffalo_l", "models.volume.existingClaim=packs"], "Deployment", '"/models"', embedding),
        (["models.custom=true", "models.volume.existingClaim=packs"], "Deployment", '"/models"', embedding),
        ([], "Deployment", '"/models"', {"quality", "embed-gpu"}),
        (["models.head.existingClaim=heads"], "Deployment", '"/heads"', embedding),
        (["models.head.existingClaim=heads"], "ConfigMap", "head =", set()),
        # Each has a Postgres URL of its own.
        ([], "Deployment", '{"key": "match", "name": "facewire-postgres"}', {"match"}),
        # Down to none without work, and to what `minReplicas` says with some.
        (["services.match.keda.scaleToZero=true"], "ScaledObject", '"idleReplicaCount": 0, "maxReplicaCount": 8, "minReplicaCount": 2', {"match"}),
    ]
    faults = []
    for sets, kind, words, wanted in cases:
        documents, error = render(program, "1.34", "production", sets)
        if error:
            faults.append(f"{' '.join(sets)}: {error}")
            continue
        named = {rules.component(d) for d in documents if d["kind"] == kind and words in json.dumps(d)}
        if named != wanted:
            faults.append(f"{' '.join(sets)}: {words} is in the {kind} of {sorted(named)}, not {sorted(wanted)}")
        faults += against_schemas({(" ".join(sets), "1.34"): documents}, known) + rules.faults(documents)
    return faults


def policies_turned_off(program) -> list[str]:
    """Hooks run before the policies of the former values are removed, and a hook's own policy is never: none may hold for their pods."""
    (before, error), (after, other) = (render(program, "1.34", "production", [f"networkPolicy.enabled={on}"]) for on in ("true", "false"))
    if error or other:
        return [f"networkPolicy.enabled: {error or other}"]
    policies = rules.policies(before)
    hooks = [d for d in after if d["kind"] in ("Job", "Pod")]
    holding = [(d, p) for d in hooks for p in policies if rules.holds_for(p, rules.pod_template(d)["metadata"]["labels"])]
    faults = [f"networkPolicy.enabled=false: {rules.title(p)} holds for {rules.title(d)}" for d, p in holding]
    return faults if len(policies) > 2 and len(hooks) == 2 else [*faults, "networkPolicy.enabled=false: nothing was compared"]


def finish(faults: list[str]) -> None:
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--helm", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--schemas", type=pathlib.Path)
    parser.add_argument("--facts", type=pathlib.Path)
    arguments = parser.parse_args()
    programs, known = arguments.helm, schemas.Schemas(arguments.schemas)

    found, faults = all_renders(programs)
    if faults:
        # Nothing else can be said of what is not there.
        finish(faults)
    faults += against_schemas(found, known)
    latest = {values: found[values, VERSIONS[-1]] for values in RELEASES}
    for values, documents in latest.items():
        faults += [f"{values}: {fault}" for fault in rules.faults(documents)]
        faults += [f"{values}: {fault}" for fault in rules.copies(documents, ROOT / "deploy")]
    for program in programs:
        faults += [fault for values in RELEASES for fault in lint(program, values)]
        faults += refusals(program) + packaged(program)
    faults += container_images(programs[0]) + variants(programs[0], known) + policies_turned_off(programs[0])
    laid_over = lambda values, sets, namespace=NAMESPACE: render(programs[0], "1.34", values, sets, namespace=namespace)
    faults += overrides.faults(laid_over, known)
    faults += notes(programs[-1]) + image_volumes(programs[0], known) + yaml_style() + runbook()
    faults += scan.faults(latest)
    faults += breakages.faults(CHART, lambda chart, values: render(programs[0], "1.33", values, (), chart), known)
    try:
        sys.argv = ["values_readme.py", "--check"]
        values_readme.main()
    except SystemExit:
        faults.append("helm/facewire/README.md is not what values.yaml says")
    if arguments.facts:
        arguments.facts.write_text(json.dumps({name: facts.of(documents) for name, documents in latest.items()}))
    finish(faults)


if __name__ == "__main__":
    main()
