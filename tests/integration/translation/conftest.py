"""What several tests share: tiny random models of each family, their exports and rows."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from support.tiny_tasks import Family, build_task_model
from tunesmith_api.spec import Precision
from tunesmith_trainer.data.token_store import TokenStore, TokenStoreWriter


@pytest.fixture(scope="session")
def translator_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Gives the folder of a tiny random model of a family. Not to be changed."""

    @lru_cache
    def build(family: Family) -> Path:
        # T5's encoder and decoder can differ; where they do, transformers' own cache is wrong.
        own = {"num_decoder_layers": 3} if family == "t5" else {}
        return build_task_model(tmp_path_factory.mktemp(family), family, **own)

    return build


@pytest.fixture(scope="session")
def translation_of(
    translator_of: Callable[[Family], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Family, Precision], Path]:
    """Gives the folder of an exported model, by family and precision. Not to be changed."""

    @lru_cache
    def export(family: Family, precision: Precision) -> Path:
        from tunesmith_trainer.export.encoder_decoder.exporter import EncoderDecoderExporter

        folder = tmp_path_factory.mktemp("onnx") / precision.value
        EncoderDecoderExporter({"task": "translation"}).export(translator_of(family), folder, precision)
        return folder

    return export


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Rows of random tokens, of 1 to 20 each."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    with TokenStoreWriter(folder) as writer:
        for _ in range(20):
            source, target = (random.integers(5, 100, random.integers(1, 20)).tolist() for _ in range(2))
            writer.add(source, [1] * len(source), target)
    return TokenStore.open(folder)
