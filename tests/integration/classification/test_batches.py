"""Rows as the model gets them, and their loss: what transformers makes of the same texts and labels."""

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from support.label_checks import label_spec
from support.tiny_tasks import DECODERS, ENCODERS, train_task_tokenizer
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.data.token_store import TokenStore, TokenStoreWriter
from tunesmith_trainer.tasks.sequence_classification.collate import LabelCollator, label_loss, label_weight
from tunesmith_trainer.tasks.sequence_classification.encoder import LabelEncoder
from tunesmith_trainer.tasks.sequence_classification.rows import LabelledRow
from tunesmith_trainer.tasks.sequence_classification.task import SequenceClassification

TEXTS = [
    ("The quick brown fox", ""),
    ("What is the rate?", "The rate is a number."),
    ("again and again " * 20, ""),
    ("again " * 30, "jumps over the lazy dog " * 30),
]
SINGLE = {"problemType": "single_label_classification", "labels": ["a", "b", "c"], "classWeights": [0.5, 2.0, 1.25]}
MULTI = {"problemType": "multi_label_classification", "labels": ["a", "b", "c"]}
REGRESSION = {"problemType": "regression"}


def rows(labels: list[tuple[Any, ...]], *, is_list: bool = False) -> list[LabelledRow]:
    return [
        LabelledRow(f"rows.jsonl:{number + 1}", text=text, pair=pair, labels=given, is_list=is_list)
        for number, ((text, pair), given) in enumerate(zip(TEXTS, labels, strict=True))
    ]


def stored(folder: Any, encoder: LabelEncoder, given: list[LabelledRow]) -> TokenStore:
    with TokenStoreWriter(folder) as writer:
        for [piece] in encoder.encode(given):
            writer.add(piece.ids, piece.mask, piece.targets)
    return TokenStore.open(folder)


@pytest.mark.parametrize("family", [*ENCODERS, DECODERS[0]])
def test_tokens_and_types_are_those_of_transformers(family: Any, tmp_path: Any) -> None:
    tokenizer = train_task_tokenizer(family)
    encoder = LabelEncoder(tokenizer, 24, SINGLE)
    store = stored(tmp_path, encoder, rows([("a",), ("b",), ("c",), ("a",)]))
    task = SequenceClassification()
    config = type("Config", (), {"pad_token_id": tokenizer.pad_token_id, "type_vocab_size": 2})
    collator = LabelCollator(lambda ids: task.inputs(ids, config), SINGLE["problemType"], 3)
    batch = collator([store[index] for index in range(len(store))])
    for index, (text, pair) in enumerate(TEXTS):
        expected = tokenizer(text, pair or None, truncation=True, max_length=24, return_token_type_ids=True)
        count = len(expected["input_ids"])
        assert batch["input_ids"][index, :count].tolist() == expected["input_ids"]
        assert batch["token_type_ids"][index].tolist() == [*expected["token_type_ids"], *[0] * (24 - count)]
        assert batch["attention_mask"][index].tolist() == [1] * count + [0] * (24 - count)
        assert (batch["input_ids"][index, count:] == tokenizer.pad_token_id).all()
        if family == "bert":
            assert task.token_types(expected["input_ids"], config) == expected["token_type_ids"]
    lengths = [len(tokenizer(text, pair or None)["input_ids"]) for text, pair in TEXTS]
    longer = [f"rows.jsonl:{number + 1}" for number, length in enumerate(lengths) if length > 24]
    assert encoder.log.locations[Outcome.TRUNCATED] == longer
    assert len(longer) >= 2
    assert encoder.log.lengths.total_length == sum(lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_torchs(dtype: torch.dtype, tmp_path: Any) -> None:
    tokenizer = train_task_tokenizer("bert")
    task = SequenceClassification()
    config = type("Config", (), {"pad_token_id": tokenizer.pad_token_id})
    logits = (torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    sets: list[tuple[str, ...]] = [("a", "c"), (), ("b",), ("a", "b", "c")]
    numbers = [(0.5,), (3,), ("-1.25",), (1e-3,)]
    wide = logits.float()
    weights = torch.tensor(SINGLE["classWeights"])
    cases = {
        "single": (SINGLE, rows([("a",), ("c",), ("b",), ("b",)]), logits,
                   functional.cross_entropy(wide, torch.tensor([0, 2, 1, 1]), weight=weights)),
        "unweighted": ({**SINGLE, "classWeights": None}, rows([("a",), ("c",), ("b",), ("b",)]), logits,
                       functional.cross_entropy(wide, torch.tensor([0, 2, 1, 1]))),
        "multi": (MULTI, rows(sets, is_list=True), logits, functional.binary_cross_entropy_with_logits(
            wide, torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]))),
        "regression": (REGRESSION, rows(numbers), logits[:, :1],
                       functional.mse_loss(wide[:, 0], torch.tensor([0.5, 3, -1.25, 1e-3]))),
    }  # fmt: skip
    for name, (facts, given, found, expected) in cases.items():
        store = stored(tmp_path / name, LabelEncoder(tokenizer, 24, facts), given)
        collator = LabelCollator(lambda ids: task.inputs(ids, config), facts["problemType"], 3)
        labels = collator([store[index] for index in range(4)])["labels"]
        assert labels.dtype == torch.int64  # DeepSpeed would cast other numbers to bf16
        loss, count = label_loss(found, labels), label_weight(labels)
        assert loss.dtype == torch.float32
        torch.testing.assert_close((loss / count).float(), expected)
        # The rows of a step may be spread over micro-batches, of which each gives its part.
        parts = [slice(0, 1), slice(1, 4)]
        losses = [label_loss(found[part], labels[part]) for part in parts]
        counts = [label_weight(labels[part]) for part in parts]
        torch.testing.assert_close((sum(losses) / sum(counts)).float(), expected)
        assert all(float(count) >= 1 for count in counts)  # the trainer divides by 1 at least


@pytest.mark.parametrize("problem", [SINGLE, MULTI, REGRESSION])
def test_the_loss_is_that_of_the_model_itself(problem: dict[str, Any], base_of: Any, tmp_path: Any) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder = base_of("bert")
    task, facts = SequenceClassification(), {**copy.deepcopy(problem), "classWeights": None}
    config = AutoConfig.from_pretrained(folder)
    for name, value in task.head_settings(facts).items():
        setattr(config, name, value)
    model = AutoModelForSequenceClassification.from_pretrained(folder, config=config).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = {
        "single_label_classification": [("c",), ("a",), ("b",), ("b",)],
        "multi_label_classification": [("a", "c"), (), ("b",), ("c",)],
        "regression": [(0.5,), (3,), (-1.25,), (2,)],
    }[facts["problemType"]]
    given = rows(labels, is_list=facts["problemType"].startswith("multi"))
    store = stored(tmp_path, LabelEncoder(tokenizer, 24, facts), given)
    batch = task.collator(model, 1)([store[index] for index in range(4)])
    mine = batch.pop("labels")
    outputs = model(**batch)
    places = {"a": 0, "b": 1, "c": 2}
    if facts["problemType"] == "regression":
        theirs = torch.tensor([float(number) for (number,) in labels])
    elif facts["problemType"].startswith("single"):
        theirs = torch.tensor([places[label] for (label,) in labels])
    else:
        theirs = torch.zeros(4, 3)
        for index, names in enumerate(labels):
            theirs[index, [places[name] for name in names]] = 1
    expected = model(**batch, labels=theirs).loss
    torch.testing.assert_close((task.loss_sum(outputs, mine) / task.target_count(mine)).float(), expected)


def test_a_text_of_nothing_is_refused() -> None:
    from tunesmith_api.failures import StageError

    tokenizer = train_task_tokenizer("llama")
    tokenizer.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Strip()
    encoder = LabelEncoder(tokenizer, 24, SINGLE)
    row = LabelledRow("rows.jsonl:1", text="   ", labels=("a",))
    with pytest.raises(StageError, match="rows.jsonl:1: text: the tokenizer leaves nothing of it"):
        list(encoder.encode([row]))


def test_the_spec_has_a_default() -> None:
    task = SequenceClassification()
    assert task.longest_row(label_spec(), {}) == 1024
    assert task.served_settings(label_spec(), {**MULTI, "maxLength": 77}) == {
        "task": "sequenceClassification", "maxLength": 77, "problemType": "multi_label_classification",
    }  # fmt: skip
