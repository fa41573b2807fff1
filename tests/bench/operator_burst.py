"""A burst of FineTuneJobs, from `kubectl create` to their prepare Jobs, and a restart with many of them.

The real operator, as a process, on an API-only cluster. The time until all Jobs are there is given in two units: what
the `kubectl create -f` that made the objects took, which says whether the operator keeps pace with it, and what one of
the same objects takes in another namespace of the same cluster, which no operator watches. The second says what the
operator costs: where few cores are shared, the operator's work makes kubectl slower too.

    python tests/bench/operator_burst.py                     # 1,000 objects, then a restart with 5,000: 5 minutes
    python tests/bench/operator_burst.py --bursts 5          # five, each on a new cluster, and their median: 10 minutes
    python tests/bench/operator_burst.py --bursts 3 --bare   # beside each the smallest operator (bare_operator.py)
    python tests/bench/operator_burst.py --objects 200 --restart-objects 0
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from bench.usage import ControlPlane, cpu_of, peak_of, until_quiet, usage
from cluster import binaries, lifecycle
from cluster.client import Cluster
from cluster.paths import Paths
from cluster.state import State
from support.cluster_fixtures import install_crds
from support.manifests import config_map, job
from support.operator_process import OperatorProcess
from support.operator_process import operator as operator_process
from support.rights import kubeconfig_of

NAME = "bench"
BARE_OPERATOR = Path(__file__).with_name("bare_operator.py")
CONTROLLERS = "kube-controller-manager"
BURST, BASELINE, WARM_UP = "burst", "baseline", "warm-up"


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


def manifests(first: int, count: int) -> Path:
    """Write a List of FineTuneJobs to a file beside the cluster's own, which end with it, and return it."""
    items = []
    for number in range(first, first + count):
        item = job(f"job-{number}")
        item["spec"]["dataset"]["sources"][0]["configMapKeyRef"]["name"] = "shared-data"
        items.append(item)
    path = Paths(NAME).root / f"jobs-{first}.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return path


@dataclass
class Ratios:
    """How long it took until all Jobs of a burst were there.

    Attributes:
        same: In times of the `kubectl create` that made the objects.
        alone: In times of one of the same objects where no operator watches.
    """

    same: float
    alone: float

    def __str__(self) -> str:
        same = f"{self.same:.2f} times the same kubectl create (goal 1.2)"
        return f"{same}, {self.alone:.2f} times one that no operator watches"


def create(cluster: Cluster, namespace: str, path: Path) -> float:
    """Run `kubectl create` and return the seconds that it took."""
    begin = time.monotonic()
    argv = [cluster.kubectl, "create", "-n", namespace, "-f", str(path)]
    subprocess.run(argv, env=cluster.environment, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def fresh_namespace(cluster: Cluster, name: str) -> None:
    """Make a namespace with the data that the jobs read."""
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.wait("ServiceAccount", "default", lambda account: True, name)
    cluster.apply(config_map("shared"), name)


def jobs(cluster: Cluster) -> int:
    """Return how many Jobs there are, with little work for the API server and for this process."""
    found = cluster.http.request("GET", f"/apis/batch/v1/namespaces/{BURST}/jobs", limit=1)
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))


def wait_for_jobs(cluster: Cluster, count: int, timeout: float) -> None:
    """Wait until there are so many Jobs."""
    deadline = time.monotonic() + timeout
    while jobs(cluster) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"there are not {count} Jobs after {timeout:g} s")
        time.sleep(0.1)


def born_at(obj: dict[str, Any]) -> datetime:
    """Return when an object was created."""
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"])


def lags(cluster: Cluster) -> str:
    """Return how many objects had their Job how many seconds later, by the API server's clock of whole seconds."""
    born = {item["metadata"]["name"]: born_at(item) for item in cluster.list("FineTuneJob", BURST)}
    seconds = Counter(
        (born_at(item) - born[item["metadata"]["ownerReferences"][0]["name"]]).seconds
        for item in cluster.list("Job", BURST)
    )
    return ", ".join(f"{lag} s {count}" for lag, count in sorted(seconds.items()))


def made_jobs(cluster: Cluster, pid: int, path: Path, count: int, alone: float) -> Ratios:
    """Create the objects, wait for their Jobs, and print how long that took.

    Args:
        cluster: The cluster.
        pid: The operator's process.
        path: The manifests.
        count: How many they are.
        alone: Seconds that `kubectl create` takes without an operator.
    """
    had = jobs(cluster)
    plane, cpu, begin = ControlPlane(NAME), cpu_of(pid), time.monotonic()
    # Before kubectl has ended not all Jobs can be there, and counting them meanwhile would take the API server a
    # thirtieth of its CPU.
    created = create(cluster, BURST, path)
    wait_for_jobs(cluster, had + count, 600)
    made = time.monotonic() - begin
    parts = f"{plane.since(count)}, operator {1000 * (cpu_of(pid) - cpu) / count:.1f} ms"
    ratios = Ratios(made / created, made / alone)
    print(f"kubectl create, operator watching: {created:7.1f} s")
    print(f"from its start to all Jobs:        {made:7.1f} s, {ratios}")
    print(f"    CPU an object until then: {parts}")
    print(f"    seconds from object to Job: {lags(cluster)}", flush=True)
    return ratios


def burst(cluster: Cluster, operator: OperatorProcess, path: Path, count: int, alone: float) -> Ratios:
    """Measure a burst until the operator has nothing left to do, and print it."""
    before, begin = until_quiet(operator)[0], time.monotonic()
    ratios = made_jobs(cluster, operator.pid, path, count, alone)
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
    return ratios


def restart(cluster: Cluster, operator: OperatorProcess, have: int, count: int) -> None:
    """Measure how long the operator takes to come to rest again with many objects that have their Jobs."""
    limit_controllers(qps=500, burst=1000)
    create(cluster, BURST, manifests(have, count - have))
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


@contextmanager
def bench_cluster(keep: bool) -> Iterator[Cluster]:
    """Give a new cluster, and its end unless it is kept; in its burst's namespace a service account has all rights."""
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
        # The first objects of a kind wait for what the API server makes of its schema, which is no part of any time.
        create(cluster, WARM_UP, manifests(0, 100))
        yield cluster
    finally:
        if not keep:
            lifecycle.down(NAME)


def baseline(cluster: Cluster, path: Path, count: int) -> float:
    """Return the seconds that `kubectl create` takes where no operator watches."""
    print(f"{count} FineTuneJobs of {path.stat().st_size / count:.0f} bytes")
    plane = ControlPlane(NAME)
    alone = create(cluster, BASELINE, path)
    print(f"kubectl create, no operator:       {alone:7.1f} s; CPU an object: {plane.since(count)}")
    return alone


def with_token(cluster: Cluster, path: Path) -> Cluster:
    """Return the cluster as a pod sees it: with a service account's token, which the API server remembers.

    A client's certificate it verifies at every request.
    """
    return replace(cluster, kubeconfig=kubeconfig_of(cluster, BURST, [("*", ["*"], ["*"])], path))


def run(objects: int, restart_objects: int, to_rest: bool, keep: bool) -> Ratios:
    """Measure the operator on a cluster of its own.

    Args:
        objects: Objects of the burst.
        restart_objects: Objects at the restart, 0 for no restart.
        to_rest: Whether to go on until the operator has nothing left to do.
        keep: Whether the cluster is left running.
    """
    with bench_cluster(keep) as cluster:
        path = manifests(0, objects)
        alone = baseline(cluster, path, objects)
        user = with_token(cluster, path.with_name("operator.kubeconfig"))
        with operator_process(user, BURST, lease_seconds=15) as operator:
            if not to_rest:
                until_quiet(operator)
                return made_jobs(cluster, operator.pid, path, objects, alone)
            ratios = burst(cluster, operator, path, objects, alone)
            if restart_objects > objects:
                restart(cluster, operator, objects, restart_objects)
    return ratios


def run_bare(objects: int) -> Ratios:
    """Measure the smallest operator on a cluster of its own."""
    with bench_cluster(keep=False) as cluster:
        path = manifests(0, objects)
        alone = baseline(cluster, path, objects)
        user = with_token(cluster, path.with_name("operator.kubeconfig"))
        # kopf looks at all namespaces and kinds, also where it is told one.
        binding = ("clusterrolebinding", "bare", "--clusterrole=cluster-admin", f"--serviceaccount={BURST}:operator")
        cluster.run("create", *binding)
        argv = ["kopf", "run", "--standalone", "--quiet", "--namespace", BURST, str(BARE_OPERATOR)]
        process = subprocess.Popen([sys.executable, "-m", *argv], env=user.environment)
        try:
            create(cluster, BURST, manifests(objects, 1))
            wait_for_jobs(cluster, 1, 60)  # It watches.
            print("a Job and nothing else, by the smallest operator:")
            ratios = made_jobs(cluster, process.pid, path, objects, alone)
            print(f"largest memory: {peak_of(process.pid) / 1e6:.0f} MB", flush=True)
        finally:
            process.terminate()
            process.wait(60)
    return ratios


def median(ratios: list[Ratios]) -> str:
    """Return the median of several bursts, to be read."""
    middle = Ratios(*(statistics.median(values) for values in zip(*map(astuple, ratios), strict=True)))
    return f"median of {len(ratios)} bursts, start of kubectl create to all Jobs: {middle}"


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--restart-objects", type=int, default=5000, help="0 for no restart")
    parser.add_argument("--bursts", type=int, default=1, help="how often the burst is measured; the last one goes on")
    parser.add_argument("--bare", action="store_true", help="measure the smallest operator beside each burst")
    parser.add_argument("--keep-cluster", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    ratios, bare = [], []
    for number in range(arguments.bursts):
        if arguments.bare:
            bare.append(run_bare(arguments.objects))
        is_last = number == arguments.bursts - 1
        restarted = arguments.restart_objects if is_last else 0
        ratios.append(run(arguments.objects, restarted, is_last, is_last and arguments.keep_cluster))
    if arguments.bursts > 1:
        print(f"Tunesmith, {median(ratios)}")
        if arguments.bare:
            print(f"the smallest operator, {median(bare)}")


if __name__ == "__main__":
    main()
