"""Writes helm/facewire/README.md from the comments of values.yaml. With --check it only compares, and ends with status 1."""

import difflib
import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).parents[2] / "helm" / "facewire"
HEAD = """\
# Chart facewire

Made by `tests/deploy/values_readme.py` from `values.yaml`: change that file. [docs/KUBERNETES.md](../../docs/KUBERNETES.md) says how to
install it. The chart was rendered by Helm 3 and 4 and validated against the schemas of Kubernetes 1.30 to 1.37, and its pods were run by
`podman play kube` (`deploy/play-kube.sh`); it has not run in Kubernetes yet.

Examples: [small](ci/small-values.yaml) · [production](ci/production-values.yaml) · [GPU](ci/gpu-values.yaml) ·
[existing servers](ci/existing-servers-values.yaml).
`values.schema.json` refuses keys that are not in this table. `merge` patches any object; `extra` adds manifests.

| key | default | what it is |
| --- | --- | --- |
"""


def default(node: yaml.Node) -> str:
    value = yaml.safe_load(yaml.serialize(node))
    return f"`{json.dumps(value)}`" if value != "" else '`""`'


def walk(node: yaml.MappingNode, path: str, comments: dict[int, str]) -> list[str]:
    """A row for each leaf, and for each map with a comment. A map that is written on one line is a leaf."""
    rows = []
    for key, value in node.value:
        name = f"{path}.{key.value}" if path else key.value
        text = comments.get(key.start_mark.line, "")
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        if not block:
            rows.append(f"| `{name}` | {default(value)} | {text} |")
        else:
            if text:
                rows.append(f"| **`{name}`** | | {text} |")
            rows += walk(value, name, comments)
    return rows


def comments_of(text: str) -> dict[int, str]:
    """The comment that ends just above a line, by that line's number from 0."""
    found, block = {}, []
    for number, line in enumerate(text.splitlines()):
        comment = re.match(r"\s*# ?(.*)$", line)
        if comment:
            block.append(comment.group(1))
            continue
        if line.strip() and block:
            found[number] = " ".join(block).replace("|", "\\|")
        block = []
    return found


def readme() -> str:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    return HEAD + "\n".join(walk(yaml.compose(text), "", comments_of(text))) + "\n"


def main() -> None:
    path, wanted = CHART / "README.md", readme()
    if "--check" not in sys.argv:
        path.write_text(wanted, encoding="utf-8")
        return
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    changes = list(difflib.unified_diff(found.splitlines(), wanted.splitlines(), "README.md", "values.yaml", lineterm=""))
    if changes:
        print("\n".join([*changes, "run python3 tests/deploy/values_readme.py"]))
        sys.exit(1)


if __name__ == "__main__":
    main()
