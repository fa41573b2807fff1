"""The planner's formulas against numbers that are counted by hand, and against one another."""

from dataclasses import replace

import pytest

from support.plan_points import Point
from tunesmith_api.methods import METHODS, adapter_methods
from tunesmith_api.planner import ModelShape, Setup, disk_of, rank_memory
from tunesmith_api.planner.activations import layer_activations
from tunesmith_api.planner.phase import frozen_bytes
from tunesmith_api.planner.process_memory import process_memory
from tunesmith_api.planner.rank_memory import phases_of
from tunesmith_api.spec import AdapterSettings, adapter_settings

from .jobs import LLAMA_8B, job

SETUP = Setup(
    method="full",
    precision="bf16",
    strategy="ddp",
    processes=1,
    micro_batch_size=1,
    gradient_accumulation_steps=1,
    length=1024,
    gradient_checkpointing=True,
    adapter=None,
    gpu=True,
)
LORA = replace(SETUP, method="lora", adapter=AdapterSettings())


def test_full_training_takes_16_bytes_for_each_parameter() -> None:
    optimizer = next(phase for phase in phases_of(LLAMA_8B, SETUP) if phase.name == "optimizer")
    assert optimizer.allocated == 16 * LLAMA_8B.parameters
    accumulating = replace(SETUP, gradient_accumulation_steps=4)
    assert rank_memory(LLAMA_8B, accumulating).allocated > rank_memory(LLAMA_8B, SETUP).allocated


@pytest.mark.parametrize(
    ("strategy", "weights", "optimizer"), [("zero1", 2, 12 / 8), ("zero2", 2, 12 / 8), ("zero3", 2 / 8, 12 / 8)]
)
def test_zero_shares_what_it_partitions(strategy: str, weights: float, optimizer: float) -> None:
    setup = replace(SETUP, strategy=strategy, processes=8)
    last = next(phase for phase in phases_of(LLAMA_8B, setup) if phase.name == "optimizer")
    assert last.weights == pytest.approx(weights * LLAMA_8B.parameters, rel=1e-6)
    assert last.optimizer == pytest.approx(optimizer * LLAMA_8B.parameters, rel=1e-6)


def test_a_stage_of_zero_never_takes_more_than_the_one_before() -> None:
    need = [
        rank_memory(LLAMA_8B, replace(SETUP, strategy=strategy, processes=8)).allocated
        for strategy in ("ddp", "zero1", "zero2", "zero3")
    ]
    assert need == sorted(need, reverse=True)


def test_an_adapter_leaves_the_weights_frozen() -> None:
    memory = rank_memory(LLAMA_8B, LORA)
    trained = LORA.trained_parameters(LLAMA_8B)
    assert trained == 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432)
    assert memory.phase.weights == 2 * LLAMA_8B.parameters + 4 * trained
    assert memory.phase.optimizer == 8 * trained
    one = replace(LORA, adapter=AdapterSettings(target_modules=("model.layers.0.self_attn.q_proj", "v_proj")))
    assert one.trained_parameters(LLAMA_8B) == 32 * 16 * (8192 + 5120)


def test_nf4_takes_half_a_byte_for_the_weights_of_layers() -> None:
    linear = LLAMA_8B.layers * sum(layer.weights for layer in LLAMA_8B.linears)
    expected = linear * 0.516 + 2 * (LLAMA_8B.parameters - linear)
    quantized = replace(LORA, method="qlora")
    assert frozen_bytes(LLAMA_8B, quantized) == pytest.approx(expected, rel=1e-3)
    assert rank_memory(LLAMA_8B, quantized).allocated < rank_memory(LLAMA_8B, LORA).allocated - 8e9
    # Of what ZeRO 3 shares, scales are no part.
    shared = replace(quantized, strategy="zero3", processes=8)
    last = next(phase for phase in phases_of(LLAMA_8B, shared) if phase.name == "optimizer")
    trained = quantized.trained_parameters(LLAMA_8B)
    packed = linear * 0.5 + 2 * (LLAMA_8B.parameters - linear)
    assert last.weights == pytest.approx(packed / 8 + linear * 0.016 + 2 * trained / 8, rel=1e-2)


@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_an_offloaded_optimizer_is_in_the_memory_of_the_machine(strategy: str) -> None:
    shared = replace(SETUP, strategy=strategy, processes=8)
    offloads = replace(shared, offload="optimizer")
    before = next(phase for phase in phases_of(LLAMA_8B, shared) if phase.name == "optimizer")
    after = next(phase for phase in phases_of(LLAMA_8B, offloads) if phase.name == "optimizer")
    assert (before.host, after.optimizer) == (0, 0)
    assert before.optimizer == pytest.approx(LLAMA_8B.parameters / 8 * 12, rel=1e-6)
    # The fp32 weights, two moments, fp32 gradients and something in bf16; page-locked blocks are powers of two.
    assert LLAMA_8B.parameters / 8 * 18 < after.host < LLAMA_8B.parameters / 8 * 24
    assert rank_memory(LLAMA_8B, offloads).allocated < rank_memory(LLAMA_8B, shared).allocated
    assert rank_memory(LLAMA_8B, offloads).host == after.host


def test_offloaded_weights_leave_what_is_gathered() -> None:
    shared = replace(SETUP, strategy="zero3", processes=8, offload="optimizer")
    everything = replace(shared, offload="all")
    optimizer, all_ = rank_memory(LLAMA_8B, shared), rank_memory(LLAMA_8B, everything)
    assert all_.allocated == pytest.approx(optimizer.allocated - LLAMA_8B.parameters / 8 * 2, rel=1e-6)
    assert all_.host > optimizer.host + LLAMA_8B.parameters / 8 * 2
    on_disk = rank_memory(LLAMA_8B, replace(everything, nvme=True))
    assert on_disk.host < all_.host / 2
    assert on_disk.allocated == all_.allocated


def test_without_a_gpu_what_is_offloaded_is_in_the_same_memory() -> None:
    point = Point(strategy="zero3", processes=2, length=64, micro_batch_size=1)
    for offload in ("optimizer", "all"):
        offloads = replace(point, offload=offload)
        assert offloads.predicted().host == 0
        assert offloads.predicted().allocated > point.predicted().allocated


def test_many_logits_are_computed_in_pieces() -> None:
    """A piece has at most 256 MiB of logits in fp32, of which there are three at a time."""
    wide = replace(SETUP, micro_batch_size=8, length=4096, gradient_checkpointing=True)
    for setup in (wide, replace(LORA, micro_batch_size=8, length=4096)):
        loss = next(phase for phase in phases_of(LLAMA_8B, setup) if phase.name == "loss")
        assert 2.9 * 2**28 < loss.logits < 3.1 * 2**28 + 2 * LLAMA_8B.embedding + 3 * setup.tokens * 2 * 4096
    other = replace(LLAMA_8B, model_type="granite")  # a family whose loss is computed from all logits
    loss = next(phase for phase in phases_of(other, wide) if phase.name == "loss")
    assert loss.logits > 8 * 4095 * other.vocabulary * 12


def test_packs_have_the_tokens_of_a_padded_batch() -> None:
    padded = replace(LORA, micro_batch_size=4, targets=100)
    packed = replace(padded, packing=True)
    assert packed.tokens == padded.tokens
    assert packed.target_positions > padded.target_positions  # all rows of a pack may be answers
    assert replace(packed, micro_batch_size=1, length=1025).tokens == 1056  # filled up, so that lengths repeat


def test_a_layer_keeps_what_was_seen_alive_in_one() -> None:
    """2 rows of 256 tokens in fp32, full training; the sizes are those of the tensors that a run had."""
    kept = layer_activations(Point(model="llama-8m").shape, Point(model="llama-8m", length=256).setup())
    hidden, wide, narrow = 512 * 256 * 4, 512 * 1024 * 4, 512 * 128 * 4
    scales, log_sum_exp = 2 * 512 * 4, 512 * 8 * 4
    assert kept.norms == 5 * hidden + scales  # two products and two outputs, and one input
    assert kept.attention == 2 * hidden + 2 * narrow + log_sum_exp
    assert kept.feed_forward == 4 * wide
    assert (kept.adapters, kept.copies) == (0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_checkpointing_shorter_rows_and_fewer_targets_take_less(method: str) -> None:
    def need(**changes: object) -> int:
        point = replace(Point(model="llama-1b", method=method, length=2048, precision="bf16"), **changes)  # type: ignore[arg-type]
        return point.predicted().allocated

    assert need(checkpointing=True) < need()
    assert need(length=1024) < need()
    assert need(learned=0.1) < need()
    assert need(micro_batch_size=1) < need(micro_batch_size=2)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text"])
def test_every_known_family_is_planned(model_type: str) -> None:
    config = {
        "model_type": model_type,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    }
    shape = ModelShape.from_config(config)
    adapted = [replace(LORA, method=name, adapter=adapter_settings(name, None)) for name in adapter_methods()]
    for setup in (SETUP, *adapted, *(replace(one, precision="fp32") for one in adapted)):
        memory = rank_memory(shape, setup)
        assert memory.total > memory.allocated > memory.phase.weights > 0


def test_a_process_has_its_libraries_and_its_tensors() -> None:
    for strategy, libraries in (("ddp", 830e6), ("zero2", 940e6)):
        point = Point(strategy=strategy)
        assert process_memory(point.shape, point.setup()) > libraries + point.predicted().allocated * 0.9


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_alone_leaves_no_merged_model_on_the_disk(method: str) -> None:
    """What is exported is the base, dequantized if it was quantized."""
    merged, alone = (
        disk_of(job(method=method, export={"adapterOnly": only, "precisions": ["int4"]}), LLAMA_8B, 100)
        for only in (False, True)
    )
    assert merged["merged model"] == LLAMA_8B.weight_bytes and alone["merged model"] == 0
    assert {**alone, "merged model": 0, "total": 0} == {**merged, "merged model": 0, "total": 0}
    assert alone["total"] == merged["total"] - LLAMA_8B.weight_bytes
    assert bool(alone["dequantized base model"]) == (method == "qlora")


def test_checkpoints_that_are_published_need_room_for_their_weights_and_exports() -> None:
    plain, kept = (disk_of(job(training={"checkpoint": {"publish": n}}), LLAMA_8B, 100) for n in (0, 2))
    assert kept["trained weights"] == 3 * plain["trained weights"]
    assert kept["exports of checkpoints"] == 2 * plain["int4 export"]
    assert kept["total"] == sum(size for name, size in kept.items() if name != "total") > plain["total"]
