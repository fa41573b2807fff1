"""Stops a node and leaves nothing behind: processes, mounts, network namespaces, interfaces, tables, cgroups."""

import shutil
from contextlib import suppress

from cluster import containerd, kernel, network, node, processes
from cluster.errors import ClusterError
from cluster.paths import Paths
from cluster.state import State

_FIRST = ("provisioner", "kube-proxy", "kubelet")


def stop_node(name: str, state: State | None) -> None:
    """Stop what starts containers, kill all containers, and let containerd forget them."""
    if state:
        processes.stop([state.processes[process] for process in _FIRST if process in state.processes])
    kernel.kill_cgroups(Paths(name).cgroup)
    if containerd.socket(Paths(name)).exists():
        with suppress(ClusterError):  # containerd is gone already; the next one forgets them
            containerd.forget_containers(Paths(name))


def clean(name: str, state: State | None) -> None:
    """Restore the machine, once all processes have ended."""
    paths = Paths(name)
    kernel.kill_cgroups(paths.cgroup)
    kernel.unmount_below(paths.run, paths.root)
    network.tear_down()
    kernel.remove_cgroups(paths.cgroup)
    if state:
        kernel.write_settings(state.sysctls)
    containerd.forget_sandboxes(paths)
    node.remove_traces(paths)
    if paths.run.exists():
        shutil.rmtree(paths.run)
    check(name)


def check(name: str) -> None:
    """Raise ClusterError when anything of a stopped cluster is left outside its folder."""
    paths = Paths(name)
    left = [f"process {process.pid}" for process in processes.marked(paths.root)]
    left += [f"mount {place}" for place in kernel.mounts_below(paths.run, paths.root)]
    left += [f"cgroup {folder}" for folder in kernel.cgroups(paths.cgroup)]
    left += network.leftovers()
    if left:
        raise ClusterError(f"The cluster {name} was stopped and has left: {', '.join(left)}")
