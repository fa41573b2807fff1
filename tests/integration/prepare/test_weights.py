"""Damaged weights of a base model are found in prepare, by name."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.prepare_runs import read_outcome, run_prepare, write_job, write_rows
from support.tiny_models import build_model
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models import weight_stream
from tunesmith_trainer.models.weights_check import check_weights, read_architecture

Weights = dict[str, torch.Tensor]
UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"


def set_value(name: str, value: float) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        weights[name][1, 2] = value

    return change


def to_half(weights: Weights) -> None:
    for name in weights:
        weights[name] = weights[name].half()
    weights[DOWN][3, 3] = float("inf")


def to_integers(weights: Weights) -> None:
    weights[UP] = weights[UP].to(torch.int8)


def cut(weights: Weights) -> None:
    weights[DOWN] = weights[DOWN][:, :-1].contiguous()


def without_layer(weights: Weights) -> None:
    for name in [name for name in weights if name.startswith("model.layers.1.")]:
        del weights[name]


DAMAGE: dict[str, tuple[Callable[[Weights], None], str]] = {
    "nan": (set_value(UP, float("nan")), f"1 tensors hold values that no model can be trained from: {UP} holds NaN"),
    "infinite": (set_value(DOWN, float("-inf")), f"{DOWN} holds an infinite number"),
    "infinite in fp16": (to_half, f"{DOWN} holds an infinite number"),
    "integers": (to_integers, f"{UP} is of type int8"),
    "missing": (
        without_layer,
        "9 tensors of the model are missing: model.layers.1.input_layernorm.weight, model.layers.1.mlp.down",
    ),
    "shape": (cut, f"1 tensors have another shape than config.json says: {DOWN} is [64, 127], not [64, 128]"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("weights") / "tiny")


def check(folder: Path) -> None:
    check_weights(folder, "acme/model", read_architecture(folder, "acme/model"))


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_damage_is_named(tmp_path: Path, tiny: Path, name: str) -> None:
    change, problem = DAMAGE[name]
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    check(folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(StageError) as caught:
        check(folder)
    assert caught.value.reason is Reason.INVALID_MODEL
    assert problem in caught.value.message
    assert caught.value.remedy


def test_two_different_tensors_that_are_tied_are_refused(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "tied", tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    check(folder)
    tensors["lm_head.weight"][3, 4] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="ties lm_head.weight to model.embed_tokens.weight") as caught:
        check(folder)
    assert caught.value.reason is Reason.INVALID_MODEL
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    check(folder)


def test_a_tied_tensor_may_be_left_out_and_an_untied_one_may_not(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    check(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(StageError, match=r"1 tensors of the model are missing: lm_head\.weight"):
        check(folder)


def test_a_tensor_of_another_shard_is_found_and_an_unknown_one_is_reported(
    tmp_path: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weights["model.extra.weight"] = torch.zeros(2)
    parts = [dict(list(weights.items())[::2]), dict(list(weights.items())[1::2])]
    files = [f"model-0000{index}-of-00002.safetensors" for index in (1, 2)]
    for file, part in zip(files, parts, strict=True):
        save_file(part, folder / file)
    weight_map = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    check(folder)
    assert "1 tensors are no part of the model and are ignored: model.extra.weight" in caplog.text


def test_prepare_refuses_a_model_with_nan(tmp_path: Path, tiny: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights[UP][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": str(folder)})
    code, errors = run_prepare(work)
    assert code == 13, errors
    assert f"{UP} holds NaN" in read_outcome(work)["message"]


def test_prepare_refuses_rows_that_are_longer_than_an_export_with_longrope_takes(tmp_path: Path) -> None:
    folder = build_model(tmp_path / "model", "phi3")
    config = json.loads((folder / "config.json").read_text())
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 64,
    }
    settings = {**config, "original_max_position_embeddings": 64, "rope_parameters": rope}
    (folder / "config.json").write_text(json.dumps(settings))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": "a b " * 9 * size, "completion": "c"}) + "\n" for size in (1, 1, 1, 3, 3, 3))
    )
    work = write_job(tmp_path / "work", rows, {"uri": str(folder)}, training={"maxLength": 128})
    code, errors = run_prepare(work)
    assert code == 10, errors
    assert "maxLength is 128" in read_outcome(work)["message"]
    assert read_outcome(work)["remedy"] == "Write maxLength: 64 or less"
    rows.write_text(rows.read_text().splitlines(keepends=True)[0] * 4)
    work = write_job(tmp_path / "shorter", rows, {"uri": str(folder)}, training={"maxLength": 128})
    code, errors = run_prepare(work)
    assert code == 0, errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_the_last_piece_of_a_tensor_is_read_too(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(weight_stream, "_PIECE", 1 << 10)
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    check(folder)
    tensor = weight_stream.stored_tensors(folder)[DOWN]
    assert len(list(tensor.pieces())) > 5
    assert torch.equal(torch.cat([piece.float().clone() for piece in tensor.pieces()]), weights[DOWN].float().flatten())
    weights[DOWN].view(torch.uint8)[-1, -dtype.itemsize :] = 0x7F if dtype.itemsize == 1 else 0xFF
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(StageError, match=f"{DOWN} holds NaN"):
        check(folder)


def test_a_large_tensor_is_not_in_memory(tmp_path: Path) -> None:
    """A model of 200 MB, of which an embedding is most, takes a tenth of that."""
    folder = build_model(tmp_path / "model", vocab_size=200_000, hidden_size=256, layers=1, tie_word_embeddings=True)
    assert (folder / "model.safetensors").stat().st_size > 200e6
    program = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from tunesmith_trainer.models.weights_check import check_weights, read_architecture\n"
        "folder = Path(sys.argv[1]); architecture = read_architecture(folder, 'model')\n"
        "torch.aminmax(torch.zeros(1 << 20))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); check_weights(folder, 'model', architecture); print((peak() - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40e6
