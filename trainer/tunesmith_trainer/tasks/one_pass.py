"""What the tasks share whose model answers in one forward pass: classification, tagging, extractive answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.local.imports import importing
from tunesmith_api.spec import ParitySpec, Precision, TrainingJobSpec
from tunesmith_trainer.data.targets import Facts
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.models.families import DECODER_ARCHITECTURES, ENCODER_ARCHITECTURES
from tunesmith_trainer.models.weights_check import Architecture
from tunesmith_trainer.tasks.base import ModelExporter, Numbers, Task, ValidationSet

if TYPE_CHECKING:
    import torch

    from tunesmith_trainer.evaluate.one_pass import OutputsOf, Rows


class OnePassTask(Task):
    """A task whose model answers in one forward pass.

    A subclass says what its rows, head, loss and metrics are. All rows are padded on the right.

    Attributes:
        auto_class: The Auto class of transformers whose models have the task's head.
        output_names: The model's outputs.
        per_token: Whether these have a value for each token, [batch, sequence, ...], and not one for the row.
        takes_decoders: Whether the task can be learnt by models whose tokens attend only to those before them.
    """

    auto_class: str
    output_names: tuple[str, ...] = ("logits",)
    per_token: bool = False
    takes_decoders: bool = False

    @abstractmethod
    def head_settings(self, facts: Facts) -> dict[str, Any]:
        """Return the fields of config.json that belong to the head.

        They are `id2label`, `label2id` and `problem_type` as far as the task has them. As in JSON, all keys are texts;
        transformers makes numbers of them.

        Args:
            facts: What `targets` has found.
        """

    def served_settings(self, spec: TrainingJobSpec, facts: Facts) -> dict[str, Any]:
        """Return the content of an export's task.json: what a server must know besides the model and the tokenizer.

        Args:
            spec: The job.
            facts: What `targets` has found.
        """
        return {"task": self.name, "maxLength": self.longest_row(spec, facts)}

    def settled_facts(
        self,
        facts: Facts,
        config: Mapping[str, Any],
        tokenizer: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
    ) -> Facts:
        """Return the facts with `maxLength`, the longest row in tokens that the model takes and the job allows."""
        from tunesmith_trainer.models.context import served_positions

        limits = (spec.training.max_length, tokenizer.model_max_length, served_positions(config))
        return {**facts, "maxLength": min(limit for limit in limits if limit)}

    def longest_row(self, spec: TrainingJobSpec, facts: Facts) -> int:
        """Return the longest row in tokens.

        Args:
            spec: The job.
            facts: What `settled_facts` has returned.
        """
        return int(facts.get("maxLength", spec.training.max_length))

    def token_types(self, ids: Sequence[int], config: Any) -> list[int]:  # noqa: ANN401
        """Return the type of each token of a row, for models that tell a second text from the first.

        Args:
            ids: Token ids.
            config: The model's configuration.
        """
        return [0] * len(ids)

    def inputs(self, rows: Rows, config: Any, multiple: int = 1) -> dict[str, torch.Tensor]:  # noqa: ANN401
        """Return a model's inputs for rows, padded on the right, int64 [rows, width].

        Args:
            rows: Token ids of each row.
            config: The model's configuration.
            multiple: The width is a multiple of this.

        Returns:
            `input_ids`, `attention_mask`, and `token_type_ids` if the model has more than one type.
        """
        from tunesmith_trainer.evaluate.one_pass import padded_inputs, padded_rows

        pad = getattr(config, "pad_token_id", None) or 0
        found = padded_inputs(rows, pad, multiple=multiple)
        if getattr(config, "type_vocab_size", 0) > 1:
            types = [self.token_types(row, config) for row in rows]
            found["token_type_ids"] = padded_rows(types, 0, found["input_ids"].shape[1])
        return found

    @property
    def architectures(self) -> Collection[str]:
        """The families whose exports are checked, with any head or none."""
        return (*ENCODER_ARCHITECTURES, *(DECODER_ARCHITECTURES if self.takes_decoders else ()))

    @property
    def model_class(self) -> Any:  # noqa: ANN401
        """The Auto class of transformers."""
        with importing():
            import transformers

        return getattr(transformers, self.auto_class)

    def load_base(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model with its head, on the CPU."""
        with importing():
            from tunesmith_trainer.models.last_token import pool_last_token
            from tunesmith_trainer.models.loading import load_weights

        return pool_last_token(load_weights(folder, dtype, model_class=self.model_class))

    def load_quantized(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model with its head, on the CPU, with the weights of its linear layers in nf4."""
        with importing():
            from tunesmith_trainer.models.last_token import pool_last_token
            from tunesmith_trainer.models.nf4_loading import load_quantized

        return pool_last_token(load_quantized(folder, dtype, self.model_class, self.head_modules))

    def load_model(self, folder: Path) -> Any:  # noqa: ANN401
        """Return the model with its head, ready for inference."""
        with importing():
            from tunesmith_trainer.models.last_token import pool_last_token
            from tunesmith_trainer.models.loading import load_model

        return pool_last_token(load_model(folder, self.model_class))

    def compared_outputs(self, model: Any, store: TokenStore, rows: int) -> Sequence[Any]:  # noqa: ANN401
        """Return the outputs of the rows."""
        from tunesmith_trainer.evaluate.one_pass import outputs_of

        chosen = [store[i][0].tolist() for i in range(min(rows, len(store)))]
        inputs = partial(self.inputs, config=model.config)
        found = dict(outputs_of(model, chosen, inputs, self.output_names, per_token=self.per_token))
        return [array for index in sorted(found) for array in found[index]]

    def outputs_of(self, model: Any) -> OutputsOf:  # noqa: ANN401
        """Return the function that returns what a model computes for rows."""
        from tunesmith_trainer.evaluate.one_pass import outputs_of

        inputs = partial(self.inputs, config=model.config)
        return lambda rows: outputs_of(model, rows, inputs, self.output_names, per_token=self.per_token)

    def served_outputs_of(self, artifact: Path, precision: Precision) -> OutputsOf:
        """Return the function that returns what an exported model computes for rows.

        Args:
            artifact: An artifact folder with the export.
            precision: The export.
        """
        from tunesmith_trainer.export.one_pass.served import onnx_outputs

        return lambda rows: onnx_outputs(
            artifact, precision, rows, self.inputs, self.output_names, per_token=self.per_token
        )

    def linear_layers(self, folder: Path, architecture: Architecture, facts: Facts) -> Mapping[str, tuple[int, int]]:
        """Return the linear layers of the model with the task's head, but for the head's."""
        with importing():
            from tunesmith_trainer.models.heads import empty_model, head_modules
            from tunesmith_trainer.models.linears import linear_layers

        model = empty_model(folder, self.model_class, self.head_settings(facts))
        return linear_layers(model, head_modules(model))

    def head_modules(self, model: Any) -> Sequence[str]:  # noqa: ANN401
        """Return the names of the modules of the head, and of the pooler."""
        from tunesmith_trainer.models.heads import head_modules

        return head_modules(model)

    def complete_model(self, folder: Path, target: Path, facts: Facts, spec: TrainingJobSpec) -> Path:
        """Return the folder of the model with the task's head, and with a token for padding."""
        with importing():
            from tunesmith_trainer.models.heads import empty_model, head_modules, with_head
            from tunesmith_trainer.models.tokenizer import padding_token

        settings = {**self.head_settings(facts), "pad_token_id": padding_token(folder)}
        heads = {name.rsplit(".", 1)[-1] for name in head_modules(empty_model(folder, self.model_class, settings))}
        return with_head(folder, target, self.model_class, settings, heads, spec.training.seed)

    def check_configuration(self, config: Mapping[str, Any], name: str) -> None:
        """Fail if the export would not compute the same as transformers."""
        from tunesmith_trainer.export.one_pass.expressible import require_expressible

        require_expressible(config, name)

    def check_exportable(self, config: Mapping[str, Any]) -> None:
        """Do nothing: what cannot be exported was refused with its configuration."""

    def exporter(self, log_file: Path, spec: TrainingJobSpec, facts: Facts) -> AbstractContextManager[ModelExporter]:
        """Return what exports by torch.onnx."""
        from tunesmith_trainer.export.one_pass.exporter import OnePassExporter

        settings = self.served_settings(spec, facts)
        return nullcontext(OnePassExporter(self.model_class, self.output_names, self.per_token, settings))

    def record_reference(self, model: Any, data: ValidationSet, bounds: ParitySpec, folder: Path) -> None:  # noqa: ANN401
        """Write torch's outputs of rows, each computed alone."""
        from tunesmith_trainer.export.one_pass.reference import TorchReference

        inputs = partial(self.inputs, config=model.config)
        TorchReference.record(
            model, data.store, bounds.rows, inputs, self.output_names, folder, per_token=self.per_token
        )

    def compare(self, exported: Path, reference: Path, bounds: ParitySpec) -> Numbers:
        """Compare outputs and predictions, of rows alone and in padded batches."""
        from tunesmith_trainer.export.one_pass.parity import measure
        from tunesmith_trainer.export.one_pass.reference import TorchReference
        from tunesmith_trainer.export.one_pass.runner import OnnxModel

        return measure(OnnxModel(exported), TorchReference(reference), bounds.rows)

    def require_parity(self, precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
        """Fail if the outputs in fp32, or the predictions in another precision, differ too much."""
        from tunesmith_trainer.export.one_pass.parity import require_parity

        require_parity(precision, numbers, bounds)
