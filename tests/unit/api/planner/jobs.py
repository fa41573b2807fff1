"""Jobs, models and machines of the planner's tests."""

from typing import Any

from support import model_configs
from tunesmith_api.planner import Machine, ModelShape
from tunesmith_api.spec import TrainingJobSpec

LLAMA_8B = ModelShape.from_config(model_configs.LLAMA_8B)


def job(**fields: Any) -> TrainingJobSpec:
    """A job on a model from the hub."""
    return TrainingJobSpec.model_validate(
        {
            "model": {"uri": "hf://meta-llama/Llama-3.1-8B"},
            "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
            **fields,
        }
    )


def machine(gpu: str | None = "A100-80GB", gpus: int = 1, **fields: Any) -> Machine:
    """A machine with as much memory as a GPU job needs."""
    return Machine.model_validate(
        {
            "name": f"{gpus}x{gpu}" if gpus else "cpu",
            "cpus": 16,
            "memory": "800Gi",
            "gpu": gpu if gpus else None,
            "gpus": gpus,
            **fields,
        }
    )
