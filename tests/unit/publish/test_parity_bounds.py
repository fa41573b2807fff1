import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.export.architectures import EXPORTABLE, export_options
from tunesmith_trainer.export.bounds import binomial_tail, require_parity

GOOD = {
    "maxLogitDifference": 1e-5,
    "meanLogitDifference": 1e-6,
    "greedyAgreement": 1.0,
    "nextTokenAgreement": 0.95,
    "torchPerplexity": 3.0,
    "onnxPerplexity": 3.1,
    "perplexityIncrease": 0.03,
    "rows": 16,
    "nextTokenAgreementTokens": 100,
    "greedyAgreementTokens": 64,
}


@pytest.mark.parametrize("precision", list(Precision))
def test_numbers_within_bounds_pass(precision: Precision) -> None:
    require_parity(precision, GOOD, ParitySpec())


@pytest.mark.parametrize(
    ("precision", "name", "value", "said"),
    [
        ("fp32", "maxLogitDifference", 0.8, "maxLogitDifference is 0.8, not at most 0.001"),
        ("fp32", "maxLogitDifference", None, "maxLogitDifference is not a number, not at most 0.001"),
        ("fp32", "greedyAgreement", 0.99, "greedyAgreement is 0.99 of 64 tokens, not at least 1"),
        ("int4", "nextTokenAgreement", 0.5, "nextTokenAgreement is 0.5 of 100 tokens, not at least 0.9"),
        ("int4", "nextTokenAgreement", None, "nextTokenAgreement is not a number"),
        ("int4", "perplexityIncrease", 0.2, "perplexityIncrease is 0.2, not at most 0.1"),
        ("int4", "perplexityIncrease", None, "perplexityIncrease is not a number"),
    ],
)
def test_a_number_out_of_bounds_fails(precision: str, name: str, value: float | None, said: str) -> None:
    with pytest.raises(StageError) as caught:
        require_parity(Precision(precision), {**GOOD, name: value}, ParitySpec())
    assert caught.value.reason is Reason.PARITY_FAILED
    assert said in caught.value.message
    assert caught.value.remedy


def test_each_precision_has_its_own_bounds() -> None:
    require_parity(Precision.INT4, {**GOOD, "maxLogitDifference": 2.0, "greedyAgreement": 0.5}, ParitySpec())
    require_parity(Precision.FP32, {**GOOD, "nextTokenAgreement": 0.1, "perplexityIncrease": 1.0}, ParitySpec())


def test_an_architecture_that_cannot_be_exported_is_named_beside_those_that_can() -> None:
    with pytest.raises(StageError) as caught:
        export_options(["Gemma3ForCausalLM"])
    assert caught.value.reason is Reason.EXPORT_FAILED
    assert "Gemma3ForCausalLM" in caught.value.message
    assert all(name in caught.value.remedy for name in EXPORTABLE)
    with pytest.raises(StageError, match="none named"):
        export_options(None)
    assert export_options(["LlamaForCausalLM"]) == ()
    assert export_options(["Gemma2ForCausalLM"]) == ()


def few(agreement: float, tokens: int, **numbers: float) -> dict[str, float]:
    return {**GOOD, "nextTokenAgreement": agreement, "nextTokenAgreementTokens": tokens, **numbers}


@pytest.mark.parametrize(
    ("successes", "trials", "share", "expected"),
    [
        (0, 4, 0.5, 1 / 16),
        (1, 4, 0.5, 5 / 16),
        (4, 4, 0.5, 1.0),
        (5, 6, 0.9, 1 - 0.9**6),
        (3, 5, 1.0, 0.0),
        (5, 5, 1.0, 1.0),
        (0, 5, 0.0, 1.0),
    ],
)
def test_the_tail_of_the_binomial_distribution(successes: int, trials: int, share: float, expected: float) -> None:
    assert binomial_tail(successes, trials, share) == pytest.approx(expected)


def test_few_tokens_fail_only_if_they_prove_it() -> None:
    require_parity(Precision.INT4, few(5 / 6, 6), ParitySpec())
    require_parity(Precision.INT4, few(0.87, 100), ParitySpec())
    for agreement, tokens in ((1 / 6, 6), (0.8, 100), (0.87, 2000)):
        with pytest.raises(StageError, match=f"nextTokenAgreement is .* of {tokens} tokens, not at least 0.9"):
            require_parity(Precision.INT4, few(agreement, tokens), ParitySpec())


def test_a_bound_of_one_allows_no_token() -> None:
    bounds = ParitySpec(min_next_token_agreement=1.0)
    require_parity(Precision.INT4, few(1.0, 3), bounds)
    with pytest.raises(StageError):
        require_parity(Precision.INT4, few(999 / 1000, 1000), bounds)


def test_a_rise_of_the_perplexity_fails_only_if_it_is_proven() -> None:
    require_parity(Precision.INT4, {**GOOD, "perplexityIncrease": 0.3, "perplexityIncreaseAtLeast": 0.05}, ParitySpec())
    with pytest.raises(StageError, match="perplexityIncrease is 0.3, not at most 0.1"):
        require_parity(
            Precision.INT4, {**GOOD, "perplexityIncrease": 0.3, "perplexityIncreaseAtLeast": 0.15}, ParitySpec()
        )


LONG = {
    "longRowThreshold": 64,
    "longRowMaxLogitDifference": 1e-5,
    "longRowNextTokenAgreement": 0.8,
    "longRowNextTokenAgreementTokens": 190,
    "longRowAgreementWithin": 0.82,
}


def test_int4_may_lose_beyond_the_window_what_it_loses_within() -> None:
    require_parity(Precision.INT4, {**GOOD, **LONG}, ParitySpec())
    with pytest.raises(
        StageError, match="longRowNextTokenAgreement is 0.5 of 190 tokens beyond token 64, not at least"
    ):
        require_parity(Precision.INT4, {**GOOD, **LONG, "longRowNextTokenAgreement": 0.5}, ParitySpec())


def test_fp32_must_be_the_same_beyond_the_window() -> None:
    require_parity(Precision.FP32, {**GOOD, **LONG}, ParitySpec())
    with pytest.raises(StageError, match="longRowMaxLogitDifference is 2 beyond token 64, not at most 0.001"):
        require_parity(Precision.FP32, {**GOOD, **LONG, "longRowMaxLogitDifference": 2.0}, ParitySpec())
    with pytest.raises(StageError, match="longRowMaxLogitDifference is not a number"):
        require_parity(Precision.FP32, {**GOOD, **LONG, "longRowMaxLogitDifference": None}, ParitySpec())
