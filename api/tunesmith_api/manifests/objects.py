"""Turns documents of Tunesmith's own kinds into typed objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeVar

from pydantic import PrivateAttr, ValidationError

from tunesmith_api.manifests.explain import explain_all
from tunesmith_api.manifests.fields import closest, fields_of
from tunesmith_api.manifests.findings import Finding, Source
from tunesmith_api.manifests.nodes import Node, path_of, shown
from tunesmith_api.objects import API_VERSION, FineTuneJob, InferenceWorkspace
from tunesmith_api.objects.metadata import ObjectMeta

# The metadata fields of Kubernetes. Any other field is a mistake.
_METADATA_FIELDS = (
    *fields_of(ObjectMeta),
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
)


class LoadedFineTuneJob(FineTuneJob):
    """A FineTuneJob from a manifest."""

    _source: Source = PrivateAttr()
    _document: Node = PrivateAttr()

    @property
    def source(self) -> Source:
        """Where the object is written."""
        return self._source

    @property
    def document(self) -> Node:
        """The document that it was read from."""
        return self._document


class LoadedInferenceWorkspace(InferenceWorkspace):
    """An InferenceWorkspace from a manifest."""

    _source: Source = PrivateAttr()
    _document: Node = PrivateAttr()

    @property
    def source(self) -> Source:
        """Where the object is written."""
        return self._source

    @property
    def document(self) -> Node:
        """The document that it was read from."""
        return self._document


Loaded = TypeVar("Loaded", LoadedFineTuneJob, LoadedInferenceWorkspace)


def read_object(document: Node, model: type[Loaded], source: Source, findings: list[Finding]) -> Loaded | None:
    """Return the object in a document; None if it is invalid, and why is then added to `findings`."""

    def refuse(location: tuple[str | int, ...], message: str, remedy: str) -> None:
        findings.append(Finding(source.file, document.line_of(location), path_of(location), message, remedy))

    before = len(findings)
    version = document.get("apiVersion")
    if version is None or version.value != API_VERSION:
        what = f"must be {API_VERSION}, not {shown(version.plain())}" if version else "is missing"
        refuse(("apiVersion",), what, f"write apiVersion: {API_VERSION}")
    for location, message, remedy in _slips(document):
        refuse(location, message, remedy)
    if len(findings) > before:
        return None
    try:
        # As JSON, because that is what the API server gets: types are exact, and a list is a list.
        loaded = model.model_validate_json(json.dumps(document.plain()), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        for location, message, remedy in explain_all(error, model, document):
            refuse(location, message, remedy)
        return None
    loaded._source, loaded._document = source, document
    return loaded


def _slips(document: Node) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Yield mistakes that the models accept: location, message, remedy."""
    for field in ("spec", "status"):
        node = document.get(field)
        for location in node.nulls() if node else ():
            if location or field == "spec":
                yield (field, *location), "has no value", "write one, or remove the field"
    metadata = document.get("metadata")
    for name in metadata.value if metadata and isinstance(metadata.value, dict) else ():
        if name not in _METADATA_FIELDS:
            meant = closest(name, _METADATA_FIELDS)
            remedy = f"did you mean {meant}? Write {meant}, or remove it" if meant else "remove it, or make it a label"
            yield ("metadata", name), f"metadata has no field {shown(name)}", remedy
