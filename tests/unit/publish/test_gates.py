import math

import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import GateSpec
from tunesmith_trainer.publish.gates import check_gates, require_passed


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        ({"metric": "exactMatch", "min": 0.8}, 0.8, True),
        ({"metric": "exactMatch", "min": 0.8}, 0.79, False),
        ({"metric": "exactMatch", "min": 0.0}, None, False),
        ({"metric": "evalLoss", "max": 1.5}, 1.5, True),
        ({"metric": "evalLoss", "max": 1.5}, 1.51, False),
        ({"metric": "evalLoss", "max": 1.5}, math.nan, False),
        ({"metric": "evalLoss", "min": -1}, math.nan, False),
        ({"metric": "perplexity", "max": 1e9}, math.inf, False),
        ({"metric": "perplexity", "min": 2}, math.inf, False),
        ({"metric": "perplexity", "min": 2, "max": 4}, 3.0, True),
        ({"metric": "perplexity", "min": 2, "max": 4}, 1.9, False),
        ({"metric": "perplexity", "min": 2, "max": 4}, 4.1, False),
    ],
)
def test_a_gate_holds_its_bounds(gate: dict, value: float | None, passed: bool) -> None:
    (result,) = check_gates([GateSpec(**gate)], {gate["metric"]: value})
    measured = value if value is not None and math.isfinite(value) else None
    assert result == {**gate, "value": measured, "passed": passed}


def test_a_metric_that_is_missing_passes_no_gate() -> None:
    (result,) = check_gates([GateSpec(metric="exactMatch", min=0)], {})
    assert result == {"metric": "exactMatch", "min": 0.0, "value": None, "passed": False}


def test_no_gates_pass() -> None:
    results = check_gates([], {"evalLoss": 1.0})
    assert results == []
    require_passed(results)


def test_every_failed_gate_is_named_with_value_and_bound() -> None:
    gates = [
        GateSpec(metric="exactMatch", min=0.8),
        GateSpec(metric="evalLoss", max=2),
        GateSpec(metric="perplexity", min=2, max=4),
    ]
    results = check_gates(gates, {"exactMatch": 0.25, "evalLoss": 1.0, "perplexity": 5.5})
    with pytest.raises(StageError) as caught:
        require_passed(results)
    error = caught.value
    assert error.reason is Reason.GATE_FAILED
    assert error.exit_code == 16
    assert error.message == (
        "2 of 3 gates failed: exactMatch is 0.25, the gate needs at least 0.8; "
        "perplexity is 5.5, the gate needs at least 2 and at most 4"
    )
    assert "evaluation.gates" in error.remedy


def test_a_gate_that_cannot_be_measured_says_why() -> None:
    gates = [GateSpec(metric="exactMatch", min=0.8), GateSpec(metric="evalLoss", max=2)]
    with pytest.raises(StageError, match="no validation rows with a prompt.*not a finite number"):
        require_passed(check_gates(gates, {"exactMatch": None, "evalLoss": math.nan}))


def test_a_gate_that_the_served_model_fails_names_it() -> None:
    gates = [GateSpec(metric="exactMatch", min=0.8)]
    results = check_gates(gates, {"exactMatch": 0.9}) + check_gates(gates, {"exactMatch": 0.5}, served="int4")
    assert results[1] == {"metric": "exactMatch", "min": 0.8, "served": "int4", "value": 0.5, "passed": False}
    with pytest.raises(StageError) as caught:
        require_passed(results)
    assert caught.value.message == "1 of 2 gates failed: served int4: exactMatch is 0.5, the gate needs at least 0.8"
    assert "export.precisions" in caught.value.remedy
