"""What the table of exportable configurations accepts is exported as transformers computes it, by the server's decoder.

Rows are longer than the sliding windows and than the original lengths of position embeddings.
"""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from support.random_configs import FAMILIES, random_config
from support.tiny_models import train_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_api.spec import Precision
from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_trainer.export.exporter import Exporter
from tunesmith_trainer.export.expressible import ROPE_TYPES
from tunesmith_trainer.models.context import served_positions
from tunesmith_trainer.models.loading import context_length, load_model
from tunesmith_trainer.models.weights_check import check_weights, read_architecture
from tunesmith_trainer.tasks.registry import task_of

SAMPLE = 14
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 52,
    "intermediate_size": 70,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ORIGINAL = 32
ROPE_FIELDS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "longrope": {
        "factor": 4.0,
        "short_factor": [1.0 + index / 8 for index in range(8)],
        "long_factor": [2.0 + index / 4 for index in range(8)],
        "original_max_position_embeddings": ORIGINAL,
    },
}
FAMILY_FIELDS: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 16, "query_pre_attn_scalar": 16},
    "mistral": {"sliding_window": 16},
    "phi3": {"sliding_window": 16, "hidden_size": 64, "original_max_position_embeddings": ORIGINAL},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
}


def save_model(folder: Path, config: dict[str, Any]) -> Path:
    """Save a random model of a configuration, whose config.json stays as given."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases would be all ones and zeros
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    train_tokenizer().save_pretrained(folder)
    return folder


def check_export(exporter: Exporter, model: Path, folder: Path) -> None:
    """Compare an fp32 export with torch: a whole prompt in chunks, then two rows decoded together."""
    import torch

    architecture = read_architecture(model, "model")
    check_weights(model, "model", architecture)
    positions = served_positions(architecture.config.to_dict())
    assert positions
    exporter.export(model, folder, Precision.FP32)
    reference = load_model(model)
    assert context_length(reference) == positions
    served = json.loads((folder / "genai_config.json").read_text())
    assert served["model"]["context_length"] == positions
    files = frozenset(path.name for path in folder.iterdir())
    artifact = Artifact("tiny", folder.parent, folder, files, {})
    decoder = OnnxDecoder(artifact, 2, positions, positions, 1)
    rows = np.random.default_rng(0).integers(3, 500, (2, positions - 1))
    with torch.inference_mode():
        expected = [reference(torch.from_numpy(row[None])).logits[0].numpy() for row in rows]
    bound = 2e-4 * max(1.0, float(np.abs(expected).max()))
    start = [positions // 3, positions // 2]
    for slot, row in enumerate(rows):
        decoder.prefill(slot, row[:5], 0)
        logits = decoder.prefill(slot, row[5 : start[slot]], 5)
        assert np.abs(logits - expected[slot][start[slot] - 1]).max() < bound
    for step in range(positions - 1 - start[1]):
        at = [length + step for length in start]
        logits = decoder.decode([int(row[index]) for row, index in zip(rows, at, strict=True)], at, [None, None])
        for slot, index in enumerate(at):
            assert np.abs(logits[slot] - expected[slot][index]).max() < bound, (slot, index)


@pytest.fixture
def check(exporter: Exporter, tmp_path: Path) -> Callable[[dict[str, Any]], None]:
    def run(config: dict[str, Any]) -> None:
        check_export(exporter, save_model(tmp_path / "model", config), tmp_path / "fp32")

    return run


@pytest.mark.parametrize("kind", ROPE_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_with_every_position_embedding(
    family: str, kind: str, check: Callable[[dict[str, Any]], None]
) -> None:
    if family == "phi3" and kind not in ("default", "longrope"):
        pytest.skip("transformers' Phi-3 has no other")
    name = {"gemma": "Gemma", "gemma2": "Gemma2"}.get(family, family.capitalize())
    rope = {"rope_type": kind, "rope_theta": 10_000.0, **ROPE_FIELDS[kind]}
    check(
        {
            "architectures": [f"{name}ForCausalLM"],
            "model_type": family,
            **SIZES,
            **FAMILY_FIELDS.get(family, {}),
            "rope_parameters": rope,
        }
    )


def test_fields_that_transformers_ignores_change_nothing(check: Callable[[dict[str, Any]], None]) -> None:
    ignored = {"sliding_window": 8, "layer_types": ["sliding_attention"] * 2, "attn_logit_softcapping": 5.0}
    check({"architectures": ["LlamaForCausalLM"], "model_type": "llama", **SIZES, **ignored})


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_random_configurations_that_are_accepted(
    seed: int, tmp_path: Path, check: Callable[[dict[str, Any]], None]
) -> None:
    random = Random(1000 + seed)
    while True:
        config = random_config(random)
        (tmp_path / "config.json").write_text(json.dumps(config))
        try:
            architecture = read_architecture(tmp_path, "model")
            task_of("textGeneration").check_configuration(architecture.config.to_dict(), "model")
        except StageError:
            continue
        check(config)
        return
