"""A model from scratch: its tokenizer fits its architecture, it loads with every head, and it is the same each time."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from pydantic import ValidationError
from transformers import AutoTokenizer

from tunesmith_api.spec import ScratchSpec, TrainingJobSpec
from tunesmith_trainer.models.scratch import build_scratch

TEXTS = ["Who wrote the book? Ada Lovelace wrote it in London.", "Grüße aus Köln, 東京, and 🙂!"] * 8
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 400}
HEADS = {
    "llama": ("CausalLM",),
    "bert": ("SequenceClassification", "TokenClassification", "QuestionAnswering"),
    "t5": ("Seq2SeqLM",),
}


def build(folder: Path, architecture: str) -> Path:
    spec = ScratchSpec(architecture=architecture, num_attention_heads=2, num_key_value_heads=1, **SIZES)  # type: ignore[arg-type]
    build_scratch(folder, spec, TEXTS, seed=3)
    return folder


@pytest.mark.parametrize("architecture", sorted(HEADS))
def test_it_is_the_same_each_time_and_loads_with_every_head(tmp_path: Path, architecture: str) -> None:
    first, second = build(tmp_path / "1", architecture), build(tmp_path / "2", architecture)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    for name in HEADS[architecture]:
        _, loading = getattr(transformers, f"AutoModelFor{name}").from_pretrained(first, output_loading_info=True)
        missing = {key.split(".")[0] for key in loading["missing_keys"]}
        assert missing <= {"classifier", "qa_outputs"}


@pytest.mark.parametrize("architecture", sorted(HEADS))
def test_every_text_comes_back(tmp_path: Path, architecture: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(build(tmp_path / "model", architecture))
    for text in (*TEXTS[:2], "never seen: žluťoučký kůň"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids, skip_special_tokens=True).removeprefix(" ") == text


def test_an_encoder_marks_pairs_and_words(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(build(tmp_path / "model", "bert"))
    pair = tokenizer("Who?", "Ada in London.", return_offsets_mapping=True)
    words = tokenizer.convert_ids_to_tokens(pair["input_ids"])
    assert (words[0], words[-1], words.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    assert pair["token_type_ids"] == [0] * (words.index("[SEP]") + 1) + [1] * (len(words) - words.index("[SEP]") - 1)
    found = ["Ada in London."[start:end] for start, end in pair["offset_mapping"][words.index("[SEP]") + 1 : -1]]
    assert "".join(found) == "AdainLondon."  # without the spaces between them
    whole = tokenizer("Ada in London")["input_ids"]
    assert tokenizer(["Ada", "in", "London"], is_split_into_words=True)["input_ids"] == whole


def test_a_translator_ends_each_text(tmp_path: Path) -> None:
    folder = build(tmp_path / "model", "t5")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Ada")["input_ids"][-1] == tokenizer.eos_token_id
    settings = transformers.GenerationConfig.from_pretrained(folder)
    assert settings.decoder_start_token_id == tokenizer.pad_token_id
    assert settings.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("task", "architecture", "said"),
    [
        ("textGeneration", "bert", "write architecture: llama, qwen2 or phi3"),
        ("tokenClassification", "llama", "write architecture: bert"),
        ("questionAnswering", "t5", "write architecture: bert"),
        ("translation", "bert", "write architecture: t5"),
        ("sequenceClassification", "t5", "write architecture: bert, llama, qwen2 or phi3"),
        ("sequenceClassification", "bert", ""),
        ("sequenceClassification", "qwen2", ""),
        ("translation", "t5", ""),
    ],
)
def test_the_architecture_fits_the_task(task: str, architecture: str, said: str) -> None:
    spec = {
        "model": {"scratch": {"architecture": architecture}},
        "task": task,
        "method": "full",
        "dataset": {"sources": [{"uri": "./rows.jsonl"}]},
    }
    if not said:
        assert TrainingJobSpec.model_validate(spec).task == task
        return
    with pytest.raises(ValidationError, match=said):
        TrainingJobSpec.model_validate(spec)


def test_key_value_heads_are_the_decoders_own() -> None:
    assert ScratchSpec(architecture="bert", hidden_size=24, num_attention_heads=3).num_attention_heads == 3
    with pytest.raises(ValidationError, match="numKeyValueHeads"):
        ScratchSpec(hidden_size=24, num_attention_heads=3)
