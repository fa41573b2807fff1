"""Base weights in nf4: the same bits each time, the same numbers as a model with the dequantized weights."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from support.training import tiny_llama
from tunesmith_trainer.export.architectures import EXPORTABLE
from tunesmith_trainer.models.loading import load_weights
from tunesmith_trainer.models.nf4 import Nf4Linear, Nf4Weight, dequantize_layers, packed_away
from tunesmith_trainer.models.nf4_files import write_dequantized
from tunesmith_trainer.models.nf4_loading import load_quantized

IDS = torch.arange(1, 40)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base") / "model")


def grid(columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(columns)
    return torch.randn(96, columns, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("columns", [64, 100, 48 * 1024])
def test_values_and_scales_are_those_of_bitsandbytes(columns: int, dtype: torch.dtype) -> None:
    """The mean of the scales may differ in the last bit, so that a few scales are rounded to the other neighbour."""
    weight = grid(columns, dtype)
    found = Nf4Weight(weight)
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    assert torch.equal(found.packed, packed.flatten())
    scales, expected = (bnb.dequantize_blockwise(s.absmax, s.state2) + s.offset for s in (found.state, state))
    assert float(((scales - expected).abs() > 1e-6).float().mean()) < 1e-4
    values = found.dequantized()
    assert values.dtype == dtype
    code = bnb.get_4bit_type("nf4", device="cpu")
    indices = torch.stack([found.packed >> 4, found.packed & 15], 1).flatten().long()
    exact = code[indices] * scales.repeat_interleave(64)
    assert torch.equal(values.flatten(), exact.to(dtype))
    assert float((values.float() - weight.float()).abs().max()) < 0.16 * float(weight.abs().max())


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    """torch's mean of many scales does, so bitsandbytes' double quantization would."""
    program = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[1]))\n"
        "from tunesmith_trainer.models.nf4 import Nf4Weight\n"
        "print(Nf4Weight(torch.randn(2048, 2048, generator=torch.Generator().manual_seed(1)) ** 3).digest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", program, threads], capture_output=True, text=True, check=True).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


def adapted(model: Any, *, decomposed: bool) -> Any:
    """The model with an adapter that has moved."""
    torch.manual_seed(0)
    model = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "down_proj"], use_dora=decomposed)
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.05
    return model


@pytest.mark.parametrize("decomposed", [False, True], ids=["lora", "dora"])
def test_an_adapter_learns_as_beside_the_dequantized_weights(base: Path, *, decomposed: bool) -> None:
    """Logits, also in evaluation, and gradients are the same to the bit."""
    plain = load_quantized(base, "float32")
    dequantize_layers(plain)
    one, other = (adapted(m, decomposed=decomposed) for m in (load_quantized(base, "float32"), plain))
    assert sum(isinstance(module, Nf4Linear) for module in one.modules()) == 14
    assert not any(isinstance(module, Nf4Linear) for module in other.modules())
    losses = [model(input_ids=IDS, labels=IDS).loss for model in (one, other)]
    for loss in losses:
        loss.backward()
    assert losses[0] == losses[1]
    expected = {name: p.grad for name, p in other.named_parameters() if p.requires_grad}
    found = {name: p.grad for name, p in one.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(float(gradient.abs().sum()) > 0 for gradient in found.values())
    with torch.no_grad():
        assert one.eval()(input_ids=IDS, labels=IDS).loss == losses[0]


@pytest.mark.filterwarnings("ignore:.*autograd kernel was not registered")
def test_bitsandbytes_own_layer_changes_its_weights_in_evaluation() -> None:
    """Why it is not used. When this fails, it can be."""
    if not bnb.has_avx512bf16():
        pytest.skip("it repacks weights only on processors with AVX512-BF16")
    from bitsandbytes.nn import LinearNF4
    from peft.utils.integrations import dequantize_module_weight

    torch.manual_seed(0)
    layer, value = LinearNF4(64, 64, bias=False).to("cpu"), torch.randn(4, 64, requires_grad=True)
    weight, packed = dequantize_module_weight(layer).float(), layer.weight.data.clone()
    expected = layer(value).detach()
    with torch.no_grad():
        layer.eval()(value.detach())
    layer.train()
    # DoRA's norms come from what peft reads.
    assert float((dequantize_module_weight(layer).float() - weight).norm()) > 0.5 * float(weight.norm())
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(layer(value).sum(), value)
    layer.weight.data = packed  # as ZeRO 3 gathers it from its parts
    assert float((layer(value).detach() - expected).norm()) > 0.5 * float(expected.norm())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dequantized_base_is_the_model_that_was_trained(dtype: str, tmp_path: Path) -> None:
    """Its files have the numbers that training computes with, in the number format of the base model's files."""
    base = tiny_llama(tmp_path / "base", half=dtype == "bfloat16")
    model = load_quantized(base, "float32")
    write_dequantized(model, base, tmp_path / "written")
    written, original = load_weights(tmp_path / "written", dtype), load_weights(base, dtype)
    assert written.dtype == getattr(torch, dtype)
    for name, weight in written.state_dict().items():
        layer = model.get_submodule(name.rpartition(".")[0])
        same = torch.equal(weight, original.state_dict()[name])
        if isinstance(layer, Nf4Linear):
            assert torch.equal(weight, layer.dequantize())
            assert not same
        else:
            assert same
    with torch.no_grad():
        torch.testing.assert_close(
            written.float()(input_ids=IDS).logits, model(input_ids=IDS).logits, atol=1e-5, rtol=0
        )


def test_parameters_are_counted_unpacked(base: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        model = load_quantized(base, dtype)
        stored = sum(parameter.numel() for parameter in model.parameters())
        expected = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(base).parameters())
        assert stored < expected
        assert stored + packed_away(model) == expected


@pytest.mark.parametrize("architecture", EXPORTABLE)
def test_every_family_is_loaded(architecture: str, model_of: Callable[[str], Path]) -> None:
    base = model_of(architecture)
    model, plain = load_quantized(base, "float32"), load_weights(base)
    linear = [n for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear) and m is not plain.lm_head]
    assert [name for name, module in model.named_modules() if isinstance(module, Nf4Linear)] == linear
    for name, buffer in plain.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    for name in linear:
        plain.get_submodule(name).weight.data = model.get_submodule(name).dequantize()
    with torch.no_grad():
        expected, found = (m.eval()(input_ids=IDS).logits for m in (plain, model))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_no_kernels_are_looked_for(tmp_path: Path) -> None:
    """bitsandbytes would download some where it finds the package `kernels`, here one that tells of it."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*_, **__):\n    print('downloaded')\n    raise ImportError\n")
    program = "import logging; logging.basicConfig(); import tunesmith_trainer, peft, bitsandbytes; print('imported')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)}
    )
    assert done.stdout == "imported\n"
    assert "kernels" not in done.stderr
