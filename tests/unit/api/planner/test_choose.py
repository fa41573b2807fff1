"""What the planner chooses, and what it says where nothing fits."""

import re

import pytest
import yaml

from tunesmith_api.failures import StageError
from tunesmith_api.methods import METHODS
from tunesmith_api.planner import MACHINES, DataShape, DoesNotFit, Plan, choose, plan, price_list
from tunesmith_api.planner.plan import quantity
from tunesmith_api.spec import TrainingJobSpec
from tunesmith_api.spec.quantity import amount

from .jobs import LLAMA_8B, job, machine

ROWS = DataShape(rows=1000, longest=512, mean=300)
GIB = 2**30


def chosen(spec: TrainingJobSpec, *machines: object, data: DataShape = ROWS) -> Plan:
    found = choose(spec, LLAMA_8B, data, machines)  # type: ignore[arg-type]
    assert isinstance(found, Plan)
    return found


def test_the_strategy_with_the_least_communication_that_fits() -> None:
    """Full training of 8 billion parameters takes 16 bytes for each, so partitions are needed on fewer GPUs."""
    full = job(method="full", training={"globalBatchSize": 64})
    strategies = {gpus: chosen(full, machine("A100-80GB", gpus)).setup.strategy for gpus in (2, 4, 8)}
    assert strategies == {2: "zero3", 4: "zero1", 8: "zero1"}
    assert chosen(full, machine("H200", 2)).setup.strategy == "zero1"
    assert chosen(job(method="lora"), machine("A100-80GB", 4)).setup.strategy == "ddp"
    found = chosen(full, machine("A100-40GB", 4))
    assert found.setup.strategy == "zero3"
    assert found.reasons["strategy"] == "the least communication that fits"


def test_checkpointing_only_where_it_is_needed() -> None:
    longer = DataShape(rows=1000, longest=1024)
    small, large = chosen(job(), machine("A10"), data=longer), chosen(job(), machine("H200"))
    assert small.setup.gradient_checkpointing
    assert small.reasons["gradientCheckpointing"] == "needed to fit"
    assert not large.setup.gradient_checkpointing
    assert large.setup.micro_batch_size == 8
    assert small.setup.micro_batch_size * small.setup.gradient_accumulation_steps == 16


def test_what_the_spec_says_is_kept() -> None:
    training = {"microBatchSize": 2, "gradientCheckpointing": True}
    found = chosen(job(training=training, distributed={"strategy": "zero3"}), machine("H200", 2))
    setup = found.setup
    assert (setup.micro_batch_size, setup.gradient_checkpointing, setup.strategy) == (2, True, "zero3")
    assert found.reasons["microBatchSize"] == found.reasons["strategy"] == "set in the spec"


def test_the_cheapest_run_and_not_the_cheapest_hour() -> None:
    """A CPU costs a tenth of a GPU's hour and takes a hundred times as long."""
    cpu, gpu = machine(gpus=0, pricePerHour=0.4), machine("A100-80GB", pricePerHour=4)
    for data in (ROWS, DataShape()):  # also where the length of the run is not known
        assert chosen(job(), cpu, gpu, data=data).machine is gpu
    assert chosen(job(), gpu, machine("H200", pricePerHour=3)).machine.gpu == "H200"


def test_without_prices_the_smallest_that_is_not_very_slow() -> None:
    assert chosen(job(), machine("H200"), machine("A100-80GB"), machine("A100-80GB", 4)).machine.name == "1xA100-80GB"
    assert chosen(job(), machine("H200"), machine(gpus=0, cpus=4)).machine.gpu == "H200"
    few = DataShape(rows=16, longest=32, mean=32)
    assert chosen(job(training={"epochs": 1}), machine("H200"), machine(gpus=0, cpus=4), data=few).machine.gpu is None


def test_a_job_that_does_not_fit_is_refused_with_what_does() -> None:
    fixed = job(
        method="full",
        training={"microBatchSize": 4, "gradientCheckpointing": False, "maxLength": 4096, "globalBatchSize": 16},
        distributed={"strategy": "ddp"},
    )
    small = machine("A100-40GB", 2)
    found = choose(fixed, LLAMA_8B, DataShape(), [small], others=[machine("H200", 8)])
    assert isinstance(found, DoesNotFit)
    assert found.plan is not None and not found.plan.fits
    assert re.search(
        r"full of 8.03B parameters by ddp in 2 processes.* needs \d+(\.\d+)?Gi of memory of each GPU", (found.message)
    )
    assert "1: 39Gi" not in found.message and "2xA100-40GB has 39Gi" in found.message
    assert 1 <= len(found.nearest) <= 3
    for way in found.nearest:
        text, _, _ = way.partition(" (needs")
        changes = yaml.safe_load("{" + text + "}")
        resources = changes.pop("resources", {})
        spec = fixed.to_api()
        for name, value in changes.items():
            spec[name] = {**spec[name], **value} if isinstance(value, dict) else value
        changed = TrainingJobSpec.model_validate(spec)
        where = machine("H200", 8) if "machine" in resources else small
        again = choose(changed, LLAMA_8B, DataShape(), [where], nodes=resources.get("nodes", 1))
        assert isinstance(again, Plan), way


def test_what_does_not_fit_may_fit_with_offload_or_quantized_weights() -> None:
    small = machine("A100-40GB")
    for spec, wanted in (
        (job(method="full", distributed={"strategy": "ddp"}), "distributed: {strategy: zero2, offload: optimizer}"),
        (job(method="full"), "distributed: {offload: optimizer}"),
    ):
        found = choose(spec, LLAMA_8B, ROWS, [small])
        assert isinstance(found, DoesNotFit)
        assert found.nearest[0].startswith(f"{wanted} (needs ")
        changed = {**spec.to_api(), **yaml.safe_load("{" + wanted + "}")}
        assert isinstance(choose(TrainingJobSpec.model_validate(changed), LLAMA_8B, ROWS, [small]), Plan)
    found = choose(job(), LLAMA_8B, ROWS, [machine("T4")])
    assert isinstance(found, DoesNotFit)
    assert [way for way in found.nearest if way.startswith("method: qlora (needs ")]
    offloads = chosen(job(method="full", distributed={"offload": "optimizer"}), small)
    assert (offloads.setup.strategy, offloads.to_status()["offload"]) == ("zero2", "optimizer")
    assert offloads.stages["train"].memory > 16 * LLAMA_8B.parameters
    rows = price_list(job(distributed={"offload": "all"}), LLAMA_8B, ROWS, [small])
    assert {row.strategy for row in rows} == {"zero3"}


def test_a_batch_that_no_machine_can_share() -> None:
    found = choose(job(training={"globalBatchSize": 3}), LLAMA_8B, ROWS, [machine("H200", 2)])
    assert isinstance(found, DoesNotFit)
    assert found.plan is None
    assert "globalBatchSize 3 cannot be shared" in found.message
    with pytest.raises(StageError, match="globalBatchSize"):
        plan(job(training={"globalBatchSize": 3}), LLAMA_8B, ROWS, machine("H200", 2), 2)


def test_the_status_has_quantities_and_the_price() -> None:
    found = chosen(job(), machine("A100-80GB", pricePerHour=4))
    status = found.to_status()
    assert status["model"] == {"parameters": 8_030_261_248, "weights": "15Gi"}
    assert list(status["stages"]) == ["prepare", "train", "publish"]
    for need in status["stages"].values():
        assert amount(need["memory"]) % 1 == 0
    train = status["stages"]["train"]
    assert amount(train["gpuMemory"]) >= found.rank.total
    assert status["hours"] == pytest.approx(found.step_seconds * found.total_steps / 3600, abs=0.01)
    assert status["cost"] == pytest.approx(4 * found.hours, abs=0.01)
    assert amount(status["stages"]["publish"]["memory"]) <= 1.4 * LLAMA_8B.weight_bytes + 3e9 + GIB / 4


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (1, "1Mi"), (3 * 2**20, "3Mi"), (10.1 * GIB, "10.25Gi")])
def test_quantities_are_rounded_up(size: float, text: str) -> None:
    assert quantity(size) == text


def test_the_price_list_has_a_row_for_each_way() -> None:
    rows = price_list(job(), LLAMA_8B, ROWS, [*MACHINES[:2], machine("A100-80GB", 2)])
    assert {(row.method, row.strategy) for row in rows if row.processes == 2} == {
        (method, strategy)
        for method, info in METHODS.items()
        for strategy in ("ddp", "zero1", "zero2", "zero3")
        if strategy != "zero3" or info.partitions_weights
    }
    by_way = {(row.method, row.strategy): row for row in rows if row.processes == 2}
    assert not by_way["full", "ddp"].fits
    assert by_way["lora", "ddp"].fits
    assert all(row.fits == (row.need <= row.available) for row in by_way.values())


def test_a_classifier_is_planned_as_a_decoder_without_its_output_layer() -> None:
    formats = {"dataset": {"sources": [{"uri": "./rows.jsonl"}], "format": "textLabel"}}
    for method in ("full", "lora"):
        training = {"globalBatchSize": 64, "microBatchSize": 1, "gradientCheckpointing": True, "precision": "bf16"}
        generator = job(method=method, training=training)
        classifier = job(method=method, training=training, task="sequenceClassification", **formats)
        memory = [chosen(spec, machine("H200", 8)).stages["train"].gpu_memory or 0 for spec in (generator, classifier)]
        assert 0.5 * memory[0] < memory[1] < memory[0]
    weights = LLAMA_8B.parameters - LLAMA_8B.embedding  # all but the output layer
    assert memory[1] > 2 * weights
