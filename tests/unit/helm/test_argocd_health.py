"""The Argo CD health script, run by a real Lua on what the status functions write."""

from pathlib import Path
from typing import Any

import pytest
from lupa import LuaRuntime

from tunesmith_api import status
from tunesmith_api.work_folder import Stage

SCRIPT = (Path(__file__).parents[3] / "helm/tunesmith/files/argocd-health.lua").read_text()

Object = dict[str, Any]
ACCEPTED = status.accepted({}, generation=2)
RUNNING = {stage: status.running(ACCEPTED, stage, {stage.value: 1}) for stage in Stage}
COMPLETED = status.completed(RUNNING[Stage.PUBLISH], {"uri": "pvc://a/b", "digest": "sha256:0"}, {})
FAILED = status.failed(ACCEPTED, "OutOfMemory", "8 GiB were not enough; ask for 16")
ROLLING_OUT = status.progressing(ACCEPTED, "1 of 2 servers are ready")
SERVING = status.serving(ACCEPTED, "http://a", "sha256:0123456789ab", "pvc://a/b", 2)


def health(obj: Object) -> tuple[str, str]:
    """Run the script as Argo CD does: the object is the global `obj`, and it returns a table."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    result = lua.execute(SCRIPT)
    return result["status"], result["message"]


def job(state: Object | None, generation: int = 2, **spec: Any) -> Object:
    obj: Object = {"metadata": {"name": "a", "generation": generation}, "spec": spec}
    return obj if state is None else {**obj, "status": state}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(None, "Progressing", id="no status"),
        pytest.param({"observedGeneration": -1}, "Progressing", id="the CRD's default"),
        pytest.param({"observedGeneration": 2}, "Progressing", id="no conditions"),
        pytest.param(ACCEPTED, "Progressing", id="accepted"),
        *(pytest.param(RUNNING[stage], "Progressing", id=stage.value) for stage in Stage),
        pytest.param(status.waiting(ACCEPTED, "Queued", "In the queue gpu"), "Progressing", id="queued"),
        pytest.param(status.interrupted(ACCEPTED, Stage.TRAIN), "Progressing", id="interrupted"),
        pytest.param(COMPLETED, "Healthy", id="completed"),
        pytest.param(FAILED, "Degraded", id="failed"),
        pytest.param(ROLLING_OUT, "Progressing", id="rolling out"),
        pytest.param(status.progressing(SERVING, "1 of 2"), "Progressing", id="rolling out again"),
        pytest.param(SERVING, "Healthy", id="serving"),
        pytest.param(status.scaled_to_zero(SERVING), "Healthy", id="scaled to zero"),
        pytest.param(status.stopped(SERVING), "Progressing", id="stopped"),
        pytest.param(status.failed(SERVING, "GateFailed", "0.7 is below 0.8"), "Degraded", id="serving, then failed"),
        pytest.param(status.running(FAILED, Stage.TRAIN, {"train": 2}), "Progressing", id="failed, then running"),
    ],
)
def test_every_phase(state: Object | None, expected: str) -> None:
    assert health(job(state))[0] == expected


@pytest.mark.parametrize("state", [COMPLETED, FAILED, SERVING])
def test_an_end_that_the_operator_has_not_seen_the_last_change_of_is_none(state: Object) -> None:
    assert health(job(state, generation=3))[0] == "Progressing"


def test_a_suspended_job_is_suspended_until_its_end() -> None:
    waiting = status.waiting(ACCEPTED, "Suspended", "spec.suspend is true")
    assert health(job(waiting, suspend=True)) == ("Suspended", "Suspended: spec.suspend is true")
    assert health(job(COMPLETED, suspend=True))[0] == "Healthy"
    assert health(job(FAILED, suspend=True))[0] == "Degraded"


def test_the_message_says_what_to_do() -> None:
    assert health(job(FAILED))[1] == "OutOfMemory: 8 GiB were not enough; ask for 16"


def test_what_is_being_deleted_is_waited_for() -> None:
    obj = job(COMPLETED)
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert health(obj) == ("Progressing", "Being deleted")
