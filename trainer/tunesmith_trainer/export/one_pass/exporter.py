"""Writes the export of a model that answers in one forward pass."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.runtime.disk import disk_full, is_full_text
from tunesmith_trainer.storage.files import write_json

log = logging.getLogger(__name__)

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class OnePassExporter:
    """Exports in this process.

    Attributes:
        model_class: The Auto class of transformers that loads the model.
        outputs: Names of the model's outputs.
        per_token: Whether these have a value for each token.
        settings: The content of task.json.
    """

    model_class: Any
    outputs: tuple[str, ...]
    per_token: bool
    settings: Mapping[str, Any]

    def export(self, model: Path, folder: Path, precision: Precision) -> None:
        """Write the model and its tokenizer to `folder` as ONNX for the CPU. The folder is complete or absent.

        Args:
            model: A model with its tokenizer in the transformers layout.
            folder: The folder to make.
            precision: fp32, or int8 or int4 for the weights of linear layers.

        Raises:
            StageError: EXPORT_FAILED.
        """
        from tunesmith_trainer.export.one_pass.graph import load_for_export, write_graph
        from tunesmith_trainer.export.one_pass.quantize import quantize
        from tunesmith_trainer.models.heads import head_modules

        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            loaded = load_for_export(model, self.model_class)
            write_graph(loaded, temporary, self.outputs, per_token=self.per_token)
            if precision is not Precision.FP32:
                heads = head_modules(loaded)
                del loaded
                quantize(temporary, precision, heads)
        except Exception as error:  # torch and ONNX Runtime raise all kinds of errors
            log.exception("exporting %s failed", precision.value)
            problem = " ".join(str(error).split())[:500]
            if is_full_text(problem):
                raise disk_full(folder.parent) from error
            raise StageError(
                Reason.EXPORT_FAILED,
                f"exporting {precision.value} failed: {type(error).__name__}: {problem}",
                "Use another base model, or another precision in export.precisions",
            ) from error
        write_json(temporary / "task.json", dict(self.settings))
        for name in FILES:
            if (model / name).exists():
                shutil.copyfile(model / name, temporary / name)
        temporary.replace(folder)
