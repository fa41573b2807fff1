"""What several tests share: one exporter process, and each model exported once in it."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tunesmith_api.spec import Precision
from tunesmith_trainer.export.exporter import Exporter


@pytest.fixture(scope="session")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("exporter") / "export.log") as running:
        yield running


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny random model of an architecture, by its class name.

    After a slash comes how many key and value heads it has: two of four by default.
    """

    @lru_cache
    def build(name: str) -> Path:
        import torch
        import transformers

        from support.tiny_models import train_tokenizer

        architecture, _, kv_heads = name.partition("/")
        folder = tmp_path_factory.mktemp(architecture)
        tokenizer = train_tokenizer()
        config = getattr(transformers, architecture.replace("ForCausalLM", "Config"))(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=int(kv_heads or 2),
            head_dim=16,
            max_position_embeddings=128,
            initializer_range=0.2,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        if architecture == "Phi3ForCausalLM":
            config.original_max_position_embeddings = 128
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def export_of(
    exporter: Exporter, model_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Precision], Path]:
    """Gives the folder of an exported model, by class name and precision. Not to be changed."""

    @lru_cache
    def export(architecture: str, precision: Precision) -> Path:
        folder = tmp_path_factory.mktemp("onnx") / precision.value
        exporter.export(model_of(architecture), folder, precision)
        return folder

    return export
