"""Jobs, models and machines of the planner's tests."""

from typing import Any

from tunesmith_api.planner import Machine, ModelShape
from tunesmith_api.spec import TrainingJobSpec

LLAMA_8B = ModelShape.from_config(
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "dtype": "bfloat16",
    }
)


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
