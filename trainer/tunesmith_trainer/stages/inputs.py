"""What the result of each stage depends on, declared in one place.

Prepare and train depend on the spec without `PUBLISH_FIELDS`, publish on all of it, and each stage on the stages before
it. A check of a publish field that runs in prepare, so that it fails early, is not part of prepare's result: it runs
again when the field changes (`recheck` of `run_stage`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import PUBLISH_FIELDS, JobConfig, Precision
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_trainer.storage.files import read_json

PUBLISH_STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attempts.json", ()),
    ("merged", ()),
    ("parity-merge.json", ()),
    ("adapter", ()),
    ("base", ("export",)),
    ("base_nf4", ()),
    ("onnx", ("export",)),
    ("export.log", ("export",)),
    ("export-*.json", ("export",)),
    ("kv-cache.safetensors", ("export",)),
    ("evaluation*.json", ("evaluation",)),
    ("predictions*.jsonl", ("evaluation",)),
    ("reference", ("evaluation", "parity")),
    ("parity-*.json", ("evaluation", "export", "parity")),
    ("layers-*.json", ("export",)),
    ("served-*.json", ("evaluation", "export")),
)
"""The files of each step of publish, and the parts of `publish_parts` that it depends on in addition to the training.

When the spec changes, files with other names are removed, such as the gates' results and the artifact.
"""


def stage_inputs(stage: Stage, config: JobConfig, work: WorkFolder) -> str:
    """Return the digest of everything that a stage's result depends on.

    Raises:
        StageError: INTERNAL_ERROR: an earlier stage is not complete.
    """
    omitted = () if stage is Stage.PUBLISH else PUBLISH_FIELDS
    spec = {name: value for name, value in config.spec.to_api().items() if name not in omitted}
    return digest_of_json({"name": config.name, "spec": spec, "before": _earlier_markers(stage, work)})


def publish_parts(config: JobConfig, work: WorkFolder) -> dict[str, str]:
    """Return the digest of each part of the spec that steps of publish depend on."""
    spec = config.spec.to_api()
    training = {name: value for name, value in spec.items() if name not in PUBLISH_FIELDS}
    # The precision is the name of an export's folder; gates and mergeWeights only decide what is published.
    export = {name: value for name, value in spec["export"].items() if name not in _NOT_EXPORTER}
    if config.spec.export.kv_cache is not None:  # an int4 model is made for single answers where int8 computes prompts
        export["int8Beside"] = Precision.INT8 in config.spec.precisions
    beside = {"adapterOnly": True} if config.spec.export.adapter_only else {}
    return {
        "training": digest_of_json(
            {"name": config.name, "spec": training, "before": _earlier_markers(Stage.PUBLISH, work)}
        ),
        # What is evaluated is the merged model, or the adapter beside its base.
        "evaluation": digest_of_json({**config.spec.evaluation.result_fields, **beside}),
        "export": digest_of_json(export),
        "parity": digest_of_json(spec["export"]["parity"]),
    }


_NOT_EXPORTER = ("precisions", "mergeWeights", "parity")


def discard_outdated(stage: Stage, work: WorkFolder, inputs: str, parts: Mapping[str, str]) -> None:
    """Remove what an earlier attempt of a stage left, as far as it depends on other inputs.

    Args:
        stage: The stage.
        work: The work folder.
        inputs: The stage's inputs now.
        parts: `publish_parts` now, for publish; empty for the other stages, which are removed as a whole.
    """
    folder = work.stage(stage)
    before: dict[str, Any] = read_json(folder / STAGE_INPUTS) or {}
    if not folder.exists() or before.get("inputs") == inputs:
        return
    parts_before: Mapping[str, str] = before.get("parts") or {}
    changed = {name for name, digest in parts.items() if parts_before.get(name) != digest}
    if not parts or "training" in changed:
        shutil.rmtree(folder)
        return
    work.stage_marker(stage).unlink(missing_ok=True)  # first: the stage is not complete any more
    for path in folder.iterdir():
        if not _is_current(path.name, changed):
            _remove(path)


def _is_current(name: str, changed: set[str]) -> bool:
    """Return whether a file or folder of the publish stage depends on nothing that has changed."""
    needs = next((parts for pattern, parts in PUBLISH_STEPS if fnmatch(name, pattern)), None)
    return needs is not None and not changed.intersection(needs)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _earlier_markers(stage: Stage, work: WorkFolder) -> dict[str, str]:
    """Return the digests of the markers of the stages before a stage."""
    markers = {}
    for earlier in list(Stage)[: list(Stage).index(stage)]:
        marker = read_json(work.stage_marker(earlier))
        if marker is None:
            raise StageError(
                Reason.INTERNAL_ERROR, f"{earlier.value} is not complete", f"Run the {earlier.value} stage first"
            )
        markers[earlier.value] = digest_of_json(marker)
    return markers
