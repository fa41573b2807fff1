from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from support.lora_artifacts import make_base
from support.repeating_model import repeating_artifact
from support.serving_process import ServingProcess
from support.shared import made_once
from support.tiny_models import build_model, make_artifact
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer
from tunesmith_serving.runtime.config import ServingConfig


@pytest.fixture(scope="session")
def hf_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("models") / "llama.hf")


@pytest.fixture(scope="session")
def artifact(hf_llama: Path) -> Path:
    """A tiny Llama in fp32 and int4; never to be changed."""
    return make_artifact(hf_llama.with_name("llama"), precisions=("fp32", "int4"), model_folder=hf_llama)


@pytest.fixture(scope="session")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in fp32 and int4 that has learned the sentences of the corpus; never to be changed."""
    return made_once(tmp_path_factory, "repeating", lambda folder: repeating_artifact(folder, ("fp32", "int4")))


@pytest.fixture(scope="session")
def lora_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in fp32 that takes adapters; never to be changed."""
    return make_base(tmp_path_factory.mktemp("lora") / "base")


def config(**options: object) -> ServingConfig:
    given = {"precision": "fp32", "threads": 1, "context_length": 512, "prefill_chunk": 32, **options}
    return ServingConfig.model_validate(given)


def load_engine(artifact: Path, config: ServingConfig) -> TextGenerationEngine:
    return TextGenerationEngine.load(open_artifact(artifact, config.precision, config.expect_digest), config)


@pytest.fixture
def load(artifact: Path) -> Iterator[object]:
    """Loads the artifact with the given options; engines are closed at the end."""
    loaded: list[TextGenerationEngine] = []

    def start(**options: object) -> TextGenerationEngine:
        loaded.append(load_engine(artifact, config(**options)))
        return loaded[-1]

    yield start
    for model in loaded:
        model.close()


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[ServingProcess]:
    """Four slots, a queue of four."""
    options = ("--precision", "fp32", "--model-name", "tiny", "--slots", "4", "--max-queue", "4", "--threads", "1")
    with ServingProcess(artifact, *options, "--context-length", "512") as process:
        yield process


@pytest.fixture
def client(server: ServingProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def tokenizer(artifact: Path) -> Tokenizer:
    return Tokenizer((artifact / "onnx" / "fp32" / "tokenizer.json").read_text())
