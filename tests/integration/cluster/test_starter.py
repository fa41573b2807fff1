"""Starting and stopping: what a killed starter or test run leaves, and what is said where nothing can run."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import binaries, lifecycle, packages, processes
from cluster.errors import CannotRunError, ClusterError
from cluster.paths import Paths
from cluster.processes import Process
from cluster.state import State

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
HACK = Path(__file__).parents[3] / "hack"


@pytest.fixture
def name(api_cluster: object) -> Iterator[str]:
    """The name of a cluster of this test's own (and a skip where no cluster can run), stopped at the end."""
    name = f"private-{uuid.uuid4().hex[:8]}"
    yield name
    lifecycle.down(name)


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *arguments],
        env={**os.environ, "PYTHONPATH": str(HACK), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_second_start_changes_nothing_and_stopping_leaves_nothing(name: str) -> None:
    seen = []
    for _ in range(2):
        process = command("up", "--mode", "api", "--name", name)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert f"KUBECONFIG={Paths(name).kubeconfig}" in out
        state = State.load(name)
        assert state
        seen.append(state.processes)
    started = seen[0]
    assert seen[1] == started
    status = command("status", "--name", name)
    assert "kube-controller-manager  pid" in status.communicate()[0]
    assert lifecycle.down(name)
    assert not any(record.alive() for record in started.values())
    assert processes.marked(Paths(name).root) == []
    assert not Paths(name).root.exists()
    assert command("status", "--name", name).wait() == 1
    assert not lifecycle.down(name)


def test_what_a_killed_starter_left_is_cleaned_by_the_next(name: str) -> None:
    starter = command("up", "--mode", "api", "--name", name)
    deadline = time.monotonic() + 300
    while not (left := processes.marked(Paths(name).root)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    starter.kill()
    starter.communicate()
    assert left
    state = lifecycle.up(name, "api")
    assert not any(process.alive() for process in left)
    recorded = {process.pid for process in state.processes.values()}
    assert {process.pid for process in processes.marked(Paths(name).root)} == recorded


def test_a_cluster_whose_process_died_is_started_anew(name: str) -> None:
    before = lifecycle.up(name, "api")
    processes.stop([before.processes["kube-controller-manager"]], grace=0)  # gone when this returns
    after = lifecycle.up(name, "api")
    assert all(process.alive() for process in after.processes.values())
    assert after.processes["etcd"] != before.processes["etcd"]


def test_a_cluster_stays_while_a_test_run_holds_it(name: str) -> None:
    killed = subprocess.Popen(["sleep", "600"])
    first, second = Process.of(killed.pid), Process.of(os.getpid())
    lifecycle.up(name, "api", kept=False, holder=first)
    lifecycle.up(name, "api", kept=False, holder=second)
    lifecycle.release(name, second)
    held = State.load(name)
    assert held is not None and held.holders == [first], "the first one still runs"
    assert all(process.alive() for process in held.processes.values())
    killed.kill()
    killed.wait()
    lifecycle.release(name, second)
    assert State.load(name) is None


def test_a_cluster_that_somebody_started_by_hand_outlives_test_runs(name: str) -> None:
    me = Process.of(os.getpid())
    lifecycle.up(name, "api", kept=True)
    lifecycle.up(name, "api", kept=False, holder=me)
    lifecycle.release(name, me)
    left = State.load(name)
    assert left is not None and left.kept and left.holders == []
    assert all(process.alive() for process in left.processes.values())


def test_binaries_of_envtest_are_used_where_given(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("kube-apiserver", "kubectl"):
        (tmp_path / program).symlink_to(binaries.kubernetes() / program)
    (tmp_path / "etcd").symlink_to(packages.etcd())
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    state = lifecycle.up(name, "api")
    assert list(state.processes) == ["etcd", "kube-apiserver"]
    assert state.processes["etcd"].argv[0] == str(tmp_path / "etcd")


def test_a_server_that_ends_by_itself_is_told_with_its_log(name: str) -> None:
    with pytest.raises(ClusterError, match=r"kube-apiserver has ended by itself(.|\n)*unknown flag: --no-such-option"):
        lifecycle.up(name, "api", api_server=["--no-such-option"])
    assert processes.marked(Paths(name).root) == []
    assert not Paths(name).root.exists()


def test_a_process_number_used_again_is_not_taken_for_the_old_process() -> None:
    me = Process.of(os.getpid())
    assert me.alive()
    assert not Process(me.pid, me.started - 1, me.boot).alive()
    assert not Process(me.pid, me.started, "another boot").alive()


def test_a_build_that_is_killed_leaves_nothing_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))

    def die(folder: Path) -> None:
        (folder / "program").write_text("half of i")
        raise KeyboardInterrupt

    module = tmp_path / "module"
    module.mkdir()
    (module / "main.go").write_text("package main")
    with pytest.raises(KeyboardInterrupt):
        binaries.built("program", module, die)
    folder = binaries.built("program", module, lambda folder: (folder / "program").write_text("whole"))
    assert (folder / "program").read_text() == "whole"
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]
    assert binaries.built("program", module, die) == folder, "what is there is not built again"
    (module / "main.go").write_text("package main // changed")
    with pytest.raises(KeyboardInterrupt):
        binaries.built("program", module, die)


def test_where_nothing_can_run_one_sentence_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["up", "--mode", "api", "--name", "never"], ["build"]):
        process = command(*arguments, PATH="/nowhere", TUNESMITH_CACHE=str(tmp_path))
        out, err = process.communicate()
        assert (process.returncode, out) == (3, "")
        assert err == "Go is not installed, and Kubernetes is built with it; install Go 1.26 or newer.\n"
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(CannotRunError, match="needs Linux, and this is darwin"):
        lifecycle.up("never", "api")
    with pytest.raises(CannotRunError, match="needs Linux, and this is darwin"):
        lifecycle.require_linux()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotRunError, match="Running pods takes root"):
        lifecycle.up("never", "full")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRunError, match=r"lacks no-such-package.* install them by hand\.$"):
        packages.ensure({"no-such-program": "no-such-package"})
