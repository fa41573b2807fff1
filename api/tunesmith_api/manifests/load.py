"""Loads manifests: typed objects, ConfigMaps, and findings about everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tunesmith_api.manifests.config_maps import Problem, metadata_problems, read_config_map
from tunesmith_api.manifests.fields import closest
from tunesmith_api.manifests.files import Document, read_files, too_large
from tunesmith_api.manifests.findings import Finding, Ignored, Source
from tunesmith_api.manifests.nodes import Location, Node, path_of, shown
from tunesmith_api.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace, read_object
from tunesmith_api.manifests.references import check_references
from tunesmith_api.manifests.result import Manifests
from tunesmith_api.manifests.yaml_reader import YamlError, read_documents
from tunesmith_api.objects import API_VERSION, GROUP

_KINDS = ("FineTuneJob", "InferenceWorkspace")
_DEFAULT_NAMESPACE = "default"


def load_manifests(paths: Iterable[Path]) -> Manifests:
    """Load the manifests in files and folders. Faults in them are in `findings` and never raise.

    Args:
        paths: Files, and folders whose *.yaml, *.yml and *.json files are read.
    """
    findings: list[Finding] = []
    return load_documents(read_files(paths, findings), findings)


def load_documents(documents: Iterable[Document], findings: list[Finding] | None = None) -> Manifests:
    """Load manifests that are given as text. Faults in them are in `findings` and never raise.

    Args:
        documents: The documents, for example a request's body.
        findings: Becomes the result's `findings`. Iterating over `documents` may add to it, so that findings keep the
            order of the files.
    """
    loader = _Loader([] if findings is None else findings)
    for document in documents:
        loader.read(document)
    check_references(loader.result, loader.names)
    return loader.result


class _Loader:
    """Reads the objects in documents, by kind."""

    def __init__(self, findings: list[Finding]) -> None:
        self.result = Manifests(findings=findings)
        # Every object, valid or not: (kind, namespace, name).
        self.names: dict[tuple[str, str, str], Source] = {}

    def read(self, document: Document) -> None:
        """Read the objects of one document."""
        file = document.path
        if (finding := too_large(file, len(document.text.encode(errors="surrogatepass")))) is not None:
            self.result.findings.append(finding)
            return
        problems: list[YamlError] = []
        nodes = read_documents(document.text.removeprefix("\ufeff"), problems)
        for problem in problems:
            self.result.findings.append(Finding(file, problem.line, problem.field, problem.message, problem.remedy))
        for node in nodes:
            self._document(file, node)

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
        """Record an object's name and return whether another object already has it."""
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
    """Return the namespace and the name of an object; the name is empty if it has none."""
    values: Iterable[Node | None] = (document.get("metadata", key) for key in ("namespace", "name"))
    namespace, name = (node.value if node and isinstance(node.value, str) else "" for node in values)
    return namespace or _DEFAULT_NAMESPACE, name
