"""A job as the console shows it: curve, gates, worst predictions."""

import json
from typing import Any

from tunesmith_hosted.console.jobs.curve import MOST_POINTS, points_of_events, points_of_log
from tunesmith_hosted.console.jobs.gates import gates_of
from tunesmith_hosted.console.jobs.predictions import similarity, worst_rows


def lines(*entries: dict[str, Any]) -> list[bytes]:
    return [json.dumps(entry).encode() for entry in entries]


def test_a_log_is_read_while_it_is_written() -> None:
    log = lines({"step": 1, "loss": 3.0, "learningRate": 0.1}, {"step": 2, "loss": 2.0, "evalLoss": 2.5})
    assert points_of_log([*log, b'{"step": 3, "lo']) == [
        {"step": 1, "loss": 3.0, "learningRate": 0.1, "evalLoss": None},
        {"step": 2, "loss": 2.0, "learningRate": None, "evalLoss": 2.5},
    ]
    assert [point["step"] for point in points_of_log(log, after=1)] == [2]


def test_a_step_that_was_computed_again_counts_once() -> None:
    log = lines(*({"step": step, "loss": loss} for step, loss in ((1, 3.0), (2, 2.0), (3, 9.0), (3, 1.0))))
    assert [(point["step"], point["loss"]) for point in points_of_log(log)] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_a_long_curve_keeps_its_shape() -> None:
    log = lines(*({"step": step, "loss": 1.0} for step in range(1, 4 * MOST_POINTS)), {"step": 4001, "evalLoss": 7.0})
    points = points_of_log(log)
    assert len(points) <= MOST_POINTS + 1 and points[0]["step"] == 1 and points[-1]["evalLoss"] == 7.0


def test_events_make_a_curve_where_there_is_no_log() -> None:
    points = points_of_events([{"step": 5, "train_loss": 2.0, "valid_loss": 3.0}, {"step": 9, "train_loss": 1.0}])
    assert [(point["step"], point["loss"], point["evalLoss"]) for point in points] == [(5, 2.0, 3.0), (9, 1.0, None)]


def test_a_gate_needs_all_precisions() -> None:
    spec = {"evaluation": {"gates": [{"metric": "exactMatch", "min": 0.8}, {"metric": "evalLoss", "max": 2}]}}
    served = {"int8": {"exactMatch": 0.9, "evalLoss": 1.0}, "int4": {"exactMatch": 0.7, "evalLoss": 1.5}}
    exact, loss = gates_of(spec, {"before": {"exactMatch": 0.0}, "after": {"exactMatch": 1.0}, "served": served})
    assert (exact["before"], exact["after"], exact["served"], exact["passed"]) == (0.0, 1.0, 0.7, False)
    assert (exact["bound"], exact["servedBy"]) == ("at least 0.8", {"int8": 0.9, "int4": 0.7})
    assert (loss["served"], loss["passed"], loss["bound"]) == (1.5, True, "at most 2")
    assert [gate["passed"] for gate in gates_of(spec, {})] == [None, None]


def test_the_worst_row_is_first_and_right_ones_are_left_out() -> None:
    rows = [
        {"row": 0, "prompt": "a", "reference": "It is 4.", "before": "?", "after": "It is 4.", "served": {}},
        {"row": 1, "prompt": "b", "reference": "It is 5.", "before": "?", "after": "It is.", "served": {}},
        {"row": 2, "prompt": "c", "reference": "It is 6.", "after": "It is 6.", "served": {"int4": "zzz"}},
        {"row": 3, "prompt": "d", "reference": ["O", "B"], "before": None, "after": ["O", "O"], "served": {}},
    ]
    found = worst_rows([*lines(*rows), b"{"])
    assert [row["row"] for row in found] == [2, 1, 3]
    assert found[0]["served"] == {"int4": "zzz"} and found[0]["score"] == 0


def test_texts_are_the_same_only_if_they_are() -> None:
    assert similarity("one two", " one two ") == 1
    assert similarity("abcabcabc", "abcabcabcabc") < 1
    assert similarity("one two three", "one two four") > similarity("one two three", "something else")
    assert similarity("", "x") < 1
