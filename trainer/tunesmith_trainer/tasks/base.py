"""The interface of a task. The stages use it, and name no model class, metric or data format themselves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunesmith_api.spec import ParitySpec, Precision, TrainingJobSpec
from tunesmith_trainer.data.targets import Facts
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.tasks.data import TaskData
from tunesmith_trainer.tasks.shown import ShownEvaluation
from tunesmith_trainer.tasks.training import TaskTraining

Numbers = Mapping[str, float | int | None]


class ModelExporter(Protocol):
    """Exports models; used within its context."""

    def export(self, model: Path, folder: Path, precision: Precision) -> None:
        """Export a model in the transformers layout to a folder as ONNX; the folder is complete or absent."""


@dataclass(frozen=True)
class ValidationSet:
    """The data that a model is evaluated on.

    Attributes:
        store: The validation rows.
        prompts: Prompts with their references, made from these rows; may be empty.
        tokenizer: The model's tokenizer.
        requests: Requests made from the first rows, of which the server must make the rows' tokens; may be empty.
        prepared: When the rows were rendered, in seconds since the epoch; None if they are the same at any time.
        before: What the evaluation of the base model has left as `reference` for that of other models; None if nothing.
    """

    store: TokenStore
    prompts: Sequence[Any]
    tokenizer: Any
    requests: Sequence[Any] = ()
    prepared: float | None = None
    before: Any = None


class Task(TaskTraining, TaskData, ShownEvaluation):
    """A task. Its module imports torch only inside functions.

    Attributes:
        name: Value of `spec.task`.
        adapter_task_type: The task's name in peft; None if it has none.
        has_replay: Whether the server's code can be asked for tokens and answers, by `compare_rendering` and
            `evaluate_served`.
    """

    adapter_task_type: str | None = None
    has_replay: bool = False

    @property
    @abstractmethod
    def architectures(self) -> Collection[str]:
        """The architectures of base models that it can train and export, by class name in transformers."""

    def head_modules(self, model: Any) -> Sequence[str]:  # noqa: ANN401
        """Return the names of the modules that are trained whole beside an adapter, as peft's `modules_to_save`."""
        return ()

    @abstractmethod
    def load_base(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model to train, on the CPU.

        Args:
            folder: The base model in the transformers layout.
            dtype: Number format of its weights, as torch names it.
        """

    def load_quantized(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model to train an adapter beside, on the CPU, with the weights of its linear layers in nf4.

        Args:
            folder: The base model in the transformers layout.
            dtype: Number format of all other weights, as torch names it.
        """
        raise NotImplementedError

    @abstractmethod
    def load_model(self, folder: Path) -> Any:  # noqa: ANN401
        """Return a model, ready for inference.

        A large one keeps the number format in which its weights are stored, and computes in fp32 within
        `models.widening.in_float32`.
        """

    @abstractmethod
    def compared_outputs(self, model: Any, store: TokenStore, rows: int) -> Sequence[Any]:  # noqa: ANN401
        """Return what a model computes for a few rows, by which merged and adapted models are compared.

        Args:
            model: The model, from `load_model`, with or without an adapter beside it.
            store: Rows.
            rows: How many of them are used, from the first.

        Returns:
            float32 arrays, computed in fp32.
        """

    @abstractmethod
    def evaluate(
        self,
        model: Any,  # noqa: ANN401
        data: ValidationSet,
        spec: TrainingJobSpec,
        *,
        rows: int,
        examples: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        """Evaluate a model.

        Args:
            model: The model.
            data: The validation rows and prompts.
            spec: The job.
            rows: Number of rows, from the first, that are used.
            examples: Number of answers, from the first, that are generated to their end for people to read.
            advance: Called with the number of rows or prompts just finished; `rows + len(data.prompts)` in total.

        Returns:
            `{metrics: {name: number or None}, answers: [...]}`, and if generation of some answers stopped early, `cut`
            with true for these. There is an answer for each prompt, or none at all.
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
    def exporter(self, log_file: Path, spec: TrainingJobSpec, facts: Facts) -> AbstractContextManager[ModelExporter]:
        """Return the exporter.

        Args:
            log_file: Where its output goes.
            spec: The job.
            facts: What `targets` has found.
        """

    @abstractmethod
    def record_reference(self, model: Any, data: ValidationSet, bounds: ParitySpec, folder: Path) -> None:  # noqa: ANN401
        """Write what `compare` needs of the torch model to a folder, so that both models need not be in memory.

        Args:
            model: The tuned model.
            data: The validation rows and prompts.
            bounds: How much is compared.
            folder: The folder to create.
        """

    @abstractmethod
    def compare(self, exported: Path, reference: Path, bounds: ParitySpec) -> Numbers:
        """Compare an exported model with the torch model that it was made from, and return the differences.

        Args:
            exported: The exported model.
            reference: The folder of `record_reference`.
            bounds: How much is compared.
        """

    @abstractmethod
    def require_parity(self, precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
        """Fail if the differences are out of bounds.

        Raises:
            StageError: PARITY_FAILED.
        """

    def compare_layers(
        self, exported: Path, tuned: Path, precision: Precision, data: ValidationSet
    ) -> Mapping[str, float | int | str] | None:
        """Compare an export with the tuned model layer by layer, by bounds that are not the user's.

        Args:
            exported: The exported model.
            tuned: The tuned model in the transformers layout.
            precision: The export's precision.
            data: The validation rows.

        Returns:
            The largest differences and where they are; None if the task has no such check.

        Raises:
            StageError: PARITY_FAILED, naming the layer.
        """
        return None

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens that the server makes of requests with those of the rows.

        Args:
            artifact: An artifact folder with the export.
            precision: The export whose tokenizer and template are used.
            data: The rows and the requests made from them.

        Returns:
            How much was compared.

        Raises:
            StageError: PARITY_FAILED.
        """
        raise NotImplementedError

    def evaluate_served(
        self,
        artifact: Path,
        precision: Precision,
        data: ValidationSet,
        spec: TrainingJobSpec,
        *,
        rows: int,
        advance: Callable[[int], None],
    ) -> dict[str, Any]:
        """Evaluate an export as it is served; see `evaluate`.

        Args:
            artifact: An artifact folder with the export.
            precision: The export.
            data: The validation rows and prompts.
            spec: The job.
            rows: Number of rows, from the first, that are used.
            advance: Called with the number of rows or prompts just finished; `rows + len(data.prompts)` in total.

        Returns:
            As `evaluate`.
        """
        raise NotImplementedError
