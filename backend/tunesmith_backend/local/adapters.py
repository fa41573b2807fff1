"""The adapters of a workspace on this machine: which there are, the list that the server follows, and what it says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.contract import ADAPTERS_FILE, ADAPTERS_PATH
from tunesmith_api.local.files import write_json
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_api.objects.served_adapters import ADAPTER_NAME_ANNOTATION
from tunesmith_api.status import Phase
from tunesmith_api.status.adapters import adapter_state
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local.artifacts import served_job
from tunesmith_backend.local.inputs import absolute_uri
from tunesmith_backend.local.objects import ObjectFolder
from tunesmith_backend.local.store import StatusFile, object_folder

_SECONDS = 5.0
_SHORT = 17


@dataclass
class LocalAdapters:
    """The adapters of a workspace.

    Attributes:
        workspace: The workspace.
        base: Folder of its manifest, which relative paths are relative to.
        root: Folder of all work.
        jobs: Jobs of the same manifests, in addition to those that are stored below `root`.
        own: Name of the job whose result the workspace serves, if any.
        digest: Digest of the base model that is served.
    """

    workspace: InferenceWorkspace
    base: Path
    root: Path
    jobs: Sequence[FineTuneJob] = ()
    own: str | None = None
    digest: str | None = None
    _listed: list[dict[str, Any]] = field(default_factory=list)
    _withheld: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, workspace: InferenceWorkspace, base: Path, root: Path, jobs: Sequence[FineTuneJob]) -> Self | None:
        """Return the adapters of a workspace; None if its server follows no list.

        Raises:
            BackendError: No job that the workspace follows has completed here.
        """
        own = served_job(workspace, root, jobs)
        found = cls(workspace, base, root, jobs, own)
        is_base = own is not None and "base" in found._artifact_of(own)
        spec = workspace.spec
        return found if spec.adapters is not None or spec.adapter_selector is not None or is_base else None

    @property
    def file(self) -> Path:
        """The list that the server follows."""
        return object_folder(self.root, self._namespace, self.workspace.metadata.name) / ADAPTERS_FILE

    def write(self, digest: str | None = None) -> None:
        """Write the list as it is now.

        Args:
            digest: Digest of the base model; the one that was given before if None.
        """
        self.digest = digest or self.digest
        found: dict[str, dict[str, Any]] = {}
        for entry in self._found():
            found.setdefault(entry["name"], entry)
        checked = [self._checked(entry) for _, entry in sorted(found.items())]
        self._withheld = [entry for entry in checked if "state" in entry]
        self._listed = [entry for entry in checked if "state" not in entry]
        content = {"version": self._version, "adapters": self._listed}
        if not self.file.exists() or json.loads(self.file.read_bytes()) != content:
            write_json(self.file, content, sync=False)

    def states(self, server: str) -> list[dict[str, Any]]:
        """Return the adapters as the status has them.

        Args:
            server: URL of the server.
        """
        try:
            with urllib.request.urlopen(f"{server}{ADAPTERS_PATH}", timeout=_SECONDS) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError:
            why = "The server of this model takes no adapters; train the base with export: {adapterOnly: true}"
            return [*(adapter_state(item["name"], "Failed", why) for item in self._listed), *self._withheld]
        except (OSError, ValueError):
            answer = {}
        said = {item["name"]: item for item in answer.get("adapters", ()) if answer.get("version") == self._version}
        states = []
        for entry in self._listed:
            item = said.get(entry["name"], {"state": "Pending", "message": "The server loads it"})
            digest = item.get("digest") or entry.get("digest")
            states.append(adapter_state(entry["name"], item["state"], item.get("message") or "", digest))
        return [*states, *self._withheld]

    @property
    def _namespace(self) -> str:
        return self.workspace.metadata.namespace or "default"

    @property
    def _version(self) -> str:
        return digest_of_json(self._listed).removeprefix("sha256:")[:10]

    def _found(self) -> Iterator[dict[str, Any]]:
        """Yield the entries in the order in which a name is taken: listed ones, the model's own job, labelled ones."""
        for given in self.workspace.spec.adapters or ():
            if given.fine_tune_job is not None:
                yield self._of_job(given.name, given.fine_tune_job)
            else:
                assert given.uri is not None  # noqa: S101 - a rule of the API
                yield {"name": given.name, "path": absolute_uri(given.uri.removeprefix("file://"), self.base)}
        jobs = {ref_of(job).name: job for job in self._known() if ref_of(job).namespace == self._namespace}
        if self.own is not None and "base" in self._artifact_of(self.own):
            yield self._of_job(_name_of(self.own, jobs.get(self.own)), self.own)
        if (selector := self.workspace.spec.adapter_selector) is None:
            return
        labels = selector.match_labels.items()
        done = [
            (str(self._status_of(name).get("completionTime", "")), name)
            for name, job in jobs.items()
            if labels <= (job.metadata.labels or {}).items() and "base" in self._artifact_of(name)
        ]
        found = [self._of_job(_name_of(name, jobs[name]), name) for _, name in sorted(done, reverse=True)]
        # One on another base does not take the place of an older one of its name that fits.
        yield from sorted(found, key=lambda entry: "state" in entry)

    def _known(self) -> Iterator[FineTuneJob]:
        """Yield the jobs that other commands have run in this folder, and those of the same manifests, which win."""
        objects = ObjectFolder(self.root)
        for ref in objects.refs("FineTuneJob", self._namespace):
            if (stored := objects.find(ref)) is not None:
                yield FineTuneJob.model_validate(stored.manifest)
        yield from self.jobs

    def _of_job(self, name: str, job: str) -> dict[str, Any]:
        status = self._status_of(job)
        artifact = self._artifact_of(job)
        if not artifact:
            phase = status.get("phase")
            where = f"is {phase}" if phase else "has not been run here; run its manifest with the same --work"
            message = f"FineTuneJob {job} {where}"
            return adapter_state(name, "Failed" if phase == Phase.FAILED else "Pending", message)
        if "base" not in artifact:
            message = f"The artifact of FineTuneJob {job} is a whole model; train it with export: {{adapterOnly: true}}"
            return adapter_state(name, "Failed", message, artifact.get("digest"))
        theirs = artifact["base"].get("digest")
        if self.digest and theirs and theirs != self.digest:
            message = (
                f"FineTuneJob {job} was trained on another base model ({theirs[:_SHORT]}) than the one that is served "
                f"({self.digest[:_SHORT]}); serve it in a workspace of its own, or train it again on this base"
            )
            return adapter_state(name, "Failed", message, artifact.get("digest"))
        uri = str(artifact["uri"]).removeprefix("file://")
        return {"name": name, "path": uri, "digest": str(artifact.get("digest", ""))}

    def _checked(self, entry: dict[str, Any]) -> dict[str, Any]:
        name, path = entry["name"], str(entry.get("path", ""))
        if name == self.workspace.metadata.name:
            message = "It has the name of the workspace, under which the base model is served; write another name"
            return adapter_state(name, "Failed", message)
        if path.startswith("pvc://"):
            return adapter_state(name, "Failed", f"{path} is a volume of a cluster; on one machine write a path")
        return entry

    def _status_of(self, job: str) -> Mapping[str, Any]:
        return StatusFile(object_folder(self.root, self._namespace, job), "FineTuneJob").status

    def _artifact_of(self, job: str) -> Mapping[str, Any]:
        """Return the artifact of a job that has succeeded; empty if it has not."""
        status = self._status_of(job)
        artifact: Mapping[str, Any] = status.get("artifact") or {}
        return artifact if status.get("phase") == Phase.SUCCEEDED else {}


def _name_of(name: str, job: FineTuneJob | None) -> str:
    annotations = (job.metadata.annotations or {}) if job is not None else {}
    return annotations.get(ADAPTER_NAME_ANNOTATION) or name
