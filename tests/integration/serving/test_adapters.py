"""Many adapters on one base: each answer is what its adapter gives alone."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.lora_artifacts import make_adapter, peft_logits
from support.lora_variants import variant
from support.serving_process import wait_until
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.adapters.errors import UnknownAdapterError
from tunesmith_serving.engines.text_generation.adapters.loading import load_adapter
from tunesmith_serving.engines.text_generation.adapters.loading import lora_base as base_of
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter, AdapterWeights
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.delivery import Delivery
from tunesmith_serving.engines.text_generation.batching.speculation.lookup import PromptLookup
from tunesmith_serving.engines.text_generation.batching.speculation.plan import StepCost
from tunesmith_serving.engines.text_generation.batching.speculation.speculator import Speculator
from tunesmith_serving.engines.text_generation.batching.types import (
    Completion,
    DrainingError,
    Event,
    GenerationRequest,
    SamplingParams,
)
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.runtime.config import ServingConfig

PROMPT = (5, 80, 33, 7, 120, 64)
COUNT = 8


@pytest.fixture(scope="module")
def adapters(lora_base: Path) -> list[Path]:
    """Eight of several ranks, of all linear layers or of two."""
    targets = ["q_proj", "down_proj"]
    made = [
        make_adapter(lora_base.with_name("a0"), lora_base, rank=4, seed=1),
        make_adapter(lora_base.with_name("a1"), lora_base, rank=3, use_rslora=True, target_modules=targets, seed=2),
        make_adapter(lora_base.with_name("a2"), lora_base, rank=16, seed=3),
    ]
    return made + [variant(made[index % 3], lora_base.with_name(f"a{index}"), seed=index) for index in range(3, COUNT)]


@pytest.fixture
def engine(lora_base: Path, adapters: list[Path]) -> Iterator[TextGenerationEngine]:
    # With drafts, several tokens are computed by other kernels than one: the last bits of log probabilities differ.
    options = {"precision": "fp32", "threads": 1, "context_length": 256, "prefill_chunk": 32, "max_batch_size": 8}
    options["draft_tokens"] = 0
    artifact = open_artifact(lora_base, "fp32")
    loaded = TextGenerationEngine.load(artifact, ServingConfig.model_validate(options))
    for folder in adapters:
        loaded.adapters.add(load_adapter(folder, folder.name, base_of(artifact)))
    yield loaded
    loaded.close()


def greedy(prompt: tuple[int, ...], adapter: str | None, tokens: int = 24) -> GenerationRequest:
    params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True, logprobs=1)
    return GenerationRequest(prompt, params, adapter)


def first_time(engine: TextGenerationEngine, request: GenerationRequest) -> Completion:
    """The answer to a request by itself, without what the prefix cache has of others."""
    engine.batcher._prefix._blocks.clear()
    answer = engine.batcher.generate(request, 60)
    assert answer.cached_tokens == 0
    return answer


def test_an_answer_is_what_peft_computes(engine: TextGenerationEngine, lora_base: Path, adapters: list[Path]) -> None:
    texts = set()
    for folder in (None, *adapters[:4]):
        answer = engine.batcher.generate(greedy(PROMPT, folder.name if folder else None, 8), 60)
        logits = peft_logits(lora_base, folder, [*PROMPT, *answer.token_ids])[len(PROMPT) - 1 : -1]
        assert tuple(logits.argmax(axis=1)) == answer.token_ids, folder
        wanted = logits.max(axis=1) - np.log(np.exp(logits).sum(axis=1))
        assert np.allclose([entry.logprob for entry in answer.logprobs], wanted, atol=1e-4)
        texts.add(answer.token_ids)
    assert len(texts) == 5, "the adapters must differ"


def test_rows_of_a_batch_have_their_own_adapters(engine: TextGenerationEngine) -> None:
    """Requests come and go, so rows move and adapters change places. Prompts are shared, and their prefixes are not."""
    draw = random.Random(3)
    prompts = [tuple(draw.randrange(3, 512) for _ in range(length)) for length in (1, 5, 33, 33, 40)]
    names = [None, *(f"a{index}" for index in range(COUNT))]
    requests = [greedy(draw.choice(prompts), draw.choice(names), draw.choice([1, 9, 30])) for _ in range(60)]
    requests += [greedy(prompts[2], name, 30) for name in names[1:]]
    alone = [first_time(engine, request) for request in requests]
    collectors = [Collector() for _ in requests]
    for start in range(0, len(requests), 12):
        together = zip(requests[start : start + 12], collectors[start : start + 12], strict=True)
        engine.batcher.submit_all(list(together))
    for request, expected, collector in zip(requests, alone, collectors, strict=True):
        # Log probabilities are compared too: they are equal to the last bit.
        assert replace(collector.result(300), cached_tokens=0) == expected, request
    cache = engine.batcher.stats().cache
    assert cache is not None and cache.hit_tokens > 0


def spied_runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str | None]]:
    """Return a list that the adapters of each run over several prompts are written to."""
    runs: list[list[str | None]] = []
    compute = OnnxDecoder.prefill_together

    def spy(
        decoder: OnnxDecoder, first: int, prompts: list[np.ndarray], used: list[Adapter | None], past: list[int] | None
    ) -> np.ndarray:
        runs.append([adapter.name if adapter else None for adapter in used])
        return compute(decoder, first, prompts, used, past)

    monkeypatch.setattr(OnnxDecoder, "prefill_together", spy)
    return runs


def test_prompts_for_several_adapters_are_computed_in_one_run(
    engine: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [greedy(PROMPT[: 6 - index], name) for index, name in enumerate(("a2", "a1", None, "a0"))]
    alone = [first_time(engine, request) for request in requests]
    runs = spied_runs(monkeypatch)
    collectors = [Collector() for _ in requests]
    engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    assert [collector.result(300) for collector in collectors] == alone  # with log probabilities, to the last bit
    assert [sorted(map(str, run)) for run in runs] == [["None", "a0", "a1", "a2"]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Get the serial of an adapter each time that its matrices are read into a row."""
    found: list[int] = []
    write = AdapterWeights.write

    def spy(weights: AdapterWeights, index: int, a: np.ndarray, b: np.ndarray) -> None:
        if index == 0:
            found.append(weights.serial)
        write(weights, index, a, b)

    monkeypatch.setattr(AdapterWeights, "write", spy)
    return found


def test_adapters_that_come_together_again_find_their_matrices(engine: TextGenerationEngine, reads: list[int]) -> None:
    draw = random.Random(5)
    names: list[str | None] = [None, *(f"a{index}" for index in range(4))]
    for _ in range(4):
        draw.shuffle(names)
        collectors = [Collector() for _ in names]
        requests = [greedy(PROMPT, name, 4) for name in names]
        engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
        for collector in collectors:
            collector.result(300)
    assert len(reads) == 4


class Clients:
    """Clients of an adapter each. They ask again two steps after an answer: so long is the way to them and back."""

    def __init__(self, engine: TextGenerationEngine, lengths: dict[str, list[int]]) -> None:
        self._engine, self._lengths = engine, lengths
        self._events = dict.fromkeys(lengths, 0)
        self._ended: dict[str, dict[str, int]] = {}
        engine.batcher.submit_all([self._next(name) for name in lengths])

    def _next(self, name: str) -> tuple[GenerationRequest, Callable[[Event], None]]:
        return greedy(PROMPT, name, self._lengths[name].pop()), lambda event: self._take(name, event)

    def _take(self, name: str, event: Event) -> None:
        self._events[name] += 1
        if event.finish_reason is not None and self._lengths[name]:
            self._ended[name] = dict(self._events)
        ready = [ended for ended, then in self._ended.items() if self._events[name] - then[name] >= 2]
        for ended in ready:
            del self._ended[ended]
        self._engine.batcher.submit_all([self._next(ended) for ended in ready])


def test_a_free_row_waits_for_the_next_request(
    engine: TextGenerationEngine, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that asks again soon finds its row and its adapter's matrices: no other request was moved there."""
    monkeypatch.setattr(f"{Delivery.__module__}.DELIVERY_SECONDS", 0.0)  # each step's tokens are delivered
    draw = random.Random(6)
    lengths = {f"a{index}": [200, *draw.choices(range(4, 30), k=9)] for index in range(COUNT)}
    Clients(engine, lengths)
    wait_until(lambda: not any(lengths.values()))
    assert len(reads) < 2 * COUNT, "of 80 requests, only few need matrices that their row does not have"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_others_of_a_run_do_without_an_adapter_that_cannot_be_read(
    engine: TextGenerationEngine, lora_base: Path, adapters: list[Path], place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = variant(adapters[0], lora_base.with_name(f"gone-{place}"), seed=98)
    engine.adapters.add(load_adapter(folder, "gone", base_of(open_artifact(lora_base, "fp32"))))
    others = [greedy(PROMPT, "a1"), greedy(PROMPT[1:], None)]
    alone = [first_time(engine, request) for request in others]
    engine.batcher._prefix._blocks.clear()
    (weights,) = folder.rglob("adapter_model.safetensors")
    os.truncate(weights, weights.stat().st_size - 1)
    runs = spied_runs(monkeypatch)
    requests = list(others)
    requests.insert(place, greedy(PROMPT[2:], "gone"))
    collectors = [Collector() for _ in requests]
    engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    with pytest.raises(EngineFailedError, match="'gone' cannot be used any more"):
        collectors.pop(place).result(300)
    assert [collector.result(300) for collector in collectors] == alone
    assert sorted(map(str, runs[0])) == ["None", "a1", "gone"]
    wait_until(lambda: engine.batcher.stats().slots_in_use == 0)


@pytest.mark.parametrize("source", ["lookup", "model"])
def test_drafts_are_checked_with_each_rows_adapter(
    engine: TextGenerationEngine, lora_base: Path, adapters: list[Path], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepCost, "of", lambda *_: 1.0)  # as if any number of tokens cost the same
    options = {"precision": "fp32", "threads": 1, "context_length": 256, "max_batch_size": 8, "draft_tokens": 4}
    if source == "model":  # the base without adapters, as if its drafts cost nothing
        options["draft_model"] = str(lora_base)
        monkeypatch.setattr(Speculator, "_cost_of_draft", lambda *_: 0.0)
        monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    artifact = open_artifact(lora_base, "fp32")
    drafting = TextGenerationEngine.load(artifact, ServingConfig.model_validate(options))
    for folder in adapters:
        drafting.adapters.add(load_adapter(folder, folder.name, base_of(artifact)))
    # A request that repeats the tokens of an answer gets them as drafts, which are right with the same adapter only.
    names = [None, *(f"a{index}" for index in range(COUNT))]
    prompt = (5, 80, 33, 7, 120)
    said = {name: engine.batcher.generate(greedy(prompt, name), 60).token_ids for name in names}
    requests = [greedy((*prompt, *said[other], *prompt), name) for name in names for other in (name, None)]
    alone = [engine.batcher.generate(request, 60).token_ids for request in requests]
    collectors = [Collector() for _ in requests]
    drafting.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    found = [collector.result(300).token_ids for collector in collectors]
    stats = drafting.batcher.stats().speculation
    drafting.close()
    assert found == alone
    assert stats is not None
    assert getattr(stats, source).drafted > 0


def test_a_request_keeps_the_adapter_that_it_began_with(
    engine: TextGenerationEngine, lora_base: Path, adapters: list[Path]
) -> None:
    request = greedy(PROMPT, "a0", 200)
    expected = engine.batcher.generate(request, 60)
    running, begun = Collector(), []

    def sink(event: Event) -> None:
        running(event)
        begun.append(event)

    engine.batcher.submit(request, sink)
    wait_until(lambda: bool(begun))
    engine.adapters.remove("a0")
    with pytest.raises(UnknownAdapterError, match="'a0' is not loaded"):
        engine.batcher.submit(request, Collector())
    # Another adapter under its name answers with its own weights, and shares no prefix with the first one.
    other = load_adapter(adapters[2], "a0", base_of(open_artifact(lora_base, "fp32")))
    engine.adapters.add(other)
    assert (
        engine.batcher.generate(request, 60).token_ids
        == engine.batcher.generate(greedy(PROMPT, "a2", 200), 60).token_ids
    )
    assert running.result(300).token_ids == expected.token_ids
    assert expected.token_ids != engine.batcher.generate(request, 60).token_ids


def test_requests_that_are_refused_are_not_counted(engine: TextGenerationEngine) -> None:
    engine.batcher.generate(greedy(PROMPT, "a0", 2), 60)
    assert engine.adapters.requests()["a0"] == 1
    engine.batcher.start_draining()
    with pytest.raises(DrainingError):
        engine.batcher.submit(greedy(PROMPT, "a0", 2), Collector())
    assert engine.adapters.requests()["a0"] == 1


def test_a_file_that_changes_in_place_is_not_used(
    engine: TextGenerationEngine, lora_base: Path, adapters: list[Path]
) -> None:
    folder = variant(adapters[0], lora_base.with_name("changed"), seed=99)
    engine.adapters.add(load_adapter(folder, "changed", base_of(open_artifact(lora_base, "fp32"))))
    weights = folder / "adapter" / "adapter_model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    bystander = Collector()
    engine.batcher.submit(greedy(PROMPT, "a1", 100), bystander)
    with pytest.raises(EngineFailedError, match="'changed' cannot be used any more.*shorter|has changed"):
        engine.batcher.generate(greedy(PROMPT, "changed"), 60)
    assert engine.adapters.states()["changed"].state == "Failed"
    with pytest.raises(UnknownAdapterError):
        engine.batcher.submit(greedy(PROMPT, "changed"), Collector())
    assert len(bystander.result(300).token_ids) == 100
    assert engine.healthy
