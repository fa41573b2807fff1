"""What a stage has taken: the memory of all its processes, over all attempts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.training import log_of, train
from tunesmith_api.spec import JobConfig
from tunesmith_api.spec.quantity import amount
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime import process_memory
from tunesmith_trainer.runtime.measure import StageMeter, as_status, attempts_file, quantity, read_measured
from tunesmith_trainer.stages.runner import run_stage

Job = Callable[..., Path]

MB = 1_000_000
# Holds 300 MB until its standard input ends.
CHILD = "import sys; block = b'x' * 300_000_000; sys.stdin.read()"
GRANDCHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    spec = {"model": {"scratch": {}}, "dataset": {"sources": [{"uri": "/data.jsonl"}]}}
    (tmp_path / "config.json").write_text(json.dumps({"name": "tiny", "spec": spec}))
    return WorkFolder(tmp_path)


def wait_for_memory(file: Path, least: int) -> None:
    deadline = time.monotonic() + 300
    while not (file.exists() and json.loads(file.read_text())["anonymousMemory"] >= least):
        assert time.monotonic() < deadline, "its memory was not measured"
        time.sleep(0.05)


@pytest.mark.parametrize("program", [CHILD, GRANDCHILD], ids=["child", "grandchild"])
def test_the_memory_of_a_stages_children_counts(work: WorkFolder, program: str) -> None:
    before = process_memory.proportional([os.getpid()])

    def stage(config: JobConfig, work: WorkFolder) -> dict[str, int]:
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        wait_for_memory(attempts_file(work, Stage.PREPARE), before.anonymous + 300 * MB)
        child.communicate()
        return {"rows": 1}

    marker = run_stage(Stage.PREPARE, stage, work.root)
    measured = read_measured(work, Stage.PREPARE)
    raw = json.loads(attempts_file(work, Stage.PREPARE).read_text())
    # Not more than before in all: pages of files count by how many processes share them, which others change.
    assert raw["anonymousMemory"] >= before.anonymous + 300 * MB
    assert raw["anonymousMemory"] < raw["memory"]
    assert amount(measured["memory"]) >= raw["memory"]
    assert measured["seconds"] == pytest.approx(raw["seconds"], abs=0.1)
    assert set(marker) == {"inputs", "rows"}, "what differs between runs is not in the result"
    assert json.loads(work.stage_marker(Stage.PREPARE).read_text()) == marker


def test_pages_of_a_file_count_once_for_all_processes(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 100 * MB)
    read = (  # a page at a time
        "import mmap, sys; file = open(sys.argv[1], 'rb');"
        "pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ);"
        "sum(pages[::4096]); print(flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    readers = [subprocess.Popen([sys.executable, "-c", read, str(file)], **pipes) for _ in range(3)]
    for reader in readers:
        assert reader.stdout is not None
        reader.stdout.readline()
    pids = [reader.pid for reader in readers]
    assert set(pids) <= set(process_memory.process_tree(os.getpid()))
    memory = process_memory.proportional(pids)
    assert 100 * MB < memory.total < 200 * MB
    assert memory.anonymous < 100 * MB
    assert process_memory.resident(pids) > 300 * MB
    for reader in readers:
        reader.communicate(b"\n")


def test_an_attempt_that_was_killed_counts(work: WorkFolder) -> None:
    file = attempts_file(work, Stage.PREPARE)
    program = (
        "import sys, time; from pathlib import Path; from tunesmith_trainer.runtime.measure import StageMeter;"
        "StageMeter(Path(sys.argv[1])).start(); block = b'x' * 300_000_000; time.sleep(60)"
    )
    first = subprocess.Popen([sys.executable, "-c", program, str(file)])
    wait_for_memory(file, 300 * MB)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed = json.loads(file.read_text())
    program = "import sys; from pathlib import Path; from tunesmith_trainer.runtime.measure import StageMeter;" + (
        "meter = StageMeter(Path(sys.argv[1])); meter.start(); meter.stop()"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)
    both = json.loads(file.read_text())
    assert both["memory"] == killed["memory"] > 300 * MB
    assert both["seconds"] >= killed["seconds"]
    assert both["attempts"] == 2


def test_the_largest_of_all_nodes_is_shown() -> None:
    own = {"memory": 3 << 30, "anonymousMemory": 1 << 30, "seconds": 12.34}
    trained = {"nodes": {"memory": 5 << 30, "anonymousMemory": 1}, "gpuMemoryBytes": 1 << 20, "secondsPerStep": 0.5}
    expected = {"memory": "5Gi", "gpuMemory": "1Mi", "seconds": 12.3, "secondsPerStep": 0.5}
    assert as_status(own, trained) == expected
    assert as_status(own, {}) == {"memory": "3Gi", "seconds": 12.3}


def test_sizes_are_rounded_up() -> None:
    sizes = {1: "1Mi", 5 << 20: "5Mi", (5 << 20) + 1: "6Mi", 1 << 30: "1Gi", (1 << 30) + 1: "1.1Gi", 10 << 30: "10Gi"}
    assert {size: quantity(size) for size in sizes} == sizes
    assert all(amount(text) >= size for size, text in sizes.items())


def test_a_meter_without_proc_measures_the_duration(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process_memory, "_PROC", tmp_path / "none")
    meter = StageMeter(attempts_file(work, Stage.PREPARE))
    meter.start()
    assert meter.stop()["memory"] == 0
    assert set(read_measured(work, Stage.PREPARE)) == {"seconds"}


def test_training_in_two_processes_is_measured_with_all_of_them(job: Job, tmp_path: Path) -> None:
    work = job(training={"maxSteps": 3}, distributed={"numProcPerNode": 2, "strategy": "ddp"})
    message = tmp_path / "termination"
    message.touch()
    done = train(work, TUNESMITH_TERMINATION_LOG=str(message))
    assert done.returncode == 0, done.stderr
    measured = json.loads((work / "train" / "measured.json").read_text())
    assert json.loads(message.read_text())["result"]["measured"] == measured
    assert measured["secondsPerStep"] > 0
    metrics = json.loads((work / "train" / "metrics.json").read_text())
    # That of one worker, whose libraries both share.
    assert amount(measured["memory"]) > 1.2 * metrics["peakMemoryBytes"]
    assert len(log_of(work)) == 3
