"""A burst of FineTuneJobs, from `kubectl create` to their prepare Jobs, and a restart with many of them.

The real operator, as a process, on an API-only cluster. `kubectl create -f` of the same objects into another namespace,
which the operator does not watch, is measured in the same run and is the unit of time.

    python tests/bench/operator_burst.py                     # 1,000 objects, then a restart with 5,000: 5 minutes
    python tests/bench/operator_burst.py --bursts 5          # five, each on a new cluster, and their median: 8 minutes
    python tests/bench/operator_burst.py --objects 200 --restart-objects 0
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster import binaries, lifecycle
from cluster.state import State
from support.cluster import Cluster
from support.cluster_fixtures import install_crds
from support.manifests import config_map, job
from support.operator_process import OperatorProcess
from support.operator_process import operator as operator_process
from support.rights import kubeconfig_of

NAME = "bench"
CONTROLLERS = "kube-controller-manager"
BURST, BASELINE, WARM_UP = "burst", "baseline", "warm-up"
TICKS = os.sysconf("SC_CLK_TCK")
QUIET_SECONDS = 2.0


@dataclass
class Usage:
    """What a process has used, and what it has asked of the API server.

    Attributes:
        cpu: CPU seconds.
        peak: Largest resident memory, bytes.
        requests: Requests by (verb, resource).
        reconciles: Reconciles that ended.
        waiting: Keys that wait or are worked on.
    """

    cpu: float
    peak: int
    requests: dict[tuple[str, str], float]
    reconciles: float
    waiting: float


def usage(operator: OperatorProcess) -> Usage:
    """Return what the operator has used until now."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{operator.pid}/status").read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    requests: dict[tuple[str, str], float] = {}
    for labels, value in re.findall(r"^tunesmith_api_requests_total\{(.*)\} (\S+)$", text, re.M):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        key = (named["verb"], named["resource"])
        requests[key] = requests.get(key, 0) + float(value)
    total = lambda name: sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))  # noqa: E731
    return Usage(
        cpu=cpu_of(operator.pid),
        peak=int(peak.group(1)) * 1024 if peak else 0,
        requests=requests,
        reconciles=total("tunesmith_reconciles_total"),
        waiting=total("tunesmith_queue_depth") + total("tunesmith_queue_running"),
    )


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class ControlPlane:
    """The CPU that the cluster's own processes use meanwhile: what a burst's time is mostly made of."""

    def __init__(self, name: str) -> None:
        state = State.load(name)
        assert state is not None
        self._pids = {key: process.pid for key, process in state.processes.items()}
        self._before = {key: cpu_of(pid) for key, pid in self._pids.items()}

    def since(self, count: int) -> str:
        """Return what was used since this was made, for each of so many objects."""
        used = {key: cpu_of(pid) - self._before[key] for key, pid in self._pids.items()}
        return ", ".join(f"{key} {1000 * value / count:.1f} ms" for key, value in used.items())


def limit_controllers(qps: int, burst: int) -> None:
    """Start the controller manager again with other limits on its requests; Kubernetes ships with 20 and 30."""
    lifecycle.stop_process(NAME, CONTROLLERS)
    state = State.load(NAME)
    assert state is not None
    process = state.processes[CONTROLLERS]
    argv = [option for option in process.argv if not option.startswith("--kube-api-")]
    state.processes[CONTROLLERS] = replace(process, argv=[*argv, f"--kube-api-qps={qps}", f"--kube-api-burst={burst}"])
    state.save()
    lifecycle.start_process(NAME, CONTROLLERS)


def until_quiet(operator: OperatorProcess, timeout: float = 300) -> tuple[Usage, float]:
    """Wait until the operator has had nothing to do for a while; return its usage and when that began."""
    deadline = time.monotonic() + timeout
    last, since = usage(operator), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise SystemExit(f"the operator has not come to rest within {timeout:g} s")
        time.sleep(0.25)
        now = usage(operator)
        if now.waiting or now.reconciles != last.reconciles:
            last, since = now, time.monotonic()
    return last, since


def manifests(first: int, count: int) -> Path:
    """Write a List of FineTuneJobs to a file and return it."""
    items = []
    for number in range(first, first + count):
        item = job(f"job-{number}")
        item["spec"]["dataset"]["sources"][0]["configMapKeyRef"]["name"] = "shared-data"
        items.append(item)
    path = Path(tempfile.mkdtemp(prefix="tunesmith-bench-")) / "jobs.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


def create(cluster: Cluster, namespace: str, path: Path) -> subprocess.Popen[bytes]:
    """Start `kubectl create`."""
    return subprocess.Popen(
        [cluster.kubectl, "create", "-n", namespace, "-f", str(path)], env=cluster.environment,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def fresh_namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace with the data that the jobs read."""
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.wait("ServiceAccount", "default", lambda account: True, name)
    cluster.apply(config_map("shared"), name)


def wait_for_jobs(cluster: Cluster, count: int, timeout: float) -> None:
    """Wait until there are so many Jobs, with little work for the API server and for this process."""
    path = f"/apis/batch/v1/namespaces/{BURST}/jobs"
    deadline = time.monotonic() + timeout
    while True:
        found = cluster.http.request("GET", path, limit=1)
        if len(found["items"]) + found["metadata"].get("remainingItemCount", 0) >= count:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"there are not {count} Jobs after {timeout:g} s")
        time.sleep(0.1)


def baseline(cluster: Cluster, path: Path, count: int) -> float:
    """Return the seconds that `kubectl create` takes where no operator watches."""
    print(f"{count} FineTuneJobs of {path.stat().st_size / count:.0f} bytes")
    plane, begin = ControlPlane(NAME), time.monotonic()
    if create(cluster, BASELINE, path).wait():
        raise SystemExit("kubectl create failed")
    alone = time.monotonic() - begin
    print(f"kubectl create, no operator:       {alone:7.1f} s; CPU an object: {plane.since(count)}")
    return alone


def burst(cluster: Cluster, operator: OperatorProcess, path: Path, count: int, alone: float, to_rest: bool) -> float:
    """Measure a burst and print it.

    Args:
        cluster: The cluster.
        operator: The operator.
        path: The manifests.
        count: How many they are.
        alone: Seconds that `kubectl create` takes without an operator.
        to_rest: Whether to go on until the operator has nothing left to do.

    Returns:
        Seconds until all Jobs were there, in those of `kubectl create` alone.
    """
    before, _ = until_quiet(operator)
    plane, begin = ControlPlane(NAME), time.monotonic()
    # Before kubectl has ended not all Jobs can be there, and counting them meanwhile would take the API server a
    # thirtieth of its CPU.
    if create(cluster, BURST, path).wait():
        raise SystemExit("kubectl create failed")
    wait_for_jobs(cluster, count, 600)
    made = time.monotonic() - begin
    parts = f"{plane.since(count)}, operator {1000 * (cpu_of(operator.pid) - before.cpu) / count:.1f} ms"
    print(f"kubectl create to all Jobs:        {made:7.1f} s, {made / alone:.2f} times (goal 1.2)")
    print(f"    CPU an object until then: {parts}", flush=True)
    if not to_rest:
        return made / alone
    after, quiet_at = until_quiet(operator)
    print(f"until the operator rests:          {quiet_at - begin:7.1f} s")
    requests = {key: value - before.requests.get(key, 0) for key, value in after.requests.items()}
    print(f"requests an object:                {sum(requests.values()) / count:7.2f} (goal 6)")
    for (verb, resource), value in sorted(requests.items(), key=lambda item: -item[1]):
        if value >= count / 100:
            print(f"    {verb:6} {resource:30} {value / count:5.2f}")
    print(f"CPU an object:                     {1000 * (after.cpu - before.cpu) / count:7.1f} ms (goal 15)")
    print(f"reconciles an object:              {(after.reconciles - before.reconciles) / count:7.1f}")
    print(f"largest memory:                    {after.peak / 1e6:7.0f} MB (goal 200), {before.peak / 1e6:.0f} at rest")
    return made / alone


def restart(cluster: Cluster, operator: OperatorProcess, have: int, count: int) -> None:
    """Measure how long the operator takes to come to rest again with many objects that have their Jobs."""
    limit_controllers(qps=500, burst=1000)
    if create(cluster, BURST, manifests(have, count - have)).wait():
        raise SystemExit("kubectl create failed")
    wait_for_jobs(cluster, count, 1200)
    until_quiet(operator)
    operator.stop()
    begin = time.monotonic()
    operator.start()
    operator.wait_ready(timeout=120)
    ready = time.monotonic() - begin
    while usage(operator).reconciles < count:
        time.sleep(0.1)
    after, quiet_at = until_quiet(operator)
    print(f"restart with {count} objects, ready:  {ready:7.1f} s")
    print(f"until all are reconciled, at rest: {quiet_at - begin:7.1f} s (goal 30)")
    print(f"CPU {after.cpu:.1f} s, largest memory {after.peak / 1e6:.0f} MB")


def run(objects: int, restart_objects: int | None, keep: bool) -> float:
    """Measure on a cluster of its own.

    Args:
        objects: Objects of the burst.
        restart_objects: Objects at the restart, 0 for no restart; None to end as soon as the Jobs are there.
        keep: Whether the cluster is left running.

    Returns:
        The burst's ratio.
    """
    # An API server with next to nothing in memory spends a quarter of its time on collecting garbage; one of a real
    # cluster does not. This helps kubectl alone as much as both together.
    os.environ.setdefault("GOGC", "400")
    state = lifecycle.up(NAME, "api", kept=True, api_server=["--max-requests-inflight=3000"])
    try:
        cluster = Cluster(state.paths.kubeconfig, str(binaries.kubernetes() / "kubectl"), name=NAME)
        install_crds(cluster)
        for name in (WARM_UP, BASELINE, BURST):
            fresh_namespace(cluster, name)
        # The embedded cluster's controllers are let run faster than those of others.
        limit_controllers(qps=20, burst=30)
        # The first objects of a kind wait for what the API server makes of its schema, which is no part of either time.
        if create(cluster, WARM_UP, manifests(0, 100)).wait():
            raise SystemExit("kubectl create failed")
        path = manifests(0, objects)
        alone = baseline(cluster, path, objects)
        # As in a pod: with a service account's token, which the API server remembers; a client's certificate it
        # verifies at every request.
        kubeconfig = kubeconfig_of(cluster, BURST, [("*", ["*"], ["*"])], path.with_name("operator.kubeconfig"))
        with operator_process(replace(cluster, kubeconfig=kubeconfig), BURST, lease_seconds=15) as operator:
            ratio = burst(cluster, operator, path, objects, alone, to_rest=restart_objects is not None)
            if restart_objects is not None and restart_objects > objects:
                restart(cluster, operator, objects, restart_objects)
    finally:
        if not keep:
            lifecycle.down(NAME)
    return ratio


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--restart-objects", type=int, default=5000, help="0 for no restart")
    parser.add_argument("--bursts", type=int, default=1, help="how often the burst is measured; the last one goes on")
    parser.add_argument("--keep-cluster", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    ratios = [run(arguments.objects, None, keep=False) for _ in range(arguments.bursts - 1)]
    ratios.append(run(arguments.objects, arguments.restart_objects, arguments.keep_cluster))
    if len(ratios) > 1:
        print(f"median of {len(ratios)} bursts: {statistics.median(ratios):.2f} times kubectl create")


if __name__ == "__main__":
    main()
