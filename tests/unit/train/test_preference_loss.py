"""The losses of pairs beside their formulas, and what a job with them resolves to and plans."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tunesmith_api.planner import DataShape, Machine, ModelShape, plan
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import DpoSpec, TrainingJobSpec
from tunesmith_trainer.tasks.preferences.loss import Comparison

JOB = {"model": {"scratch": {}}, "dataset": {"sources": [{"uri": "./a.jsonl"}]}}


def job(**fields: Any) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate({**JOB, "objective": "dpo", **fields})


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_losses_are_those_of_the_papers() -> None:
    logps = torch.tensor([[-5.0, -40.0, -3.0], [-9.0, -30.0, -3.0]])
    reference = torch.tensor([[-6.0, -38.0, -3.0], [-7.0, -31.0, -3.0]], dtype=torch.float64)
    tokens = torch.tensor([[4, 10, 2], [2, 20, 2]])
    pairs = Comparison.of(logps, reference, tokens)
    rises = [(1.0, -2.0), (-2.0, 1.0), (0.0, 0.0)]
    per_token = [a / m - b / n for (a, b), (m, n) in zip(rises, [(4, 2), (10, 20), (2, 2)], strict=True)]

    def losses(**fields: Any) -> list[float]:
        return pairs.losses(DpoSpec.model_validate(fields)).tolist()

    assert losses(beta=0.2) == pytest.approx([-math.log(sigmoid(0.2 * (a - b))) for a, b in rises])
    assert losses(beta=0.5, lossType="ipo") == pytest.approx([(x - 1) ** 2 for x in per_token])
    assert losses(beta=3, lossType="sigmoidNorm") == pytest.approx([-math.log(sigmoid(3 * x)) for x in per_token])
    robust = [
        (-0.9 * math.log(sigmoid(0.2 * (a - b))) + 0.1 * math.log(sigmoid(-0.2 * (a - b)))) / 0.8 for a, b in rises
    ]
    assert losses(beta=0.2, lossType="robust") == pytest.approx(robust)
    accuracy, margin = pairs.rewards(DpoSpec(beta=0.2))
    assert accuracy.tolist() == [1, 0, 0.5]
    assert margin.tolist() == pytest.approx([0.6, -0.6, 0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"task": "translation", "model": {"uri": "./model"}},
            "objective: dpo compares answers of a model that generates text",
        ),
        ({"objective": "supervised", "dpo": {}}, "dpo has no meaning with objective: supervised"),
        ({"dataset": {**JOB["dataset"], "format": "text"}}, "write format: preference"),
        ({"objective": "supervised", "dataset": {**JOB["dataset"], "format": "preference"}}, "write objective: dpo"),
        (
            {"objective": "supervised", "evaluation": {"gates": [{"metric": "rewardAccuracy", "min": 1}]}},
            "metrics of objective: dpo",
        ),
        ({"training": {"packing": True}}, "training.packing: true does not go with objective: dpo"),
        ({"training": {"lossOn": "all"}}, "training.lossOn: all has no meaning with objective: dpo"),
        ({"dpo": {"labelSmoothing": 0.1}}, "labelSmoothing belongs to the robust loss"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        job(**fields)


@pytest.mark.parametrize(("method", "rate"), [("full", 1e-6), ("lora", 1e-5), ("ia3", 1.5e-4)])
def test_the_learning_rate_is_a_twentieth(method: str, rate: float) -> None:
    spec = job(method=method, model={"uri": "./model"})
    found = resolve(spec, 1, 100, has_bf16=True)
    assert found.learning_rate == pytest.approx(rate)
    assert found.packing is False
    assert "objective dpo" in found.reasons["learningRate"]
    assert resolve(job(training={"learningRate": 0.5}), 1, 100, has_bf16=False).learning_rate == 0.5


def test_a_pair_is_planned_as_two_sequences() -> None:
    spec = job(model={"uri": "./model"}, training={"microBatchSize": 2, "gradientCheckpointing": False})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1000, "hidden_size": 256,
        "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 2048, "head_dim": 64, "tie_word_embeddings": False,
    }  # fmt: skip
    shape, machine = ModelShape.from_config(config), Machine(name="own", cpus=4, memory=2**36)
    supervised = spec.model_copy(update={"objective": "supervised"})
    doubled = supervised.model_copy(update={"training": spec.training.model_copy(update={"micro_batch_size": 4})})
    pairs = plan(spec, shape, DataShape(100, 512, 600.0), machine, 1)
    rows = plan(doubled, shape, DataShape(100, 512, 300.0), machine, 1)
    assert pairs.setup.batch_sequences == rows.setup.batch_sequences == 4
    assert pairs.rank.total == rows.rank.total > plan(supervised, shape, DataShape(100, 512), machine, 1).rank.total
    assert pairs.step_seconds == pytest.approx(2 * rows.step_seconds)
    assert pairs.hours is not None and pairs.total_steps is not None
    assert pairs.hours * 3600 > pairs.total_steps * pairs.step_seconds
