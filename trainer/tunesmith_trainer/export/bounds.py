"""The bounds on the difference between an exported model and the trained one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision

RISK = 0.01
"""The share of few tokens can be low by chance. It fails only if this is less likely than this."""
LONG_ROW_RISK = 0.001
"""The same for the long row, whose bound is an estimate itself."""

_Numbers = Mapping[str, float | int | None]


def require_parity(precision: Precision, numbers: _Numbers, bounds: ParitySpec) -> None:
    """Fail if an exported model differs too much from the torch model.

    The numbers of fp32 have to be within their bounds. Other precisions change the numbers, so there the question is
    whether the tokens that were compared prove that a bound is broken: on few tokens a share can be low by chance.

    Args:
        precision: The export's precision.
        numbers: The result of `parity.measure`.
        bounds: The job's bounds.

    Raises:
        StageError: PARITY_FAILED, with every number that is out of bounds.
    """
    wrong = _fp32(numbers, bounds) if precision is Precision.FP32 else _rounded(numbers, bounds)
    if wrong:
        advice = (
            "The exporter does not support this model correctly: use another base model"
            if precision is Precision.FP32
            else "Export fp32 instead, or widen the bound in export.parity"
        )
        raise StageError(
            Reason.PARITY_FAILED, f"the {precision.value} export is not the trained model: {'; '.join(wrong)}", advice
        )


def _fp32(numbers: _Numbers, bounds: ParitySpec) -> list[str]:
    wrong = []
    for name in ("maxLogitDifference", "longRowMaxLogitDifference"):
        if name in numbers and not _at_most(numbers[name], bounds.max_logit_difference):
            wrong.append(_describe(numbers, name, f"at most {bounds.max_logit_difference:g}"))
    agreement = numbers["greedyAgreement"]
    if agreement is None or agreement < bounds.min_greedy_agreement:
        wrong.append(_describe(numbers, "greedyAgreement", f"at least {bounds.min_greedy_agreement:g}"))
    return wrong


def _rounded(numbers: _Numbers, bounds: ParitySpec) -> list[str]:
    wrong = []
    if _proves_less(numbers, "nextTokenAgreement", bounds.min_next_token_agreement, RISK):
        wrong.append(_describe(numbers, "nextTokenAgreement", f"at least {bounds.min_next_token_agreement:g}"))
    increase = numbers["perplexityIncrease"]
    proven = numbers.get("perplexityIncreaseAtLeast", increase)
    if increase is None or not _at_most(proven, bounds.max_perplexity_increase):
        wrong.append(_describe(numbers, "perplexityIncrease", f"at most {bounds.max_perplexity_increase:g}"))
    if "longRowNextTokenAgreement" in numbers:
        # Rounding costs the same agreement at every position. What is lost beyond the threshold only is not its doing.
        within = numbers["longRowAgreementWithin"]
        bound = min(bounds.min_next_token_agreement, 0.0 if within is None else within)
        if _proves_less(numbers, "longRowNextTokenAgreement", bound, LONG_ROW_RISK):
            wrong.append(_describe(numbers, "longRowNextTokenAgreement", f"at least {bound:.4g}"))
    return wrong


def _at_most(value: float | None, bound: float) -> bool:
    """Return whether a value is within its bound; NaN, which is None here, never is."""
    return value is not None and value <= bound


def _proves_less(numbers: _Numbers, name: str, bound: float, risk: float) -> bool:
    """Return whether a share of tokens proves that the true share is below a bound."""
    share, tokens = numbers[name], numbers[f"{name}Tokens"]
    if share is None or not tokens:
        return True
    return binomial_tail(round(share * tokens), int(tokens), bound) < risk and share < bound


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return the probability of at most `successes` in `trials`, if each succeeds with probability `share`."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 1.0 if successes >= trials else 0.0
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(share)
        + (trials - k) * math.log1p(-share)
        for k in range(successes + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(value - top) for value in logs))


def _describe(numbers: _Numbers, name: str, bound: str) -> str:
    value, tokens = numbers[name], numbers.get(f"{name}Tokens")
    shown = "not a number" if value is None else f"{value:.4g}"
    counted = f" of {tokens} tokens" if tokens and value is not None else ""
    where = f" beyond token {numbers['longRowThreshold']}" if name.startswith("longRow") else ""
    return f"{name} is {shown}{counted}{where}, not {bound}"
