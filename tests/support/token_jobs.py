"""Small jobs of token classification and question answering, whose rows follow a rule that a tiny model learns."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.manifests import job
from support.tiny_tasks import Family, build_task_model
from tunesmith_api.work_folder import WorkFolder

PEOPLE, TOWNS, FILLERS = (
    ["ada", "bo", "cy", "dee"],
    ["rome", "bonn", "oslo"],
    "the met in for went to was a day of".split(),
)
COLOURS = ["red", "green", "blue", "black"]

Row = dict[str, Any]


def tagged_words(count: int, seed: int = 0, words: int = 8) -> list[Row]:
    """Names of people, with a second name after some of them, and of towns."""
    chance, rows = random.Random(seed), []
    for _ in range(count):
        tokens: list[str] = []
        tags: list[str] = []
        while len(tokens) < words:
            kind = chance.choice(["PER", "LOC", "", "", ""])
            name = chance.choice(PEOPLE if kind == "PER" else TOWNS if kind else FILLERS)
            tokens.append(name)
            tags.append(f"B-{kind}" if kind else "O")
            if kind == "PER" and chance.random() < 0.5:
                tokens.append("king")
                tags.append("I-PER")
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def marked_texts(count: int, seed: int = 0, words: int = 8) -> list[Row]:
    """The same as texts with spans."""
    rows = []
    for row in tagged_words(count, seed, words):
        text, spans = "", list[Row]()
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            text += " " if text else ""
            if tag.startswith("I-"):
                spans[-1]["end"] = len(text) + len(word)
            elif tag != "O":
                spans.append({"start": len(text), "end": len(text) + len(word), "label": tag[2:]})
            text += word
        rows.append({"text": text, "spans": spans})
    return rows


def questions(count: int, seed: int = 0, words: int = 12, unanswered: float = 0.25) -> list[Row]:
    """Contexts with a colour, which is asked for, and some without."""
    chance, rows = random.Random(seed), []
    for number in range(count):
        context = [chance.choice(FILLERS) for _ in range(words)]
        answers: Row = {"text": [], "answer_start": []}
        if chance.random() >= unanswered:
            place = chance.randrange(words)
            context[place] = chance.choice(COLOURS)
            answers = {"text": [context[place]], "answer_start": [len(" ".join([*context[:place], ""]))]}
        rows.append({"id": str(number), "question": "which one ?", "context": " ".join(context), "answers": answers})
    return rows


ROWS: dict[str, tuple[str, Callable[..., list[Row]]]] = {
    "tokenTags": ("tokenClassification", tagged_words),
    "textSpans": ("tokenClassification", marked_texts),
    "squad": ("questionAnswering", questions),
}


def write_token_job(
    folder: Path, data_format: str, *, family: Family = "bert", words: int = 8, **sections: Any
) -> WorkFolder:
    """Write the model, 200 rows and the job of one format; `sections` replace those of the spec."""
    task, make = ROWS[data_format]
    corpus = [" ".join([*PEOPLE, *TOWNS, *FILLERS, *COLOURS, "king which one ?"])] * 20
    model = build_task_model(folder / "base", family, "Model", texts=corpus, initializer_range=0.05)
    for name, rows in (("train", make(200, 1, words)), ("validation", make(40, 2, words))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = job(
        **{
            "task": task,
            "model": {"uri": str(model)},
            "dataset": {
                "sources": [{"uri": str(folder / "train.jsonl")}],
                "validation": {"sources": [{"uri": str(folder / "validation.jsonl")}]},
            },
            "training": {"maxSteps": 60, "learningRate": 0.005, "globalBatchSize": 16, "maxLength": 64},
            "evaluation": {"maxRows": 40},
            "export": {"precisions": ["fp32"]},
            **sections,
        }
    )["spec"]
    work = WorkFolder(folder / "work")
    work.root.mkdir()
    work.config.write_text(json.dumps({"name": "tiny", "spec": spec}))
    return work
