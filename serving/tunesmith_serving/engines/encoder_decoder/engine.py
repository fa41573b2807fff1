"""The encoder-decoder engine: a translation model behind the engine protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.encoder_decoder.api.predictor import TranslationPredictor
from tunesmith_serving.engines.encoder_decoder.batching.batcher import TranslationBatcher
from tunesmith_serving.engines.encoder_decoder.model.settings import DecodingSettings, TaskSettings
from tunesmith_serving.engines.encoder_decoder.model.translator import DECODER, ENCODER, OnnxTranslator
from tunesmith_serving.engines.encoder_decoder.text.source import SourceTokenizer
from tunesmith_serving.engines.predictor import ModelCard
from tunesmith_serving.engines.providers import provider_of
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
    predictor: TranslationPredictor

    @classmethod
    def load(cls, artifact: Artifact, config: ServingConfig) -> EncoderDecoderEngine:
        """Load a verified artifact and start its batcher.

        Raises:
            ArtifactError: The artifact cannot be served.
        """
        artifact.require(*FILES)
        task, settings = TaskSettings.read(artifact), DecodingSettings.read(artifact)
        tokenizer = SourceTokenizer(artifact.read_text("tokenizer.json") or "", task, settings.start)
        model = OnnxTranslator(artifact, settings.pad, config.threads, provider_of(config))
        batcher = TranslationBatcher(
            model,
            tokenizer,
            settings,
            slots=config.max_batch_size,
            max_queue_length=config.max_queue_length,
            context_length=config.context_length,
            max_new_tokens=task.max_length,
        )
        card = card_of(artifact, config, batcher.longest_source)
        return cls(artifact, batcher, tokenizer, card, TranslationPredictor(batcher, card, tokenizer))

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Return the answer to each input; see `engines.predictor.Predictor`."""
        return await self.predictor.predict(inputs, parameters)

    def prompt_ids(self, value: Any, parameters: Mapping[str, Any]) -> list[int]:  # noqa: ANN401 - JSON
        """Return the token ids that the model gets of one input."""
        return self.predictor.prompt_ids(value, parameters)

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
