"""What tests do with an operator that is installed in a cluster."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from cluster.client import Cluster, condition
from cluster.requests import Object


def has_ended(obj: Object) -> bool:
    """Whether nothing more comes of an object: Ready or Stalled."""
    return condition(obj, "Ready").get("status") == "True" or condition(obj, "Stalled").get("status") == "True"


def ended(cluster: Cluster, namespace: str, name: str, kind: str = "FineTuneJob", timeout: float = 1200) -> Object:
    """Wait until an object is Ready or Stalled, and return it."""
    return cluster.wait(kind, name, has_ended, namespace, timeout=timeout)


def succeeded(cluster: Cluster, namespace: str, name: str, timeout: float = 1200) -> Object:
    """Wait until a job has ended, and return it when it is as it should be.

    Raises:
        AssertionError: It has failed, or it has not ended in time.
    """
    found = ended(cluster, namespace, name, timeout=timeout)
    assert found["status"]["phase"] == "Succeeded", json.dumps(found["status"], indent=1)
    return found


def serves(cluster: Cluster, namespace: str, name: str, revision: str | None = None, timeout: float = 300) -> Object:
    """Wait until a workspace serves (a revision), and return it."""
    return cluster.wait(
        "InferenceWorkspace",
        name,
        lambda obj: (
            condition(obj, "Ready").get("status") == "True"
            and obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
            and (revision is None or obj["status"].get("revision") == revision)
        ),
        namespace,
        timeout=timeout,
    )


def service_url(cluster: Cluster, namespace: str, name: str) -> str:
    """The workspace's URL by the Service's address: the name is only known inside the cluster."""
    service = cluster.get("Service", name, namespace)
    return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/v1"


def stage_pods(cluster: Cluster, namespace: str, name: str, stage: str) -> list[Object]:
    """Return the pods of a job's stage, by name."""
    return cluster.list("Pod", namespace, labels=f"tunesmith.dev/owner-name={name},tunesmith.dev/stage={stage}")


def wait_until(what: str, check: Any, timeout: float = 300) -> Any:
    """Poll until `check()` is true of something that cannot be watched, and return it."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)
    return value


def follow(cluster: Cluster, namespace: str, pod: str, timeout: float) -> Iterator[str]:
    """Yield the lines of a pod's log as they come, until the pod has ended.

    Raises:
        AssertionError: It has not ended in time.
    """
    command = [cluster.kubectl, "logs", "-f", "-n", namespace, pod, f"--request-timeout={timeout:g}s"]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield from process.stdout or ()
        finally:
            process.terminate()
