"""export.kvCache goes with what can be rounded, and is refused elsewhere with what to write."""

from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith_api.spec import KvCache, TrainingJobSpec


def spec(task: str = "textGeneration", **export: Any) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(
        {
            "task": task,
            "model": {"uri": "hf://some/model"},
            "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
            "export": {"kvCache": "int8", **export},
        }
    )


@pytest.mark.parametrize("precisions", [None, ["int4"], ["int8"], ["int4", "int8"]])
def test_it_goes_with_rounded_weights(precisions: list[str] | None) -> None:
    assert spec(**({} if precisions is None else {"precisions": precisions})).export.kv_cache is KvCache.INT8


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"precisions": ["fp32"]}, r"write precisions: \[int4\], or remove kvCache"),
        ({"precisions": ["int4", "fp16"]}, r"write precisions: \[int4\], or remove kvCache"),
        ({"precisions": []}, r"write precisions: \[int4\], or remove kvCache"),
        ({"adapterOnly": True}, "remove kvCache, or write adapterOnly: false"),
        ({"task": "translation"}, "kvCache is for task: textGeneration"),
        ({"kvCache": "fp8"}, "int8"),
    ],
)
def test_other_jobs_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**fields)
