"""Writes the export of a model with an encoder and a decoder: graphs, tokenizer, and what a server must know."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.storage.files import read_json, write_json

_GENERATION = ("bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "num_beams", "task_specific_params")
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class EncoderDecoderExporter:
    """Exports in this process.

    Attributes:
        settings: The content of task.json.
    """

    settings: Mapping[str, Any]

    def export(self, model: Path, folder: Path, precision: Precision) -> None:
        """Write the model and its tokenizer to `folder` as ONNX for the CPU. The folder is complete or absent.

        Args:
            model: A model with its tokenizer in the transformers layout.
            folder: The folder to make.
            precision: Number format of the weights: fp32, or int8 for those of linear layers.

        Raises:
            StageError: EXPORT_FAILED.
        """
        from transformers import AutoModelForSeq2SeqLM

        from tunesmith_trainer.export.encoder_decoder.graphs import write_graphs
        from tunesmith_trainer.export.encoder_decoder.quantize import quantize
        from tunesmith_trainer.models.encoder_decoder import answer_tokens_of
        from tunesmith_trainer.models.loading import load_weights

        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        loaded = load_weights(model, model_class=AutoModelForSeq2SeqLM).eval()
        try:
            write_graphs(loaded, temporary)
            if precision is Precision.INT8:
                quantize(temporary)
        except (RuntimeError, ValueError, TypeError) as error:
            raise StageError(
                Reason.EXPORT_FAILED,
                f"exporting {precision.value} failed: {' '.join(str(error).split())[:500]}",
                "Use another base model, or another precision in export.precisions",
            ) from error
        write_json(temporary / "generation_config.json", answer_tokens_of(loaded).settings())
        write_json(temporary / "task.json", dict(self.settings))
        # generation_config.json alone says how answers are generated.
        config = read_json(model / "config.json") or {}
        write_json(
            temporary / "config.json", {name: value for name, value in config.items() if name not in _GENERATION}
        )
        for name in TEXT_FILES:
            if (model / name).exists():
                shutil.copyfile(model / name, temporary / name)
        temporary.replace(folder)
