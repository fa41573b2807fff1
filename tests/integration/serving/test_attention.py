"""What a prompt's tokens get does not depend on where it is cut; with large heads, if no cut is very early."""

from pathlib import Path

import numpy as np
import pytest

from support.tiny_models import build_model, write_manifest
from tunesmith_api.spec import Precision
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.batching.chunks import GRAIN
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_trainer.export.exporter import Exporter

LENGTH = 160


@pytest.mark.parametrize(("head_size", "first"), [(64, GRAIN), (96, GRAIN), (128, GRAIN), (256, 5 * GRAIN)])
def test_a_prompt_may_be_cut_anywhere(head_size: int, first: int, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    model = build_model(tmp_path / "model", hidden_size=2 * head_size, heads=2, kv_heads=1)
    with Exporter(tmp_path / "log") as exporter:
        exporter.export(model, folder / "onnx" / "fp32", Precision.FP32)
    write_manifest(folder)
    decoder = OnnxDecoder(open_artifact(folder, "fp32"), 2, 256, LENGTH, 1)
    tokens = np.random.default_rng(0).integers(3, 512, LENGTH)
    whole = decoder.prefill(0, tokens, 0).copy()
    for chunk in range(first, LENGTH, GRAIN):
        for start in range(0, LENGTH, chunk):
            logits = decoder.prefill(1, tokens[start : start + chunk], start)
        assert np.array_equal(logits, whole), chunk
        assert np.array_equal(decoder.rows.tokens(1, 0, LENGTH), decoder.rows.tokens(0, 0, LENGTH)), chunk
