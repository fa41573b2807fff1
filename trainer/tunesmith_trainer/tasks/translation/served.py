"""The task's metrics on the served bits: the loss on the exported model, the translations by the server's engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.spec import Precision
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.encoder_decoder.runner import EncoderDecoder
from tunesmith_trainer.export.one_pass.served import Asked, served_answers
from tunesmith_trainer.export.parity import losses
from tunesmith_trainer.tasks.translation.evaluate import answer_limit, pair_of
from tunesmith_trainer.tasks.translation.metrics import translation_metrics
from tunesmith_trainer.tasks.translation.prompts import TranslationPrompt

Advance = Callable[[int], None]


def asked_of(prompts: Sequence[TranslationPrompt]) -> list[Asked]:
    """Return what a server is asked about validation pairs."""
    return [Asked(prompt.row, prompt.location, prompt.source, prompt.prompt_ids) for prompt in prompts]


def evaluate_served(
    artifact: Path,
    precision: Precision,
    store: TokenStore,
    prompts: Sequence[TranslationPrompt],
    *,
    rows: int,
    max_new_tokens: int,
    advance: Advance,
) -> dict[str, Any]:
    """Evaluate an exported model as it is served.

    Args:
        artifact: An artifact folder with the export.
        precision: The export.
        store: The validation rows.
        prompts: What is translated; may be empty.
        rows: Number of rows, from the first, that the loss is computed on.
        max_new_tokens: Most tokens of a translation.
        advance: Called with the number of rows or prompts just finished; `rows + len(prompts)` in total.

    Returns:
        `{metrics, answers, signatures}`.

    Raises:
        StageError: PARITY_FAILED if the server refuses a source; EXPORT_FAILED if it cannot answer.
    """
    from transformers import AutoConfig

    folder = artifact / onnx_folder(precision.value)
    loss = onnx_loss(EncoderDecoder(folder), store, rows, advance)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    parameters = {"generate_parameters": {"max_new_tokens": answer_limit(config, max_new_tokens)}}
    found = served_answers(artifact, precision, asked_of(prompts), parameters, advance)
    answers = [_text(outputs) for outputs in found]
    language = prompts[0].language if prompts else None
    metrics, signatures = translation_metrics(loss, answers, [prompt.reference for prompt in prompts], language)
    return {"metrics": metrics, "answers": answers, "signatures": signatures}


def onnx_loss(exported: EncoderDecoder, store: TokenStore, rows: int, advance: Advance) -> float:
    """Return the mean negative log-likelihood, in nats, of the target tokens of the first rows; NaN for none."""
    total, count = 0.0, 0
    for index in range(rows):
        source, target = pair_of(store, index)
        logits = exported.step(exported.encode([source]), np.array([[exported.start[0], *target[:-1]]], np.int64))[0]
        total += float(losses(logits, np.array(target, np.int64)).sum())
        count += len(target)
        advance(1)
    return total / count if count else math.nan


def _text(outputs: Any) -> str:  # noqa: ANN401 - JSON
    """Return the translation of Hugging Face's `[{translation_text}]`, with or without the list."""
    return str((outputs[0] if isinstance(outputs, list) else outputs)["translation_text"])
