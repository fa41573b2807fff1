"""GPU seconds: what a job was seen to hold, whatever comes between."""

from typing import Any

import pytest

from support.fake_backend import condition
from tunesmith_hosted.reconcile.gpu_hours import counted, held

SPEC = {"resources": {"nodes": 2, "gpusPerNode": 4}}
TRAINS = {"status": {"phase": "Training"}}
WAITS = {"status": {"phase": "Training", "conditions": condition("Suspended", "it waits")}}
ENDED = {"status": {"phase": "Succeeded"}}
PREPARES = {"status": {"phase": "Preparing"}}


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        ([(0, PREPARES), (50, TRAINS), (100, TRAINS), (160, ENDED)], 110),
        ([(0, TRAINS), (10, TRAINS), (20, TRAINS), (29, ENDED)], 29),
        ([(0, TRAINS), (100, WAITS), (1000, WAITS), (2000, TRAINS), (2010, ENDED), (3000, ENDED)], 110),
        ([(0, TRAINS), (60, None), (100, None)], 60),
        ([(0, WAITS), (100, ENDED)], 0),
    ],
)
def test_what_is_counted(seen: list[tuple[float, Any]], seconds: float) -> None:
    observed: dict[str, Any] = {}
    total = 0.0
    for now, found in seen:
        counting = held(observed, SPEC, found, now)
        total += counting.seconds
        observed = {"phase": "kept", **counting.noted}
    assert total == 8 * seconds
    assert counted(observed) == (seconds > 0)


def test_a_job_without_gpus_holds_none() -> None:
    assert held({}, {}, TRAINS, 5.0).noted == {}


def test_what_goes_on_is_written_now_and_then() -> None:
    first = held({}, SPEC, TRAINS, 0.0)
    assert held(first.noted, SPEC, TRAINS, 29.0).seconds == 0
    assert held(first.noted, SPEC, TRAINS, 30.0).seconds == 240
