"""Training all weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith_api.resolve import Resolved
from tunesmith_api.spec import TrainingJobSpec
from tunesmith_trainer.methods.base import MergeInputs, Method
from tunesmith_trainer.storage.files import link_tree

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)


class Full(Method):
    """Trains the model's own weights; the result is a whole model."""

    name = "full"

    def make_trainable(
        self,
        model: Any,  # noqa: ANN401
        spec: TrainingJobSpec,
        resolved: Resolved,
        adapter_task_type: str | None,
        heads: Sequence[str] = (),
    ) -> Any:  # noqa: ANN401
        """Return the model as it is."""
        return model

    def save(self, model: Any, weights: Iterator[tuple[str, Any]], base: Path, folder: Path) -> None:  # noqa: ANN401
        """Write the whole model and the base model's tokenizer."""
        from tunesmith_trainer.models.saving import save_model

        model.config.use_cache = True  # training turns it off
        save_model(model, weights, folder)
        for name in _TOKENIZER_FILES:
            if (base / name).is_file():
                shutil.copy2(base / name, folder / name)

    def write_tuned(self, final: Path, folder: Path, inputs: MergeInputs) -> dict[str, Any]:
        """Link the trained model's files; nothing is loaded."""
        from tunesmith_trainer.methods.verify import verify_tied

        for path in (*final.glob("*.safetensors*"), *final.glob("*config.json")):
            if path.name != "tokenizer_config.json":
                link_tree(path, folder / path.name)
        verify_tied(folder)
        return {}
