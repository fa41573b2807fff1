"""Starts a cluster's parts in order, and waits between them."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cluster import addons, binaries, containerd, control_plane, images, node, packages, processes
from cluster.api import Api, ApiError
from cluster.errors import ClusterError
from cluster.state import State


def start(state: State, extra: list[str]) -> None:
    """Start a whole cluster, with extra options for the API server.

    Raises:
        CannotRunError: This machine cannot run it.
        ClusterError: It was started and does not work.
    """
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
    wait(lambda: ready(state), 60, "the API server's /readyz", state)
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


def wait(condition: Callable[[], bool], seconds: float, what: str, state: State) -> None:
    """Poll a condition until it holds.

    Raises:
        ClusterError: One of the cluster's processes has ended, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        state.check()
        if time.monotonic() > deadline:
            raise ClusterError(f"Waited {seconds:.0f} s for {what}, in vain; the logs are in {state.paths.logs}")
        time.sleep(0.05)


def ready(state: State) -> bool:
    """Return whether the API server reports that it is ready."""
    return _found(state, "/readyz")


def _found(state: State, path: str) -> bool:
    try:
        Api(state.paths.kubeconfig).request("GET", path)
    except (OSError, ApiError):
        return False
    return True


def _start_node(state: State, folder: Path) -> None:
    wait(lambda: containerd.answers(state), 30, "containerd", state)
    if containerd.forget_containers(state.paths):  # of a cluster that was killed; containerd remembers their pods
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
