"""Killed at any moment and run again, the stage ends in the same files as without."""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.prepare_runs import run_prepare, start_prepare, write_job, write_rows
from support.stage_files import result_tree
from support.tiny_models import build_model


def tree(work: Path) -> dict:
    """Digests of all that the stage leaves behind but what was measured."""
    return result_tree(work / "prepare")


def undisturbed(work: Path) -> float:
    """Run the stage to its end and return how many seconds it took."""
    before = time.monotonic()
    code, errors = run_prepare(work)
    assert code == 0, errors
    return time.monotonic() - before


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 3000)
    reference = write_job(tmp_path / "reference", rows)
    seconds = undisturbed(reference)
    work = write_job(tmp_path / "killed", rows)
    moments = random.Random(3)
    killed = 0
    for _ in range(20):  # some end before they are killed, as the machine is now faster, now slower
        if killed == 3:
            break
        started = time.monotonic()
        with start_prepare(work) as process:
            try:
                process.communicate(timeout=moments.uniform(0.05, 0.95) * seconds)
                seconds = min(seconds, time.monotonic() - started)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        if (work / "prepare" / "stage.json").exists():
            assert tree(work) == tree(reference)
            shutil.rmtree(work / "prepare")
    undisturbed(work)
    assert killed == 3
    assert tree(work) == tree(reference)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model without a chat template, rows, and the work folder of an undisturbed run over both."""
    folder = tmp_path_factory.mktemp("plain")
    model = build_model(folder / "model")
    (model / "chat_template.jinja").unlink()
    rows = write_rows(folder / "rows.jsonl", 3000)
    reference = write_job(folder / "reference", rows, {"uri": str(model)})
    undisturbed(reference)
    return {"model": model, "rows": rows, "reference": reference}


@pytest.mark.parametrize("watched", ["prepare/.model.partial", "prepare/.data.partial/train"])
def test_sigkill_when_something_has_just_appeared(tmp_path: Path, plain: dict[str, Path], watched: str) -> None:
    work = write_job(tmp_path / "killed", plain["rows"], {"uri": str(plain["model"])})
    for _ in range(10):  # on a busy machine it can have gone again before the signal arrives
        with start_prepare(work) as process:
            deadline = time.monotonic() + 300
            while not (work / watched).exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            process.kill()
            process.communicate()
        if (work / watched).exists():
            break
        shutil.rmtree(work / "prepare")
    assert (work / watched).exists()
    undisturbed(work)
    assert tree(work) == tree(plain["reference"])
