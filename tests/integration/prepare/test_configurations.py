"""Random configurations of every family: each is accepted or refused with a reason, and never ends otherwise."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from support.random_configs import FAMILIES, random_config
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.weights_check import read_architecture
from tunesmith_trainer.tasks.registry import task_of

CONFIGURATIONS = 2000


def refusal(folder: Path, config: dict[str, object]) -> StageError | None:
    (folder / "config.json").write_text(json.dumps(config))
    try:
        architecture = read_architecture(folder, "acme/model")
        task_of("textGeneration").check_configuration(architecture.config.to_dict(), "acme/model")
    except StageError as error:
        return error
    return None


def test_a_configuration_is_accepted_or_refused_with_a_reason(tmp_path: Path) -> None:
    random = Random(0)
    accepted: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    for _ in range(CONFIGURATIONS):
        config = random_config(random, broken=0.3)
        error = refusal(tmp_path, config)
        if error is None:
            accepted[config["model_type"]] += 1
            continue
        assert error.reason is Reason.INVALID_MODEL, config
        assert error.message.startswith("acme/model: "), config
        assert error.remedy, config
        problems[error.message.removeprefix("acme/model: ").split(":")[0]] += 1
    assert set(FAMILIES) <= set(accepted), accepted
    assert min(accepted[family] for family in FAMILIES) >= 20, accepted
    assert {"it cannot be exported", "transformers cannot build the model that config.json describes"} == set(problems)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"head_dim": 24}, "an attention head has 24 dimensions"),
        ({"hidden_act": "tanh"}, "hidden_act is 'tanh'"),
        ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}, "rope_type is 'proportional'"),
        ({"num_key_value_heads": 3}, "num_attention_heads is 4, which num_key_value_heads 3 does not divide"),
        ({"architectures": ["GPT2LMHeadModel"]}, "the architecture GPT2LMHeadModel cannot be exported"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"hidden_size": "many"}, "hidden_size"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    fine = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": 32,
    }
    assert refusal(tmp_path, fine) is None
    error = refusal(tmp_path, {**fine, **change})
    assert error is not None
    assert problem in error.message
