"""Start, stop and share clusters."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster import (
    addons,
    binaries,
    containerd,
    control_plane,
    images,
    node,
    packages,
    processes,
    teardown,
)
from cluster.api import Api, ApiError
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
    if sys.platform != "linux":
        raise CannotRunError(f"A cluster of processes needs Linux, and this is {sys.platform}.")
    if mode == "full" and not is_root():
        raise CannotRunError("Running pods takes root: namespaces, mounts and cgroups are made for them.")
    with locked(Paths(name).lock):
        state = State.load(name)
        if state is None or not _works(state):
            _remove(name)
            state = State(name, mode)
            if mode == "full":
                _only_one(name)
            try:
                _start(state, api_server or [])
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


def release(name: str, holder: Process) -> None:
    """Say that a test run needs a cluster no more; it is stopped when none does and nobody asked for it by hand."""
    with locked(Paths(name).lock):
        state = State.load(name)
        if state is None:
            return
        state.holders = [other for other in state.holders if other.alive() and other != holder]
        state.save()
        if not state.holders and not state.kept:
            _remove(name)


def down(name: str) -> bool:
    """Stop a cluster and remove all that it left; return whether there was something."""
    with locked(Paths(name).lock):
        there = Paths(name).root.exists() or bool(processes.marked(Paths(name).root))
        _remove(name)
        shutil.rmtree(_failed(name), ignore_errors=True)
        Paths(name).lock.unlink()
        return there


def stop_process(name: str, process: str) -> None:
    """Stop one of a cluster's processes, such as kube-apiserver, and leave it stopped."""
    state = State.load(name)
    if state is None:
        raise ClusterError(f"There is no cluster {name}.")
    processes.stop([state.processes[process]], grace=20)


def start_process(name: str, process: str) -> None:
    """Start a process again that `stop_process` stopped; for the API server, wait until it is ready."""
    with locked(Paths(name).lock):
        state = State.load(name)
        if state is None:
            raise ClusterError(f"There is no cluster {name}.")
        state.start(process, list(state.processes[process].argv))
        if process == "kube-apiserver":
            wait(lambda: _ready(state), 60, "the API server's /readyz", state)


def wait(condition: Callable[[], bool], seconds: float, what: str, state: State) -> None:
    """Look at a condition until it holds.

    Raises:
        ClusterError: One of the cluster's processes has ended, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        state.check()
        if time.monotonic() > deadline:
            raise ClusterError(f"Waited {seconds:.0f} s for {what}, in vain; the logs are in {state.paths.logs}")
        time.sleep(0.05)


def _start(state: State, extra: list[str]) -> None:
    assets = os.environ.get("KUBEBUILDER_ASSETS") if state.mode == "api" else None
    folder = Path(assets) if assets else binaries.kubernetes()
    etcd = str(folder / "etcd") if assets and (folder / "etcd").exists() else packages.etcd()
    controllers = (folder / "kube-controller-manager").exists()
    if state.mode == "full":
        node.prepare(state)
    control_plane.make_credentials(state)
    state.start("etcd", [etcd, *control_plane.etcd(state)])
    state.start(
        "kube-apiserver", [str(folder / "kube-apiserver"), *control_plane.api_server(state, controllers, extra)]
    )
    if state.mode == "full":
        node.start_runtime(state)
    wait(lambda: _ready(state), 60, "the API server's /readyz", state)
    if controllers:
        state.start(
            "kube-controller-manager",
            [str(folder / "kube-controller-manager"), *control_plane.controller_manager(state)],
        )
    if state.mode == "full":
        state.start("kube-scheduler", [str(folder / "kube-scheduler"), *control_plane.scheduler(state)])
        _start_node(state, folder)
    if controllers:
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait(lambda: _found(state, account), 60, "the controllers", state)
    if state.mode == "full":
        wait(lambda: _node_ready(state), 60, "the node", state)
        wait(lambda: _dns_ready(state), 60, "CoreDNS", state)
    state.ready = True
    state.save()


def _failed(name: str) -> Path:
    """Return where the logs of the last start that failed are kept."""
    return Paths(name).root.with_suffix(".failed")


def _only_one(name: str) -> None:
    for path in Paths(name).root.parent.glob("*/cluster.json"):
        other = State.load(path.parent.name)
        if other and other.mode == "full" and other.name != name:
            raise ClusterError(f"The cluster {other.name} runs pods already, and one on a machine can; stop it first.")


def _start_node(state: State, folder: Path) -> None:
    wait(lambda: containerd.answers(state), 30, "containerd", state)
    if containerd.forget_containers(
        state.paths
    ):  # of a cluster that was killed; containerd itself remembers their pods
        processes.stop([state.processes["containerd"]])
        containerd.forget_sandboxes(state.paths)
        containerd.start(state)
        wait(lambda: containerd.answers(state), 30, "containerd", state)
    images.load_program(state.name, binaries.probe(), containerd.PAUSE)
    node.start(state, folder)
    addons.start(state)
    objects = addons.as_list(addons.objects(addons.has_resolver(Path(node.resolver()))))
    kubectl = [str(folder / "kubectl"), f"--kubeconfig={state.paths.kubeconfig}", "apply", "--server-side", "-f", "-"]
    result = subprocess.run(kubectl, input=objects, capture_output=True, text=True)
    if result.returncode:
        raise ClusterError(f"The cluster's own objects were refused: {result.stderr.strip()}")


def _node_ready(state: State) -> bool:
    nodes = Api(state.paths.kubeconfig).request("GET", "/api/v1/nodes")["items"]
    conditions = [entry for obj in nodes for entry in obj["status"].get("conditions", [])]
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _dns_ready(state: State) -> bool:
    path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
    status = Api(state.paths.kubeconfig).request("GET", path).get("status", {})
    return bool(status.get("availableReplicas"))


def _works(state: State) -> bool:
    """Return whether a cluster was started to the end and all its processes still run and answer."""
    return state.ready and all(process.alive() for process in state.processes.values()) and _ready(state)


def _ready(state: State) -> bool:
    return _found(state, "/readyz")


def _found(state: State, path: str) -> bool:
    try:
        Api(state.paths.kubeconfig).request("GET", path)
    except (OSError, ApiError):
        return False
    return True


def _remove(name: str) -> None:
    """Stop whatever runs of a cluster, recorded or only marked, and remove its folder."""
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
