"""Several tokens a step: drafts change how many tokens a step gives, and nothing else."""

import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.serving.conftest import config, load_engine
from support.serving_process import wait_until
from support.tiny_models import CORPUS
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.speculation.plan import StepCost
from tunesmith_serving.engines.text_generation.batching.speculation.stats import DraftCounts
from tunesmith_serving.engines.text_generation.batching.types import (
    Completion,
    Event,
    GenerationRequest,
    SamplingParams,
)
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine


@pytest.fixture(autouse=True)
def _costs_of_the_first_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine happens to be decides nothing."""
    monkeypatch.setattr(StepCost, "record", lambda *_: None)


@pytest.fixture
def engines(repeating: Path) -> Iterator[tuple[TextGenerationEngine, TextGenerationEngine]]:
    """One without drafts and one with."""
    options = {"max_batch_size": 4, "max_queue_length": 200, "prefix_cache_memory": "0"}
    pair = tuple(load_engine(repeating, config(draft_tokens=count, **options)) for count in (0, 5))
    yield pair  # type: ignore[misc]
    for engine in pair:
        engine.close()


NONE = DraftCounts(0, 0)


def stats(engine: TextGenerationEngine) -> DraftCounts:
    found = engine.batcher.stats().speculation
    assert found is not None and found.model is None
    return found.lookup


def requests_of(engine: TextGenerationEngine, count: int) -> list[GenerationRequest]:
    """Sentences that the model knows, some of them twice, continued in all ways in which tokens are chosen."""
    draw = random.Random(3)
    found = []
    for index in range(count):
        said = "\n".join(draw.choices(CORPUS, k=draw.randint(1, 4)))
        again = CORPUS[index % len(CORPUS)]
        prompt = engine.tokenizer.encode(f"{said}\n{again}\n{again[: draw.randint(3, 20)]}", add_special_tokens=False)
        sampling = SamplingParams(
            max_tokens=draw.choice([1, 2, 7, 30, 60]),
            temperature=draw.choice([0, 0, 0.6, 1.0]),
            top_p=draw.choice([1.0, 0.9]),
            top_k=draw.choice([0, 20]),
            min_p=draw.choice([0, 0.05]),
            repetition_penalty=draw.choice([1.0, 1.0, 1.1]),
            frequency_penalty=draw.choice([0, 0, 0.1]),
            logit_bias=draw.choice([(), (), ((5, -100.0), (9, 1.0))]),
            stop=draw.choice([(), (), ("fox",), ("rate? The", "r of ep")]),
            seed=index,
            logprobs=draw.choice([None, 0, 2]),
            ignore_eos=draw.choice([False, True]),
        )
        found.append(GenerationRequest(tuple(prompt), sampling))
    return found


def answers(engine: TextGenerationEngine, requests: list[GenerationRequest]) -> list[Completion]:
    collectors = [Collector() for _ in requests]
    engine.batcher.submit_all(list(zip(requests, collectors, strict=True)))
    return [collector.result(300) for collector in collectors]


def same(found: Completion, expected: Completion) -> bool:
    """Log probabilities are equal but for rounding: several tokens are computed by other kernels than one."""
    pairs = zip(found.logprobs, expected.logprobs, strict=True)
    return (
        replace(found, logprobs=()) == replace(expected, logprobs=())
        and all(first.logprob == pytest.approx(second.logprob, abs=1e-4) for first, second in pairs)
        and all([token for token, _ in entry.top][:1] == [token for token, _ in other.top][:1]
                for entry, other in zip(found.logprobs, expected.logprobs, strict=True))
    )  # fmt: skip


def test_answers_are_those_without_drafts(engines: tuple[TextGenerationEngine, TextGenerationEngine]) -> None:
    plain, drafting = engines
    requests = requests_of(plain, 48)
    expected = answers(plain, requests)
    assert stats(plain) == NONE
    for found in (
        [drafting.batcher.generate(request, 60) for request in requests[:16]],
        answers(drafting, requests),
        answers(drafting, requests[::-1])[::-1],
    ):
        different = [index for index, one in enumerate(found) if not same(one, expected[index])]
        assert different == []
    used = stats(drafting)
    assert used.accepted > 0.5 * used.drafted > 100
    assert {one.finish_reason for one in expected} == {"stop", "length"}


def test_text_that_repeats_takes_fewer_steps(
    engines: tuple[TextGenerationEngine, TextGenerationEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, drafting = engines
    steps = []
    decoding = drafting.batcher._decoding
    compute = decoding._compute

    def count(*arguments: object) -> object:
        steps.append(arguments)
        return compute(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "_compute", count)
    prompt = drafting.tokenizer.encode("\n".join([*CORPUS[:3], *CORPUS[:3], CORPUS[0][:9]]), add_special_tokens=False)
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    answer = drafting.batcher.generate(GenerationRequest(tuple(prompt), sampling), 60)
    assert len(answer.token_ids) == 60
    assert len(steps) < 35


def test_an_answer_to_the_end_of_the_context(repeating: Path) -> None:
    """No draft is computed behind the last position, whichever row of a step has fewest left."""
    found = []
    for drafts in (0, 8):
        engine = load_engine(repeating, config(draft_tokens=drafts, context_length=64, max_batch_size=3))
        ids = tuple(engine.tokenizer.encode(f"{CORPUS[0]}\n" * 5, add_special_tokens=False))
        sampling = SamplingParams(temperature=0, ignore_eos=True)
        found.append(answers(engine, [GenerationRequest(ids[:count], sampling) for count in (20, 61, 45, 62, 30, 63)]))
        engine.close()
        if drafts:
            assert stats(engine).accepted > 10
    assert [(one.token_ids, one.finish_reason) for one in found[0]] == [
        (one.token_ids, one.finish_reason) for one in found[1]
    ]
    assert [len(one.token_ids) for one in found[1]] == [44, 3, 19, 2, 34, 1]


def test_a_request_that_is_cancelled_between_drafts(
    engines: tuple[TextGenerationEngine, TextGenerationEngine],
) -> None:
    _, drafting = engines
    prompt = tuple(drafting.tokenizer.encode(f"{CORPUS[1]}\n" * 3, add_special_tokens=False))
    request = GenerationRequest(prompt, SamplingParams(temperature=0, ignore_eos=True))
    first, events = threading.Event(), []

    def sink(event: Event) -> None:
        events.append(event)
        first.set()

    ticket = drafting.batcher.submit(request, sink)
    assert first.wait(300)
    ticket.cancel()
    wait_until(lambda: drafting.batcher.stats().slots_in_use == 0)
    assert events[-1].finish_reason in ("cancelled", "length")


def test_an_export_without_the_second_graph_is_served_without_drafts(repeating: Path, tmp_path: Path) -> None:
    from support.tiny_models import write_manifest

    earlier = Path(shutil.copytree(repeating, tmp_path / "earlier"))
    for path in earlier.rglob("model.ragged.onnx"):
        path.unlink()
    write_manifest(earlier)
    engine = load_engine(earlier, config(draft_tokens=5))
    requests = [replace(one, sampling=replace(one.sampling, logprobs=None)) for one in requests_of(engine, 8)]
    found = answers(engine, requests)
    engine.close()
    assert stats(engine) == NONE
    whole = load_engine(repeating, config(draft_tokens=0))
    assert [one.token_ids for one in answers(whole, requests)] == [one.token_ids for one in found]
    whole.close()


def test_int4_drafts_are_accepted(repeating: Path) -> None:
    """Tokens can differ at near ties from those without drafts, where the kernel of one token rounds otherwise."""
    options = {"precision": "int4", "prefix_cache_memory": "0"}
    plain, drafting = (load_engine(repeating, config(draft_tokens=count, **options)) for count in (0, 5))
    requests = [
        replace(one, sampling=SamplingParams(temperature=0, max_tokens=40, ignore_eos=True))
        for one in requests_of(plain, 12)
    ]
    pairs = [(plain.batcher.generate(one, 60), drafting.batcher.generate(one, 60)) for one in requests]
    used = stats(drafting)
    plain.close()
    drafting.close()
    assert used.accepted > 0.5 * used.drafted > 20
    assert sum(one.token_ids == other.token_ids for one, other in pairs) >= 9
