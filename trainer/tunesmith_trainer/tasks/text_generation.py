"""Text generation: a causal language model learns to continue texts and to answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tunesmith_api.choices.speed import PackingFacts, bucket
from tunesmith_api.local.imports import importing
from tunesmith_api.spec import DatasetFormat, ParitySpec, Precision, TrainingJobSpec
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.evaluation_rows import evaluation_line
from tunesmith_trainer.data.targets import Facts
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.prompts import read_prompts
from tunesmith_trainer.evaluate.validation import EXAMPLES
from tunesmith_trainer.export.architectures import EXPORTABLE, export_options
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.expressible import find_problem
from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.tasks.base import ModelExporter, Numbers, Task, ValidationSet


def whole_answers(spec: TrainingJobSpec, data: ValidationSet, examples: int) -> int:
    """Return the number of answers, from the first, that are generated to their end: all if a gate needs that."""
    return len(data.prompts) if spec.evaluation.needs_whole_answers else examples


class TextGeneration(Task):
    """Trains causal language models of transformers; exports them with the model builder of onnxruntime-genai."""

    name = "textGeneration"
    adapter_task_type = "CAUSAL_LM"
    has_replay = True

    @property
    def architectures(self) -> Collection[str]:
        """The architectures that the model builder exports correctly."""
        return EXPORTABLE

    def needs_chat_template(self, data_format: DatasetFormat) -> bool:
        """Return whether the rows are conversations."""
        return data_format is not DatasetFormat.TEXT

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> Any:  # noqa: ANN401
        """Return the encoder of conversations and texts."""
        from tunesmith_trainer.data.encode import Encoder

        return Encoder(tokenizer, spec.training.max_length, spec.training.loss_on)

    def evaluation_line(self, encoder: Any, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the request before the last answer, and that answer."""
        return evaluation_line(encoder, piece, index, is_first_piece)

    def read_prompts(self, path: Path, limit: int) -> list[Any]:
        """Return the first prompts with an expected answer."""
        return list(read_prompts(path, limit))

    def load_base(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the causal language model in a folder, on the CPU."""
        from tunesmith_trainer.models.loading import load_weights

        return load_weights(folder, dtype)

    def load_quantized(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the causal language model in a folder, on the CPU, with the weights of its linear layers in nf4."""
        from tunesmith_trainer.models.nf4_loading import load_quantized

        return load_quantized(folder, dtype)

    def load_model(self, folder: Path) -> Any:  # noqa: ANN401
        """Return the causal language model in a folder, ready for inference."""
        with importing():
            from tunesmith_trainer.models.loading import load_model

        return load_model(folder)

    def compared_outputs(self, model: Any, store: TokenStore, rows: int) -> Sequence[Any]:  # noqa: ANN401
        """Return logits of the rows."""
        from tunesmith_trainer.evaluate.logits import compared_logits

        return compared_logits(model, [store[i][0].tolist() for i in range(min(rows, len(store)))])

    def packing_facts(self, base: Path, longest: int) -> PackingFacts:
        """Return whether the model's positions and attention allow it."""
        from transformers import AutoConfig

        from tunesmith_trainer.models.packed_attention import packing_facts

        return packing_facts(AutoConfig.from_pretrained(base, local_files_only=True).to_dict(), longest)

    def make_fast(self, model: Any, *, packing: bool) -> None:  # noqa: ANN401
        """Let the model compute its loss in chunks, and attend within the rows of packs."""
        from tunesmith_trainer.models.chunked_loss import can_compute_loss, compute_loss_in_forward
        from tunesmith_trainer.models.packed_attention import use_packed_attention

        if can_compute_loss(model):
            compute_loss_in_forward(model)
        if packing:
            use_packed_attention(model)

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator; it asks for the logits of target positions only, if the model supports that."""
        from tunesmith_trainer.data.collate import Collator
        from tunesmith_trainer.models.chunked_loss import computes_loss
        from tunesmith_trainer.models.loading import takes_logits_to_keep

        return Collator(multiple, prune=takes_logits_to_keep(model), targets=computes_loss(model))

    def pack_collator(self, model: Any, *, gpu: bool) -> Any:  # noqa: ANN401
        """Return the collator; on a GPU packs are filled up to lengths that repeat."""
        from tunesmith_trainer.data.packing import PackCollator
        from tunesmith_trainer.models.chunked_loss import computes_loss

        return PackCollator(bucket if gpu else int, targets=computes_loss(model))

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
        """Return the loss on the rows, and how generated answers are beside the expected ones."""
        from tunesmith_trainer.evaluate.evaluation import evaluate
        from tunesmith_trainer.evaluate.scores import score_store

        return evaluate(
            model,
            data.tokenizer,
            score_store(model, data.store, rows, advance),
            data.prompts,
            max_new_tokens=spec.evaluation.max_new_tokens,
            examples=whole_answers(spec, data, examples),
            advance=advance,
        )

    def check_configuration(self, config: Mapping[str, Any], name: str) -> None:
        """Fail if the export would not compute the same as transformers."""
        found = find_problem(config)
        if found:
            raise invalid(name, f"it cannot be exported: {found.problem}", found.remedy)

    def check_exportable(self, config: Mapping[str, Any]) -> None:
        """Fail if the model builder does not know the architecture."""
        export_options(config.get("architectures"))

    def exporter(self, log_file: Path, spec: TrainingJobSpec, facts: Facts) -> AbstractContextManager[ModelExporter]:
        """Return the model builder's process."""
        return Exporter(log_file, spec.export.int4_block_size)

    def record_reference(self, model: Any, data: ValidationSet, bounds: ParitySpec, folder: Path) -> None:  # noqa: ANN401
        """Write torch's logits of rows, of a long row and of greedy answers."""
        from tunesmith_trainer.export.reference import TorchReference

        prompts = [prompt.prompt_ids for prompt in data.prompts]
        TorchReference.record(model, data.store, prompts, bounds.rows, folder)

    def compare(self, exported: Path, reference: Path, bounds: ParitySpec) -> Numbers:
        """Compare logits, greedy answers and perplexity."""
        from tunesmith_trainer.export.onnx_runner import OnnxModel
        from tunesmith_trainer.export.parity import measure
        from tunesmith_trainer.export.reference import TorchReference

        return measure(OnnxModel(exported), TorchReference(reference), bounds.max_logit_difference)

    def require_parity(self, precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
        """Fail if the export differs too much from the torch model."""
        from tunesmith_trainer.export.bounds import require_parity

        require_parity(precision, numbers, bounds)

    def compare_layers(
        self, exported: Path, tuned: Path, precision: Precision, data: ValidationSet
    ) -> Mapping[str, float | int | str] | None:
        """Compare each weight, and what each layer computes for the first tokens of the rows."""
        from tunesmith_trainer.export.layers import check_layers

        return check_layers(exported, tuned, precision, data.store)

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens of the first rows up to their last answer with those that the server makes."""
        from tunesmith_trainer.export.rendering import compare_rendering
        from tunesmith_trainer.export.replay import replay

        answers = replay(artifact, precision, [entry.request for entry in data.requests], now=data.prepared)
        return compare_rendering(data.requests, answers, data.store, data.tokenizer)

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
        """Return the loss of the exported model, and how the server's answers are beside the expected ones."""
        from tunesmith_trainer.export.served import evaluate_served

        return evaluate_served(
            artifact,
            precision,
            data.tokenizer,
            data.store,
            data.prompts,
            rows=rows,
            max_new_tokens=spec.evaluation.max_new_tokens,
            examples=whole_answers(spec, data, EXAMPLES),
            advance=advance,
        )
