"""A model whose template ends answers with no EOS token would never stop, and is refused before training."""

import json
from pathlib import Path

import pytest

from support.prepare_runs import read_outcome, run_prepare, write_job, write_rows
from support.tiny_models import build_model

WITHOUT_END = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = build_model(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(WITHOUT_END)
    return folder


def test_an_answer_without_an_end_is_refused(tmp_path: Path, model: Path) -> None:
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": str(model)})
    code, errors = run_prepare(work)
    assert code == 13, errors
    assert "(EOS is <|im_end|>), so the model would never learn to stop" in read_outcome(work)["message"]
    assert "chat_template.jinja" in read_outcome(work)["remedy"]


def test_a_stop_token_of_the_generation_settings_is_enough(tmp_path: Path, model: Path) -> None:
    from transformers import AutoTokenizer

    (newline,) = AutoTokenizer.from_pretrained(model).encode("\n", add_special_tokens=False)
    settings = model / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": [newline]}))
    work = write_job(tmp_path / "work", write_rows(tmp_path / "rows.jsonl"), {"uri": str(model)})
    code, errors = run_prepare(work)
    assert code == 0, errors
