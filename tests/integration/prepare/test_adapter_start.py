"""What prepare computes and refuses of an adapter, before anything is trained."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from faults.jobs import run_stages, write_base, write_job
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import AdapterSettings
from tunesmith_api.work_folder import Stage
from tunesmith_trainer.methods import start
from tunesmith_trainer.models.weights import WeightFiles


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base", "Phi3ForCausalLM")


def prepared(work: Path, base: Path, method: str, **adapter: Any) -> dict[str, Any]:
    run_stages(write_job(work, base, method, adapter=adapter), Stage.PREPARE)
    return dict(json.loads((work / "prepare" / "stage.json").read_text()))


def test_first_matrices_are_computed_once_and_are_part_of_the_result(base: Path, tmp_path: Path) -> None:
    first, again = (
        prepared(tmp_path / name, base, "lora", rank=8, alpha=4, initLoraWeights="pissa") for name in ("a", "b")
    )
    file = tmp_path / "a" / "prepare" / "adapter-start.safetensors"
    assert first["start"] == again["start"] == hashlib.sha256(file.read_bytes()).hexdigest()
    tensors, weights = load_file(file), WeightFiles(base)
    layers = {name.rpartition(".")[0] for name in tensors}
    assert {layer.rsplit(".", 1)[1] for layer in layers} == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert len(layers) == 8
    for layer in layers:
        weight, part = weights[f"{layer}.weight"], 0.5 * tensors[f"{layer}.lora_B"] @ tensors[f"{layer}.lora_A"]
        rest = torch.linalg.svdvals(weight)[8:]
        assert float((weight - part).norm()) == pytest.approx(float(rest.norm()), rel=1e-4), "no better part exists"
    plain = prepared(tmp_path / "c", base, "lora", rank=8, alpha=4)
    assert "start" not in plain
    assert not (tmp_path / "c" / "prepare" / "adapter-start.safetensors").exists()


def test_components_of_a_large_weight_are_nearly_the_exact_ones(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, layer = AdapterSettings(rank=8, alpha=8, init_lora_weights="pissa"), "model.layers.0.mlp.gate_up_proj"
    start.write_start(base, [layer], settings, tmp_path / "exact")
    monkeypatch.setattr(start, "_EXACT", 1)
    state = torch.random.get_rng_state()
    start.write_start(base, [layer], settings, tmp_path / "near")
    assert torch.equal(torch.random.get_rng_state(), state)
    exact, near = (
        found[f"{layer}.lora_B"] @ found[f"{layer}.lora_A"]
        for found in (load_file(tmp_path / "exact"), load_file(tmp_path / "near"))
    )
    assert float((exact - near).norm() / exact.norm()) < 1e-3


@pytest.mark.parametrize(
    ("method", "adapter", "message", "remedy", "right"),
    [
        ("lora", {"targetModules": ["o_poj"]}, "no linear layer o_poj; the nearest is o_proj", "Write some of", None),
        ("ia3", {"targetModules": ["q_proj"]}, "no linear layer q_proj", "qkv_proj", {"targetModules": ["qkv_proj"]}),
        ("oft", {"blockSize": 24}, "24 does not divide the 64 inputs of", "Write blockSize: 16", {"blockSize": 16}),
        (
            "lora",
            {"rank": 65, "initLoraWeights": "olora"},
            "rank: 65 with initLoraWeights: olora, but the weight of model.layers.0.self_attn",
            "Write rank: 64 or less",
            {"rank": 64, "initLoraWeights": "olora"},
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    method: str, adapter: dict[str, Any], message: str, remedy: str, right: Any, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=message) as caught:
        prepared(tmp_path / "wrong", base, method, **adapter)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert remedy in caught.value.remedy
    if right is not None:
        prepared(tmp_path / "right", base, method, **right)
