"""The values that are chosen where the spec leaves them open."""

from typing import Any

import pytest

from tunesmith_api.choices.speed import PACKS_WELL, PackingFacts
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.resolve import Resolved, resolve
from tunesmith_api.spec import TrainingJobSpec


def chosen(
    world: int = 1,
    rows: int = 100,
    bf16: bool = False,
    plan: Any = None,
    facts: PackingFacts = PACKS_WELL,
    **spec: Any,
) -> Resolved:
    model = spec.pop("model", {"uri": "hf://a/b"})
    data = {"sources": [{"uri": "./rows.jsonl"}]}
    job = TrainingJobSpec.model_validate({"model": model, "dataset": data, **spec})
    return resolve(job, world, rows, bf16, plan, facts)


PLAN = {
    "machine": "big",
    "processes": 2,
    "strategy": "zero3",
    "microBatchSize": 2,
    "gradientCheckpointing": True,
    "stages": {"train": {"memory": "9Gi", "gpuMemory": "13Gi"}},
    "reasons": {"microBatchSize": "the largest divisor of 8 rows that fits", "strategy": "the least that fits"},
}


@pytest.mark.parametrize(
    ("spec", "rate"),
    [
        ({}, 2e-4),
        ({"method": "dora"}, 2e-4),
        ({"method": "full"}, 2e-5),
        ({"method": "full", "model": {"scratch": {}}}, 1e-3),
        ({"method": "lora", "model": {"scratch": {}}}, 1e-3),
        ({"method": "full", "training": {"learningRate": 0.01}}, 0.01),
    ],
)
def test_learning_rate(spec: dict[str, Any], rate: float) -> None:
    assert chosen(**spec).learning_rate == rate


@pytest.mark.parametrize(
    ("training", "rows", "steps"),
    [
        ({}, 100, 19),  # 3 epochs, 16 rows a step
        ({"epochs": 1, "globalBatchSize": 10}, 100, 10),
        ({"epochs": 0.5, "globalBatchSize": 10}, 100, 5),
        ({"epochs": 1.01, "globalBatchSize": 10}, 100, 11),
        ({"epochs": 0.1, "globalBatchSize": 10}, 100, 1),  # 0.1 * 100 is a little above 10 in floating point
        ({"epochs": 1, "globalBatchSize": 64}, 3, 1),
        ({"maxSteps": 7}, 100, 7),
    ],
)
def test_total_steps(training: dict[str, Any], rows: int, steps: int) -> None:
    assert chosen(rows=rows, training=training).total_steps == steps


@pytest.mark.parametrize(
    ("training", "world", "micro", "accumulated"),
    [
        ({}, 1, 8, 2),
        ({}, 2, 8, 1),
        ({}, 4, 4, 1),
        ({"globalBatchSize": 12}, 1, 6, 2),
        ({"globalBatchSize": 14}, 2, 7, 1),
        ({"globalBatchSize": 26}, 2, 1, 13),
        ({"globalBatchSize": 1}, 1, 1, 1),
        ({"microBatchSize": 4}, 2, 4, 2),
    ],
)
def test_batches_of_a_process(training: dict[str, Any], world: int, micro: int, accumulated: int) -> None:
    values = chosen(world=world, training=training)
    assert (values.micro_batch_size, values.gradient_accumulation_steps) == (micro, accumulated)
    assert micro * accumulated * world == values.global_batch_size


@pytest.mark.parametrize(
    ("training", "world", "field", "remedy"),
    [
        ({"globalBatchSize": 16}, 3, "globalBatchSize", "15 or 18"),
        ({"globalBatchSize": 2}, 4, "globalBatchSize", "globalBatchSize: 4,"),
        ({"globalBatchSize": 16, "microBatchSize": 8}, 4, "microBatchSize", "microBatchSize: 4,"),
    ],
)
def test_batches_that_do_not_fit_are_refused(training: dict[str, Any], world: int, field: str, remedy: str) -> None:
    with pytest.raises(StageError) as caught:
        chosen(world=world, training=training)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert field in caught.value.message
    assert remedy in caught.value.remedy


def test_precision_strategy_and_checkpoints() -> None:
    assert chosen().precision == "fp32"
    assert chosen(bf16=True).precision == "bf16"
    assert chosen(bf16=True, training={"precision": "fp32"}).precision == "fp32"
    assert chosen(training={"precision": "bf16"}).precision == "bf16"
    assert chosen(world=2).strategy == "ddp"
    assert chosen(world=2).zero_stage is None
    assert chosen(world=2, distributed={"strategy": "zero3"}).zero_stage == 3
    assert chosen(training={"maxSteps": 250}).checkpoint_steps == 25
    assert chosen(training={"maxSteps": 4}).checkpoint_steps == 1
    assert chosen(training={"maxSteps": 250, "checkpoint": {"everySteps": 3}}).checkpoint_steps == 3
    assert chosen(training={"maxSteps": 250, "warmupRatio": 0.05}).warmup_steps == 13


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_every_value_has_a_reason(method: str) -> None:
    status = chosen(method=method).to_status()
    assert all(entry["reason"] for entry in status.values())
    assert ("adapter.rank" in status) == (method != "full")
    given = chosen(training={"learningRate": 0.5, "microBatchSize": 2}, adapter={"rank": 3}).to_status()
    assert given["learningRate"] == {"value": 0.5, "reason": "set in the spec"}
    assert given["microBatchSize"]["reason"] == "set in the spec"
    assert given["adapter.rank"] == {"value": 3, "reason": "set in the spec"}
    assert given["adapter.alpha"] == {"value": 32, "reason": "default of lora"}


def test_what_is_left_open_follows_the_plan() -> None:
    values = chosen(world=2, plan=PLAN)
    assert (values.micro_batch_size, values.gradient_accumulation_steps) == (2, 4)
    assert (values.strategy, values.zero_stage) == ("zero3", 3)
    assert values.gradient_checkpointing is True
    reason = values.to_status()["microBatchSize"]["reason"]
    assert reason == "the largest divisor of 8 rows that fits; planned on big with 13Gi of each GPU"
    assert values.to_status()["gradientCheckpointing"]["value"] is True


def test_what_is_set_does_not_follow_the_plan() -> None:
    given = {"training": {"microBatchSize": 4, "gradientCheckpointing": False}, "distributed": {"strategy": "zero1"}}
    values = chosen(world=2, plan=PLAN, **given)
    assert (values.micro_batch_size, values.strategy, values.gradient_checkpointing) == (4, "zero1", False)
    assert values.to_status()["gradientCheckpointing"]["reason"] == "set in the spec"


@pytest.mark.parametrize("plan", [None, {}])
def test_without_a_plan_the_defaults_hold(plan: dict[str, Any] | None) -> None:
    values = chosen(world=2, plan=plan)
    assert (values.micro_batch_size, values.strategy, values.gradient_checkpointing) == (8, "ddp", False)


@pytest.mark.parametrize(("world", "micro", "steps"), [(1, 2, 8), (8, 2, 1), (16, 1, 1)])
def test_other_processes_than_planned_keep_the_strategy_and_at_most_the_micro_batch(
    world: int, micro: int, steps: int
) -> None:
    values = chosen(world=world, plan=PLAN)
    assert (values.micro_batch_size, values.gradient_accumulation_steps) == (micro, steps)
    assert (values.strategy, values.gradient_checkpointing) == ("zero3", True)
    assert all(entry["reason"] for entry in values.to_status().values())


@pytest.mark.parametrize(
    ("distributed", "strategy"),
    [
        ({"offload": "optimizer"}, "zero2"),
        ({"offload": "optimizer", "strategy": "zero1"}, "zero1"),
        ({"offload": "all"}, "zero3"),
        ({"offload": "optimizer", "nvmePath": "/nvme"}, "zero3"),
    ],
)
def test_offload_takes_a_strategy_that_has_it(distributed: dict[str, Any], strategy: str) -> None:
    for plan in (None, {"strategy": "ddp"}):
        values = chosen(distributed=distributed, plan=plan)
        assert (values.strategy, values.offload) == (strategy, distributed["offload"])
        assert values.to_status()["offload"]["value"] == distributed["offload"]
    assert "offload" not in chosen().to_status()


def test_a_planned_size_that_does_not_divide_the_share_is_not_taken() -> None:
    assert chosen(world=2, plan={**PLAN, "microBatchSize": 3}).micro_batch_size == 8


@pytest.mark.parametrize(
    ("training", "bf16", "facts", "packs", "reason"),
    [
        ({}, True, PackingFacts(), True, "has a kernel"),
        ({}, False, PackingFacts(), False, "like length"),
        ({"precision": "fp32"}, True, PackingFacts(), False, "like length"),
        ({}, True, PackingFacts(inexact="its rope differs"), False, "its rope differs"),
        ({}, True, PackingFacts(slow="it has a soft cap"), False, "it has a soft cap"),
        ({"packing": True}, False, PackingFacts(slow="it has a soft cap"), True, "set in the spec"),
        ({"packing": False}, True, PackingFacts(), False, "set in the spec"),
    ],
)
def test_packing(training: dict[str, Any], bf16: bool, facts: PackingFacts, packs: bool, reason: str) -> None:
    resolved = chosen(bf16=bf16, facts=facts, training=training)
    assert resolved.packing is packs
    assert reason in resolved.to_status()["packing"]["reason"]
    assert resolved.reasons["gradientAccumulationSteps"].startswith("at most") is packs


def test_packing_that_would_be_wrong_is_refused() -> None:
    with pytest.raises(StageError, match="packing: true, but its rope differs") as caught:
        chosen(training={"packing": True}, facts=PackingFacts(inexact="its rope differs"))
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "packing: false" in caught.value.remedy


def test_compiling_is_asked_for_and_not_under_zero3() -> None:
    assert chosen().compile is False
    assert chosen(training={"compile": True}).to_status()["compile"] == {"value": True, "reason": "set in the spec"}
    with pytest.raises(StageError, match="compile: true does not go with ZeRO 3"):
        chosen(training={"compile": True}, distributed={"strategy": "zero3"})
