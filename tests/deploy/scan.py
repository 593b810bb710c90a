"""checkov over the rendered objects. Without a key it knows no severities, so every finding counts that exceptions.yaml does not
explain; an exception that nothing needs any more is a fault as well."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

EXCEPTIONS = pathlib.Path(__file__).with_name("exceptions.yaml")


def findings(documents: list[dict], folder: str) -> list[tuple[str, str, str, str]]:
    """Check, kind, resource, words."""
    path = pathlib.Path(folder) / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    command = [sys.executable, "-m", "checkov.main", "--file", path, "--framework", "kubernetes", "--skip-download"]
    command += ["--quiet", "--output", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": folder, "LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    try:
        report = json.loads(done.stdout)
        failed = report["results"]["failed_checks"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise SystemExit(f"checkov said nothing that can be read: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    if report["summary"]["passed"] < 100 or report["summary"]["parsing_errors"]:
        raise SystemExit(f"checkov looked at too little: {report['summary']}")
    return [(f["check_id"], f["resource"].split(".")[0], f["resource"], f["check_name"]) for f in failed]


def faults(renders: dict[str, list[dict]]) -> list[str]:
    exceptions = yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8"))
    used, wrong = set(), []
    with tempfile.TemporaryDirectory() as folder:
        # `small` and `existing-servers` have no object that these do not have.
        for values in ("production", "gpu"):
            for check, kind, resource, words in findings(renders.get(values, []), folder):
                known = [i for i, e in enumerate(exceptions) if e["check"] == check and e.get("kind") in (None, kind)]
                used.update(known)
                if not known:
                    wrong.append(f"{values}: {check} {resource}: {words}")
    stale = [e["check"] for i, e in enumerate(exceptions) if i not in used]
    return wrong + [f"exceptions.yaml: nothing needs {check} any more" for check in stale]
