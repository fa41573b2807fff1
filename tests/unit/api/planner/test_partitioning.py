"""A method whose weights cannot be partitioned is never planned with ZeRO 3, nor advised to take it."""

import pytest
from pydantic import ValidationError

from tunesmith_api.advice import another_way
from tunesmith_api.choices.spread import strategies_of
from tunesmith_api.methods import METHODS
from tunesmith_api.planner.price_list import _strategies
from tunesmith_api.spec import TrainingJobSpec

WHOLE = sorted(name for name, info in METHODS.items() if not info.partitions_weights)


def spec(method: str, **distributed: str) -> TrainingJobSpec:
    values = {"model": {"uri": "./model"}, "dataset": {"sources": [{"uri": "./rows.jsonl"}]}}
    return TrainingJobSpec.model_validate({**values, "method": method, "distributed": distributed})


@pytest.mark.parametrize("method", WHOLE)
@pytest.mark.parametrize("distributed", [{"strategy": "zero3"}, {"offload": "all"}, {"nvmePath": "/nvme"}])
def test_it_is_refused_with_what_works_instead(method: str, distributed: dict[str, str]) -> None:
    extra = {"offload": "optimizer"} if "nvmePath" in distributed else {}
    with pytest.raises(ValidationError, match=f"method: {method} does not go with zero3.*write strategy: zero2"):
        spec(method, **distributed, **extra)
    spec("lora", **distributed, **extra)
    spec(method, strategy="zero2")


@pytest.mark.parametrize("method", WHOLE)
def test_it_is_not_planned_nor_advised(method: str) -> None:
    assert strategies_of(spec(method), 8) == ("ddp", "zero1", "zero2")
    assert strategies_of(spec(method, offload="optimizer"), 8) == ("zero2",)
    assert strategies_of(spec("lora"), 8)[-1] == "zero3"
    assert "zero3" not in _strategies(spec("lora"), method, 8)
    assert another_way(spec(method)) == ["set distributed.strategy: zero2 with more processes"]


def test_there_is_one() -> None:
    assert WHOLE == ["loha"]
