"""Start, stop and share clusters."""

import shutil
import sys
import time
from pathlib import Path

from cluster import processes, startup, teardown
from cluster.errors import CannotRunError, ClusterError
from cluster.paths import Paths, locked
from cluster.processes import Process
from cluster.state import State, is_root


def up(
    name: str, mode: str, kept: bool = True, api_server: list[str] | None = None, holder: Process | None = None
) -> State:
    """Start a cluster unless it runs.

    Args:
        name: Its name; several of mode `api` can run side by side, one of mode `full` on a machine.
        mode: `api` or `full`.
        kept: Whether it stays until `down`, even when no test run uses it.
        api_server: More options for the API server, when it is started now.
        holder: The test run that is to use it.

    Raises:
        CannotRunError: This machine cannot run it.
        ClusterError: It was started and does not work.
    """
    require_linux()
    if mode == "full" and not is_root():
        raise CannotRunError("Running pods takes root: namespaces, mounts and cgroups are made for them.")
    _wait_for_outage(name)
    with locked(Paths(name).lock):
        state = State.load(name)
        if state is None or not _works(state):
            _remove(name)
            state = State(name, mode)
            if mode == "full":
                _only_one(name)
            state.save()  # so that whoever comes after a killed starter sees that there is something to remove
            try:
                startup.start(state, api_server or [])
            except BaseException:
                shutil.rmtree(_failed(name), ignore_errors=True)
                if state.paths.logs.exists():
                    shutil.copytree(state.paths.logs, _failed(name))
                _remove(name)
                raise
        elif state.mode != mode:
            raise ClusterError(f"The cluster {name} runs in mode {state.mode}; stop it, or give another name.")
        state.kept = state.kept or kept
        state.holders = [other for other in state.holders if other.alive() and other != holder]
        if holder:
            state.holders.append(holder)
        state.save()
        return state


def require_linux() -> None:
    """Raise CannotRunError unless this is Linux.

    Raises:
        CannotRunError: This is another system.
    """
    if sys.platform != "linux":
        raise CannotRunError(f"A cluster of processes needs Linux, and this is {sys.platform}.")


def release(name: str, holder: Process) -> None:
    """Release a test run's hold on a cluster; without holders it is stopped, unless it was started by hand."""
    with locked(Paths(name).lock):
        state = State.load(name)
        if state is None:
            return
        state.holders = [other for other in state.holders if other.alive() and other != holder]
        state.save()
        if not state.holders and not state.kept:
            _remove(name)


def down(name: str) -> bool:
    """Stop a cluster and remove everything it left; return whether there was anything."""
    with locked(Paths(name).lock):
        there = Paths(name).root.exists() or bool(processes.marked(Paths(name).root))
        _remove(name)
        shutil.rmtree(_failed(name), ignore_errors=True)
        Paths(name).lock.unlink()
        return there


def stop_process(name: str, process: str) -> None:
    """Stop one of a cluster's processes, such as kube-apiserver, and leave it stopped.

    Raises:
        ClusterError: There is no such cluster.
    """
    with locked(Paths(name).lock):
        state = _existing(name)
        state.stopped = sorted({*state.stopped, process})
        state.save()
        processes.stop([state.processes[process]], grace=1)  # an API server would wait for its clients to go


def start_process(name: str, process: str) -> None:
    """Start a process again that `stop_process` stopped; for the API server, wait until it is ready.

    Raises:
        ClusterError: There is no such cluster, or the process does not start.
    """
    with locked(Paths(name).lock):
        state = _existing(name)
        state.stopped.remove(process)
        state.start(process, list(state.processes[process].argv))
        if process == "kube-apiserver":
            startup.wait(lambda: startup.ready(state), 60, "the API server's /readyz", state)


def _existing(name: str) -> State:
    state = State.load(name)
    if state is None:
        raise ClusterError(f"There is no cluster {name}.")
    return state


def _failed(name: str) -> Path:
    """Return the folder of the logs of the last failed start."""
    return Paths(name).root.with_suffix(".failed")


def _only_one(name: str) -> None:
    for path in Paths(name).root.parent.glob("*/cluster.json"):
        other = State.load(path.parent.name)
        if other and other.mode == "full" and other.name != name:
            raise ClusterError(f"The cluster {other.name} runs pods already, and one on a machine can; stop it first.")


def _works(state: State) -> bool:
    """Return whether a cluster was fully started and all its processes run; waits for a busy API server."""
    if not state.ready or not all(process.alive() for process in state.processes.values()):
        return False
    try:
        startup.wait(lambda: startup.ready(state), 60, "the API server's /readyz", state)
    except ClusterError:
        return False
    return True


def _wait_for_outage(name: str, seconds: float = 180) -> None:
    """Wait while a process of the cluster is stopped on purpose by a test."""
    deadline = time.monotonic() + seconds
    while (state := State.load(name)) and state.stopped and time.monotonic() < deadline:
        time.sleep(0.1)


def _remove(name: str) -> None:
    """Stop all processes of a cluster, recorded or only marked, and remove its folder."""
    paths, state = Paths(name), State.load(name)
    full = paths.run.exists() or (state is not None and state.mode == "full")
    if full:
        teardown.stop_node(name, state)
    recorded = list(state.processes.values()) if state else []
    order = [process for process in reversed(recorded) if process.alive()]
    if order:
        processes.stop(order[:-1])  # etcd, the first that was started, goes last: the others write to it at their end
    processes.stop(processes.marked(paths.root), grace=2)
    if full:
        teardown.clean(name, state)
    if paths.root.exists():
        shutil.rmtree(paths.root)
