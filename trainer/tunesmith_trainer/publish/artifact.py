"""Assembles the artifact folder from the results of the steps; the manifest is written last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import FORMAT_VERSION, MANIFEST, artifact_digest
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.files import link_tree, read_json, sha256_tree, write_json

_PACKAGES = (
    "tunesmith",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "onnxruntime",
    "onnxruntime-genai",
)


def assemble(folder: Path, parts: Mapping[str, Path], description: Mapping[str, Any]) -> dict[str, Any]:
    """Create the artifact folder.

    Files are hard links where the file system supports them, so that nothing is stored twice.

    Args:
        folder: The folder to create; leftovers of an interrupted call are replaced.
        parts: The file or folder of each part, by its path in the artifact.
        description: The manifest without its files and digest (see `describe`).

    Returns:
        The manifest.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name, source in parts.items():
        link_tree(source, folder / name)
    files = sha256_tree(folder)
    manifest = {**description, "files": files, "digest": artifact_digest(files)}
    write_json(folder / MANIFEST, manifest)
    return manifest


def describe(
    config: JobConfig,
    prepared: Mapping[str, Any],
    trained: Mapping[str, Any],
    timings: Mapping[str, Any],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest without its files and digest.

    Args:
        config: The job.
        prepared: The marker of the prepare stage.
        trained: The marker of the train stage.
        timings: train/metrics.json.
        results: `metrics`, `gates`, `parity`, and what was `measured` of each stage.
    """
    model = prepared.get("model", {})
    training = {name: value for name, value in trained.items() if name not in ("inputs", "resolved", "versions")}
    return {
        "formatVersion": FORMAT_VERSION,
        "name": config.name,
        "namespace": config.namespace,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "baseModel": {key: model.get(key) for key in ("uri", "revision", "digest", "architecture")},
        "data": dict(prepared.get("data", {})),
        "task": config.spec.task,
        "method": config.spec.method,
        "config": config.spec.to_api(),
        "resolved": dict(trained.get("resolved", {})),
        "plan": dict(prepared.get("plan", {})),
        "training": {**timings, **training},
        **results,
        "precisions": sorted(precision.value for precision in config.spec.precisions),
        "versions": {**trained.get("versions", {}), **package_versions()},
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def base_source(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Return the base model's URI and revision."""
    model = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("model", {})
    return {"uri": config.spec.model.uri, "revision": model.get("revision")}
