"""Manifests from files, folders and texts: typed objects, ConfigMaps, and everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tunesmith_api.manifests.config_maps import Problem, metadata_problems, read_config_map
from tunesmith_api.manifests.fields import closest
from tunesmith_api.manifests.files import Document, manifest_files, read_text
from tunesmith_api.manifests.findings import Finding, Ignored, Source
from tunesmith_api.manifests.nodes import Location, Node, path_of, shown
from tunesmith_api.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace, read_object
from tunesmith_api.manifests.references import check_references
from tunesmith_api.manifests.result import Manifests
from tunesmith_api.manifests.yaml_reader import YamlError, read_documents
from tunesmith_api.objects import API_VERSION, GROUP

_KINDS = ("FineTuneJob", "InferenceWorkspace")
_DEFAULT_NAMESPACE = "default"


def load_manifests(paths: Sequence[Path]) -> Manifests:
    """Return what files and folders hold. Never raises for what is in them: that is in `findings`.

    Args:
        paths: Files, and folders whose *.yaml, *.yml and *.json files are read.
    """
    findings: list[Finding] = []
    files = manifest_files(paths, findings)
    documents = [Document(file, text) for file in files if (text := read_text(file, findings)) is not None]
    return load_documents(documents, findings)


def load_documents(documents: Iterable[Document], findings: Sequence[Finding] = ()) -> Manifests:
    """Return what documents hold. Never raises for what is in them: that is in `findings`.

    Args:
        documents: The documents, for example a request's body.
        findings: What was found already; the result's findings begin with these.
    """
    loader = _Loader()
    loader.result.findings.extend(findings)
    for document in documents:
        loader.read(document.path, document.text)
    check_references(loader.result, loader.names)
    return loader.result


class _Loader:
    """Sorts documents by their kind."""

    def __init__(self) -> None:
        self.result = Manifests()
        # Every object that is written, valid or not: (kind, namespace, name).
        self.names: dict[tuple[str, str, str], Source] = {}

    def read(self, file: Path, text: str) -> None:
        """Read the documents of one file."""
        problems: list[YamlError] = []
        documents = read_documents(text, problems)
        for problem in problems:
            self.result.findings.append(Finding(file, problem.line, problem.field, problem.message, problem.remedy))
        for document in documents:
            self._document(file, document)

    def _refuse(self, file: Path, document: Node, location: Location, message: str, remedy: str) -> None:
        self.result.findings.append(Finding(file, document.line_of(location), path_of(location), message, remedy))

    def _document(self, file: Path, document: Node) -> None:
        if not isinstance(document.value, dict):
            remedy = "write apiVersion, kind, metadata and spec"
            self._refuse(file, document, (), f"is {shown(document.plain())}, not an object", remedy)
            return
        kind, version = (node.value if (node := document.get(key)) else None for key in ("kind", "apiVersion"))
        ours = isinstance(version, str) and version.split("/")[0] == GROUP
        if not isinstance(kind, str):
            what = "is missing" if kind is None else f"must be a text, not {shown(kind)}"
            self._refuse(file, document, ("kind",), what, f"write kind: {' or kind: '.join(_KINDS)}")
        elif kind in _KINDS:
            self._object(file, document, kind)
        elif kind == "ConfigMap":
            self._config_map(file, document)
        elif kind.endswith("List") and document.get("items") is not None:
            self._list(file, document)
        elif ours or (closest(kind, _KINDS) and version is None):
            meant = closest(kind, _KINDS)
            remedy = (
                f"did you mean {meant}? Write kind: {meant}" if meant else f"write kind: {' or kind: '.join(_KINDS)}"
            )
            self._refuse(file, document, ("kind",), f"{shown(kind)} is not a kind of {API_VERSION}", remedy)
        elif version is None:
            self._refuse(file, document, ("apiVersion",), "is missing", f"write apiVersion: {API_VERSION}")
        else:
            self.result.notes.append(Ignored(file, document.line, f"left alone (kind {kind})"))

    def _list(self, file: Path, document: Node) -> None:
        items = document.get("items")
        if items is None or not isinstance(items.value, list):
            self._refuse(file, document, ("items",), "must be a list", "write one object after '- '")
            return
        for item in items.value:
            self._document(file, item)

    def _object(self, file: Path, document: Node, kind: str) -> None:
        source = Source(file, document.line)
        if self._twice(source, document, kind):
            return
        findings = self.result.findings
        if kind == "FineTuneJob":
            if (job := read_object(document, LoadedFineTuneJob, source, findings)) is not None:
                self.result.fine_tune_jobs.append(job)
        elif (workspace := read_object(document, LoadedInferenceWorkspace, source, findings)) is not None:
            self.result.inference_workspaces.append(workspace)

    def _config_map(self, file: Path, document: Node) -> None:
        problems: list[Problem] = list(metadata_problems(document))
        contents = read_config_map(document, problems)
        version = document.get("apiVersion")
        if version is None or version.value != "v1":
            problems.append((("apiVersion",), "must be v1 for a ConfigMap", "write apiVersion: v1"))
        for location, message, remedy in problems:
            self._refuse(file, document, location, message, remedy)
        if not self._twice(Source(file, document.line), document, "ConfigMap") and not problems:
            self.result.config_maps[_name(document)] = contents

    def _twice(self, source: Source, document: Node, kind: str) -> bool:
        """Note an object's name; return whether another object had it before."""
        namespace, name = _name(document)
        if not name:
            return False
        first = self.names.setdefault((kind, namespace, name), source)
        if first is source:
            return False
        where = f"line {first.line}" if first.file == source.file else f"{first}"
        message = f"there is a {kind} {name} already, on {where}"
        self._refuse(source.file, document, ("metadata", "name"), message, "remove one, or write another name")
        return True


def _name(document: Node) -> tuple[str, str]:
    """Return the namespace and the name of an object; the name is empty when it has none."""
    values: Iterable[Node | None] = (document.get("metadata", key) for key in ("namespace", "name"))
    namespace, name = (node.value if node and isinstance(node.value, str) else "" for node in values)
    return namespace or _DEFAULT_NAMESPACE, name
