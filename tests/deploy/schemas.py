"""Whether an object is what its API takes: Kubernetes' own kinds by kubernetes-validate, KEDA's and Prometheus' by their resource
definitions, unknown fields refused in both. A kind without a schema is a fault. No opinion about a good chart may come in."""

import copy
import functools
import pathlib

import jsonschema
import yaml
from kubernetes_validate import utils

# Reading a schema takes most of the time.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)

STRING = {"type": "string", "minLength": 1}

# The Gateway API's definitions are in no registry: what the chart sets of them, written down from the API's reference.
HTTP_ROUTE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "gateway.networking.k8s.io/v1"},
        "kind": {"const": "HTTPRoute"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "hostnames": {"type": "array", "maxItems": 16, "items": STRING},
                "parentRefs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name"],
                        "properties": {
                            "group": {"type": "string"},
                            "kind": STRING,
                            "name": STRING,
                            "namespace": STRING,
                            "sectionName": STRING,
                            "port": {"type": "integer"},
                        },
                    },
                },
                "rules": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "matches": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {
                                        "path": {
                                            "type": "object",
                                            "additionalProperties": False,
                                            "properties": {
                                                "type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]},
                                                "value": {"type": "string", "pattern": "^/"},
                                            },
                                        }
                                    },
                                },
                            },
                            "backendRefs": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "required": ["name", "port"],
                                    "properties": {"name": STRING, "port": {"type": "integer"}},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def closed(schema):
    """The same schema, with no other properties than its own wherever it names some."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    names = isinstance(schema.get("properties"), dict)
    open_by_intention = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if names and schema.get("type") == "object" and not open_by_intention:
        schema["additionalProperties"] = False
    return schema


def definition(path: pathlib.Path) -> dict[tuple[str, str], dict]:
    """Each served version of a resource definition, by apiVersion and kind."""
    found = {}
    resource = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    spec = resource["spec"]
    for version in spec["versions"]:
        schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
        # An object's metadata is every object's, and not in its definition.
        metadata = schema["properties"].pop("metadata")
        schema = closed(schema)
        schema["properties"]["metadata"] = metadata
        found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


class Schemas:
    """All that is known."""

    def __init__(self, folder: pathlib.Path | None):
        self.custom = {("gateway.networking.k8s.io/v1", "HTTPRoute"): HTTP_ROUTE}
        self.unchecked_groups = () if folder else ("keda.sh/", "monitoring.coreos.com/")
        for path in sorted(folder.glob("*.yaml")) if folder else []:
            self.custom |= definition(path)
        self.validators = {
            key: jsonschema.Draft202012Validator(schema) for key, schema in self.custom.items()
        }

    def fault(self, document: dict, version: str) -> str | None:
        """What the API of this version of Kubernetes would not take, in words."""
        kind = document["apiVersion"], document["kind"]
        if kind in self.validators:
            error = next(iter(self.validators[kind].iter_errors(document)), None)
            return error and f"{'.'.join(map(str, error.path))}: {error.message}"
        if document["apiVersion"].startswith(self.unchecked_groups):
            return None
        try:
            utils.validate(document, version, strict=True)
        except utils.SchemaNotFoundError:
            return f"no schema for {kind}"
        except jsonschema.ValidationError as error:
            return f"{'.'.join(map(str, error.path))}: {error.message}"
        return None
