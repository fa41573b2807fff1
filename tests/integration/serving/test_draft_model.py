"""A draft model makes answers take fewer steps, and changes none of them."""

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from integration.serving.conftest import config, load_engine
from integration.serving.test_speculation import answers, requests_of, same
from support.repeating_model import repeating_artifact
from support.serving_process import ServingProcess, wait_until
from support.tiny_models import CORPUS, write_manifest
from tunesmith_serving.engines.text_generation.batching.kv.prefix import BLOCK_TOKENS
from tunesmith_serving.engines.text_generation.batching.ragged import MOST_DRAFTS
from tunesmith_serving.engines.text_generation.batching.speculation.draft_model import DraftModel
from tunesmith_serving.engines.text_generation.batching.speculation.lookup import PromptLookup
from tunesmith_serving.engines.text_generation.batching.speculation.plan import StepCost
from tunesmith_serving.engines.text_generation.batching.speculation.speculator import Speculator
from tunesmith_serving.engines.text_generation.batching.speculation.stats import DraftCounts
from tunesmith_serving.engines.text_generation.batching.types import (
    Completion,
    Event,
    GenerationRequest,
    SamplingParams,
)
from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import regex
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError

Load = Callable[..., TextGenerationEngine]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller model that has learned the same sentences; never to be changed."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1}
    return repeating_artifact(tmp_path_factory.mktemp("small") / "artifact", **sizes)


@pytest.fixture(autouse=True)
def _costs_of_the_first_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine happens to be decides nothing; and a step costs little for each of its tokens."""
    monkeypatch.setattr(StepCost, "record", lambda *_: None)
    monkeypatch.setattr(StepCost, "of", lambda _, tokens: 8 + 0.1 * tokens)


@pytest.fixture
def load_pair(repeating: Path, small: Path) -> Iterator[Callable[..., tuple[TextGenerationEngine, ...]]]:
    """Loads two engines, one without drafts and one with a draft model."""
    loaded: list[TextGenerationEngine] = []

    def load(**options: object) -> tuple[TextGenerationEngine, ...]:
        given = {"max_batch_size": 4, "max_queue_length": 200, "prefix_cache_memory": "0", **options}
        pair = (
            config(**{**given, "draft_tokens": 0}),
            config(**{"draft_tokens": 5, **given, "draft_model": str(small)}),
        )
        loaded.extend(load_engine(repeating, one) for one in pair)
        return tuple(loaded[-2:])

    yield load
    for engine in loaded:
        engine.close()


def by_model(engine: TextGenerationEngine) -> DraftCounts:
    found = engine.batcher.stats().speculation
    assert found is not None and found.model is not None
    return found.model


def beginnings(engine: TextGenerationEngine, count: int, **sampling: object) -> list[GenerationRequest]:
    """The first words of sentences, which say nothing that could be looked up."""
    draw = random.Random(5)
    found = []
    for index in range(count):
        ids = engine.tokenizer.encode(CORPUS[index % len(CORPUS)][: draw.randint(3, 12)], add_special_tokens=False)
        params = SamplingParams(**{"temperature": 0, "max_tokens": 30, "seed": index, "ignore_eos": True, **sampling})
        found.append(GenerationRequest(tuple(ids), params))
    return found


def different(found: list[Completion], expected: list[Completion]) -> list[int]:
    """The answers that differ, whatever was cached."""
    plain = [replace(one, cached_tokens=0) for one in found]
    return [i for i, one in enumerate(plain) if not same(one, replace(expected[i], cached_tokens=0))]


@pytest.mark.parametrize("prefix_cache_memory", ["0", "1Mi"])
def test_answers_are_those_without_drafts(load_pair: Load, prefix_cache_memory: str) -> None:
    """Of all ways of choosing tokens, one by one and together, with prompts that are looked up and others."""
    plain, drafting = load_pair(prefix_cache_memory=prefix_cache_memory)
    requests = [
        *requests_of(plain, 32),
        *beginnings(plain, 8),
        *beginnings(plain, 8, temperature=1.0),
        *beginnings(plain, 4, temperature=0.8, top_p=0.9, frequency_penalty=0.2, stop=("the",)),
    ]
    expected = answers(plain, requests)
    assert different([drafting.batcher.generate(one, 60) for one in requests[28:44]], expected[28:44]) == []
    assert different(answers(drafting, requests), expected) == []
    assert different(answers(drafting, requests[::-1])[::-1], expected) == []
    used = by_model(drafting)
    assert used.accepted > 0.5 * used.drafted > 100
    cache = drafting.batcher.stats().cache
    assert cache is not None and cache.row_bytes == 0
    shown = {(one.name, *one.labels): one.value for one in drafting.statistics()}
    assert shown["tunesmith_draft_tokens", ("source", "model")] == used.drafted
    assert shown["tunesmith_accepted_draft_tokens", ("source", "model")] == used.accepted
    assert shown["tunesmith_accepted_draft_tokens", ("source", "lookup")] > 100


def test_fewer_steps_where_nothing_can_be_looked_up(load_pair: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    plain, drafting = load_pair()
    steps = []
    decoding = drafting.batcher._decoding
    compute = decoding._compute
    monkeypatch.setattr(decoding, "_compute", lambda *given: (steps.append(given), compute(*given))[1])
    for request in beginnings(plain, 6):
        steps.clear()
        assert drafting.batcher.generate(request, 60).token_ids == plain.batcher.generate(request, 60).token_ids
        assert len(steps) < 20  # of 30 tokens


def test_a_model_drafts_all_of_its_own_answers(repeating: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds after drafts that were right is what was said."""
    monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    monkeypatch.setattr(Speculator, "_cost_of_draft", lambda *_: 0.0)
    own = str(repeating)
    engine = load_engine(repeating, config(draft_model=own, max_batch_size=4, precision=None, max_queue_length=50))
    requests = [
        replace(one, sampling=replace(one.sampling, max_tokens=4 + 7 * (index % 5)))
        for index, one in enumerate(beginnings(engine, 20))
    ]
    answers(engine, requests)
    engine.close()
    used = by_model(engine)
    assert used.accepted > 0.95 * used.drafted > 100


def test_the_same_random_numbers_draw_the_drafts(load_pair: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts of sampled answers are right about as often as those of the likeliest tokens."""
    monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    plain, drafting = load_pair()
    requests = beginnings(plain, 24, temperature=1.0)
    assert different(answers(drafting, requests), answers(plain, requests)) == []
    used = by_model(drafting)
    assert used.accepted > 0.5 * used.drafted > 100


def test_what_many_rows_lack_is_read_in_one_run(load_pair: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of short prompts that arrive together the draft model reads more tokens than a step may have drafts."""
    monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    monkeypatch.setattr(Speculator, "_cost_of_draft", lambda *_: 0.0)
    monkeypatch.setattr(StepCost, "of", lambda *_: 1.0)  # so that all rows get drafts
    plain, drafting = load_pair(max_batch_size=24)
    read: list[int] = []
    decode = drafting.batcher._draft_model._decoder.decode_several

    def spy(tokens: list[list[int]], *given: object, **options: object) -> object:
        read.append(sum(map(len, tokens)))
        return decode(tokens, *given, **options)

    monkeypatch.setattr(drafting.batcher._draft_model._decoder, "decode_several", spy)
    ids = plain.tokenizer.encode("\n".join(CORPUS), add_special_tokens=False)
    sampling = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    requests = [GenerationRequest(tuple(ids[start : start + 6]), sampling) for start in range(24)]
    assert different(answers(drafting, requests), answers(plain, requests)) == []
    assert max(read) > 24 + MOST_DRAFTS


def test_prompts_of_any_length_and_answers_to_the_end_of_the_context(load_pair: Load) -> None:
    """Prompts longer than a chunk are read by the draft model piece by piece; no draft is behind the last position."""
    plain, drafting = load_pair(context_length=128, draft_tokens=8)
    ids = tuple(plain.tokenizer.encode("\n".join(CORPUS * 2), add_special_tokens=False))
    sampling = SamplingParams(temperature=0, ignore_eos=True)
    requests = [GenerationRequest(ids[:count], sampling) for count in (2, 90, 33, 126, 64, 127, 112)]
    expected = answers(plain, requests)
    assert different(answers(drafting, requests), expected) == []
    assert [len(one.token_ids) for one in expected] == [126, 38, 95, 2, 64, 1, 16]
    assert by_model(drafting).accepted > 20


def test_the_draft_models_prefixes_are_kept(load_pair: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    _, drafting = load_pair(prefix_cache_memory="1Mi")
    monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    model = drafting.batcher._draft_model
    assert model is not None
    read = []
    prefill = model._decoder.prefill
    monkeypatch.setattr(
        model._decoder, "prefill", lambda row, tokens, past: (read.append(len(tokens)), prefill(row, tokens, past))[1]
    )
    ids = tuple(drafting.tokenizer.encode("\n".join(CORPUS[:3]), add_special_tokens=False))
    request = GenerationRequest(ids, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
    drafting.batcher.generate(request, 60)
    assert sum(read) >= len(ids) - 9
    read.clear()
    drafting.batcher.generate(request, 60)
    assert sum(read) <= BLOCK_TOKENS
    cache = drafting.batcher.stats().cache
    assert cache is not None and cache.prefix_bytes > drafting.batcher._prefix.used_bytes > 0


def test_an_enforced_format_masks_the_drafts(load_pair: Load) -> None:
    plain, drafting = load_pair()
    grammar = regex(r"The (quick|slow) brown fox jumps over the (lazy|quick) dog, again and again[.] [0-9a-f]{6}")
    compiler = GrammarCompiler(plain.tokenizer, plain.batcher.vocab_size, plain.stop_token_ids)
    requests = []
    for index in range(9):
        ids = tuple(plain.tokenizer.encode(CORPUS[index % 4][:9] + "\n", add_special_tokens=False))
        sampling = SamplingParams(temperature=(0, 1.0, 0.7)[index % 3], seed=index, max_tokens=60)
        requests.append(GenerationRequest(ids, sampling, constraint=compiler.compile_now(grammar)))
    expected = answers(plain, requests)
    assert different(answers(drafting, requests), expected) == []
    assert all(one.text.startswith("The ") and len(one.text) == 68 for one in expected if "quick brown" in one.text)
    used = by_model(drafting)
    assert used.accepted > 0.4 * used.drafted > 20


def test_a_request_that_is_cancelled_gives_back_its_row(load_pair: Load) -> None:
    _, drafting = load_pair()
    (request,) = beginnings(drafting, 1, max_tokens=400)
    begun, events = threading.Event(), list[Event]()

    def sink(event: Event) -> None:
        events.append(event)
        begun.set()

    ticket = drafting.batcher.submit(request, sink)
    assert begun.wait(300)
    ticket.cancel()
    wait_until(lambda: drafting.batcher.stats().slots_in_use == 0)
    assert events[-1].finish_reason == "cancelled"
    assert drafting.batcher._draft_model._held == {}  # type: ignore[union-attr]


def test_a_draft_model_that_is_always_wrong_is_hardly_asked(load_pair: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "propose", lambda *_: [])
    plain, drafting = load_pair()
    draft = DraftModel.draft
    monkeypatch.setattr(
        DraftModel, "draft", lambda *given: [[token ^ 1 for token in tokens] for tokens in draft(*given)]
    )
    requests = beginnings(drafting, 12, max_tokens=100)
    assert different(answers(drafting, requests), answers(plain, requests)) == []
    used = by_model(drafting)
    assert used.accepted < 0.1 * used.drafted
    assert used.drafted < 1200 / 4, "of 1200 tokens, each of which could have five"


def test_a_tokenizer_that_differs_is_refused(repeating: Path, small: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(small, tmp_path / "other"))
    path = other / "onnx" / "fp32" / "tokenizer.json"
    definition = json.loads(path.read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(definition))
    write_manifest(other)
    size, first = len(vocabulary), vocabulary["b"]
    said = (
        f"other has another tokenizer: 2 tokens differ of {size} of the model and {size} of the draft model "
        rf"\('a' is id {first} in the model and id {first + 1} in the draft model; 'b' .*same tokenizer.json, or remove"
    )
    with pytest.raises(ArtifactError, match=said):
        load_engine(repeating, config(draft_model=str(other)))


def test_exports_without_the_second_graph_are_refused(repeating: Path, small: Path, tmp_path: Path) -> None:
    earlier = Path(shutil.copytree(small, tmp_path / "earlier"))
    (earlier / "onnx" / "fp32" / "model.ragged.onnx").unlink()
    write_manifest(earlier)
    for served, draft, name in ((repeating, earlier, "draft model"), (earlier, small, "model")):
        with pytest.raises(ArtifactError, match=f"the {name} .*earlier has no model.ragged.onnx in fp32.* remove"):
            load_engine(served, config(draft_model=str(draft)))


def test_another_artifact_than_the_one_that_was_asked_for_is_refused(repeating: Path, small: Path) -> None:
    with pytest.raises(ArtifactError, match="is not the artifact that was asked for"):
        load_engine(repeating, config(draft_model=str(small), draft_digest="sha256:" + "0" * 64))


def test_a_server_with_a_draft_model(repeating: Path, small: Path) -> None:
    with ServingProcess(repeating, "--precision", "fp32", "--draft-model", str(small), "--threads", "1") as server:
        request = {"model": "model", "prompt": "The quick", "max_tokens": 20, "temperature": 0}
        assert "brown fox" in httpx.post(f"{server.url}/v1/completions", json=request).json()["choices"][0]["text"]
        metrics = httpx.get(f"{server.url}/metrics").text
    for source in ("lookup", "model"):
        assert f'tunesmith_accepted_draft_tokens_total{{source="{source}"}}' in metrics


def test_a_draft_model_where_nothing_is_drafted_is_refused(small: Path) -> None:
    with pytest.raises(ValueError, match="draftModel has no meaning with draftTokens: 0; write draftTokens: 5"):
        ServingConfig(draft_model=str(small), draft_tokens=0)
    with pytest.raises(ValueError, match="draftModel has no meaning with this executionProvider"):
        ServingConfig(draft_model=str(small), execution_provider="cuda")
