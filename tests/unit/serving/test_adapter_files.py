"""Reading an adapter's files: what is damaged or of another kind is refused, and nothing of it is used."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_serving.engines.text_generation.adapters.config import read_lora_config
from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError
from tunesmith_serving.engines.text_generation.adapters.listing import Entry, read_listing
from tunesmith_serving.engines.text_generation.adapters.modules import LoraModule, LoraModules
from tunesmith_serving.engines.text_generation.adapters.tensors import TensorFile
from tunesmith_serving.engines.text_generation.adapters.weights import AdapterWeights

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "init_lora_weights": True}
MODULES = LoraModules((LoraModule("0.q_proj", 3, 5), LoraModule("1.q_proj", 3, 5)), 8)
LAYER = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"


def save(path: Path, tensors: dict[str, Any]) -> Path:
    """A safetensors file as the library for torch writes it."""
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.as_tensor(value) for name, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_are_widened(tmp_path: Path, dtype: str) -> None:
    import torch

    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))
    file = TensorFile(save(tmp_path / "a.safetensors", {"x": values, "y": torch.zeros(0, 2)}))
    assert np.array_equal(file.read("x"), values.float().numpy())
    assert file.read("y").shape == (0, 2)


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    content = save(path, {"x": np.ones((4, 4), np.float32)}).read_bytes()
    path.write_bytes(content[:place] + noise)
    try:
        file = TensorFile(path)
        assert all(file.read(name).size >= 0 for name in file.tensors)
    except AdapterError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 80]}, "outside the file"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "its shape needs 12"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "outside the file"),
        ({"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}, "of the type I64"),
        ({"shape": [1]}, "dtype"),
    ],
)
def test_wrong_headers(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    header = json.dumps({"x": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(AdapterError, match=message):
        TensorFile(path)


def test_scales() -> None:
    plain = read_lora_config(CONFIG)
    assert plain.scale_of("model.layers.0.self_attn.q_proj") == 2
    pattern = {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 16}, "alpha_pattern": {"k_proj": 1}}
    mixed = read_lora_config({**CONFIG, "use_rslora": True, **pattern})
    assert mixed.rank_of("model.layers.7.self_attn.q_proj") == 2
    assert mixed.scale_of("model.layers.7.self_attn.q_proj") == pytest.approx(8 / math.sqrt(2))
    assert mixed.scale_of("model.layers.1.mlp.up_proj") == 2
    assert mixed.rank_of("model.layers.11.mlp.up_proj") == 4
    assert mixed.scale_of("model.layers.1.self_attn.k_proj") == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "LOHA"}, "of the kind LOHA"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias: all"),
        ({"target_parameters": ["w"]}, "target_parameters"),
        ({"init_lora_weights": "pissa_niter_16"}, "path_initial_model_for_weight_conversion"),
        ({"r": 0}, "below 1"),
        ({"r": None}, "lacks a usable"),
        ({"rank_pattern": {"(": 1}}, "lacks a usable"),
    ],
)
def test_what_is_not_lora(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        read_lora_config({**CONFIG, **settings})


def matrices(layer: int = 0, part: str = "q_proj", rank: int = 4, **more: Any) -> dict[str, Any]:
    a, b = np.ones((rank, 3), np.float32), np.ones((5, rank), np.float32)
    return {LAYER.format(layer, part, "A"): a, LAYER.format(layer, part, "B"): b, **more}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (matrices(2), "it changes 2.q_proj, for which the base takes no adapter; it takes them for q_proj"),
        (matrices(0, "dense"), "0.dense"),
        (matrices(rank=5), r"has the shape \[5, 3\], and the base needs \[4, 3\]"),
        (matrices(more=np.ones(2, np.float32)), "its tensor more is none of LoRA's"),
        ({LAYER.format(0, "q_proj", "A"): np.ones((4, 3), np.float32)}, "only one of the two"),
        ({}, "no matrices"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    file = TensorFile(save(tmp_path / "a.safetensors", tensors))
    with pytest.raises(AdapterError, match=message):
        AdapterWeights(file, read_lora_config(CONFIG), MODULES)


def test_weights_are_padded_and_scaled(tmp_path: Path) -> None:
    file = TensorFile(save(tmp_path / "a.safetensors", matrices(1)))
    weights = AdapterWeights(file, read_lora_config(CONFIG), MODULES)
    a, b = np.full((3, 6), 7, np.float32), np.full((6, 5), 7, np.float32)
    weights.write(0, a, b)  # a layer that the adapter leaves alone
    assert not a.any() and not b.any()
    weights.write(1, a, b)
    assert (a[:, :4] == 1).all() and (b[:4] == 2).all() and not a[:, 4:].any() and not b[4:].any()
    small = LoraModules(MODULES.modules, 3)
    with pytest.raises(AdapterError, match="its rank is 4, and the base takes at most 3"):
        AdapterWeights(file, read_lora_config(CONFIG), small)
    bad = {**matrices(0), LAYER.format(0, "q_proj", "B"): np.full((5, 4), np.nan, np.float32)}
    with pytest.raises(AdapterError, match="not numbers"):
        AdapterWeights(
            TensorFile(save(tmp_path / "b.safetensors", bad)), read_lora_config(CONFIG), MODULES
        ).check_numbers()


def test_a_list() -> None:
    entries: list[Any] = [
        {"name": "one", "path": "/one", "digest": "sha256:1", "secret": "unknown fields are left alone"},
        {"name": "waits"},
        {"name": "broken", "error": "no such bucket"},
        {"name": "model", "path": "/x"},
        {"name": "twice", "path": "/a"},
        {"name": "twice", "path": "/b"},
        {"name": "number", "path": 3},
        "text",
        {"path": "/nameless"},
    ]
    listing = read_listing(json.dumps({"version": 7, "adapters": entries}).encode(), "model")
    assert listing.version == "7"
    assert listing.entries == {
        "one": Entry("one", "/one", "sha256:1"),
        "waits": Entry("waits"),
        "broken": Entry("broken", error="no such bucket"),
    }
    assert set(listing.refused) == {"model", "twice", "number"}
    assert len(listing.problems) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"adapters": 1}', b"\xff", b'{"adapters": ['])
def test_what_is_no_list(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_listing(content, "model")
