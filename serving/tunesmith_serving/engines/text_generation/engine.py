"""The text-generation engine: an artifact's decoder, tokenizer and chat template behind the engine protocol."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith_api.artifact import MODEL_FILES
from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.predictor import ModelCard
from tunesmith_serving.engines.providers import provider_of
from tunesmith_serving.engines.text_generation.adapters.loading import lora_base
from tunesmith_serving.engines.text_generation.adapters.statistics import adapter_statistics
from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore
from tunesmith_serving.engines.text_generation.adapters.watching import AdapterWatcher
from tunesmith_serving.engines.text_generation.batch_precision import open_batch
from tunesmith_serving.engines.text_generation.batching.batcher import ContinuousBatcher
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.speculation.loading import DraftArtifact
from tunesmith_serving.engines.text_generation.batching.types import GenerationRequest, SamplingParams
from tunesmith_serving.engines.text_generation.statistics import generation_statistics
from tunesmith_serving.engines.text_generation.task_api.generation import TextPredictor
from tunesmith_serving.engines.text_generation.task_api.predictor import card_of
from tunesmith_serving.engines.text_generation.text.loading import load_text
from tunesmith_serving.engines.text_generation.text.template import ChatTemplate
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.retry import RetryEstimator

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from fastapi import APIRouter

    from tunesmith_serving.http.context import ServerContext

ADAPTER_SECONDS = 60
"""The longest that a server waits for the adapters that are listed when it starts."""


@dataclass(frozen=True)
class TextGenerationEngine:
    """A text model that is served."""

    artifact: Artifact
    batcher: ContinuousBatcher
    tokenizer: Tokenizer
    template: ChatTemplate | None
    card: ModelCard
    stop_token_ids: frozenset[int]
    adapters: AdapterStore = field(default_factory=AdapterStore)
    watcher: AdapterWatcher | None = None

    @classmethod
    def load(cls, artifact: Artifact, config: ServingConfig) -> TextGenerationEngine:
        """Load a verified artifact and start its batcher.

        Raises:
            ArtifactError: The artifact cannot be served.
            MemoryShortageError: The model does not fit in memory.
        """
        artifact.require(*MODEL_FILES)
        tokenizer, template, eos_tokens = load_text(artifact)
        # Loaded first: the keys and values of both share what memory is left.
        draft = DraftArtifact(artifact, tokenizer, config) if config.draft_model else None
        decoder = OnnxDecoder(
            artifact,
            slots=config.max_batch_size,
            context_length=config.context_length,
            prefill_chunk=config.prefill_chunk,
            threads=config.threads,
            prefix_memory=config.prefix_cache_bytes,
            provider=provider_of(config),
            batch=open_batch(artifact, config),
            draft_token_bytes=draft.token_bytes if draft else 0,
        )
        if decoder.context_length < decoder.wanted_context:
            logger.warning(
                "there is memory for the keys and values of %d tokens: contextLength is lowered from %d to that; "
                "give the server more memory, or lower contextLength",
                decoder.context_length,
                decoder.wanted_context,
            )
        stop = decoder.spec.eos_token_ids | eos_tokens
        adapters = AdapterStore(config.model_name)
        batcher = ContinuousBatcher(
            decoder,
            tokenizer,
            config.max_queue_length,
            stop,
            adapters,
            config.draft_tokens,
            draft.beside(decoder) if draft else None,
        )
        watcher = None
        if config.adapters:
            watcher = AdapterWatcher(Path(config.adapters), adapters, lora_base(artifact), config.model_name)
        card = card_of(artifact, config, batcher.context_length)
        return cls(artifact, batcher, tokenizer, template, card, stop, adapters, watcher)

    @property
    def healthy(self) -> bool:
        """Whether the batcher's worker is alive."""
        return self.batcher.healthy

    def warm_up(self, timeout: float | None = None) -> None:
        """Load the adapters that are listed, and generate two tokens: the first run of each kernel is slow.

        Raises:
            EngineFailedError: The model does not run.
            TimeoutError: It has not answered within `timeout` seconds.
        """
        if self.watcher is not None:
            self.watcher.settle(ADAPTER_SECONDS)
        self.batcher.generate(GenerationRequest((0, 1), SamplingParams(max_tokens=2, temperature=0)), timeout)

    def routes(self, context: ServerContext) -> APIRouter:
        """Return the routes of OpenAI's API, and those of the protocols of tasks."""
        # Imported here, so that the engine can be used without an HTTP framework.
        from tunesmith_serving.engines.text_generation.openai.routes import create_routes
        from tunesmith_serving.engines.text_generation.openai.timing import TokenMetrics
        from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
        from tunesmith_serving.protocols.routes import create_task_routes

        metrics, retry = TokenMetrics(context.metrics), RetryEstimator()
        compiler = GrammarCompiler(self.tokenizer, self.batcher.vocab_size, self.stop_token_ids)
        predictor = TextPredictor(
            self.batcher, self.card, self.tokenizer, self.stop_token_ids, compiler, retry, metrics.timer
        )
        router = create_routes(
            self.batcher, self.tokenizer, self.template, compiler, context, metrics, retry, self.adapters
        )
        router.include_router(create_task_routes(predictor, context, models=False))
        return router

    def statistics(self) -> Sequence[Statistic]:
        """Return the batcher's counters, and those of the adapters."""
        return (*generation_statistics(self.batcher.stats()), *adapter_statistics(self.adapters))

    def adapter_names(self) -> Sequence[str]:
        """Return the names of the adapters that requests can give as their model now."""
        return [adapter.name for adapter in self.adapters.loaded()]

    def adapter_report(self) -> dict[str, Any]:
        """Return how far the entries of the list of adapters are."""
        return self.watcher.report() if self.watcher is not None else {"version": None, "adapters": []}

    def start_draining(self) -> None:
        """Refuse new requests; finish those that were accepted."""
        self.batcher.start_draining()

    def close(self) -> None:
        """Stop the batcher's worker; requests that are not finished end with an error."""
        if self.watcher is not None:
            self.watcher.close()
        self.batcher.close()
