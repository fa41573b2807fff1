"""The one-pass engine: an artifact's encoder, its tokenizer and its task behind the engine protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.base import EngineFailedError, Statistic
from tunesmith_serving.engines.one_pass.batching.batcher import Batcher
from tunesmith_serving.engines.one_pass.batching.model import OnePassModel
from tunesmith_serving.engines.one_pass.batching.rows import Job, Outputs, Row
from tunesmith_serving.engines.one_pass.tasks.base import OnePassTask, Prepared
from tunesmith_serving.engines.one_pass.tasks.question_answering import QuestionAnswering
from tunesmith_serving.engines.one_pass.tasks.sequence_classification import SequenceClassification
from tunesmith_serving.engines.one_pass.tasks.served import read_served
from tunesmith_serving.engines.one_pass.tasks.token_classification import TokenClassification
from tunesmith_serving.engines.one_pass.text.tokenizer import TextTokenizer
from tunesmith_serving.engines.predictor import InvalidInputError, ModelCard
from tunesmith_serving.engines.providers import provider_of
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from tunesmith_serving.http.context import ServerContext

TASKS: dict[str, type[OnePassTask]] = {
    "sequenceClassification": SequenceClassification,
    "tokenClassification": TokenClassification,
    "questionAnswering": QuestionAnswering,
}

BATCH_TOKENS = 8192
"""Tokens of a batch, padding included; more of them do not make a token cheaper."""
LONG_TEXT = 20_000
"""Characters of inputs that are tokenised, and rows that are answered, on another thread: the loop has other work."""
MANY_ROWS = 8


@dataclass(frozen=True)
class OnePassEngine:
    """A model that is served."""

    card: ModelCard
    task: OnePassTask
    batcher: Batcher

    @classmethod
    def load(cls, artifact: Artifact, config: ServingConfig) -> OnePassEngine:
        """Load a verified artifact and start its batcher.

        Raises:
            ArtifactError: The artifact cannot be served.
            MemoryShortageError: The model does not fit in memory.
        """
        served = read_served(artifact, config.context_length)
        task = TASKS[artifact.task](TextTokenizer(artifact), served)
        model = OnePassModel(
            artifact, task.outputs, served.pad, config.threads, provider_of(config), per_token=task.per_token
        )
        if served.labels and model.widths[0] not in (None, len(served.labels)):
            raise ArtifactError(
                f"{artifact.onnx / 'config.json'} names {len(served.labels)} classes, and the model has "
                f"{model.widths[0]}; export it again"
            )
        batcher = Batcher(model, config.max_batch_size, config.max_queue_length, max(BATCH_TOKENS, served.max_length))
        card = ModelCard(
            task=artifact.task,
            precision=artifact.onnx.name,
            max_length=served.max_length,
            max_batch_size=config.max_batch_size,
            max_queue_length=config.max_queue_length,
            labels=served.labels,
            problem_type=served.problem_type,
            digest=artifact.manifest.get("digest"),
        )
        return cls(card, task, batcher)

    async def predict(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
        """Return the answer to each input; see `engines.predictor.Predictor`."""
        settings = self.task.parse(parameters)
        prepared = await _elsewhere(_characters(inputs) > LONG_TEXT, lambda: self._prepare(inputs, settings))
        if not prepared:
            return []
        outputs = await self._compute([one.rows for one in prepared])
        many = sum(len(one.rows) for one in prepared) > MANY_ROWS
        return await _elsewhere(
            many,
            lambda: [self.task.answer(*pair, settings) for pair in zip(prepared, outputs, strict=True)],
        )

    def prompt_ids(self, value: Any, parameters: Mapping[str, Any]) -> list[int]:  # noqa: ANN401
        """Return the token ids of one input, of its first row if it has several."""
        prepared = self._prepare([value], self.task.parse(parameters))
        return list(prepared[0].rows[0].ids)

    @property
    def healthy(self) -> bool:
        """Whether the batcher's worker is alive."""
        return self.batcher.healthy

    def warm_up(self, timeout: float | None = None) -> None:
        """Compute a short row and one of the largest length, which shows whether there is memory for it.

        Raises:
            EngineFailedError: The model does not run, or its outputs do not fit the task.
            TimeoutError: It has not answered within `timeout` seconds.
        """
        settings = self.task.parse({})
        prepared = self.task.prepare(self.task.example, settings)
        (outputs,) = self.batcher.compute([prepared.rows], timeout)
        width = outputs[0][self.task.outputs[0]].shape[-1]
        if self.card.labels and width != len(self.card.labels):
            raise EngineFailedError(f"it computes {width} classes, and config.json names {len(self.card.labels)}")
        self.task.answer(prepared, outputs, settings)
        row = prepared.rows[0]
        repeats = -(-self.card.max_length // len(row))
        longest = [(list(part) * repeats)[: self.card.max_length] for part in (row.ids, row.types)]
        self.batcher.compute([[Row(*longest)]], timeout)

    def routes(self, context: ServerContext) -> APIRouter:
        """Return the routes of the protocols of tasks."""
        # Imported here, so that the engine can be used without an HTTP framework.
        from tunesmith_serving.protocols.routes import create_task_routes

        return create_task_routes(self, context)

    def statistics(self) -> Sequence[Statistic]:
        """Return the batcher's counters."""
        stats = self.batcher.stats()
        waiting = max(0, stats.inputs_open - stats.rows_running)
        return (
            Statistic("tunesmith_prompt_tokens", "Prompt tokens computed.", stats.tokens, "counter"),
            Statistic("tunesmith_padding_tokens", "Padding tokens computed beside them.", stats.padding, "counter"),
            Statistic("tunesmith_rows", "Rows computed: inputs, or windows of long ones.", stats.rows, "counter"),
            Statistic("tunesmith_batches", "Batches computed.", stats.batches, "counter"),
            Statistic("tunesmith_queue_length", "Inputs waiting for a slot.", waiting),
            Statistic("tunesmith_slots_in_use", "Slots that hold a row.", stats.rows_running),
            Statistic("tunesmith_slots", "Slots in total.", self.card.max_batch_size),
        )

    def start_draining(self) -> None:
        """Refuse new requests; finish those that were accepted."""
        self.batcher.start_draining()

    def close(self) -> None:
        """Stop the worker; requests that are not finished end with an error."""
        self.batcher.close()

    def _prepare(self, inputs: Sequence[Any], settings: Any) -> list[Prepared]:  # noqa: ANN401
        found = []
        for index, value in enumerate(inputs):
            try:
                found.append(self.task.prepare(value, settings))
            except InvalidInputError as error:
                if error.where[:1] != ("parameters",):
                    error.where = ("inputs", index, *error.where)
                raise
        return found

    async def _compute(self, inputs: Sequence[Sequence[Row]]) -> list[list[Outputs]]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not ended.done():
                ended.set_result(None)

        def sink(_: Job) -> None:
            loop.call_soon_threadsafe(resolve)

        job = self.batcher.submit(inputs, sink)
        try:
            await ended
        except asyncio.CancelledError:
            self.batcher.cancel(job)
            raise
        if job.error is not None:
            raise EngineFailedError(job.error)
        return job.outputs


async def _elsewhere(long: bool, work: Callable[[], list[Any]]) -> list[Any]:
    """Return what a function returns, which is called on another thread if it takes long."""
    return await asyncio.to_thread(work) if long else work()


def _characters(inputs: Sequence[Any]) -> int:
    """Return about how many characters inputs have."""
    parts = [part for value in inputs for part in (value.values() if isinstance(value, dict) else [value])]
    words = [word for part in parts if isinstance(part, list) for word in part]
    return sum(len(part) for part in (*parts, *words) if isinstance(part, str))
