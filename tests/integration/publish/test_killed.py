"""The stage killed in the middle of each of its steps and run again ends in the same artifact."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.trained_jobs import make_job

# Each is made by another step; a moment after one has appeared, the next step is under way.
MILESTONES = [
    "publish/inputs.json",
    "publish/export.log",
    "publish/evaluation-before.json",
    "publish/merged",
    "publish/evaluation-after.json",
    "publish/evaluation.json",
    "publish/.reference.*.tmp",
    "publish/reference",
    "publish/onnx/.fp32.*.tmp",
    "publish/onnx/fp32",
    "publish/.candidate.*.tmp",
    "publish/parity-template.json",
    "publish/layers-fp32.json",
    "publish/parity-fp32.json",
    "publish/served-fp32.json",
    "publish/predictions.jsonl",
    "publish/artifact",
    ".artifact.*.tmp",
    "artifact",
]
KILLS = 3


def start(work: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tunesmith_trainer", "publish", "--work", str(work)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(work: Path) -> None:
    process = start(work)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def kill_when(work: Path, milestone: str, delay: float) -> bool:
    """Start the stage and kill it a moment after a milestone; False when it was over before."""
    process = start(work)
    deadline = time.monotonic() + 300
    while process.poll() is None and not any(work.glob(milestone)):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file, but for the time and what was measured in the manifest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "manifest.json":
                manifest = json.loads(data)
                del manifest["created"], manifest["measured"]
                data = json.dumps(manifest).encode()
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_artifact(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", method="dora")
    undisturbed = shutil.copytree(job, tmp_path / "undisturbed")
    finish(undisturbed)
    # Of a run before: the next one sweeps, unless the stage is complete by then and there is nothing to do.
    (job / "publish").mkdir()
    (job / "publish" / ".evaluation.json.1.tmp").write_text("half")
    (job / "publish" / ".merged.1.tmp").mkdir()
    (job / ".publish-outcome.json.1.tmp").write_text("half")
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    killed = 0
    for milestone in sorted(chance.sample(MILESTONES, KILLS), key=MILESTONES.index):
        delay = chance.choice([0.001, 0.01, 0.1, 0.5])
        killed += kill_when(job, milestone, delay)
        print(f"killed {delay} s after {milestone}: {killed}")
    assert killed
    finish(job)
    assert digests(job / "artifact") == digests(undisturbed / "artifact")
    # The lock's file stays: whoever removed it could remove it under another who has just opened it.
    left = [path for path in job.glob("**/.*") if path.name != ".stage.lock"]
    assert not left, "something half done is left"
