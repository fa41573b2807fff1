"""The models and rows that the steps of publish need."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.rendering_time import read_rendering_time
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.validation import evaluation_file, evaluation_rows
from tunesmith_trainer.methods.base import MergeInputs
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.memory import give_back
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.registry import task_for

_CHECKED_ROWS = 4  # rows on which merged and adapted logits are compared


class Models:
    """The models and rows that the steps need; each is loaded on first use, and once."""

    def __init__(self, config: JobConfig, work: WorkFolder, base: Path, progress: Progress) -> None:
        """Load nothing yet.

        Args:
            config: The job.
            work: Its work folder.
            base: Folder of the base model.
            progress: Where progress is shown.
        """
        self.config = config
        self.work = work
        self.base_folder = base
        self.progress = progress
        self.task = task_for(config.spec)
        self._model: tuple[Path, Any] | None = None
        self._merged_folder = work.stage(Stage.PUBLISH) / "merged"
        self._merge_file = work.stage(Stage.PUBLISH) / "parity-merge.json"

    @cached_property
    def tokenizer(self) -> Any:  # noqa: ANN401 - a transformers tokenizer
        """The base model's tokenizer."""
        return load_tokenizer(self.base_folder)

    @cached_property
    def validation(self) -> TokenStore:
        """The validation rows; the training rows if none were held out."""
        return evaluation_rows(self.work)

    @cached_property
    def prompts(self) -> list[Any]:
        """The first validation prompts with their references."""
        return self.task.read_prompts(evaluation_file(self.work), self.config.spec.evaluation.max_rows)

    @cached_property
    def data(self) -> ValidationSet:
        """The data that models are evaluated on."""
        from tunesmith_trainer.evaluate.prompts import read_requests
        from tunesmith_trainer.export.rendering import MAX_ROWS

        path = evaluation_file(self.work)
        requests = read_requests(path, MAX_ROWS)
        return ValidationSet(self.validation, self.prompts, self.tokenizer, requests, read_rendering_time(path.parent))

    def release(self) -> None:
        """Give the memory of the models back; they are loaded again if they are needed."""
        self._model = None
        give_back()

    def base(self) -> Any:  # noqa: ANN401
        """Return the base model."""
        return self._load(self.base_folder)

    def tuned(self) -> Any:  # noqa: ANN401
        """Return the tuned model."""
        return self._load(self.exported_folder())

    def as_trained(self) -> Any:  # noqa: ANN401
        """Return the tuned model beside quantized weights. No other one is in memory beside it."""
        self.release()
        dtype = (read_json(self._merged_folder.with_name("evaluation-after.json")) or {}).get("computedIn", "float32")
        method, load = method_of(self.config.spec.method), self.task.load_quantized
        return method.as_trained(self.work.final, self.base_folder, load, dtype)

    def _load(self, folder: Path) -> Any:  # noqa: ANN401
        """Return the model in a folder. No other one is in memory beside it."""
        if self._model is None or self._model[0] != folder:
            self.release()
            self._model = folder, self.task.load_model(folder)
        return self._model[1]

    @property
    def merge_inputs(self) -> MergeInputs:
        """What the method needs to merge the weights that it has trained."""
        return MergeInputs(
            self.config.spec.adapter_settings,
            self.base_folder,
            self.task.load_model,
            lambda model: self.task.compared_outputs(model, self.validation, _CHECKED_ROWS),
            self.progress.step,
            self.task.load_quantized,
            self.task.head_modules,
        )

    def exported_folder(self) -> Path:
        """Return the folder of the model that is exported: the tuned one, merged; created if it does not exist."""
        if not self._merged_folder.is_dir():
            self.release()
            temporary = self._merged_folder.with_name(f".merged.{os.getpid()}.tmp")
            numbers = method_of(self.config.spec.method).write_tuned(self.work.final, temporary, self.merge_inputs)
            write_json(self._merge_file, numbers)
            self.tokenizer.save_pretrained(temporary)
            temporary.replace(self._merged_folder)
        return self._merged_folder

    def merge_numbers(self) -> dict[str, Any]:
        """Return what merging has changed besides; empty if nothing was merged."""
        return read_json(self._merge_file) or {}
