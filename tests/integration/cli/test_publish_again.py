"""A job that failed in publish goes on there after a change: whatever follows, it is trained once."""

import json
import os
import shutil
from pathlib import Path

import pytest

from support.cli import condition, status, tunesmith, write
from support.manifests import ROWS, config_map, job

IMPOSSIBLE = {"precisions": ["fp32"], "parity": {"rows": 2, "maxLogitDifference": 1e-12}}
POSSIBLE = {"precisions": ["fp32"], "parity": {"rows": 2}}
GATE = {"maxRows": 4, "maxNewTokens": 8, "gates": [{"metric": "evalLoss", "max": 1e-6}]}


def work_of(folder: Path) -> Path:
    return folder / ".tunesmith" / "default" / "tiny"


def trained(folder: Path) -> tuple[int, int, int]:
    """What identifies the train stage's marker and weights: the same file, not only the same content."""
    marker, weights = (
        work_of(folder) / "train" / "stage.json",
        work_of(folder) / "train" / "final" / "model.safetensors",
    )
    return marker.stat().st_ino, marker.stat().st_mtime_ns, weights.stat().st_mtime_ns


def run(folder: Path, **spec):
    """Run the tiny job in a folder, with its data in a file."""
    rows = folder / "manifests" / "rows.jsonl"
    rows.parent.mkdir(exist_ok=True)
    if not rows.exists():
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = {"sources": [{"uri": "./rows.jsonl"}], "validation": {"fraction": 0.1}}
    manifests = write(folder / "manifests", job(dataset=data, **{"training": SHORT, **spec}))
    return tunesmith("run", "-f", manifests, "--no-serve", cwd=folder)


SHORT = {"maxSteps": 4, "learningRate": 0.003, "globalBatchSize": 8, "maxLength": 128}


def test_a_job_is_trained_once_whatever_is_changed_for_publish(tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")

    # A gate that cannot hold.
    result = run(tmp_path, evaluation=GATE, export=IMPOSSIBLE)
    assert result.returncode == 1
    assert condition(status(tmp_path), "Ready")["reason"] == "GateFailed"
    once = trained(tmp_path)
    evaluated = (work_of(tmp_path) / "publish" / "evaluation-after.json").stat().st_mtime_ns

    # Without it, a parity bound that cannot hold.
    no_gate = {**GATE, "gates": []}
    result = run(tmp_path, evaluation=no_gate, export=IMPOSSIBLE)
    assert result.returncode == 1
    assert "maxLogitDifference" in condition(status(tmp_path), "Ready")["message"]
    assert (work_of(tmp_path) / "publish" / "evaluation-after.json").stat().st_mtime_ns == evaluated
    exported = (work_of(tmp_path) / "publish" / "onnx" / "fp32" / "model.onnx").stat().st_mtime_ns

    # The bound is widened, and the output is a folder with something else in it.
    result = run(tmp_path, evaluation=no_gate, export=POSSIBLE, output={"uri": str(taken)})
    assert result.returncode != 0
    message = condition(status(tmp_path), "Ready")["message"]
    assert str(taken) in message and "output.uri" in message
    assert trained(tmp_path) == once

    # The remedy is followed.
    result = run(tmp_path, evaluation=no_gate, export=POSSIBLE, output={"uri": "../out"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["config"]["output"]["uri"] == str(
        tmp_path / "out"
    )
    assert (taken / "mine.txt").read_text() == "mine"
    found = status(tmp_path)
    assert found["phase"] == "Succeeded"
    assert (found["attempts"]["prepare"], found["attempts"]["train"]) == (1, 1)
    assert trained(tmp_path) == once
    assert (work_of(tmp_path) / "publish" / "onnx" / "fp32" / "model.onnx").stat().st_mtime_ns == exported

    # After success nothing changes any more, and the remedies work.
    for spec in ({"output": {"uri": "../other"}}, {"output": {"uri": "../out"}, "evaluation": GATE}):
        result = run(tmp_path, **{"evaluation": no_gate, "export": POSSIBLE, **spec})
        assert result.returncode == 2
        assert "has succeeded" in result.stderr and "another metadata.name and output.uri" in result.stderr
    assert status(tmp_path) == found
    result = run(tmp_path, evaluation=no_gate, export=POSSIBLE, output={"uri": "../out"})
    assert result.returncode == 0, result.stderr
    assert trained(tmp_path) == once


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished job of plain texts, whose output could first not be written. Tests leave it finished."""
    folder = tmp_path_factory.mktemp("finished")
    rows = folder / "manifests" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text("".join(json.dumps({"text": f"{row['prompt']} {row['completion']}"}) + "\n" for row in ROWS))
    # A file in place of a folder cannot be written into, by root neither.
    (folder / "file").write_text("")
    result = run(folder, export=POSSIBLE, output={"uri": str(folder / "file" / "out")})
    assert result.returncode != 0
    message = condition(status(folder), "Ready")["message"]
    assert str(folder / "file") in message
    result = run(folder, export=POSSIBLE)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_an_output_that_cannot_be_written_costs_no_training(finished):
    assert status(finished)["attempts"]["train"] == 1


def test_changed_data_is_refused_once_the_job_has_begun(finished):
    before = status(finished)
    rows = finished / "manifests" / "rows.jsonl"
    text = rows.read_text()

    rows.write_text(text)  # written anew, with the same content
    assert run(finished, export=POSSIBLE).returncode == 0

    times = rows.stat()
    rows.write_text(text.replace("It is az.", "It is zz."))
    os.utime(rows, ns=(times.st_atime_ns, times.st_mtime_ns))  # as old as before, by its own account
    result = run(finished, export=POSSIBLE)
    assert result.returncode == 2
    assert str(rows) in result.stderr and "--restart" in result.stderr and "metadata.name" in result.stderr
    assert status(finished) == before

    result = tunesmith("run", "-f", finished / "manifests", "--no-serve", "--restart", cwd=finished)
    assert result.returncode == 0, result.stderr
    assert status(finished)["artifact"]["digest"] != before["artifact"]["digest"]


def test_a_changed_gate_is_checked_before_training(finished):
    """Exact match of plain texts: nothing is trained for a gate that can never hold, whenever it was written."""
    for name in ("train", "publish", "artifact"):
        shutil.rmtree(work_of(finished) / name)
    prepared = (work_of(finished) / "prepare" / "stage.json").stat().st_mtime_ns
    gates = {"maxRows": 4, "gates": [{"metric": "exactMatch", "min": 0.5}]}
    result = run(finished, export=POSSIBLE, evaluation=gates)
    assert result.returncode == 1
    assert condition(status(finished), "Ready")["reason"] == "InvalidSpec"
    assert not (work_of(finished) / "train").exists()
    # And without the gate it goes on, with the rows that are prepared.
    assert run(finished, export=POSSIBLE).returncode == 0
    assert (work_of(finished) / "prepare" / "stage.json").stat().st_mtime_ns == prepared


def test_nothing_is_exported_for_those_who_serve_elsewhere(tmp_path):
    lora = job(method="lora", export={"precisions": [], "mergeWeights": True}, training=SHORT)
    write(tmp_path / "manifests", lora, config_map())
    result = tunesmith("run", "-f", "manifests", "--no-serve", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    artifact = work_of(tmp_path) / "artifact"
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["precisions"] == [] and set(manifest["parity"]) == {"merge"}
    assert {name.split("/")[0] for name in manifest["files"] if "/" in name} == {"adapter", "model"}
    assert manifest["metrics"]["after"]["evalLoss"]
    result = tunesmith("serve", artifact, cwd=tmp_path)
    assert result.returncode == 2
    assert "holds no ONNX model" in result.stderr and "export.precisions" in result.stderr
