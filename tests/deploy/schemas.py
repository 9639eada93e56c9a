"""What Kubernetes would say to a manifest, without a Kubernetes: KubeRay's own schemas with their objects closed, since
a server drops a field that it does not know without a word, and the core kinds' schemas, strict."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT.parent / "shared" / "kuberay"
RELEASE = "1.37"
Manifest = dict[str, Any]
Path_ = tuple[str | int, ...]


def check(document: Manifest) -> None:
    """
    Raises:
        jsonschema.ValidationError, kubernetes_validate.ValidationError: a field is wrong, missing or unknown.
    """
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, RELEASE, strict=True)
        return
    validator(document["kind"]).validate(document)
    # The custom resource's schema leaves its own metadata open; it is that of any kind.
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": document["metadata"]}, RELEASE, True
    )


@cache
def validator(kind: str) -> jsonschema.Validator:
    file = KUBERAY / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip(f"KubeRay's schemas are not at {KUBERAY}")
    resource = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    version = next(v for v in resource["spec"]["versions"] if v["name"] == "v1")
    schema = _closed(version["schema"]["openAPIV3Schema"])
    return jsonschema.Draft202012Validator(schema)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if isinstance(closed.get("properties"), dict) and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def keys(document: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every key of every object in a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        if isinstance(document, dict):
            yield (*path, key)
        yield from keys(value, (*path, key))


def misspelt(document: Manifest, path: Path_) -> Manifest:
    """A copy in which the last letter of one key is doubled."""
    changed = copy.deepcopy(document)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[f"{path[-1]}{str(path[-1])[-1]}"] = place.pop(path[-1])
    return changed
