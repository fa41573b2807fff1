import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.export.architectures import EXPORTABLE, export_options
from tunesmith_trainer.export.parity import require_parity

GOOD = {
    "maxLogitDifference": 1e-5,
    "meanLogitDifference": 1e-6,
    "greedyAgreement": 1.0,
    "nextTokenAgreement": 0.95,
    "torchPerplexity": 3.0,
    "onnxPerplexity": 3.1,
    "perplexityIncrease": 0.03,
    "rows": 16,
    "tokens": 100,
}


@pytest.mark.parametrize("precision", list(Precision))
def test_numbers_within_bounds_pass(precision: Precision) -> None:
    require_parity(precision, GOOD, ParitySpec())


@pytest.mark.parametrize(
    ("precision", "name", "value", "said"),
    [
        ("fp32", "maxLogitDifference", 0.8, "maxLogitDifference is 0.8, not at most 0.001"),
        ("fp32", "maxLogitDifference", None, "maxLogitDifference is not a number, not at most 0.001"),
        ("fp32", "greedyAgreement", 0.99, "greedyAgreement is 0.99, not at least 1"),
        ("int4", "nextTokenAgreement", 0.5, "nextTokenAgreement is 0.5, not at least 0.9"),
        ("int4", "nextTokenAgreement", None, "nextTokenAgreement is not a number"),
        ("int4", "perplexityIncrease", 0.2, "perplexityIncrease is 0.2, not at most 0.1"),
        ("int4", "perplexityIncrease", None, "perplexityIncrease is not a number"),
    ],
)
def test_a_number_out_of_bounds_fails(precision: str, name: str, value: float | None, said: str) -> None:
    with pytest.raises(StageError) as caught:
        require_parity(Precision(precision), {**GOOD, name: value}, ParitySpec())
    assert caught.value.reason is Reason.EXPORT_FAILED
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
