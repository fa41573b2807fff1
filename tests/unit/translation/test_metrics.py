"""The metrics are sacrebleu's own."""

import math
import subprocess
import sys

import pytest

from tunesmith_trainer.tasks.translation.metrics import bleu_tokenizer, translation_metrics

ANSWERS = ["the dog sees the house", "a bird", "the cats like bread and water", "nothing to see here"]
REFERENCES = ["the dog sees a house", "a bird", "the cat likes bread and water", "there is nothing to see here "]


def test_scores_are_those_of_sacrebleus_command(tmp_path):
    metrics, signatures = translation_metrics(0.5, ANSWERS, REFERENCES, "en")
    (tmp_path / "answers").write_text("\n".join(ANSWERS) + "\n")
    (tmp_path / "references").write_text("\n".join(REFERENCES) + "\n")
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "answers", "-m", "bleu", "chrf", "-b", "-w", "6"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    bleu, chrf = (float(number) for number in printed.replace(",", " ").replace("[", " ").replace("]", " ").split())
    assert metrics["bleu"] == pytest.approx(bleu, abs=1e-6)
    assert metrics["chrf"] == pytest.approx(chrf, abs=1e-6)
    assert metrics["exactMatch"] == 0.25
    assert metrics["perplexity"] == pytest.approx(math.exp(0.5))
    assert signatures["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "nc:6|nw:0" in signatures["chrf"]


def test_without_answers_there_is_only_the_loss():
    metrics, signatures = translation_metrics(1000.0, [], [], None)
    assert metrics == {"evalLoss": 1000.0, "perplexity": None, "bleu": None, "chrf": None, "exactMatch": None}
    assert signatures == {}


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [(None, "13a"), ("de", "13a"), ("zh", "zh"), ("zho_Hans", "zh"), ("ja_XX", "char"), ("kor_Hang", "char")],
)
def test_tokenizers(language, tokenizer):
    assert bleu_tokenizer(language) == tokenizer
    score = translation_metrics(1.0, ["我喜欢猫和狗"], ["我喜欢猫和狗"], language)
    assert score[0]["bleu"] is not None
    assert f"tok:{tokenizer}|" in score[1]["bleu"]
