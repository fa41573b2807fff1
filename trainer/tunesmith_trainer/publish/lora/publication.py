"""A job that publishes its adapter alone, beside a base model that other jobs share."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import ADAPTER, FORMAT_VERSION, LORA_BASE, onnx_folder
from tunesmith_api.spec import JobConfig, Precision
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.publish.artifact import assemble, package_versions
from tunesmith_trainer.publish.deliver import output_uri
from tunesmith_trainer.publish.lora.base_artifact import obtain_base
from tunesmith_trainer.publish.lora.checks import AdapterChecks
from tunesmith_trainer.publish.lora.models import AdapterModels
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.publish.publication import Publication
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.storage.lora_base import BaseIdentity, base_uri, relative_uri
from tunesmith_trainer.tasks.base import ModelExporter
from tunesmith_trainer.tasks.registry import task_for


class AdapterBesideBase(Publication):
    """The adapter; its base is exported if no other job has done so."""

    checks: AdapterChecks

    def __init__(self, config: JobConfig, work: WorkFolder, base: Path, progress: Progress) -> None:
        self._config = config
        self._work = work
        self._folder = work.stage(Stage.PUBLISH)
        self._progress = progress
        self._task = task_for(config.spec)
        self._base: tuple[str, Path, dict[str, Any]] | None = None
        self.models = AdapterModels(config, work, base, progress)
        self.checks = AdapterChecks(config, self._folder, lambda: self.models.data, progress)

    def start(self, stack: ExitStack) -> None:
        """Start nothing: the base may be there already."""

    def export(self, stack: ExitStack) -> None:
        """Find the base, or export and write it."""
        identity = self._identity()
        uri = base_uri(self._config.spec.export.base_uri, output_uri(self._config, self._work), identity)
        self._progress.step(f"looking for the base model in {uri}")

        def make() -> Path:
            return self._make(identity)

        folder, manifest = obtain_base(uri, identity, self._folder / "base", make, self._progress.step)
        self._base = uri, folder, manifest

    def exports(self) -> AbstractContextManager[None]:
        """Return a context within which the base can be checked with the adapter."""
        _, folder, _ = self._found()
        return self.checks.beside(folder, self._work)

    def merge_numbers(self, as_trained: Mapping[str, Any]) -> dict[str, Any]:
        """Return the perplexities beside quantized weights and beside the dequantized ones; nothing else is merged."""
        names = {"trainedPerplexity": "trainedPerplexity", "mergedPerplexity": "servedPerplexity"}
        return {"base": {names[name]: value for name, value in as_trained.items()}} if as_trained else {}

    def parts(self) -> dict[str, Path]:
        """Return nothing besides the adapter, which is the method's part."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return the kind of the artifact, and its base."""
        uri, _, manifest = self._found()
        place = relative_uri(uri, output_uri(self._config, self._work))
        return {
            "kind": ADAPTER,
            "base": {"uri": place, "digest": manifest["digest"], "precisions": manifest["precisions"]},
            "chatTemplate": manifest["chatTemplate"],
        }

    def _found(self) -> tuple[str, Path, dict[str, Any]]:
        """Return the base's place, a folder with it on this machine, and its manifest."""
        if self._base is None:
            raise RuntimeError("the base is not there yet")
        return self._base

    def _identity(self) -> BaseIdentity:
        quantization = read_json(self._work.final / "quantization.json") or {}
        template = self.models.tokenizer.chat_template
        return BaseIdentity.of(self._config, self._model(), template, quantization.get("digest"))

    def _model(self) -> dict[str, Any]:
        return dict((read_json(self._work.stage_marker(Stage.PREPARE)) or {}).get("model", {}))

    def _make(self, identity: BaseIdentity) -> Path:
        """Export the base in every precision, and return the folder of its artifact."""
        folder, model = self._folder / "base", self.models.exported_folder()
        self.models.release()
        exports = {precision: folder / "onnx" / precision.value for precision in self._config.spec.precisions}
        missing = [precision for precision, exported in exports.items() if not exported.is_dir()]
        if missing:
            with self._task.exporter(folder / "export.log", self._config.spec, {}) as exporter:
                for precision in missing:
                    self._export(exporter, model, exports[precision], precision)
        layers = {p.value: read_json(folder / f"layers-{p.value}.json") for p in exports}
        about = self._model()
        description = {
            "formatVersion": FORMAT_VERSION,
            "kind": LORA_BASE,
            "name": identity.folder_name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "baseModel": {key: about.get(key) for key in ("uri", "revision", "digest", "architecture")},
            "quantization": identity.quantization,
            "task": self._config.spec.task,
            "precisions": list(identity.precisions),
            "chatTemplate": identity.chat_template,
            "parity": {"layers": layers},
            "versions": package_versions(),
        }
        artifact = folder / "artifact"
        assemble(artifact, {onnx_folder(p.value): exported for p, exported in exports.items()}, description)
        return artifact

    def _export(self, exporter: ModelExporter, model: Path, exported: Path, precision: Precision) -> None:
        """Export the base in a precision, compare its layers with torch, and let it take adapters."""
        from tunesmith_trainer.export.lora.graph import add_lora_inputs
        from tunesmith_trainer.export.lora.modules import modules_of

        plain = exported.parent.with_name("plain") / precision.value
        shutil.rmtree(plain, ignore_errors=True)
        self._progress.step(f"exporting the base model in {precision.value}")
        exporter.export(model, plain, precision)
        self._progress.step(f"checking the layers of {precision.value}")
        numbers = self._task.compare_layers(plain, model, precision, self.models.data)
        write_json(exported.parent.with_name(f"layers-{precision.value}.json"), numbers)
        add_lora_inputs(plain, modules_of(model))
        exported.parent.mkdir(exist_ok=True)
        plain.replace(exported)
