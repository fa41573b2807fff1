"""The part of a task's interface that says how its evaluation is shown in the artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class ShownEvaluation:
    """What evaluation.json, predictions.jsonl and other files say besides the metrics."""

    def shown_prompt(self, prompt: Any, tokenizer: Any) -> Any:  # noqa: ANN401
        """Return what a model was asked, for evaluation.json and predictions.jsonl.

        Args:
            prompt: One of `read_prompts`.
            tokenizer: The model's tokenizer.
        """
        return tokenizer.decode(prompt.prompt_ids)

    def shown_first(self, after: Mapping[str, Any]) -> Sequence[int]:
        """Return the indices of the prompts that evaluation.json shows, the most telling ones first.

        Args:
            after: The tuned model's evaluation.
        """
        return range(len(after["answers"]))

    def evaluation_fields(self, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return more fields of evaluation.json.

        Args:
            results: What `evaluate` has returned for each model: `before` and `after`.
        """
        return {}

    def evaluation_files(self, folder: Path, results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Path]:
        """Write more files about the evaluation, and return them by their names in the artifact.

        Args:
            folder: The folder to write to.
            results: What `evaluate` has returned for each model: `before` and `after`.
        """
        return {}
