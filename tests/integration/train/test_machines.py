"""Several machines, each with its own launcher, over one work folder."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.training import child_environment, log_of, train_command

Job = Callable[..., Path]
Start = Callable[..., subprocess.Popen[str]]

LONG = {"maxSteps": 400, "globalBatchSize": 8, "learningRate": 0.003, "checkpoint": {"everySteps": 4}}


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    """Start the train stage as one of two machines; its last words go to `words-RANK.json`."""
    started = []

    def begin(work: Path, rank: int) -> subprocess.Popen[str]:
        command = [*train_command(work), "--nnodes", "2", "--node-rank", str(rank)]
        command += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
        words = str(tmp_path / f"words-{rank}.json")
        # The machines of this test are one, whose name need not resolve.
        environment = child_environment(TUNESMITH_TERMINATION_LOG=words, GLOO_SOCKET_IFNAME="lo")
        with (tmp_path / f"machine-{rank}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def words(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"words-{rank}.json").read_text())


def wait_for_step(work: Path, step: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while (
        not (log := log_of(work) if (work / "train" / "training_log.jsonl").exists() else []) or log[-1]["step"] < step
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_machines_train_together(start, job, tmp_path):
    work = job("two", training={"maxSteps": 6}, distributed={"strategy": "zero2"})
    second = start(work, 1)
    first = start(work, 0)
    assert (first.wait(300), second.wait(300)) == (0, 0), (tmp_path / "machine-0.log").read_text()
    assert [entry["step"] for entry in log_of(work)] == [1, 2, 3, 4, 5, 6]
    marker = json.loads((work / "train" / "stage.json").read_text())
    assert (marker["worldSize"], marker["strategy"]) == (2, "zero2")
    result = words(tmp_path, 0)["result"]
    assert result["progress"]["step"] == 6
    assert result["resolved"]["processes"]["value"] == 2
    assert words(tmp_path, 1) == {"reason": "Completed", "message": "", "remedy": "", "result": {}}
    # What is complete stays so for a machine that is started again.
    assert start(work, 1).wait(300) == 0


def test_a_machine_that_is_told_to_stop_takes_the_other_along(start, job, tmp_path):
    work = job("stop", training=LONG)
    machines = [start(work, 0), start(work, 1)]
    wait_for_step(work, 3)
    machines[1].send_signal(signal.SIGTERM)
    assert [machine.wait(300) for machine in machines] == [66, 66]
    stopped = log_of(work)[-1]["step"]
    assert (work / "train" / "checkpoints" / f"checkpoint-{stopped}" / "complete.json").exists()
    assert {words(tmp_path, rank)["reason"] for rank in (0, 1)} == {"Interrupted"}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_machine_that_dies_is_missed_at_once_and_not_counted(start, job, tmp_path, victim):
    work = job("die", training=LONG)
    machines = [start(work, 0), start(work, 1)]
    wait_for_step(work, 5)
    machines[victim].kill()
    assert machines[1 - victim].wait(300) == 67, (tmp_path / f"machine-{1 - victim}.log").read_text()[-3000:]
    assert words(tmp_path, 1 - victim)["reason"] == "PeerLost"
    # Which of them depends on how far it came until it was killed: old ones are removed.
    assert list((work / "train" / "checkpoints").glob("checkpoint-*/complete.json"))


def test_a_machine_that_waits_for_the_first_can_be_stopped(start, job, tmp_path):
    process = start(job("wait"), 1)
    deadline = time.monotonic() + 300
    while "waiting for node 0" not in (tmp_path / "machine-1.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 66
    assert words(tmp_path, 1)["reason"] == "Interrupted"


def test_the_first_machine_can_be_stopped_while_it_waits_for_the_others(start, job, tmp_path):
    process = start(job("alone"), 0)
    deadline = time.monotonic() + 300
    import socket

    port = int(process.args[process.args.index("--master-port") + 1])
    while True:  # until it listens
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 66
