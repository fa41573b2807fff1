"""From an artifact on disk to a running engine."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith_serving.artifact import Artifact, open_artifact
from tunesmith_serving.config import ServingConfig
from tunesmith_serving.engine.decoder import OnnxDecoder
from tunesmith_serving.engine.engine import Engine
from tunesmith_serving.engine.types import GenerationRequest, SamplingParams
from tunesmith_serving.text.template import ChatTemplate, load_chat_template
from tunesmith_serving.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """Everything that answering takes."""

    artifact: Artifact
    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate | None

    def warm_up(self, timeout: float | None = None) -> None:
        """Generate two tokens, so that the first user does not pay for the first run of each kernel.

        Raises:
            EngineFailedError: The model does not run.
        """
        self.engine.generate(GenerationRequest((0, 1), SamplingParams(max_tokens=2, temperature=0)), timeout)


def load_model(folder: Path | str, config: ServingConfig) -> LoadedModel:
    """Verify and load an artifact and start its engine.

    Raises:
        ArtifactError: The artifact cannot be served; the message says why.
        MemoryShortageError: It does not fit in memory.
    """
    artifact = open_artifact(folder, config.precision, config.expect_digest)
    tokenizer_config = artifact.read_json("tokenizer_config.json")
    tokenizer = Tokenizer(artifact.read_text("tokenizer.json") or "")
    template = load_chat_template(artifact.read_text("chat_template.jinja"), tokenizer_config)
    decoder = OnnxDecoder(
        artifact,
        slots=config.max_batch_size,
        context_length=config.context_length,
        prefill_chunk=config.prefill_chunk,
        threads=config.threads,
    )
    stop = set(decoder.spec.eos_token_ids)
    eos = tokenizer_config.get("eos_token")
    name = eos.get("content") if isinstance(eos, dict) else eos
    if isinstance(name, str) and (index := tokenizer.token_id(name)) is not None:
        stop.add(index)
    engine = Engine(decoder, tokenizer, config.max_queue_length, frozenset(stop))
    return LoadedModel(artifact, engine, tokenizer, template)
