"""Where the artifact of an InferenceWorkspace is on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tunesmith_cli.console import CliError, Exit, say
from tunesmith_cli.local import children
from tunesmith_cli.local.inputs import absolute_uri
from tunesmith_cli.local.store import object_folder, read_json
from tunesmith_operator.api import InferenceWorkspace
from tunesmith_trainer.config import Stage, WorkFolder


def local_artifact(workspace: InferenceWorkspace, base: Path, root: Path) -> Path:
    """Return the folder of the artifact that a workspace serves; one that is elsewhere is fetched first.

    Args:
        workspace: The object.
        base: Folder of its manifest; a relative `model.uri` starts there.
        root: Folder of all work.

    Raises:
        CliError: The FineTuneJob has not completed here, or the artifact cannot be fetched.
    """
    namespace = workspace.metadata.namespace or "default"
    uri = workspace.spec.model.uri
    if uri is None:
        name = str(workspace.spec.model.fine_tune_job)
        work = WorkFolder(object_folder(root, namespace, name))
        marker = read_json(work.stage_marker(Stage.PUBLISH))
        if marker is None:
            raise CliError(
                f"InferenceWorkspace {workspace.metadata.name}: FineTuneJob {name} has no artifact yet; "
                "run its manifest to the end first",
                Exit.FAILED,
            )
        uri = str(marker["artifact"]["uri"])
    uri = absolute_uri(uri.removeprefix("file://"), base)
    if "://" not in uri:
        return Path(uri)
    folder = object_folder(root, namespace, workspace.metadata.name) / "artifacts" / _short(uri)
    if not (folder / "manifest.json").exists():
        say(f"fetching {uri}")
        process = children.start("tunesmith_trainer.storage", ["fetch", uri, str(folder)])
        if children.wait(process, lambda: None) != 0:
            raise CliError(f"InferenceWorkspace {workspace.metadata.name}: {uri} could not be fetched", Exit.RETRY)
    return folder


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
