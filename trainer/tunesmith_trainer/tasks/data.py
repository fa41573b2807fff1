"""The part of a task's interface that `prepare` uses: its rows, their targets, and the model that learns them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.spec import DatasetFormat, TrainingJobSpec
from tunesmith_api.tasks import TASKS, TaskInfo
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.formats import FORMATS, Formats
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.models.weights_check import Architecture


class TaskData(ABC):
    """What rows become, and what model learns from them.

    Attributes:
        name: Value of `spec.task`.
    """

    name: str

    @property
    def info(self) -> TaskInfo:
        """The task's entry in the API's registry."""
        return TASKS[self.name]

    def formats(self, spec: TrainingJobSpec) -> Formats:
        """Return the formats of its rows, in the order in which they are tried."""
        return FORMATS

    def targets(self, spec: TrainingJobSpec) -> Targets:
        """Return what looks at the targets of all rows before any is tokenised."""
        return Targets()

    def check_gates(self, spec: TrainingJobSpec, facts: Facts) -> None:  # noqa: B027 - a task may leave it
        """Fail if a gate is on a metric that these rows cannot have.

        Args:
            spec: The job.
            facts: What `targets` has found.

        Raises:
            StageError: INVALID_SPEC, with what to write instead.
        """

    def settled_facts(
        self,
        facts: Facts,
        config: Mapping[str, Any],
        tokenizer: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
    ) -> Facts:
        """Return the facts with what depends on the base model, for the encoder and everything after it.

        Args:
            facts: What `targets` has found.
            config: The base model's configuration as transformers writes it, defaults included.
            tokenizer: The model's tokenizer.
            spec: The job.
        """
        return facts

    def needs_chat_template(self, data_format: DatasetFormat) -> bool:
        """Return whether rows of a format are rendered with a chat template."""
        return False

    @abstractmethod
    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> Any:  # noqa: ANN401
        """Return the encoder from rows to tokens, masks and targets; see `data.encode.Encoder`.

        Args:
            tokenizer: The model's tokenizer.
            spec: The job.
            facts: What `targets` has found.
        """

    def evaluation_line(self, encoder: Any, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the line of evaluation.jsonl for an encoded validation row, or None if it has none.

        It holds what a server is asked about the row and what it should answer, for `read_prompts`.

        Args:
            encoder: The encoder that made it.
            piece: The encoded row.
            index: Its index in the store.
            is_first_piece: Whether it is the beginning of its row, and not a later piece of a long text.
        """
        return None

    def read_prompts(self, path: Path, limit: int) -> list[Any]:
        """Return what is asked of models besides the rows of the store, from the first lines of evaluation.jsonl."""
        return []

    def stored_class(self, config: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Return the class of transformers whose tensors a base model's files hold.

        Args:
            config: The base model's config.json.
        """
        import transformers

        return getattr(transformers, config["architectures"][0])

    def linear_layers(self, folder: Path, architecture: Architecture, facts: Facts) -> Mapping[str, tuple[int, int]]:
        """Return inputs and outputs of the linear layers that can have an adapter, by their full names in training.

        Args:
            folder: The base model; its weights may still be coming.
            architecture: The base model as its files describe it.
            facts: What `targets` has found.
        """
        return architecture.linears

    def complete_model(self, folder: Path, target: Path, facts: Facts, spec: TrainingJobSpec) -> Path:
        """Return the folder of the model that is trained: the base model's, or one that is written with a new head.

        Called at the end of `prepare`. From there on this is the base model for everything, "before" included.

        Args:
            folder: The base model, complete.
            target: A folder that it can write; see `models.heads.with_head`.
            facts: What `targets` has found.
            spec: The job.
        """
        return folder
