"""What a task is to the stages. They name no model class, metric or format themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunesmith_api.spec import DatasetFormat, ParitySpec, Precision, TrainingJobSpec
from tunesmith_api.tasks import TASKS, TaskInfo
from tunesmith_trainer.data.token_store import TokenStore

Numbers = Mapping[str, float | int | None]


class ModelExporter(Protocol):
    """Exports models while its context is entered."""

    def export(self, model: Path, folder: Path, precision: Precision) -> None:
        """Write a model in the transformers layout to a folder as ONNX; the folder is whole or absent."""


@dataclass(frozen=True)
class ValidationSet:
    """What a model is evaluated on.

    Attributes:
        store: The validation rows.
        questions: Prompts with their references, made from these rows; may be empty.
        tokenizer: The model's tokenizer.
    """

    store: TokenStore
    questions: Sequence[Any]
    tokenizer: Any


class Task(ABC):
    """A task. Its modules import torch only when they are called.

    Attributes:
        name: Value of `spec.task`.
        adapter_task_type: The task's name in peft; None if it has none.
    """

    name: str
    adapter_task_type: str | None = None

    @property
    def info(self) -> TaskInfo:
        """The facts about it."""
        return TASKS[self.name]

    @property
    @abstractmethod
    def architectures(self) -> Collection[str]:
        """The architectures that it can train and export, by their class names in transformers."""

    @abstractmethod
    def needs_chat_template(self, data_format: DatasetFormat) -> bool:
        """Return whether rows of a format are rendered with a chat template."""

    @abstractmethod
    def encoder(self, tokenizer: Any, spec: TrainingJobSpec) -> Any:  # noqa: ANN401
        """Return what turns rows into tokens and masks; see `data.encode.Encoder`."""

    @abstractmethod
    def load_base(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model to train, on the CPU.

        Args:
            folder: The base model in the transformers layout.
            dtype: Number format of its weights, as torch names it.
        """

    @abstractmethod
    def load_model(self, folder: Path) -> Any:  # noqa: ANN401
        """Return a model in fp32, ready for inference."""

    @abstractmethod
    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return what makes a batch of rows: a mapping with the model's inputs and `labels`.

        Args:
            model: The model that is trained.
            multiple: Lengths are rounded up to a multiple of this.
        """

    @abstractmethod
    def loss_sum(self, outputs: Any, labels: Any) -> Any:  # noqa: ANN401
        """Return the loss of a batch, summed over its targets, float32 []."""

    @abstractmethod
    def target_count(self, labels: Any) -> Any:  # noqa: ANN401
        """Return the number of targets of a batch, int64 []."""

    @abstractmethod
    def evaluate(
        self,
        model: Any,  # noqa: ANN401
        data: ValidationSet,
        spec: TrainingJobSpec,
        *,
        rows: int,
        shown: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        """Measure a model.

        Args:
            model: The model.
            data: What it is measured on.
            spec: The job.
            rows: How many of the first rows are used.
            shown: How many of the first answers are returned.
            advance: Told how many rows or questions are newly done, `rows + len(questions)` in all.

        Returns:
            `{metrics: {name: number or None}, answers: [...]}`.
        """

    @abstractmethod
    def check_configuration(self, config: Mapping[str, Any], name: str) -> None:
        """Fail if a base model's configuration cannot be exported. Called before training.

        Args:
            config: The configuration as transformers writes it, defaults included.
            name: The model's name in messages.

        Raises:
            StageError: INVALID_MODEL.
        """

    @abstractmethod
    def check_exportable(self, config: Mapping[str, Any]) -> None:
        """Fail if a model cannot be exported.

        Args:
            config: The model's config.json.

        Raises:
            StageError: EXPORT_FAILED.
        """

    @abstractmethod
    def exporter(self, log_file: Path) -> AbstractContextManager[ModelExporter]:
        """Return what exports models; what it prints goes to a file."""

    @abstractmethod
    def compare(self, exported: Path, model: Any, data: ValidationSet, bounds: ParitySpec) -> Numbers:  # noqa: ANN401
        """Compare an export with the torch model that it was made from, and return the differences."""

    @abstractmethod
    def require_parity(self, precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
        """Fail if the differences are out of bounds.

        Raises:
            StageError: EXPORT_FAILED.
        """
