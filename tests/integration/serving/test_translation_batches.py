"""The encoder-decoder engine: transformers' greedy tokens, alone and in any batch; ends, limits, cancellation."""

import json
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.serving_process import wait_until
from support.tiny_models import CORPUS, copy_artifact, write_manifest
from support.tiny_translation import LANGUAGES, MAX_LENGTH, make_translator
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.encoder_decoder.batching.batch import choose, may_start
from tunesmith_serving.engines.encoder_decoder.batching.types import SourceRequest
from tunesmith_serving.engines.encoder_decoder.engine import EncoderDecoderEngine
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.types import (
    Event,
    PromptTooLongError,
    QueueFullError,
    SamplingParams,
)
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError

KINDS = {"t5": {"prefix": "translate: "}, "marian": {}, "mt5": {"languages": True}}
Load = Callable[..., EncoderDecoderEngine]


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("translators")
    both = ("fp32", "int8")
    return {kind: make_translator(folder / kind, kind, precisions=both, **options) for kind, options in KINDS.items()}


@pytest.fixture
def load(translators: dict[str, Path]) -> Iterator[Load]:
    loaded: list[EncoderDecoderEngine] = []

    def start(kind: str = "t5", precision: str = "fp32", **options: Any) -> EncoderDecoderEngine:
        config = ServingConfig.model_validate({"precision": "fp32", "threads": 1, "context_length": 512, **options})
        loaded.append(EncoderDecoderEngine.load(open_artifact(translators[kind], precision), config))
        return loaded[-1]

    yield start
    for engine in loaded:
        engine.close()


def sentences(count: int) -> list[str]:
    """Stretches of the corpus, from one word to three sentences."""
    draw = random.Random(3)
    words = " ".join(CORPUS).split()
    starts = [draw.randrange(len(words) - 1) for _ in range(count)]
    return [" ".join(words[start : start + draw.choice([1, 2, 5, 9, 17, 40])]) for start in starts]


def asked(engine: EncoderDecoderEngine, text: str, tokens: int | None, **options: Any) -> SourceRequest:
    sampling = SamplingParams(max_tokens=tokens, temperature=0, **options)
    return SourceRequest(tuple(engine.tokenizer.source(text)), sampling)


@pytest.mark.parametrize("kind", list(KINDS))
def test_tokens_and_text_are_those_of_transformers_alone_and_in_any_batch(
    load: Load, translators: dict[str, Path], kind: str
) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    engine = load(kind, max_batch_size=6)
    source = translators[kind].with_name(f"{kind}.hf")
    model = AutoModelForSeq2SeqLM.from_pretrained(source).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    draw = random.Random(7)
    texts = sentences(24)
    limits = [draw.choice([1, 2, 7, 20, 45]) for _ in texts]
    requests = [asked(engine, text, limit) for text, limit in zip(texts, limits, strict=True)]
    collectors = [Collector() for _ in requests]
    for request, collector in zip(requests, collectors, strict=True):
        engine.batcher.submit(request, collector)
    together = [collector.result(300) for collector in collectors]
    lengths = set()
    for text, limit, request, answer in zip(texts, limits, requests, together, strict=True):
        given = tokenizer(KINDS[kind].get("prefix", "") + text, return_tensors="pt")  # type: ignore[operator]
        assert list(request.prompt_ids) == given["input_ids"][0].tolist()
        with torch.no_grad():
            found = model.generate(
                input_ids=given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=limit,
                do_sample=False, num_beams=1,
            )[0]  # fmt: skip
        assert list(answer.token_ids) == found.tolist()[1:]
        assert answer.text == tokenizer.decode(found, skip_special_tokens=True)
        assert engine.batcher.generate(request, 60) == answer
        lengths.add(len(answer.token_ids))
    assert len(lengths) > 4, "rows must have ended at different steps"


def test_suppressed_tokens_and_penalties_are_those_of_transformers(
    load: Load, translators: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(translators["t5"].with_name("t5.hf")).eval()
    own = load()
    sources = [asked(own, text, 12).prompt_ids for text in sentences(6)]
    greedy = SamplingParams(max_tokens=12, temperature=0)
    first = {own.batcher.generate(SourceRequest(ids, greedy), 60).token_ids[0] for ids in sources}
    # As in an exported model; transformers fills with padding what it leaves out, and never chooses it either.
    forbidden = sorted({*first, model.config.pad_token_id})
    folder = damaged(
        copy_artifact(translators["t5"], tmp_path / "copy"),
        "generation_config.json",
        lambda content: content.update(suppress_tokens=forbidden),
    )
    without = EncoderDecoderEngine.load(open_artifact(folder, "fp32"), ServingConfig(precision="fp32", threads=1))
    penalised = SamplingParams(max_tokens=12, temperature=0, repetition_penalty=1.5)
    changed = 0
    for ids in sources:
        for engine, sampling, options in (
            (without, greedy, {"suppress_tokens": forbidden}),
            (own, penalised, {"repetition_penalty": 1.5}),
        ):
            found = engine.batcher.generate(SourceRequest(ids, sampling), 60).token_ids
            given = torch.tensor([ids])
            with torch.no_grad():
                expected = model.generate(
                    input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False,
                    num_beams=1, **options,
                )[0].tolist()[1:]  # fmt: skip
            assert list(found) == expected
            changed += found != own.batcher.generate(SourceRequest(ids, greedy), 60).token_ids
    without.close()
    assert changed > len(sources)


def test_an_answer_that_is_cut_off_says_so(load: Load) -> None:
    engine = load("marian")  # its last token is forced to be the end
    whole = engine.batcher.generate(asked(engine, "fox", 40), 60)
    cut = engine.batcher.generate(asked(engine, "fox", 3), 60)
    assert cut.token_ids == (*whole.token_ids[:2], 1)
    assert cut.finish_reason == "length"


def test_requests_at_any_moment_get_what_they_get_alone(load: Load) -> None:
    """Some are sampled, some end by a stop string; a third of the others is cancelled on the way."""
    engine = load("marian", max_batch_size=5, max_queue_length=200)
    draw = random.Random(9)
    texts = sentences(40)
    options = [draw.choice([{}, {}, {"stop": ("e",)}, {"repetition_penalty": 1.3}, {"logprobs": 2}]) for _ in texts]
    requests = [
        asked(engine, text, draw.choice([1, 5, 30]), **option) for text, option in zip(texts, options, strict=True)
    ]
    requests[::5] = [
        SourceRequest(request.prompt_ids, SamplingParams(max_tokens=20, temperature=1.2, top_p=0.9, seed=index))
        for index, request in enumerate(requests[::5])
    ]
    alone = [engine.batcher.generate(request, 60) for request in requests]
    most = 0
    collectors: dict[int, Collector] = {}
    for index, request in enumerate(requests):
        collector = Collector()
        ticket = engine.batcher.submit(request, collector)
        if index % 3 == 1:
            threading.Timer(draw.random() / 50, ticket.cancel).start()
        else:
            collectors[index] = collector
        target = engine.batcher.stats().generated_tokens + draw.choice([0, 0, 0, 4, 15])

        def moved_on(target: int = target) -> bool:
            stats = engine.batcher.stats()
            return stats.generated_tokens >= target or not (stats.slots_in_use or stats.queue_length)

        wait_until(moved_on)
        most = max(most, engine.batcher.stats().slots_in_use)
    for index, collector in collectors.items():
        got, expected = collector.result(300), alone[index]
        assert (got.text, got.token_ids, got.finish_reason) == (
            expected.text, expected.token_ids, expected.finish_reason
        ), requests[index]  # fmt: skip
        for ours, theirs in zip(got.logprobs, expected.logprobs, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
    assert most > 2, "requests must really have shared a batch"
    wait_until(lambda: engine.batcher.stats().slots_in_use == engine.batcher.stats().queue_length == 0)
    assert any(answer.finish_reason == "stop" for answer in alone)


class Recorder:
    """Counts tokens, and keeps the last event."""

    def __init__(self) -> None:
        self.tokens = 0
        self.last: Event | None = None

    def __call__(self, event: Event) -> None:
        self.tokens += len(event.token_ids)
        self.last = event


ENDLESS = {"ignore_eos": True}


def test_a_short_request_does_not_wait_for_a_long_one(load: Load) -> None:
    engine = load(max_batch_size=4)
    long_one = Recorder()
    engine.batcher.submit(asked(engine, "fox", 400, **ENDLESS), long_one)
    wait_until(lambda: long_one.tokens > 0)
    engine.batcher.generate(asked(engine, "the lazy dog", 2), 60)
    assert long_one.last is not None and long_one.last.finish_reason is None


def test_full_queue_cancel_and_drain(load: Load) -> None:
    engine = load(max_batch_size=1, max_queue_length=1)
    recorders = [Recorder() for _ in range(2)]
    tickets = [engine.batcher.submit(asked(engine, "fox", 400, **ENDLESS), recorder) for recorder in recorders]
    with pytest.raises(QueueFullError):
        engine.batcher.submit(asked(engine, "fox", 2), Recorder())
    wait_until(lambda: recorders[0].tokens > 0)
    tickets[1].cancel()  # it waits: its end comes at once
    assert recorders[1].last is not None and recorders[1].last.finish_reason == "cancelled"
    third = Recorder()
    engine.batcher.submit(asked(engine, "dog", 3), third)
    tickets[0].cancel()
    assert engine.batcher.drain(60)
    assert recorders[0].last is not None and recorders[0].last.finish_reason == "cancelled"
    assert third.last is not None and third.last.finish_reason in ("stop", "length")
    assert engine.batcher.stats().slots_in_use == 0


def test_closing_ends_what_runs_with_an_error(load: Load) -> None:
    engine = load(max_batch_size=1)
    collectors = [Collector(), Collector()]
    for collector in collectors:
        engine.batcher.submit(asked(engine, "fox", 400, **ENDLESS), collector)
    engine.close()
    for collector in collectors:
        with pytest.raises(EngineFailedError, match="shutting down"):
            collector.result(300)
    assert engine.healthy


def test_limits_of_source_and_answer(load: Load) -> None:
    marian = load("marian")  # has 256 positions
    with pytest.raises(PromptTooLongError, match="takes at most 256; send shorter parts"):
        marian.batcher.submit(SourceRequest((5,) * 257), Recorder())
    whole = marian.batcher.generate(
        SourceRequest((5,) * 256, SamplingParams(max_tokens=1000, temperature=0, ignore_eos=True)), 60
    )
    assert len(whole.token_ids) == 255
    t5 = load(context_length=100)  # has any number of positions: the server's own limit holds
    with pytest.raises(PromptTooLongError, match="takes at most 99"):
        t5.batcher.submit(SourceRequest((5,) * 100), Recorder())
    room = SamplingParams(max_tokens=1000, temperature=0, ignore_eos=True)
    assert len(t5.batcher.generate(SourceRequest((5,) * 90, room), 60).token_ids) == 10
    default = SamplingParams(temperature=0, ignore_eos=True)
    assert len(t5.batcher.generate(SourceRequest((5, 6), default), 60).token_ids) == MAX_LENGTH


def test_int8_answers_are_those_of_a_plain_loop_over_the_same_graphs(load: Load, translators: dict[str, Path]) -> None:
    from tunesmith_trainer.export.encoder_decoder.runner import EncoderDecoder

    engine = load("t5", "int8")
    plain = EncoderDecoder(translators["t5"] / "onnx" / "int8")
    for text in sentences(12):
        request = asked(engine, text, 12)
        (expected,) = plain.greedy([request.prompt_ids], [12])
        found = engine.batcher.generate(request, 60).token_ids
        assert [token for token in found if token not in plain.stop] == expected


def damaged(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "onnx" / "fp32" / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return write_manifest(folder, task="translation")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("task.json", lambda c: c.pop("maxLength"), "task.json has no usable maxLength"),
        ("task.json", lambda c: c.update(prefix=5), "task.json has no usable prefix"),
        ("generation_config.json", lambda c: c.update(eos_token_id="x"), "no usable eos_token_id"),
        ("generation_config.json", lambda c: c.update(forced_bos_token_id=-1), "no usable forced_bos_token_id"),
        ("generation_config.json", lambda c: c.update(bad_words_ids=[[1, 2]]), "words of several tokens"),
        ("tokenizer.json", lambda c: c.clear(), "tokenizer.json cannot be loaded"),
    ],
)
def test_a_damaged_artifact_is_refused(
    translators: dict[str, Path], tmp_path: Path, name: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    folder = damaged(copy_artifact(translators["t5"], tmp_path / "copy"), name, change)
    with pytest.raises(ArtifactError, match=says):
        EncoderDecoderEngine.load(open_artifact(folder, "fp32"), ServingConfig(precision="fp32"))


def test_graphs_that_do_not_belong_together_are_refused(translators: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_artifact(translators["t5"], tmp_path / "copy")
    onnx = folder / "onnx" / "fp32"
    shutil.copyfile(onnx / "encoder.onnx", onnx / "decoder.onnx")
    write_manifest(folder, task="translation")
    with pytest.raises(ArtifactError, match=r"decoder.onnx is not a decoder of a translation model: attention_mask"):
        EncoderDecoderEngine.load(open_artifact(folder, "fp32"), ServingConfig(precision="fp32"))


def test_languages(load: Load) -> None:
    engine = load("mt5")
    tokenizer = engine.tokenizer
    assert set(tokenizer.codes) == set(LANGUAGES)
    german, french = tokenizer.source("fox"), tokenizer.source("fox", "fra_Latn")
    assert german == tokenizer.source("fox", "deu_Latn")
    assert (german[0], french[0]) == (tokenizer.codes["deu_Latn"], tokenizer.codes["fra_Latn"])
    assert german[1:] == french[1:]
    # A code in the text is not the language of the text.
    assert tokenizer.source("fra_Latn fox", "eng_Latn").count(tokenizer.codes["fra_Latn"]) == 1
    own = engine.batcher.generate(asked(engine, "fox", 3), 60)
    assert own.token_ids[0] == tokenizer.codes["eng_Latn"]
    other = SourceRequest(
        tuple(german), SamplingParams(max_tokens=3, temperature=0), forced_bos=tokenizer.first_token("fra_Latn")
    )
    assert engine.batcher.generate(other, 60).token_ids[0] == tokenizer.codes["fra_Latn"]


@pytest.mark.parametrize(
    ("waiting", "batches", "free", "starts"),
    [
        (0, 0, 8, False),
        (20, 0, 8, True),
        (3, 1, 3, True),  # all that waits
        (4, 1, 3, False),  # a large batch is on its way to end
        (20, 1, 6, True),  # its last rows do not hold up the others
        (1, 2, 5, False),
        (1, 1, 0, False),
    ],
)
def test_a_second_batch_starts_for_all_that_waits_or_when_the_first_is_nearly_over(
    waiting: int, batches: int, free: int, starts: bool
) -> None:
    assert may_start(waiting, batches, free, 8) is starts


@pytest.mark.parametrize(
    ("lengths", "most", "budget", "chosen"),
    [
        ([5], 8, 100, [0]),
        ([5, 50, 6, 4, 5], 3, 100, [0, 2, 4]),
        ([5, 50, 6, 4, 5], 8, 100, [0, 2, 3, 4]),  # the long one would make five rows of 50
        ([500, 3], 8, 100, [0]),  # the oldest goes, however long it is
        ([10] * 20, 8, 65, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_batch_is_the_oldest_and_those_of_like_length(
    lengths: list[int], most: int, budget: int, chosen: list[int]
) -> None:
    assert choose(lengths, most, budget) == chosen
