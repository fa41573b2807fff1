"""Jobs that learn from pairs of answers: by hand for the train stage, and whole ones."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from support.training import VOCABULARY, training_job

Pair = tuple[list[int], list[int], list[int]]
"""Token ids of a prompt, of the better answer and of the worse one."""


def random_pairs(count: int, *, seed: int = 0) -> list[Pair]:
    """Pairs whose better answers count upwards, and whose worse ones are noise, of very different lengths."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        start = int(random.integers(1, 50))
        prompt = (start + np.arange(int(random.integers(2, 12)))) % VOCABULARY
        better = (int(prompt[-1]) + 1 + np.arange(int(random.integers(1, 20)))) % VOCABULARY
        worse = random.integers(0, VOCABULARY, int(random.integers(1, 20)))
        pairs.append((prompt.tolist(), better.tolist(), worse.tolist()))
    return pairs


def write_pairs(folder: Path, pairs: list[Pair]) -> None:
    """Write pairs as prepare does."""
    from tunesmith_trainer.data.pairs import packed
    from tunesmith_trainer.data.token_store import TokenStoreWriter

    with TokenStoreWriter(folder) as writer:
        for prompt, better, worse in pairs:
            masks = [[0] * len(prompt) + [1] * len(answer) for answer in (better, worse)]
            writer.add(prompt + better, masks[0], packed(prompt + worse, masks[1]))
            writer.count(prompt + worse, masks[1])


def preference_job(work: Path, *, dpo: dict[str, Any] | None = None, rows: int = 48, **choices: Any) -> Path:
    """Make a work folder whose next stage is `train`, with pairs; the options are those of `training_job`."""
    training_job(work, rows=rows, **choices)
    data = work / "prepare" / "data"
    for name, count, seed in (("train", rows, 0), ("validation", 6, 1)):
        write_pairs(data / name, random_pairs(count, seed=seed))
    config = json.loads((work / "config.json").read_text())
    config["spec"] |= {"objective": "dpo", **({"dpo": dpo} if dpo else {})}
    (work / "config.json").write_text(json.dumps(config))
    return work


def opinions(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Rows of which the better answer is polite, and the worse one is not."""
    random = Random(seed)  # noqa: S311 - test data
    things = ["the red cup", "a tall tree", "my old bike", "this long song", "our new house", "that small dog"]
    rows = []
    for number in range(count):
        thing = f"{random.choice(things)} number {number}"
        answers = f"Thank you, {thing} is lovely.", f"Go away, {thing} is awful."
        rows.append({"prompt": f"What do you say of {thing}?", "chosen": answers[0], "rejected": answers[1]})
    return rows
