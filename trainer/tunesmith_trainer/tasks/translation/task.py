"""Translation: a model with an encoder and a decoder learns pairs of a text and its translation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tunesmith_api.local.imports import importing
from tunesmith_api.spec import ParitySpec, Precision, TrainingJobSpec, TranslationSpec
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.formats import Formats
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.encoder_decoder.exporter import EncoderDecoderExporter
from tunesmith_trainer.models.checks import Supported, invalid
from tunesmith_trainer.models.encoder_decoder import ARCHITECTURES
from tunesmith_trainer.tasks.base import ModelExporter, Numbers, Task, ValidationSet
from tunesmith_trainer.tasks.translation import prompts, rows, targets

_CAUSAL = (
    "a causal language model learns to translate by task: textGeneration, with format: promptCompletion and "
    "columns: {prompt: translation.de, completion: translation.en}"
)


class Translation(Task):
    """Trains T5, mT5, Marian, M2M100 (NLLB) and mBART of transformers; exports them with torch.onnx."""

    name = "translation"
    has_replay = True
    adapter_task_type = "SEQ_2_SEQ_LM"

    @property
    def architectures(self) -> Collection[str]:
        """The families whose exports are checked."""
        return Supported(ARCHITECTURES, instead=_CAUSAL)

    def formats(self, spec: TrainingJobSpec) -> Formats:
        """Return the nested and the flat format of pairs."""
        return rows.formats(spec.translation or TranslationSpec())

    def targets(self, spec: TrainingJobSpec) -> Targets:
        """Return what notes the languages of the pairs."""
        return targets.PairTargets(spec.translation or TranslationSpec())

    def settled_facts(
        self,
        facts: Facts,
        config: Mapping[str, Any],
        tokenizer: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
    ) -> Facts:
        """Return the facts with the prefix of sources."""
        from tunesmith_trainer.tasks.translation.languages import settled

        return settled(facts, config, tokenizer, spec.translation or TranslationSpec())

    def encoder(self, tokenizer: Any, spec: TrainingJobSpec, facts: Facts) -> Any:  # noqa: ANN401
        """Return the encoder of pairs."""
        from tunesmith_trainer.tasks.translation.encoder import PairEncoder
        from tunesmith_trainer.tasks.translation.languages import use_languages

        use_languages(tokenizer, facts)
        return PairEncoder(tokenizer, spec.training.max_length, facts["prefix"], facts["targetLanguage"])

    def evaluation_line(self, encoder: Any, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the pair, and the tokens of its source."""
        return prompts.evaluation_line(piece, index, encoder.language)

    def read_prompts(self, path: Path, limit: int) -> list[Any]:
        """Return the first validation pairs."""
        return list(prompts.read_translation_prompts(path, limit))

    def complete_model(self, folder: Path, target: Path, facts: Facts, spec: TrainingJobSpec) -> Path:
        """Return the folder of the model, with the languages of the job if it marks texts with them."""
        from tunesmith_trainer.tasks.translation.base_model import with_languages

        return with_languages(folder, target, facts)

    def load_base(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model in a folder, on the CPU."""
        from transformers import AutoModelForSeq2SeqLM

        from tunesmith_trainer.models.loading import is_computed, load_weights

        model = load_weights(folder, dtype, model_class=AutoModelForSeq2SeqLM)
        for name, parameter in model.named_parameters():
            if is_computed(model, name):  # Marian's sinusoids are never trained; loading forgets it
                parameter.requires_grad_(False)
        return model

    def load_quantized(self, folder: Path, dtype: str) -> Any:  # noqa: ANN401
        """Return the model in a folder, on the CPU, with the weights of its linear layers in nf4."""
        from transformers import AutoModelForSeq2SeqLM

        from tunesmith_trainer.models.nf4_loading import load_quantized

        return load_quantized(folder, dtype, AutoModelForSeq2SeqLM)

    def load_model(self, folder: Path) -> Any:  # noqa: ANN401
        """Return the model in a folder, ready for inference."""
        with importing():
            from transformers import AutoModelForSeq2SeqLM

            from tunesmith_trainer.models.loading import load_model

        return load_model(folder, AutoModelForSeq2SeqLM)

    def compared_outputs(self, model: Any, store: TokenStore, rows: int) -> Sequence[Any]:  # noqa: ANN401
        """Return logits of the targets of the rows."""
        from tunesmith_trainer.tasks.translation.evaluate import compared_logits

        return compared_logits(model, store, rows)

    def collator(self, model: Any, multiple: int) -> Any:  # noqa: ANN401
        """Return the collator of pairs."""
        from tunesmith_trainer.models.encoder_decoder import answer_tokens_of
        from tunesmith_trainer.models.loading import without_adapter
        from tunesmith_trainer.tasks.translation.collate import PairCollator

        plain = without_adapter(model)
        return PairCollator(answer_tokens_of(plain).pad, plain.prepare_decoder_input_ids_from_labels, multiple)

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
        """Return loss and perplexity on the rows, and BLEU, chrF and exact match of greedy translations."""
        from tunesmith_trainer.tasks.translation.evaluate import evaluate

        return evaluate(
            model,
            data.tokenizer,
            data.store,
            data.prompts,
            rows=rows,
            max_new_tokens=spec.evaluation.max_new_tokens,
            advance=advance,
        )

    def shown_prompt(self, prompt: Any, tokenizer: Any) -> Any:  # noqa: ANN401
        """Return the text that is translated."""
        return prompt.source

    def evaluation_fields(self, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return how sacrebleu has computed the metrics."""
        return {"signatures": results["after"].get("signatures") or results["before"].get("signatures", {})}

    def check_configuration(self, config: Mapping[str, Any], name: str) -> None:
        """Fail if it is not known which token the decoder begins with, or which ends a translation."""
        needed = ["eos_token_id", "pad_token_id"]
        if config.get("model_type") != "mbart":  # it begins with the language
            needed.append("decoder_start_token_id")
        for field in needed:
            if config.get(field) is None:
                raise invalid(
                    name,
                    f"config.json has no {field}",
                    f"Write {field} in config.json; decoder_start_token_id is the padding token with T5 and Marian",
                )

    def check_exportable(self, config: Mapping[str, Any]) -> None:
        """Do nothing: other architectures were refused with their configuration."""

    def exporter(self, log_file: Path, spec: TrainingJobSpec, facts: Facts) -> AbstractContextManager[ModelExporter]:
        """Return the exporter of both graphs."""
        settings = {"task": self.name, "maxLength": spec.training.max_length, **facts}
        return nullcontext(EncoderDecoderExporter(settings))

    def record_reference(self, model: Any, data: ValidationSet, bounds: ParitySpec, folder: Path) -> None:  # noqa: ANN401
        """Write torch's logits of targets and of greedy answers."""
        from tunesmith_trainer.export.encoder_decoder.reference import record

        record(model, data.store, bounds.rows, folder)

    def compare(self, exported: Path, reference: Path, bounds: ParitySpec) -> Numbers:
        """Compare logits, greedy answers and perplexity."""
        from tunesmith_trainer.export.encoder_decoder.parity import compare

        return compare(exported, reference, bounds.max_logit_difference)

    def require_parity(self, precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
        """Fail if the export differs too much from the torch model."""
        from tunesmith_trainer.export.bounds import require_parity

        require_parity(precision, numbers, bounds)

    def compare_rendering(self, artifact: Path, precision: Precision, data: ValidationSet) -> Numbers:
        """Compare the tokens of sources with those that the server makes."""
        from tunesmith_trainer.export.one_pass.served import compare_inputs
        from tunesmith_trainer.tasks.translation.served import asked_of

        return compare_inputs(artifact, precision, asked_of(data.prompts), data.tokenizer)

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
        """Return the loss of the exported model, and BLEU, chrF and exact match of the server's translations."""
        from tunesmith_trainer.tasks.translation.served import evaluate_served

        return evaluate_served(
            artifact,
            precision,
            data.store,
            data.prompts,
            rows=rows,
            max_new_tokens=spec.evaluation.max_new_tokens,
            advance=advance,
        )
