"""Training that is stopped goes on where it was: by signals, and from damaged checkpoints."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.kill import processes_of, wait_until_gone
from support.training import child_environment, log_of, train, train_command

Run = Callable[[Path], dict[str, Any]]
Job = Callable[..., Path]

TRAINING = {"maxSteps": 150, "globalBatchSize": 4, "learningRate": 0.005, "checkpoint": {"everySteps": 60}}


def weights(work: Path) -> bytes:
    return (work / "train" / "final" / "model.safetensors").read_bytes()


def steps_logged(work: Path) -> int:
    path = work / "train" / "training_log.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for_step(work: Path, step: int, process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 300
    while steps_logged(work) < step:
        assert time.monotonic() < deadline, f"step {step} was not reached"
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def losses(work: Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["loss"]) for entry in log_of(work)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_and_the_next_run_goes_on(
    number: signal.Signals, job: Job, run_here: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    from tunesmith_api.failures import Reason, StageError

    whole = job("whole", training=TRAINING)
    expected = run_here(whole)
    work = job("stopped", training=TRAINING)

    def stop() -> None:
        wait_for_step(work, 20)
        os.kill(os.getpid(), number)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(StageError) as caught:
        run_here(work)
    stopper.join()
    assert caught.value.reason is Reason.INTERRUPTED
    assert caught.value.exit_code == 66
    assert json.loads((work / "train-outcome.json").read_text())["reason"] == "Interrupted"
    (checkpoint,) = (work / "train" / "checkpoints").iterdir()
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 20 <= step < 150
    assert f"step {step}" in caught.value.message
    assert steps_logged(work) == step
    assert not (work / "train" / "stage.json").exists()

    assert run_here(work) == expected
    assert weights(work) == weights(whole)
    assert losses(work) == losses(whole)
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == step


def test_a_checkpoint_cut_in_half_is_skipped(job: Job, run_here: Run, caplog: pytest.LogCaptureFixture) -> None:
    training = {"maxSteps": 11, "learningRate": 0.005, "checkpoint": {"everySteps": 3, "keep": 3}}
    adapter = {"rank": 4, "dropout": 0.2}
    work = job(method="lora", adapter=adapter, training=training)
    marker = run_here(work)
    final = work / "train" / "final" / "adapter_model.safetensors"
    expected, log = final.read_bytes(), losses(work)
    names = sorted(path.name for path in (work / "train" / "checkpoints").iterdir())
    assert names == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]

    (work / "train" / "stage.json").unlink()
    final.unlink()
    left = work / "train" / ".resolved.json.1.tmp"
    left.write_text("half")
    for name in ("checkpoint-9", "checkpoint-6"):
        cut = work / "train" / "checkpoints" / name / "optimizer.pt"
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert run_here(work) == marker
    assert final.read_bytes() == expected  # dropout included
    assert not left.exists()
    assert losses(work) == log
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("checkpoint-9" in text and "checkpoint-3" in text for text in warnings)
    assert any("checkpoint-6" in text and "optimizer.pt" in text for text in warnings)
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == 3


def test_only_the_newest_are_kept(job: Job, run_here: Run) -> None:
    work = job(training={"maxSteps": 6, "checkpoint": {"everySteps": 1, "keep": 2}})
    run_here(work)
    names = sorted(path.name for path in (work / "train" / "checkpoints").iterdir())
    assert names == ["checkpoint-4", "checkpoint-5"], "after the last step the weights are written, and no checkpoint"


def test_two_processes_stop_after_the_same_step_and_go_on(job: Job) -> None:
    training = {"maxSteps": 60, "globalBatchSize": 4, "checkpoint": {"everySteps": 50}}
    work = job(training=training, distributed={"numProcPerNode": 2, "strategy": "ddp"})
    process = subprocess.Popen(
        train_command(work), env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(work, 5, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 66, stderr
    assert "Interrupted: interrupted after step" in stderr
    assert "Traceback" not in stderr
    assert not processes_of(work)
    (checkpoint,) = (work / "train" / "checkpoints").iterdir()
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert (checkpoint / "complete.json").exists()
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoint.iterdir()}
    done = train(work)
    assert done.returncode == 0, done.stderr
    assert [entry["step"] for entry in log_of(work)] == list(range(1, 61))
    assert json.loads((work / "train" / "metrics.json").read_text())["resumedFromStep"] == step


def test_killed_it_leaves_no_process_behind(job: Job) -> None:
    work = job(training={"maxSteps": 10_000}, distributed={"numProcPerNode": 2})
    process = subprocess.Popen(
        train_command(work), env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    wait_for_step(work, 3, process)
    assert len(processes_of(work)) == 4  # the launcher, torchrun, two workers
    process.kill()
    process.wait()
    wait_until_gone(work)


def test_a_killed_worker_is_told_as_out_of_memory(job: Job) -> None:
    training = {"maxSteps": 10_000, "microBatchSize": 1, "gradientCheckpointing": True}  # nothing is left to lower
    work = job(training=training, distributed={"numProcPerNode": 2})
    process = subprocess.Popen(
        train_command(work), env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(work, 3, process)
    worker = max(processes_of(work))
    os.kill(worker, signal.SIGKILL)  # as the kernel does when memory runs out
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 14, stderr
    assert "OutOfMemory" in stderr
    assert "lower spec.training.maxLength" in stderr.replace("Lower", "lower")
    assert json.loads((work / "train-outcome.json").read_text())["reason"] == "OutOfMemory"
    assert not processes_of(work)
