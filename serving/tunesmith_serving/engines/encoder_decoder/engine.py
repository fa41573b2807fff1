"""The encoder-decoder engine: a translation model behind the engine protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.encoder_decoder.batching.batcher import TranslationBatcher
from tunesmith_serving.engines.encoder_decoder.model.settings import DecodingSettings, TaskSettings
from tunesmith_serving.engines.encoder_decoder.model.translator import DECODER, ENCODER, OnnxTranslator
from tunesmith_serving.engines.encoder_decoder.text.source import SourceTokenizer
from tunesmith_serving.engines.predictor import ModelCard
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.statistics import generation_statistics
from tunesmith_serving.engines.text_generation.task_api.predictor import card_of
from tunesmith_serving.runtime.config import ServingConfig

if TYPE_CHECKING:
    from fastapi import APIRouter

    from tunesmith_serving.http.context import ServerContext

FILES = (ENCODER, DECODER, "config.json", "generation_config.json", "task.json", "tokenizer.json")


@dataclass(frozen=True)
class EncoderDecoderEngine:
    """A translation model that is served."""

    artifact: Artifact
    batcher: TranslationBatcher
    tokenizer: SourceTokenizer
    card: ModelCard

    @classmethod
    def load(cls, artifact: Artifact, config: ServingConfig) -> EncoderDecoderEngine:
        """Load a verified artifact and start its batcher.

        Raises:
            ArtifactError: The artifact cannot be served.
        """
        artifact.require(*FILES)
        task, settings = TaskSettings.read(artifact), DecodingSettings.read(artifact)
        tokenizer = load_tokenizer(artifact, task)
        model = OnnxTranslator(artifact, settings.pad, config.threads)
        batcher = TranslationBatcher(
            model,
            tokenizer,
            settings,
            slots=config.max_batch_size,
            max_queue_length=config.max_queue_length,
            context_length=config.context_length,
            max_new_tokens=task.max_length,
        )
        return cls(artifact, batcher, tokenizer, card_of(artifact, config, batcher.longest_source))

    @property
    def healthy(self) -> bool:
        """Whether the batcher's worker is alive."""
        return self.batcher.healthy

    def warm_up(self, timeout: float | None = None) -> None:
        """Translate something short: the first run of each kernel is slow.

        Raises:
            EngineFailedError: The model does not run.
            TimeoutError: It has not answered within `timeout` seconds.
        """
        source = tuple(self.tokenizer.source("a"))
        self.batcher.generate(GenerationRequest(source, SamplingParams(max_tokens=2, temperature=0)), timeout)

    def routes(self, context: ServerContext) -> APIRouter:
        """Return the routes of chat completions, and those of the protocols of tasks."""
        # Imported here, so that the engine can be used without an HTTP framework.
        from tunesmith_serving.engines.encoder_decoder.api.routes import create_routes

        return create_routes(self.batcher, self.tokenizer, self.card, context)

    def statistics(self) -> Sequence[Statistic]:
        """Return the batcher's counters."""
        return generation_statistics(self.batcher.stats())

    def start_draining(self) -> None:
        """Refuse new requests; finish those that were accepted."""
        self.batcher.start_draining()

    def close(self) -> None:
        """Stop the batcher's worker; requests that are not finished end with an error."""
        self.batcher.close()


def load_tokenizer(artifact: Artifact, task: TaskSettings | None = None) -> SourceTokenizer:
    """Return an artifact's tokenizer.

    Raises:
        ArtifactError: It cannot be loaded.
    """
    return SourceTokenizer(artifact.read_text("tokenizer.json") or "", task or TaskSettings.read(artifact))
