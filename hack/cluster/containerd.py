"""The container runtime of the node."""

import json
import shutil
import subprocess
from pathlib import Path

from cluster import packages
from cluster.errors import ClusterError
from cluster.network import BRIDGE, GATEWAY, PODS
from cluster.paths import Paths
from cluster.state import State

NAMESPACE = "k8s.io"
PAUSE = "tunesmith.dev/probe:v1"
"""The image that holds a pod's namespaces, and that pods of tests are made of."""


def socket(paths: Paths) -> Path:
    """Return where containerd listens."""
    return paths.run / "containerd.sock"


def configure(state: State) -> None:
    """Write the configuration of containerd and of the pods' network."""
    paths = state.paths
    plugins, network, registries = packages.cni_folder(), paths.root / "cni", paths.root / "registries"
    for folder in (paths.run, network, registries, paths.images):
        folder.mkdir(parents=True, exist_ok=True)
    cri = '[plugins."io.containerd.grpc.v1.cri"'
    (paths.root / "containerd.toml").write_text(f"""\
version = 2
root = "{paths.images}"
state = "{paths.run / "state"}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{socket(paths)}"
{cri}]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_hugetlb_controller = true
tolerate_missing_hugetlb_controller = true
{cri}.cni]
bin_dir = "{plugins}"
conf_dir = "{network}"
{cri}.registry]
config_path = "{registries}"
{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{cri}.containerd.runtimes.runc.options]
BinaryName = "{packages.find("runc")}"
SystemdCgroup = false
""")
    addresses = {
        "type": "host-local",
        "dataDir": str(paths.run / "addresses"),
        "ranges": [[{"subnet": PODS, "gateway": GATEWAY}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    content = {"cniVersion": "0.4.0", "name": "tunesmith", "plugins": [bridge]}
    (network / "10-tunesmith.conflist").write_text(json.dumps(content))


def start(state: State) -> None:
    """Start containerd, without waiting until it answers."""
    state.start("containerd", ["containerd", "--config", str(state.paths.root / "containerd.toml")])


def answers(state: State) -> bool:
    """Return whether containerd accepts requests."""
    return socket(state.paths).exists() and _ctr(state.paths, "version").returncode == 0


def ctr(paths: Paths, *arguments: str) -> str:
    """Return what containerd's client prints.

    Raises:
        ClusterError: It failed.
    """
    result = _ctr(paths, *arguments)
    if result.returncode:
        raise ClusterError(f"ctr {' '.join(arguments)} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout


def forget_containers(paths: Paths) -> bool:
    """Remove all containers with their file systems, keeping images; return whether there were any."""
    containers = ctr(paths, "containers", "list", "--quiet").split()
    tasks = ctr(paths, "tasks", "list", "--quiet").split()
    if tasks:
        _ctr(paths, "tasks", "delete", "--force", *tasks)
    if containers:
        ctr(paths, "containers", "delete", *containers)
    return bool(containers)


def forget_sandboxes(paths: Paths) -> None:
    """Remove what a stopped containerd keeps of pods."""
    for folder in ("sandboxes", "containers"):
        shutil.rmtree(paths.images / "io.containerd.grpc.v1.cri" / folder, ignore_errors=True)


def _ctr(paths: Paths, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = packages.find("ctr") or "ctr"
    command = [program, "--address", str(socket(paths)), "--namespace", NAMESPACE, *arguments]
    return subprocess.run(command, capture_output=True, text=True)
