"""export.int4BlockSize goes with what is exported in int4, and is refused elsewhere with what to write."""

from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith_api.spec import TrainingJobSpec


def spec(task: str = "textGeneration", **export: Any) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(
        {
            "task": task,
            "model": {"uri": "hf://some/model"},
            "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
            "export": {"int4BlockSize": 64, **export},
        }
    )


@pytest.mark.parametrize("precisions", [None, ["int4"], ["int8", "int4"]])
def test_it_goes_with_int4(precisions: list[str] | None) -> None:
    assert spec(**({} if precisions is None else {"precisions": precisions})).export.int4_block_size == 64


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"precisions": ["fp32"]}, r"write precisions: \[int4\], or remove int4BlockSize"),
        ({"precisions": []}, r"write precisions: \[int4\], or remove int4BlockSize"),
        ({"adapterOnly": True}, "remove int4BlockSize, or write adapterOnly: false"),
        ({"task": "translation"}, "int4BlockSize is for task: textGeneration"),
        ({"int4BlockSize": 48}, "32, 64 or 128"),
    ],
)
def test_other_jobs_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**fields)
