"""Answers of the one-pass engine are those of transformers' pipelines on the same model."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.one_pass_artifacts import make_one_pass_artifact
from support.tiny_models import CORPUS
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.one_pass.engine import OnePassEngine
from tunesmith_serving.engines.predictor import InvalidInputError
from tunesmith_serving.runtime.config import ServingConfig

WORDS = " ".join(CORPUS).split()


def some_texts(count: int, most_words: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, most_words))) for _ in range(count)]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Returns an engine and the transformers model of a task, each made once."""
    made: dict[Any, tuple[OnePassEngine, Path]] = {}

    def get(task: str, family: str = "bert", **options: Any) -> tuple[OnePassEngine, Path]:
        key = (task, family, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("one-pass") / f"{task}-{family}"
            make_one_pass_artifact(folder, task, family, **options)  # type: ignore[arg-type]
            config = ServingConfig(precision="fp32", threads=1, max_batch_size=8, max_queue_length=200)
            engine = OnePassEngine.load(open_artifact(folder, "fp32"), config)
            engine.warm_up(60)
            made[key] = engine, folder.with_name(folder.name + ".hf")
        return made[key]

    yield get
    for engine, _ in made.values():
        engine.close()


def tokenizer_of(source: Path, length: int) -> Any:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(source, model_max_length=length)
    if transformers.AutoConfig.from_pretrained(source).model_type == "bert":
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # as the real ones have
    return tokenizer


def pipeline(task: str, source: Path, length: int = 64, **options: Any) -> Any:
    import transformers

    tokenizer = tokenizer_of(source, length)
    return transformers.pipeline(task, model=str(source), tokenizer=tokenizer, device="cpu", **options)


def predict(engine: OnePassEngine, inputs: list[Any], **parameters: Any) -> list[Any]:
    return asyncio.run(engine.predict(inputs, parameters))


def assert_same(found: Any, expected: Any, keys: tuple[str, ...]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for key in keys:
            assert one[key] == other[key], (one, other)
        assert one["score"] == pytest.approx(float(other["score"]), abs=1e-4)


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "modernbert", "xlm-roberta", "deberta-v2", "qwen2"]
)
def test_classes_of_texts_and_pairs(make: Any, family: str) -> None:
    engine, source = make("sequenceClassification", family)
    reference = pipeline("text-classification", source)
    pairs = [{"text": a, "text_pair": b} for a, b in zip(some_texts(6, 20), some_texts(6, 30, 1), strict=True)]
    inputs = [*some_texts(20, 40), "東京の朝 🙂", *pairs]
    expected = reference(inputs, top_k=None, truncation=True)
    for found, other in zip(predict(engine, inputs), expected, strict=True):
        assert_same(found, other, ("label",))
    scores = [found[0]["score"] for found in predict(engine, inputs)]
    assert max(scores) - min(scores) > 0.01  # the model tells texts apart
    for function in ("sigmoid", "softmax", "none"):
        expected = reference(inputs[:5], top_k=2, function_to_apply=function, truncation=True)
        for found, other in zip(
            predict(engine, inputs[:5], top_k=2, function_to_apply=function), expected, strict=True
        ):
            assert_same(found, other, ("label",))


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_several_labels_and_numbers(make: Any, problem: str) -> None:
    labels = ("SCORE",) if problem == "regression" else ("a", "b", "c", "d")
    engine, source = make("sequenceClassification", problem=problem, labels=labels)
    inputs = some_texts(8, 30)
    expected = pipeline("text-classification", source)(inputs, top_k=None, truncation=True)
    for found, other in zip(predict(engine, inputs), expected, strict=True):
        assert_same(found, other, ("label",))
    sums = [sum(entry["score"] for entry in found) for found in predict(engine, inputs)]
    assert not any(total == pytest.approx(1, abs=1e-3) for total in sums)


def test_a_text_that_is_too_long_is_cut_off_or_refused(make: Any) -> None:
    engine, _ = make("sequenceClassification")
    long = "epoch " * 500
    assert predict(engine, [long]) == predict(engine, [long + " fox"])
    assert predict(engine, [long + " fox"], truncation_direction="left") != predict(engine, [long])
    for refused in (False, "do_not_truncate"):
        with pytest.raises(InvalidInputError, match=r"has \d+ tokens, this model takes 64") as caught:
            predict(engine, ["short", long], truncation=refused)
        assert caught.value.where == ("inputs", 1)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_tokens_and_entities(make: Any, family: str) -> None:
    engine, source = make("tokenClassification", family)
    texts = [text for text in some_texts(25, 12) if len(engine.task.tokenizer.encode(text).ids) <= 64]
    assert len(texts) > 10
    for strategy in ("none", "simple", "first", "average", "max"):
        reference = pipeline("token-classification", source, aggregation_strategy=strategy)
        keys = ("entity", "index", "word") if strategy == "none" else ("entity_group", "word")
        found = predict(engine, texts, aggregation_strategy=strategy)
        for one, other in zip(found, reference(texts), strict=True):
            assert_same(one, other, (*keys, "start", "end"))
        assert sum(map(len, found)) > 20
    everything = predict(engine, texts, aggregation_strategy="none", ignore_labels=[])
    reference = pipeline("token-classification", source, aggregation_strategy="none", ignore_labels=[])
    for one, other in zip(everything, reference(texts), strict=True):
        assert_same(one, other, ("entity", "index", "word", "start", "end"))
    ignored = everything[0][0]["entity"]
    rest = predict(engine, texts[:1], aggregation_strategy="none", ignore_labels=[ignored])[0]
    assert [token["index"] for token in rest] == [
        token["index"] for token in everything[0] if token["entity"] != ignored
    ]


def test_windows_with_a_stride_are_joined_as_the_pipeline_joins_them(make: Any) -> None:
    engine, source = make("tokenClassification")
    texts = some_texts(5, 150, 3)
    assert any(len(engine.task.prepare(text, engine.task.parse({"stride": 8})).rows) > 2 for text in texts)
    for stride in (0, 8, 30):
        reference = pipeline("token-classification", source, aggregation_strategy="simple", stride=stride)
        for found, other in zip(
            predict(engine, texts, stride=stride), [reference(text) for text in texts], strict=True
        ):
            assert_same(found, other, ("entity_group", "word", "start", "end"))


def test_words_are_joined_by_spaces(make: Any) -> None:
    engine, _ = make("tokenClassification")
    words = CORPUS[0].split()
    assert predict(engine, [{"tokens": words}]) == predict(engine, [" ".join(words)])


def test_a_long_text_is_cut_between_words(make: Any) -> None:
    engine, _ = make("tokenClassification")
    text = " ".join(some_texts(1, 1)[0] for _ in range(3)) + " " + " ".join(WORDS * 3)
    settings = engine.task.parse({"aggregation_strategy": "none", "ignore_labels": []})
    prepared = engine.task.prepare(text, settings)
    whole = engine.task.tokenizer.encode(text)
    assert len(prepared.rows) > 3
    assert all(len(row) <= 64 for row in prepared.rows)
    assert [token for row in prepared.rows for token in row.ids[1:-1]] == whole.ids[1:-1]
    (tokens,) = predict(engine, [text], aggregation_strategy="none", ignore_labels=[])
    assert [token["index"] for token in tokens] == list(range(1, len(whole.ids) - 1))
    assert [(token["start"], token["end"]) for token in tokens] == whole.offsets[1:-1]
    cut = predict(engine, [text], aggregation_strategy="none", ignore_labels=[], truncation=True)[0]
    assert len(cut) == 62


def straightforward(source: Path, question: str, context: str, length: int, stride: int, longest: int) -> Any:
    """The spans of all windows by the sum of logits, from torch, and the least sum for none."""
    import torch
    import transformers

    tokenizer = tokenizer_of(source, length)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(source).eval()
    spans, nones, masses = [], [], []
    given = tokenizer(
        question, context, truncation="only_second", max_length=length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    for index in range(len(given["input_ids"])):
        names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in given]
        with torch.no_grad():
            out = model(**{name: torch.tensor([given[name][index]]) for name in names})
        start, end = out.start_logits[0].double().tolist(), out.end_logits[0].double().tolist()
        allowed = [place for place, text in enumerate(given.sequence_ids(index)) if text == 1]
        offsets = given["offset_mapping"][index]
        masses.append(([start[place] for place in (0, *allowed)], [end[place] for place in (0, *allowed)]))
        nones.append(start[0] + end[0])
        for first in allowed:
            for last in allowed:
                if first <= last < first + longest:
                    spans.append((start[first] + end[last], offsets[first][0], offsets[last][1]))
    total = sum(
        torch.logsumexp(torch.tensor([number for pair in masses for number in pair[side]]), 0).item() for side in (0, 1)
    )
    spans.sort(key=lambda span: -span[0])
    return spans, min(nones), total


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2"])
def test_answers_in_windows_of_a_context(make: Any, family: str) -> None:
    from math import exp

    engine, source = make("questionAnswering", family)
    contexts = some_texts(6, 120, 5)
    windows = 0
    for context, question in zip(contexts, some_texts(6, 4, 6), strict=True):
        spans, none, total = straightforward(source, question, context, 64, 16, 30)
        given = {"question": question, "context": context}
        windows = max(windows, len(engine.task.prepare(given, engine.task.parse({})).rows))
        (found,) = predict(engine, [given])
        text = context[spans[0][1] : spans[0][2]]
        assert found["answer"] == text.strip() == context[found["start"] : found["end"]]
        assert found["score"] == pytest.approx(exp(spans[0][0] - total), abs=1e-4)
        (several,) = predict(engine, [given], top_k=4, handle_impossible_answer=True)
        distinct = list(dict.fromkeys((start, end) for _, start, end in spans))[:4]
        expected = [context[start:end].strip() for start, end in distinct]
        expected.insert(
            sum(score >= none for score in dict((span[1:], span[0]) for span in reversed(spans[:99])).values()), ""
        )
        assert [one["answer"] for one in several] == expected[:4]
        spans, *_ = straightforward(source, question, context, 40, 5, 3)
        (narrow,) = predict(engine, [given], max_seq_len=40, doc_stride=5, max_answer_len=3)
        assert narrow["answer"] == context[spans[0][1] : spans[0][2]].strip()
    assert windows > 2


def test_an_answer_can_be_aligned_to_words_and_a_question_cut(make: Any) -> None:
    engine, _ = make("questionAnswering")
    given = {"question": "What is the learning rate?", "context": "Tunesmith learningrates manifests " * 3}
    (found,) = predict(engine, [given], align_to_words=True)
    before, after = given["context"][: found["start"]], given["context"][found["end"] :]
    assert (not before or before[-1] == " ") and (not after or after[0] == " ")
    short = predict(engine, [{**given, "question": "What is"}])
    most = len(engine.task.tokenizer.encode("What is").ids) - 2  # without [CLS] and [SEP]
    assert predict(engine, [given], max_question_len=most) == short != predict(engine, [given])
    with pytest.raises(InvalidInputError, match="leaves no room") as caught:
        predict(engine, [given, {**given, "question": "why " * 60}])
    assert caught.value.where == ("inputs", 1, "question")
