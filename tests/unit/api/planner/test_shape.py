"""The planner's parameter counts, against those that the models' makers publish."""

import pytest

from tunesmith_api.planner import ModelShape, UnknownModel
from tunesmith_api.spec import ScratchSpec

# The sizes in these models' config.json on the hub, and the parameters that the hub counts in their files.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B": (
        {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
         "torch_dtype": "bfloat16"},
        8_030_261_248,
    ),
    "microsoft/Phi-3-mini-4k-instruct": (
        {"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "tie_word_embeddings": False,
         "torch_dtype": "bfloat16"},
        3_821_079_552,
    ),
    "Qwen/Qwen2.5-0.5B": (
        {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
         "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
         "torch_dtype": "bfloat16"},
        494_032_768,
    ),
    "google/gemma-2b": (
        {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
         "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000,
         "torch_dtype": "bfloat16"},
        2_506_172_416,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_are_those_that_are_published(name: str) -> None:
    config, parameters = PUBLISHED[name]
    shape = ModelShape.from_config(config)
    assert shape.parameters == parameters
    assert shape.weight_bytes == 2 * parameters


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "bert"}, "does not know model_type 'bert'"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"num_local_experts": 8}, "experts"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"torch_dtype": "int8"}, "dtype 'int8'"),
    ],
)
def test_what_is_not_known_is_said(change: dict[str, object], said: str) -> None:
    config, _ = PUBLISHED["meta-llama/Llama-3.1-8B"]
    with pytest.raises(UnknownModel, match=said):
        ModelShape.from_config({**config, **change})


def test_scratch() -> None:
    shape = ModelShape.of_scratch(ScratchSpec())
    assert (shape.layers, shape.hidden, shape.stored_bytes, shape.tied) == (4, 256, 4, False)


def test_scratch_of_another_family_is_not_known() -> None:
    with pytest.raises(UnknownModel, match="does not know the architecture t5"):
        ModelShape.of_scratch(ScratchSpec(architecture="t5"))
