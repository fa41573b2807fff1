"""Nothing of a node is left on the machine, however it ends; shown in a network namespace of the test's own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import binaries, kernel, processes
from cluster.paths import Paths, cache
from support.probe_pods import claim, pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
NAME = "teardown"
HACK = Path(__file__).parents[3] / "hack"
# A cluster with a pod on a volume; some of its processes killed; started again, which makes a new one; stopped.
SCRIPT = """
set -eu
ip link set lo up
{ ip -o link; nft list tables; cat /proc/sys/net/ipv4/ip_forward; } > before
$PYTHON -m cluster up --name $NAME > /dev/null
KUBECTL="$KUBECTL --kubeconfig=$TUNESMITH_CACHE/clusters/$NAME/kubeconfig"
$KUBECTL apply -f pods.json > /dev/null
$KUBECTL wait pod/web --for=condition=Ready --timeout=60s > /dev/null
$PYTHON kill.py
$PYTHON -m cluster up --name $NAME > /dev/null
$KUBECTL get pods --all-namespaces
$PYTHON -m cluster down --name $NAME
{ ip -o link; nft list tables; cat /proc/sys/net/ipv4/ip_forward; } > after
diff before after
"""
KILL = """
import os, signal
from cluster.state import State
for name in {names}:
    os.kill(State.load("teardown").processes[name].pid, signal.SIGKILL)
"""


@pytest.fixture
def short_cache(embedded: None) -> Iterator[Path]:
    """A cache of its own, as containerd's folder is used by one only, with the programs of the real one.

    The paths of sockets may not be long.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("Running pods takes Linux, and root: namespaces, mounts and cgroups are made for them.")
    real, folder = cache(), Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    (folder / "bin").symlink_to(real / "bin")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("killed", [[], ["kubelet", "containerd", "etcd", "kube-apiserver"]])
def test_nothing_is_left(short_cache: Path, killed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    web = pod("web", "serve", ":8080", "hello", volumes={"/data": "data"})
    items = [claim("data"), web]
    (short_cache / "pods.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    (short_cache / "kill.py").write_text(KILL.format(names=killed))
    environment = {
        "PYTHONPATH": str(HACK),
        "PYTHON": sys.executable,
        "NAME": NAME,
        "KUBECTL": str(binaries.kubernetes() / "kubectl"),
        "TUNESMITH_CACHE": str(short_cache),
    }
    result = subprocess.run(
        ["unshare", "--net", "sh", "-c", SCRIPT], cwd=short_cache, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert ("default " in result.stdout) == (not killed), "the pod is there if nothing was killed"
    assert "coredns" in result.stdout
    monkeypatch.setenv("TUNESMITH_CACHE", str(short_cache))
    paths = Paths(NAME)
    assert processes.marked(paths.root) == []
    assert kernel.mounts_below(paths.run, short_cache) == []
    assert kernel.cgroups(paths.cgroup) == []
    assert not paths.run.exists()
    assert not paths.root.exists()
    mine = str(paths.run).encode()
    assert not [folder for folder in Path("/proc").glob("[0-9]*") if mine in _command(folder)]


def _command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""
