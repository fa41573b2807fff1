"""Training and serving make the same rows of long texts and contexts, and find the same answers in the same logits."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.one_pass_artifacts import make_one_pass_artifact
from support.tiny_models import CORPUS
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.one_pass.engine import TASKS
from tunesmith_serving.engines.one_pass.tasks.base import OnePassTask
from tunesmith_serving.engines.one_pass.tasks.served import read_served
from tunesmith_serving.engines.one_pass.tasks.spans import Window, best_spans
from tunesmith_serving.engines.one_pass.text.tokenizer import TextTokenizer

WORDS = [
    *" ".join(CORPUS).split(),
    "naïve",
    "(1984)",
    "x" * 90,
    "東京の朝の市場で",
    "don't",
    "🙂🚀",
    "a",
    "\u200b",
    "—",
]


def sentence(chance: random.Random, most: int) -> list[str]:
    return chance.choices(WORDS, k=chance.randint(1, most))


def pair_of(tmp_path: Path, name: str, family: str, length: int) -> tuple[OnePassTask, Any]:
    """The server's task, and the tokenizer of the trainer."""
    from transformers import AutoTokenizer

    folder = make_one_pass_artifact(tmp_path / f"{family}-{length}", name, family, max_length=length)  # type: ignore[arg-type]
    artifact = open_artifact(folder, "fp32")
    task = TASKS[name](TextTokenizer(artifact), read_served(artifact, 4096))
    return task, AutoTokenizer.from_pretrained(folder.with_name(folder.name + ".hf"))


def rows_of(task: OnePassTask, value: Any) -> list[list[int]]:
    return [list(row.ids) for row in task.prepare(value, task.parse({})).rows]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_pieces_of_long_texts(tmp_path: Path, family: str) -> None:
    from tunesmith_trainer.tasks.token_classification.encoder import TagEncoder
    from tunesmith_trainer.tasks.token_classification.rows import SpansRow, TaggedRow

    task, tokenizer = pair_of(tmp_path, "tokenClassification", family, 32)
    chance = random.Random(family)
    words = [sentence(chance, 60) for _ in range(150)]
    rows = [TaggedRow("f:1", words=tuple(one), tags=("O",) * len(one)) for one in words]
    texts = [SpansRow("f:1", text=chance.choice([" ", "", "  "]).join(one)) for one in words]
    encoder = TagEncoder(tokenizer, 32, ["O"])
    several = 0
    for row, pieces in zip([*rows, *texts], encoder.encode([*rows, *texts]), strict=True):
        asked: Any = {"tokens": list(row.words)} if isinstance(row, TaggedRow) else row.text
        expected = [piece.ids for piece in pieces]
        assert rows_of(task, asked) == expected
        several += len(expected) > 1
    assert several > 100


@pytest.mark.parametrize(("family", "length"), [("bert", 48), ("roberta", 64), ("deberta-v2", 40)])
def test_windows_of_contexts(tmp_path: Path, family: str, length: int) -> None:
    from transformers import AutoConfig

    from tunesmith_trainer.tasks.question_answering.encoder import QuestionEncoder
    from tunesmith_trainer.tasks.question_answering.rows import QuestionRow
    from tunesmith_trainer.tasks.question_answering.task import QuestionAnswering

    task, tokenizer = pair_of(tmp_path, "questionAnswering", family, length)
    config = AutoConfig.from_pretrained(tokenizer.name_or_path)
    chance = random.Random(family)
    rows = [
        QuestionRow("f:1", query=" " + " ".join(sentence(chance, 2)[:1])[:20], context=" ".join(sentence(chance, 50)))
        for _ in range(120)
    ]
    rows = [row for row in rows if row.query.strip() and tokenizer(row.query, add_special_tokens=False)["input_ids"]]
    rows = [row for row in rows if len(tokenizer(row.query)["input_ids"]) < length // 2]
    several = 0
    for row, windows in zip(rows, QuestionEncoder(tokenizer, length).encode(rows), strict=True):
        prepared = task.prepare({"question": row.query, "context": row.context}, task.parse({}))
        assert [list(one.ids) for one in prepared.rows] == [window.ids for window in windows]
        if getattr(config, "type_vocab_size", 0) > 1:
            trainer = QuestionAnswering()
            assert [list(one.types) for one in prepared.rows] == [
                trainer.token_types(window.ids, config) for window in windows
            ]
        places = [(part.begin, list(part.offsets)) for part in prepared.parts]
        assert places == [(int(window.targets[2]), list(window.offsets)) for window in windows]
        several += len(windows) > 1
    assert len(rows) > 60 and several > 20


def test_answers_of_the_same_logits() -> None:
    from tunesmith_trainer.tasks.question_answering.spans import MAX_ANSWER_TOKENS, WindowLogits, best_answer

    chance = np.random.default_rng(3)
    context = "".join(chr(97 + place % 26) for place in range(400))
    found = []
    for _ in range(2000):
        windows = []
        for _ in range(int(chance.integers(1, 4))):
            begin, tokens = int(chance.integers(1, 6)), int(chance.integers(1, 60))
            first = int(chance.integers(0, 400 - 3 * tokens))
            offsets = [(first + 3 * place, first + 3 * place + 3) for place in range(tokens)]
            # Rounded, so that many are equal.
            logits = np.round(chance.normal(size=(2, begin + tokens + 1)) * 2).astype(np.float32)
            logits[:, 0] += 4
            windows.append((logits[0], logits[1], begin, offsets))
        trained = [WindowLogits(*window) for window in windows]
        spans, none = best_spans([Window(*window) for window in windows], 1, MAX_ANSWER_TOKENS)
        answer = context[spans[0].start : spans[0].end]
        assert answer == best_answer(context, trained, may_have_none=False)
        assert ("" if none > spans[0].score else answer) == best_answer(context, trained, may_have_none=True)
        found.append(none > spans[0].score)
    assert 100 < sum(found) < 1900
