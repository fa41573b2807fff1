"""A model that stays in bf16 in memory computes in fp32 what a copy of it in fp32 computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from faults.jobs import FAMILIES, write_base
from support.tensor_sizes import LargestTensor
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.generate import cached_tokens, greedy
from tunesmith_trainer.evaluate.logits import logits_of
from tunesmith_trainer.evaluate.scores import score_store
from tunesmith_trainer.export import reference
from tunesmith_trainer.export.reference import TorchReference
from tunesmith_trainer.models import memory, widening
from tunesmith_trainer.models.loading import load_model
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.models.widening import arithmetic_of, in_float32

ROWS = [[1, 2, 3, 4, 5, 77, 8], [9] * 30, [100, 4, 9, 250, 7, 7, 7, 30, 31]]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no model fit into memory in fp32."""
    monkeypatch.setattr(memory, "_FIXED", 0)


def differences(found: Any, expected: Any) -> float:
    return max(float(np.abs(found[index] - expected[index]).max()) for index in range(len(ROWS)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_computes_the_same_in_every_family(
    architecture: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_base(tmp_path / "base", architecture, dtype="bfloat16", tie_word_embeddings=tied)
    positions = [range(len(row)) for row in ROWS]
    copy = load_model(folder)
    monkeypatch.setattr(memory, "_FIXED", 0)
    monkeypatch.setattr(widening, "_PART", 1 << 10)
    wide = load_model(folder)
    assert (copy.dtype, wide.dtype) == (torch.float32, torch.bfloat16)
    expected = dict(logits_of(copy, ROWS, positions))
    assert differences(dict(logits_of(wide, ROWS, positions)), expected) < 1e-5
    with torch.inference_mode(), in_float32(wide):
        single = {index: wide(input_ids=torch.tensor([row])).logits[0].numpy() for index, row in enumerate(ROWS)}
    assert differences(single, expected) < 1e-5, "a row's logits depend on the rows beside it"
    with torch.inference_mode():
        native = wide(input_ids=torch.tensor([ROWS[0]])).logits
    assert str(native.dtype) == f"torch.{arithmetic_of(wide)}"


def test_a_tensor_in_another_type_keeps_it(tmp_path: Path, narrow: None) -> None:
    folder = write_base(tmp_path / "base", dtype="bfloat16")
    tensors = load_file(folder / "model.safetensors")
    norm = torch.linspace(0.9, 1.1, 64)
    tensors["model.norm.weight"] = norm
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_model(folder)
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.model.norm.weight, norm)
    ((_, found),) = logits_of(model, [[1, 2, 3]], [[0, 1, 2]])
    assert np.isfinite(found).all()


def test_a_reference_is_that_of_a_copy_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_base(tmp_path / "base", dtype="bfloat16")
    store = TokenStore.write(tmp_path / "rows", [(row * 3, [0] + [1] * (3 * len(row) - 1)) for row in ROWS])
    TorchReference.record(load_model(folder), store, ROWS, 3, tmp_path / "copy")
    monkeypatch.setattr(memory, "_FIXED", 0)
    TorchReference.record(load_model(folder), store, ROWS, 3, tmp_path / "wide")
    copy, wide = TorchReference(tmp_path / "copy"), TorchReference(tmp_path / "wide")
    for (row, expected), (other, found) in zip(copy.of("row"), wide.of("row"), strict=True):
        assert row == other
        assert float(np.abs(expected - found).max()) < 1e-5
    # Answers may be generated in bf16, but their logits are those of fp32.
    model = load_model(folder)
    assert [row.ids[: row.threshold] for row in wide.rows if row.kind == "answer"] == ROWS
    for row, found in wide.of("answer"):
        assert len(row.positions) == reference.NEW_TOKENS
        ((_, expected),) = logits_of(model, [row.ids], [row.positions])
        assert float(np.abs(expected - found).max()) < 1e-5


def test_no_tensor_as_large_as_a_weight_in_fp32_is_made(
    tmp_path: Path, narrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_base(tmp_path / "base", dtype="bfloat16", hidden_size=256, intermediate_size=2048)
    monkeypatch.setattr(widening, "_PART", 1 << 14)
    model = load_model(folder)
    files = WeightFiles(folder)
    whole = 4 * 2048 * 256
    assert files.shape("model.layers.0.mlp.up_proj.weight") == (2048, 256)
    store = TokenStore.write(tmp_path / "rows", [(row, [0] + [1] * (len(row) - 1)) for row in ROWS])
    with LargestTensor() as largest, in_float32(model):
        assert np.isfinite(score_store(model, store, 3, lambda _: None).mean_loss)
        greedy(model, ROWS, [4] * 3, frozenset())
        list(logits_of(model, ROWS, [range(len(row)) for row in ROWS]))
    assert 0 < largest.bytes < whole // 2


def test_the_bound_decides_what_is_copied_to_fp32(tmp_path: Path) -> None:
    files = WeightFiles(write_base(tmp_path / "base", dtype="bfloat16"))
    assert (files.main_type, files.bytes) == ("bfloat16", 2 * files.parameters)
    for parameters, fits in ((100_000_000, True), (370_000_000, True), (390_000_000, False), (3_800_000_000, False)):
        files.parameters, files.bytes = parameters, 2 * parameters
        assert memory.fits_as_float32(files) is fits
    assert memory.bound(7_600_000_000) == pytest.approx(13.64e9)


def test_a_batch_of_answers_keeps_no_more_than_its_share_of_keys(tmp_path: Path) -> None:
    from transformers import Phi3Config

    mini = Phi3Config(hidden_size=3072, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32)
    token = 2 * 32 * 3072 * 4  # keys and values of one token, in bytes
    assert cached_tokens(mini) * token <= 1 << 30 < (cached_tokens(mini) + 1) * token
