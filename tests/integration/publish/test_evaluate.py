"""Evaluation on a tiny model, against the plain way of computing the same."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from support.tiny_models import build_model
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate import scores
from tunesmith_trainer.evaluate.evaluation import evaluate, generate_answers
from tunesmith_trainer.evaluate.generate import greedy
from tunesmith_trainer.evaluate.prompts import EvalPrompt
from tunesmith_trainer.models.loading import load_model, stop_ids
from tunesmith_trainer.models.tokenizer import load_tokenizer

PROMPTS = [[5, 80, 33], [7] * 20, [100, 4, 9, 250, 30, 31, 32], [44]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


def rows() -> list[tuple[list[int], list[int]]]:
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 40, 17, 17, 90, 2, 1]
    ids = [torch.randint(3, 500, (length,), generator=generator).tolist() for length in lengths]
    masks = [torch.randint(0, 2, (length,), generator=generator).tolist() for length in lengths]
    return list(zip(ids, masks, strict=True))


def test_the_loss_weighs_every_learned_token_the_same(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "_MAX_ROWS", 3)
    store = TokenStore.write(tmp_path / "rows", rows())
    losses: list[float] = []
    right: list[bool] = []
    with torch.inference_mode():
        for ids, mask in rows()[:6]:
            logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            losses += [-float(logs[t - 1, ids[t]]) for t in range(1, len(ids)) if mask[t]]
            right += [int(logs[t - 1].argmax()) == ids[t] for t in range(1, len(ids)) if mask[t]]
    done: list[int] = []
    found = scores.score_store(model, store, 6, done.append)
    assert found.mean_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert (found.token_accuracy, int(found.predicted.sum())) == (sum(right) / len(right), sum(right))
    assert sum(done) == 6


def test_the_loss_of_nothing_is_no_number(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    store = TokenStore.write(tmp_path / "rows", [([1, 2, 3], [1, 0, 0])])
    nothing_found = scores.score_store(model, store, 1, lambda _: None)
    assert math.isnan(nothing_found.mean_loss)
    result = evaluate(model, tokenizer, nothing_found, [], max_new_tokens=8, examples=2, advance=lambda _: None)
    nothing = dict.fromkeys(("evalLoss", "perplexity", "tokenAccuracy", "exactMatch", "rougeL", "chrf"))
    assert result == {"metrics": nothing, "answers": [], "cut": [], "computedIn": "float32"}


def test_greedy_equals_transformers_generate(model: Any) -> None:
    stop = frozenset({2, 17, 300})
    expected = []
    for prompt in PROMPTS:
        generated = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=sorted(stop),
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        expected.append(generated[:-1] if generated[-1] in stop else generated)
    assert greedy(model, PROMPTS, [24] * 4, stop) == expected
    assert greedy(model, PROMPTS, [3, 0, 24, 1], stop) == [
        answer[:limit] for answer, limit in zip(expected, [3, 0, 24, 1], strict=True)
    ]


def test_breaking_off_lost_answers_changes_no_match(model: Any, tokenizer: Any) -> None:
    stop = stop_ids(model, tokenizer)
    own = [tokenizer.decode(ids, skip_special_tokens=True) for ids in greedy(model, PROMPTS, [30] * 4, stop)]
    references = ["something else entirely, and as long as that", own[1], f"  {own[2]}\n", own[3][:-1] + "x"]
    prompts = [EvalPrompt(i, prompt, text) for i, (prompt, text) in enumerate(zip(PROMPTS, references, strict=True))]
    whole = generate_answers(model, tokenizer, prompts, 30, examples=4, advance=lambda _: None)
    short = generate_answers(model, tokenizer, prompts, 30, examples=0, advance=lambda _: None)
    assert [a.strip() == r.strip() for a, r in zip(whole.texts, references, strict=True)] == [False, True, True, False]
    assert [a.strip() == r.strip() for a, r in zip(short.texts, references, strict=True)] == [False, True, True, False]
    assert (whole.texts, whole.is_cut) == (own, [False] * 4)
    assert len(short.texts[0]) < len(whole.texts[0])
    assert short.is_cut[:3] == [True, False, False]


def test_an_answer_is_no_longer_than_it_can_matter(model: Any, tokenizer: Any) -> None:
    prompts = [EvalPrompt(0, PROMPTS[0], "ab")]
    (text,) = generate_answers(model, tokenizer, prompts, 400, examples=1, advance=lambda _: None).texts
    (ten,) = greedy(model, PROMPTS[:1], [2 * len(tokenizer.encode("ab")) + 8], frozenset())
    assert text == tokenizer.decode(ten, skip_special_tokens=True)


def test_a_prompt_that_fills_the_model_gets_no_answer(model: Any, tokenizer: Any) -> None:
    prompts = [EvalPrompt(0, [5] * 512, "ab"), EvalPrompt(1, [5] * 600, "ab")]
    assert generate_answers(model, tokenizer, prompts, 8, examples=2, advance=lambda _: None).texts == ["", ""]
