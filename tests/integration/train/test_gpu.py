"""Training on an NVIDIA GPU, in bf16 and under NCCL: skipped where there is none.

pytest tests/integration/train/test_gpu.py
"""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.trained_jobs import prepared, write_config
from support.training import child_environment, log_of, tiny_llama, train, train_command

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

Job = Callable[..., Path]
TRAINING = {"maxSteps": 12, "learningRate": 0.01}


def trained(work: Path) -> dict[str, Any]:
    process = train(work)
    assert process.returncode == 0, process.stderr
    return dict(json.loads((work / "train" / "stage.json").read_text()))


def weights(work: Path) -> dict[str, torch.Tensor]:
    (path,) = (work / "train" / "final").glob("*.safetensors")
    return load_file(path)


@pytest.mark.parametrize("strategy", ["auto", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_a_run_in_bf16(method: str, strategy: str, job: Job) -> None:
    work = job(method=method, training=TRAINING, distributed={"strategy": strategy}, rows=40)
    marker = trained(work)
    entries = log_of(work)
    assert marker["precision"] == "bf16"
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.02
    assert entries[-1]["evalLoss"] == marker["evalLoss"]
    assert all(torch.isfinite(value).all() for value in weights(work).values())
    metrics = json.loads((work / "train" / "metrics.json").read_text())
    assert metrics["peakMemoryBytes"] < 1e9, "that of the GPU, not of the process"


def test_bf16_learns_what_fp32_learns(job: Job) -> None:
    half = trained(job("bf16", training=TRAINING))
    whole = trained(job("fp32", training={**TRAINING, "precision": "fp32"}))
    assert whole["precision"] == "fp32"
    assert half["evalLoss"] == pytest.approx(whole["evalLoss"], rel=0.02)


@pytest.mark.parametrize("strategy", ["auto", "zero3"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_packed_rows_are_learned_as_padded_ones(method: str, strategy: str, job: Job) -> None:
    choices = {"method": method, "distributed": {"strategy": strategy}, "rows": 40}
    packed = trained(job("packed", training=TRAINING, **choices))
    padded = trained(job("padded", training={**TRAINING, "packing": False}, **choices))
    assert packed["resolved"]["packing"]["value"] is True
    assert packed["evalLoss"] == pytest.approx(padded["evalLoss"], rel=0.02)


@pytest.mark.parametrize("window", [None, 5])
def test_the_kernel_computes_what_is_computed_row_by_row(window: int | None) -> None:
    from tunesmith_trainer.models import packed_attention as module

    lengths = [37, 1, 12, 25, 2]
    random = torch.Generator("cuda").manual_seed(0)
    sizes = ((1, heads, sum(lengths), 64) for heads in (4, 2, 2))
    query, key, value = (torch.randn(size, device="cuda", generator=random) for size in sizes)
    ends = torch.tensor([0, *lengths], device="cuda").cumsum(0).int()
    layer = torch.nn.Module()
    layer.num_key_value_groups = 2  # type: ignore[assignment]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (query, key, value)]
        assert module.has_kernel(inputs[0]) is (dtype is torch.bfloat16)
        result, _ = module.packed_attention(
            layer, *inputs, None, cu_seq_lens_q=ends, max_length_q=37, sliding_window=window
        )
        result.float().pow(2).sum().backward()
        results.append([result.float(), *(tensor.grad.float() for tensor in inputs)])
    for exact, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, exact, atol=0.05 * float(exact.abs().max()), rtol=0)


def test_compiled_layers_learn_the_same(job: Job) -> None:
    compiled = trained(job("compiled", training={**TRAINING, "compile": True}))
    plain = trained(job("plain", training=TRAINING))
    assert compiled["evalLoss"] == pytest.approx(plain["evalLoss"], rel=0.02)


@pytest.mark.parametrize("strategy", ["auto", "zero2", "zero3"])
def test_killed_and_run_again_it_ends_in_the_same_weights(strategy: str, job: Job) -> None:
    training = {"maxSteps": 200, "globalBatchSize": 4, "learningRate": 0.005, "checkpoint": {"everySteps": 20}}
    whole, work = (job(name, training=training, distributed={"strategy": strategy}) for name in ("whole", "killed"))
    trained(whole)
    process = subprocess.Popen(train_command(work), stderr=subprocess.DEVNULL, env=child_environment())
    while not (work / "train" / "checkpoints" / "checkpoint-60").exists():
        assert process.poll() is None, "over before it was killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    trained(work)
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] >= 40
    for name, value in weights(work).items():
        torch.testing.assert_close(value, weights(whole)[name], rtol=0, atol=0)


def test_the_models_are_evaluated_on_the_gpu(tmp_path: Path) -> None:
    work = prepared(write_config(tmp_path / "job", training={**TRAINING, "globalBatchSize": 4}))
    trained(work)
    found = json.loads((work / "train" / "evaluation.json").read_text())
    for when in ("before", "after"):
        assert (found[when]["computedOn"], found[when]["computedIn"]) == ("cuda", "bfloat16")
    assert found["after"]["metrics"]["evalLoss"] < found["before"]["metrics"]["evalLoss"]
    measured = json.loads((work / "train" / "measured.json").read_text())
    assert set(measured) == {"memory", "gpuMemory", "seconds", "secondsPerStep"}


@pytest.mark.parametrize("left", [0.1, 3.0])
def test_memory_that_does_not_suffice_is_told(left: float, job: Job) -> None:
    """With 0.1 GiB free not even the context of CUDA fits in."""
    work = job(training=TRAINING)
    base = tiny_llama(work / "large", half=True, hidden_size=2048, intermediate_size=5632, num_hidden_layers=8)
    marker = json.loads((work / "prepare" / "stage.json").read_text())
    (work / "prepare" / "stage.json").write_text(json.dumps({**marker, "model": {"path": str(base)}}))
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - int(left * 2**30), dtype=torch.uint8, device="cuda")
    try:
        process = train(work)
    finally:
        del taken
        torch.cuda.empty_cache()
    assert process.returncode != 0
    outcome = json.loads((work / "train-outcome.json").read_text())
    assert outcome["reason"] == "OutOfMemory", (outcome, process.stderr)
    assert "ower spec.training.maxLength" in outcome["remedy"], "the micro-batch may be lowered already"


def test_more_processes_than_gpus_are_refused(job: Job) -> None:
    count = torch.cuda.device_count()
    work = job(training={"globalBatchSize": 8 * (count + 1)}, distributed={"numProcPerNode": count + 1})
    process = train(work)
    assert process.returncode != 0
    assert f"numProcPerNode: {count}" in json.loads((work / "train-outcome.json").read_text())["remedy"]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_what_was_trained_here_is_published(method: str, tmp_path: Path) -> None:
    parity = {"rows": 4, "minNextTokenAgreement": 0.3, "maxPerplexityIncrease": 5}
    work = write_config(
        tmp_path / "job",
        method=method,
        training={"maxSteps": 30, "learningRate": 0.005},
        export={"precisions": ["fp32", "int4"], "parity": parity},
    )
    prepared(work)
    trained(work)
    command = [*train_command(work)[:3], "publish", "--work", str(work)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    manifest = json.loads((work / "artifact" / "manifest.json").read_text())
    assert set(manifest["parity"]) == {"template", "layers", "fp32", "int4"}
