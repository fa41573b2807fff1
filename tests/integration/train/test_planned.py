"""Training follows the plan that prepare has recorded, whatever machine an attempt runs on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.prepare_runs import read_result, write_job, write_rows
from tunesmith_api.contract import MACHINE
from tunesmith_api.planner import DataShape, ModelShape, parse_machines
from tunesmith_api.planner import plan as planned
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.__main__ import main

LARGE = {"name": "large", "cpus": 2, "memory": "64Gi"}

Prepare = Callable[[dict[str, Any]], Path]


@pytest.fixture(params=[("full", {}), ("lora", {"microBatchSize": 1})], ids=["full", "lora"])
def prepare(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares a job of a method for a machine, and returns its work folder."""
    method, training = request.param

    def run(machine: dict[str, Any]) -> Path:
        training_ = {"maxLength": 128, "globalBatchSize": 16, "maxSteps": 3, "warmupRatio": 0.0, **training}
        rows = write_rows(tmp_path / "rows.jsonl")
        work = write_job(tmp_path / machine["name"], rows, training=training_, method=method)
        monkeypatch.setenv(MACHINE, json.dumps([machine]))
        assert main(["prepare", "--work", str(work)]) == 0
        monkeypatch.delenv(MACHINE)
        return work

    return run


def tight_machine(work: Path) -> dict[str, Any]:
    """A machine on which what is planned on the large one does not fit any more."""
    config = JobConfig.model_validate_json((work / "config.json").read_bytes())
    data = read_result(work)["data"]
    rows = DataShape(data["trainRows"], data["longestRow"], data["trainTokens"] / data["trainRows"])
    shape = ModelShape.from_config(json.loads((work / "prepare/model/config.json").read_bytes()))
    found = planned(config.spec, shape, rows, parse_machines([LARGE])[0], 1)
    return {"name": "tight", "cpus": 2, "memory": found.stages["train"].memory - 1}


def test_what_is_left_open_is_trained_as_planned(prepare: Prepare, run_here: Callable[[Path], Any]) -> None:
    wide = prepare(LARGE)
    work = prepare(tight_machine(wide))
    before, plan = read_result(wide)["plan"], read_result(work)["plan"]
    is_full = before["microBatchSize"] == 8
    assert (before["gradientCheckpointing"], before["strategy"]) == (False, "ddp")
    assert (plan["microBatchSize"], plan["gradientCheckpointing"]) == ((4, False) if is_full else (1, True))
    run_here(work)
    resolved = json.loads((work / "train" / "resolved.json").read_text())
    for name in ("microBatchSize", "gradientAccumulationSteps", "gradientCheckpointing", "strategy"):
        assert resolved[name]["value"] == plan[name]
    reason = resolved["microBatchSize" if is_full else "gradientCheckpointing"]["reason"]
    assert f"planned on tight with {plan['stages']['train']['memory']}" in reason
    assert ("the largest divisor of 16 rows that fits" if is_full else "needed to fit") in reason
