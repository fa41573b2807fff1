"""Running out of memory, however it is raised, ends as OutOfMemory with ways out."""

import json
from pathlib import Path

import pytest
import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.failures import translate_oom

CONFIG = JobConfig.model_validate(
    {
        "name": "job",
        "spec": {"model": {"scratch": {}}, "method": "full", "dataset": {"sources": [{"uri": "./rows.jsonl"}]}},
    }
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in ...", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_it_is_told_with_ways_out(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught, translate_oom(CONFIG, WorkFolder(tmp_path)):
        raise error
    assert caught.value.reason is Reason.OUT_OF_MEMORY
    assert caught.value.__cause__ is error
    assert "\n" not in caught.value.message
    assert caught.value.remedy.startswith("Set spec.training.microBatchSize: 1, or ")
    assert "set spec.method: lora" in caught.value.remedy


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("no")])
def test_other_errors_are_left_alone(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, translate_oom(CONFIG, WorkFolder(tmp_path)):
        raise error
    assert caught.value is error


def test_what_the_plan_has_chosen_already_is_not_advised(tmp_path: Path) -> None:
    (tmp_path / "prepare").mkdir()
    plan = {"microBatchSize": 1, "gradientCheckpointing": True, "strategy": "zero3"}
    (tmp_path / "prepare" / "stage.json").write_text(json.dumps({"plan": plan}))
    with pytest.raises(StageError) as caught, translate_oom(CONFIG, WorkFolder(tmp_path)):
        raise MemoryError
    assert caught.value.remedy == "Lower spec.training.maxLength (now 1024), or set spec.method: lora"
