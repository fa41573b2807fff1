"""What a job publishes: the tuned model merged and exported, or an adapter beside its base (`publish.lora`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.spec import JobConfig, KvCache, Precision
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.models.memory import is_small
from tunesmith_trainer.publish.exports import is_exported, record_export, remove_export, require_current_exports
from tunesmith_trainer.publish.kv_cache import keep_in_int8
from tunesmith_trainer.publish.models import Models
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.publish.served import ServedChecks
from tunesmith_trainer.storage.files import digest_of_tree, read_json
from tunesmith_trainer.tasks.base import ModelExporter
from tunesmith_trainer.tasks.registry import task_for


class Publication(ABC):
    """The models of a job, their exports and the checks of these.

    Attributes:
        models: The models.
        checks: The checks of what will be served.
    """

    models: Models
    checks: ServedChecks

    @abstractmethod
    def start(self, stack: ExitStack) -> None:
        """Start what runs in parallel with the evaluation, until the stack is closed."""

    @abstractmethod
    def export(self, stack: ExitStack) -> None:
        """Make the exports that are missing. No model is in memory."""

    def exports(self) -> AbstractContextManager[None]:
        """Return a context within which the exports can be checked."""
        return nullcontext()

    def merge_numbers(self, as_trained: Mapping[str, Any]) -> dict[str, Any]:
        """Return numbers for `parity` in the manifest, of what is done to the weights before the export.

        Args:
            as_trained: The perplexities of `publish.as_trained.compared`, if the base weights were quantized.
        """
        merge = self.models.merge_numbers()
        return {"merge": {**merge, **as_trained}} if merge else {}

    @abstractmethod
    def parts(self) -> dict[str, Path]:
        """Return the exports and the tuned weights, by their places in the artifact."""

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says besides."""
        return {}


class MergedModel(Publication):
    """The tuned model, merged and exported."""

    def __init__(self, config: JobConfig, work: WorkFolder, base: Path, progress: Progress) -> None:
        self._config = config
        self._folder = work.stage(Stage.PUBLISH)
        self._base = base
        self._progress = progress
        self._missing = [p for p in config.spec.precisions if not is_exported(self._folder, p)]
        facts = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("data", {}).get("facts", {})
        task = task_for(config.spec)
        self._exporter = task.exporter(self._folder / "export.log", config.spec, facts) if self._missing else None
        self._running: ModelExporter | None = None
        self.models = Models(config, work, base, progress)
        self.checks = ServedChecks(config, self._folder, lambda: self.models.data, progress)

    def start(self, stack: ExitStack) -> None:
        """Start the exporter, if the model is small, so that its imports run in parallel with the evaluation."""
        for precision in self._missing:  # before anything counts on the results of its checks
            remove_export(self._folder, precision)
        if self._exporter and is_small(self._base):
            self._running = stack.enter_context(self._exporter)

    def export(self, stack: ExitStack) -> None:
        """Export the merged model in each precision that is missing."""
        merged = self.models.exported_folder()
        made = [precision for precision in self._config.spec.precisions if precision not in self._missing]
        model = digest_of_tree(merged) if self._config.spec.precisions else ""
        require_current_exports(self._folder, made, merged, model)
        running = self._running or (stack.enter_context(self._exporter) if self._exporter else None)
        for precision in self._missing:
            self._progress.step(f"exporting {precision.value}")
            if running:
                exported = self._folder / "onnx" / precision.value
                running.export(merged, exported, precision)
                if self._config.spec.export.kv_cache is KvCache.INT8:
                    self._progress.step(f"measuring the keys and values of {precision.value}")
                    keep_in_int8(exported, self.models.work, model, prompts=self._computes_prompts(precision))
            record_export(self._folder, precision, model)

    def _computes_prompts(self, precision: Precision) -> bool:
        """Whether an export is to be fast for prompts: beside one in int8, one in int4 computes steps of one row."""
        return precision is Precision.INT8 or Precision.INT8 not in self._config.spec.precisions

    def parts(self) -> dict[str, Path]:
        """Return the exports, and the merged model if it is wanted."""
        parts = {onnx_folder(p.value): self._folder / "onnx" / p.value for p in self._config.spec.precisions}
        if self._config.spec.export.merge_weights:
            parts["model"] = self.models.exported_folder()
        return parts
