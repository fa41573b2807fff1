"""Each kind of adapter and each way to begin: trained, merged, exported, compared, and answering as it was trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.trained_jobs import prepared
from support.training import log_of
from tunesmith_api.methods import METHODS, adapter_methods
from tunesmith_api.spec import adapter_settings
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.linears import linear_layers
from tunesmith_trainer.models.loading import load_weights
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

CHOICES: dict[str, tuple[str, dict[str, Any] | None, float]] = {
    "ia3": ("ia3", None, 0.05),
    "vera": ("vera", {"rank": 64}, 0.05),
    "oft": ("oft", {"blockSize": 16}, 0.02),
    "loha": ("loha", None, 0.02),
    "rslora and loraplus": ("lora", {"rank": 4, "alpha": 4, "useRslora": True, "loraplusLrRatio": 8}, 0.01),
    "pissa": ("lora", {"rank": 4, "alpha": 8, "initLoraWeights": "pissa"}, 0.003),
    "olora": ("lora", {"rank": 4, "alpha": 2, "useRslora": True, "initLoraWeights": "olora"}, 0.003),
}


def write_spec(work: Path, method: str, adapter: dict[str, Any] | None, rate: float, **training: Any) -> None:
    """Write the job, and what `prepare` computes for it."""
    spec = {
        "model": {"scratch": {}},
        "method": method,
        "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
        "training": {"globalBatchSize": 4, "maxSteps": 6, "learningRate": rate, "warmupRatio": 0, **training},
        "evaluation": {"maxNewTokens": 8},
        "export": {
            "precisions": ["fp32", "int4"] if method == "ia3" else ["fp32"],
            "parity": {"rows": 2, "minNextTokenAgreement": 0.1, "maxPerplexityIncrease": 9},
        },
    }
    if adapter is not None:
        spec["adapter"] = adapter
    (work / "config.json").write_text(json.dumps({"name": "tiny", "spec": spec}))
    write_start(work)


def write_start(work: Path) -> None:
    """Do what `prepare` does for an adapter that begins with a part of the base weights."""
    from tunesmith_trainer.models.weights_check import read_architecture
    from tunesmith_trainer.prepare import adapter_start
    from tunesmith_trainer.runtime.job_config import load_config

    folder = WorkFolder(work)
    base = folder.prepared_model
    adapter_start.write_start(load_config(folder), folder, base, read_architecture(base, "tiny").linears)


@pytest.fixture(scope="module")
def prepared_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("prepared") / "work", "qwen2")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CHOICES)
def test_it_is_trained_and_published(name: str, prepared_work: Path, tmp_path: Path, run_here: Run) -> None:
    work = Path(shutil.copytree(prepared_work, tmp_path / "work"))
    method, adapter, rate = CHOICES[name]
    write_spec(work, method, adapter, rate)
    marker = run_here(work)
    losses = [entry["loss"] for entry in log_of(work)]
    assert losses[-1] < losses[0]
    assert 0 < marker["trainedParameters"] < 0.5 * marker["totalParameters"]

    run_stage(Stage.PUBLISH, publish, work)
    manifest = json.loads((work / "artifact" / "manifest.json").read_text())
    merge = manifest["parity"]["merge"]
    assert merge["mergedLogitDifference"] < 1e-4
    assert merge["storedLogitDifference"] < 1e-4
    after = manifest["metrics"]["after"]["evalLoss"]
    # What is served is what was trained: the loss of the merged model is that of the model in training.
    assert after == pytest.approx(marker["evalLoss"], abs=1e-4)
    assert after < manifest["metrics"]["before"]["evalLoss"]
    assert manifest["metrics"]["served"]["fp32"]["evalLoss"] == pytest.approx(after, abs=1e-3)
    assert manifest["parity"]["fp32"]["maxLogitDifference"] < 1e-3

    from peft import PeftModel

    adapted = PeftModel.from_pretrained(load_weights(work / "prepare" / "model"), work / "artifact" / "adapter")
    served = load_weights(work / "publish" / "merged")
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, served(ids).logits, atol=1e-4)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", [name for name in adapter_methods() if not METHODS[name].quantized_weight_bytes])
def test_every_part_of_an_adapter_moves(method: str, precision: str, job: Job, run_here: Run) -> None:
    work = job(method=method, training={"maxSteps": 4, "precision": precision, "learningRate": 0.01, "warmupRatio": 0})
    run_here(work)
    kind = method_of(method).kind
    final, before = load_file(work / "train" / "final" / "adapter_model.safetensors"), start_of(work, method)
    layers = linear_layers(load_weights(work / "prepare" / "model"))
    shared = {f"base_model.{name}" for name in kind.shared}
    assert len(final) == len(layers) * len(kind.parts) + len(shared)
    for name, tensor in final.items():
        assert tensor.dtype == torch.float32, name
        assert torch.equal(tensor, before[name]) is (name in shared), name


def start_of(work: Path, method: str) -> dict[str, torch.Tensor]:
    """The adapter as training begins with it, by peft's names in files."""
    from peft import get_peft_model_state_dict

    from tunesmith_api.resolve import resolve
    from tunesmith_trainer.runtime.job_config import load_config

    spec = load_config(WorkFolder(work)).spec
    resolved = resolve(spec, 1, 48, has_bf16=False)
    base = load_weights(work / "prepare" / "model", method_of(method).load_dtype(resolved.precision))
    return dict(get_peft_model_state_dict(method_of(method).make_trainable(base, spec, resolved, "CAUSAL_LM")))


CONTINUED = {
    "loraplus": ({"rank": 4, "loraplusLrRatio": 16}, "lora"),
    "pissa": ({"rank": 4, "initLoraWeights": "pissa"}, "lora"),
    "vera": ({"dropout": 0.1}, "vera"),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", CONTINUED)
def test_from_a_checkpoint_it_ends_with_the_same_bits(
    name: str, prepared_work: Path, tmp_path: Path, run_here: Run
) -> None:
    adapter, method = CONTINUED[name]
    work = Path(shutil.copytree(prepared_work, tmp_path / "work"))
    write_spec(work, method, adapter, 0.003, checkpoint={"everySteps": 3})
    marker = run_here(work)
    final = (work / "train" / "final" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(work / "train" / "final")
    (work / "train" / "stage.json").unlink()
    assert run_here(work) == marker
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == 3
    assert (work / "train" / "final" / "adapter_model.safetensors").read_bytes() == final


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_it_begins_as_pefts(name: str, rslora: bool, prepared_work: Path, tmp_path: Path) -> None:
    """The same first matrices and the same function as with peft, which changes the base weights; also when trained."""
    from peft import LoraConfig, PeftModel, get_peft_model

    from tunesmith_api.spec import AdapterSpec
    from tunesmith_trainer.methods import start

    base, file = prepared_work / "prepare" / "model", tmp_path / "start.safetensors"
    options = AdapterSpec(rank=4, alpha=6, init_lora_weights=name, use_rslora=rslora)
    settings = adapter_settings("lora", options)
    assert settings is not None
    layers = linear_layers(load_weights(base))
    start.write_start(base, layers, settings, file)
    targets = sorted({layer.rsplit(".", 1)[1] for layer in layers})
    ours = get_peft_model(load_weights(base), method_of("lora").kind.peft_config(settings, targets, "CAUSAL_LM"))
    start.load_start(ours, file)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets, init_lora_weights=name, use_rslora=rslora)
    theirs = get_peft_model(load_weights(base), config)
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        plain = load_weights(base)(ids).logits
        assert torch.allclose(ours(ids).logits, plain, atol=1e-4)
        mine = dict(ours.named_parameters())
        for key, parameter in theirs.named_parameters():
            if parameter.requires_grad:
                ours_, theirs_ = mine[key], parameter
                assert torch.allclose(ours_.abs(), theirs_.abs(), atol=1e-4), key  # a component's sign is free
                change = torch.randn_like(parameter) * 0.1
                ours_.add_(change)
                theirs_.copy_(ours_)
        if name == "olora":
            assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-3)
        trained = ours(ids).logits
        assert not torch.allclose(trained, plain, atol=0.1)
    method_of("lora").save(ours, iter(ours.state_dict().items()), base, tmp_path / "final")
    again = PeftModel.from_pretrained(load_weights(base), tmp_path / "final")
    assert again.peft_config["default"].r == 8
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, trained, atol=1e-4)
