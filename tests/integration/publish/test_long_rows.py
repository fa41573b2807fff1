"""An export that loses a model's sliding window is caught, though the validation rows are shorter than the window."""

from pathlib import Path

import pytest

from support.precisions import each_precision
from support.trained_jobs import ROWS
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.bounds import require_parity
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.long_rows import BEYOND
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.parity import Numbers, measure
from tunesmith_trainer.export.reference import TorchReference
from tunesmith_trainer.models.loading import load_model

WINDOW = 64
# Random weights lose much more to int4 than trained ones do.
WIDE = ParitySpec(min_next_token_agreement=0.2, max_perplexity_increase=5)
BOUNDS = {precision: WIDE if precision is Precision.INT4 else ParitySpec() for precision in Precision}


def build(folder: Path, window: int | None) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, MistralConfig

    from support.tiny_models import train_tokenizer

    tokenizer = train_tokenizer()
    config = MistralConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        initializer_range=0.2,
        sliding_window=window,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def compare(model: Path, exported: Path, tmp_path: Path) -> Numbers:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [tokenizer.encode(question + " " + answer) for question, answer in ROWS]
    assert max(len(ids) for ids in rows) < WINDOW, "the rows would show it by themselves"
    store = TokenStore.write(tmp_path / "rows", [(ids, [0] * 4 + [1] * (len(ids) - 4)) for ids in rows])
    TorchReference.record(load_model(model), store, [ids[:8] for ids in rows], 4, tmp_path / "reference")
    return measure(OnnxModel(exported), TorchReference(tmp_path / "reference"), tie_tolerance=1e-3)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("windowed"), WINDOW)


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights without the window: what an export is that has lost it."""
    return build(tmp_path_factory.mktemp("unlimited"), None)


@pytest.mark.parametrize("precision", each_precision(Precision))
def test_a_lost_window_is_caught(
    precision: Precision, windowed: Path, unlimited: Path, exporter: Exporter, tmp_path: Path
) -> None:
    exporter.export(unlimited, tmp_path / precision.value, precision)
    numbers = compare(windowed, tmp_path / precision.value, tmp_path)
    assert numbers["longRowThreshold"] == WINDOW
    assert numbers["longRowNextTokenAgreementTokens"] == BEYOND - 1
    short = {name: value for name, value in numbers.items() if not name.startswith("longRow")}
    require_parity(precision, {**short, "greedyAgreement": 1.0}, BOUNDS[precision])
    with pytest.raises(StageError, match=f"the {precision.value} export is not .*longRow.* beyond token 64") as caught:
        require_parity(precision, numbers, BOUNDS[precision])
    assert caught.value.reason is Reason.PARITY_FAILED


@pytest.mark.parametrize("precision", each_precision(Precision))
def test_an_export_beyond_its_threshold_passes(
    precision: Precision, unlimited: Path, exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same long row for a model that really has no window, in chunks and by the cache."""
    from tunesmith_trainer.export import long_rows, onnx_runner

    monkeypatch.setattr(long_rows, "_thresholds", lambda config: iter([WINDOW]))
    monkeypatch.setattr(onnx_runner, "_CHUNK", 50)
    exporter.export(unlimited, tmp_path / precision.value, precision)
    numbers = compare(unlimited, tmp_path / precision.value, tmp_path)
    assert numbers["longRowThreshold"] == WINDOW
    require_parity(precision, numbers, BOUNDS[precision])
    if precision is Precision.FP32:
        assert numbers["longRowMaxLogitDifference"] < 1e-4
        assert numbers["longRowNextTokenAgreement"] == numbers["greedyAgreement"] == 1.0
