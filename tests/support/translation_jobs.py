"""Translation jobs on tiny models; the rule of the language is a dictionary."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from support.tiny_tasks import Family, build_task_model
from tunesmith_api.work_folder import Stage, WorkFolder

SUBJECTS = {"Hund": "dog", "Katze": "cat", "Vogel": "bird", "Pferd": "horse", "Kind": "child", "Fisch": "fish"}
VERBS = {"sieht": "sees", "mag": "likes", "sucht": "seeks", "findet": "finds", "kennt": "knows", "malt": "paints"}
OBJECTS = {"Haus": "house", "Baum": "tree", "Brot": "bread", "Boot": "boat", "Wasser": "water", "Stein": "stone"}
ADVERBS = {"heute": "today", "hier": "here"}
WORDS = {**SUBJECTS, **VERBS, **OBJECTS, **ADVERBS}


def translated(sentence: str) -> str:
    """The sentence word by word."""
    return " ".join(WORDS[word] for word in sentence.split())


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences of four words, as many as BLEU needs; there are 432."""
    every = [" ".join(words) for words in product(SUBJECTS, VERBS, OBJECTS, ADVERBS)]
    return Random(seed).sample(every, count)


def nested_rows(count: int = 200) -> list[dict[str, Any]]:
    """Pairs as `{"translation": {"de": ..., "en": ...}}`."""
    return [{"translation": {"de": sentence, "en": translated(sentence)}} for sentence in sentences(count)]


def build_translator(folder: Path, family: Family, *, layers: int = 1, hidden_size: int = 48, **settings: Any) -> Path:
    """A tiny model whose tokenizer knows the words of both languages, and T5's prefix."""
    texts = [*WORDS, *WORDS.values(), *sentences(50), *map(translated, sentences(50))]
    texts += ["translate German to English: "] * 20
    if family in ("t5", "mt5"):
        settings = {"dropout_rate": 0.0, **settings}
    else:
        settings = {"dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.1, "scale_embedding": True, **settings}
    return build_task_model(
        folder, family, texts=texts, vocab_size=150, hidden_size=hidden_size, layers=layers, **settings
    )


def translation_job(
    work: Path, base: Path, rows: Sequence[dict[str, Any]], *, columns: dict[str, str] | None = None, **spec: Any
) -> WorkFolder:
    """A work folder with the config.json of a job on these rows."""
    work.mkdir(parents=True, exist_ok=True)
    data = work / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "model": {"uri": str(base)},
        "task": "translation",
        "method": "full",
        "dataset": {
            "sources": [{"uri": str(data)}],
            "validation": {"fraction": 0.1},
            **({"columns": columns} if columns else {}),
        },
        "training": {"maxSteps": 150, "learningRate": 0.005, "globalBatchSize": 16, "maxLength": 64},
        "evaluation": {"maxRows": 20, "maxNewTokens": 24},
        "export": {"precisions": ["fp32", "int8"], "parity": {"rows": 8}},
        **spec,
    }
    folder = WorkFolder(work)
    folder.config.write_text(json.dumps({"name": "tiny", "spec": config}))
    return folder


def run_job(work: WorkFolder, *stages: Stage) -> dict[str, Any]:
    """Run stages in this process, all by default, and return what the last one has returned."""
    from tunesmith_trainer.prepare.pipeline import prepare
    from tunesmith_trainer.publish import publish
    from tunesmith_trainer.stages.runner import run_stage
    from tunesmith_trainer.stages.train import run_train_stage
    from tunesmith_trainer.train.distributed.topology import NodeTopology

    result: dict[str, Any] = {}
    for stage in stages or tuple(Stage):
        if stage is Stage.TRAIN:
            run_train_stage(work, NodeTopology())
        else:
            result = run_stage(stage, prepare if stage is Stage.PREPARE else publish, work.root)
    return result
