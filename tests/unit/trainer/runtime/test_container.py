"""A stage as the first process of a container: its job in a variable, its stop by SIGTERM."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tunesmith_api.failures import EXIT_CODES, Reason, StageError
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.__main__ import main
from tunesmith_trainer.runtime.job_config import JOB_CONFIG, config_maps, load_config, open_work
from tunesmith_trainer.runtime.stage_lock import stage_lock

CONFIG = json.dumps(
    {
        "name": "tiny",
        "namespace": "team",
        "spec": {
            "model": {"scratch": {}},
            "dataset": {"sources": [{"configMapKeyRef": {"name": "rows", "key": "a.jsonl"}}]},
        },
    }
)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


def test_the_job_comes_in_a_variable(tmp_path, monkeypatch, umask):
    work = WorkFolder(tmp_path / "tiny-0123")
    monkeypatch.setenv(JOB_CONFIG, CONFIG)
    open_work(work)
    assert work.config.read_text() == CONFIG
    assert work.config.stat().st_mode & stat.S_IWGRP  # whoever works on it next is of our group
    work.config.write_text("another job's")
    assert load_config(work).name == "tiny"
    open_work(work)
    assert work.config.read_text() == CONFIG


def test_one_machine_writes_it(tmp_path, monkeypatch, umask):
    monkeypatch.setenv(JOB_CONFIG, CONFIG)
    open_work(WorkFolder(tmp_path / "w"), writes=False)
    assert list((tmp_path / "w").iterdir()) == []


def test_a_variable_that_is_no_job_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setenv(JOB_CONFIG, '{"name": "x"}')
    with pytest.raises(StageError, match="TUNESMITH_JOB_CONFIG: spec"):
        load_config(WorkFolder(tmp_path))


def test_a_volume_that_cannot_be_written_is_said_so(tmp_path, monkeypatch, capsys, umask):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(JOB_CONFIG, CONFIG)
    assert main(["prepare", "--work", str(tmp_path / "file" / "w")]) == 70
    assert "Not a directory" in capsys.readouterr().err


def test_config_maps_are_read_where_they_are_mounted(tmp_path, monkeypatch, capsys):
    work = WorkFolder(tmp_path / "w")
    assert config_maps(work) == work.config_maps
    monkeypatch.setenv("TUNESMITH_CONFIG_MAPS", str(tmp_path / "mounted"))
    assert config_maps(work) == tmp_path / "mounted"


PROGRAM = """
import sys, time
from pathlib import Path
from tunesmith_trainer import __main__ as program
import tunesmith_trainer.stages.runner as stages

def work(stage, function, root, *_):
    {before}
    (root / "begun").touch()
    time.sleep(60)

stages.run_stage = work
sys.exit(program.main(["prepare", "--work", sys.argv[1]]))
"""


SLOW_IMPORTS = """
import builtins, sys, time

original = builtins.__import__

def load(name, *rest, **more):
    if name == "tunesmith_trainer.stages.command":
        print("importing", flush=True)
        time.sleep(60)
    return original(name, *rest, **more)

builtins.__import__ = load
from tunesmith_trainer.__main__ import main

sys.exit(main(["prepare", "--work", "/nowhere"]))
"""


def test_sigterm_is_heard_before_anything_is_imported(tmp_path):
    """As the first process of a container we would else not get it, and be killed two minutes later."""
    with subprocess.Popen([sys.executable, "-c", SLOW_IMPORTS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == EXIT_CODES[Reason.INTERRUPTED]


def run_until_stopped(tmp_path: Path, before: str = "pass", **variables: str) -> tuple[int, dict, float]:
    """Send SIGTERM to a stage after `before`; return the exit code, the termination message and the seconds."""
    words = tmp_path / "words"
    environment = {**os.environ, JOB_CONFIG: CONFIG, "TUNESMITH_TERMINATION_LOG": str(words), **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(before=before), str(tmp_path / "w")], env=environment
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "w" / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(300)
    return code, json.loads(words.read_bytes()), time.monotonic() - told


def test_sigterm_is_an_interruption(tmp_path):
    code, words, _ = run_until_stopped(tmp_path)
    assert (code, words["reason"]) == (66, "Interrupted")
    assert json.loads((tmp_path / "w" / "prepare-outcome.json").read_text())["reason"] == "Interrupted"


def test_a_stage_that_does_not_listen_ends_in_time(tmp_path):
    before = (
        "import signal; signal.pthread_sigmask(signal.SIG_SETMASK, []); signal.signal(signal.SIGTERM, lambda *a: 0)"
    )
    code, words, seconds = run_until_stopped(tmp_path, before, TUNESMITH_GRACE_SECONDS="11")
    assert (code, words["reason"]) == (66, "Interrupted")
    assert 0.9 < seconds < 8  # ten seconds before SIGKILL


def test_one_stage_at_a_time_works_in_a_folder(tmp_path):
    lock = tmp_path / "lock"
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with stage_lock(lock):
            inside.set()
            leave.wait(300)

    other = threading.Thread(target=work)
    other.start()
    assert inside.wait(300)
    with pytest.raises(StageError) as refused, stage_lock(lock, seconds=0.1):
        pass
    assert refused.value.reason is Reason.INTERRUPTED
    leave.set()
    with stage_lock(lock, seconds=10):
        pass
    other.join()


def test_a_file_system_without_locks_is_worked_on(tmp_path, monkeypatch, caplog):
    import errno
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with stage_lock(tmp_path / "lock"):
        pass
    assert "continuing without a lock" in caplog.text


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch, capsys):
    import errno

    import tunesmith_trainer.stages.runner as stages

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/work/x")

    (tmp_path / "w").mkdir()
    monkeypatch.setattr(stages, "run_stage", fill)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["publish", "--work", str(tmp_path / "w")]) == 19
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "storage.size" in capsys.readouterr().err
