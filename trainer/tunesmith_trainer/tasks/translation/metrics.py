"""The metrics of translations, by sacrebleu."""

from __future__ import annotations

import math
from collections.abc import Sequence

Metrics = dict[str, float | None]


def bleu_tokenizer(language: str | None) -> str:
    """Return sacrebleu's tokenizer for a target language.

    Chinese has one of its own. Texts in languages without spaces between words are compared by characters, where
    sacrebleu would need a dictionary; all others by its default.

    Args:
        language: Code of the language, such as ja, jpn_Jpan or ja_XX; None if it is not known.
    """
    code = (language or "").replace("_", "-").split("-")[0].lower()
    if code in ("zh", "zho", "yue"):
        return "zh"
    return "char" if code in ("ja", "jpn", "ko", "kor", "th", "tha", "lo", "lao", "km", "khm", "my", "mya") else "13a"


def translation_metrics(
    loss: float, answers: Sequence[str], references: Sequence[str], language: str | None
) -> tuple[Metrics, dict[str, str]]:
    """Return the task's metrics, None for one that cannot be measured, and sacrebleu's signatures.

    Args:
        loss: Mean loss of a target token, in nats.
        answers: The translations.
        references: The right ones; none if none were asked for.
        language: Code of the target's language; None if it is not known.
    """
    metrics: Metrics = {"evalLoss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
    signatures: dict[str, str] = {}
    if references:
        from sacrebleu.metrics import BLEU, CHRF

        for name, metric in (("bleu", BLEU(tokenize=bleu_tokenizer(language))), ("chrf", CHRF())):
            metrics[name] = float(metric.corpus_score(list(answers), [list(references)]).score)
            signatures[name] = str(metric.get_signature())
        equal = sum(a.strip() == r.strip() for a, r in zip(answers, references, strict=True))
        metrics["exactMatch"] = equal / len(references)
    else:
        metrics |= {"bleu": None, "chrf": None, "exactMatch": None}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}, (
        signatures
    )
