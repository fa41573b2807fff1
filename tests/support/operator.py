"""What tests do with an operator that is installed in a cluster."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

from support.cluster import Cluster, condition

Object = dict[str, Any]

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def has_ended(obj: Object) -> bool:
    """Whether nothing more comes of an object: Ready or Stalled."""
    return condition(obj, "Ready").get("status") == "True" or condition(obj, "Stalled").get("status") == "True"


def ended(cluster: Cluster, namespace: str, name: str, kind: str = "FineTuneJob", timeout: float = 300) -> Object:
    """Wait until an object is Ready or Stalled, and return it."""
    return cluster.wait(kind, name, has_ended, namespace, timeout=timeout)


def succeeded(cluster: Cluster, namespace: str, name: str, timeout: float = 300) -> Object:
    """Wait until a job has ended, and return it when it is as it should be.

    Raises:
        AssertionError: It has failed, or it has not ended in time.
    """
    found = ended(cluster, namespace, name, timeout=timeout)
    assert found["status"]["phase"] == "Succeeded", json.dumps(found["status"], indent=1)
    return found


def serves(cluster: Cluster, namespace: str, name: str, revision: str | None = None, timeout: float = 240) -> Object:
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


def pod_with_volume(namespace: str, claim: str, image: str, command: str, read_only: bool = True) -> Object:
    """A pod that runs a shell command with a claim at /work, as `restricted` wants it."""
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", command],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "work", "mountPath": "/work", "readOnly": read_only}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"run-{uuid.uuid4().hex[:8]}", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


def run_pod(cluster: Cluster, pod: Object, timeout: float = 120) -> str:
    """Run a pod to its end and return what it printed.

    Raises:
        AssertionError: It did not succeed.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    cluster.create(pod, namespace)
    try:
        over = cluster.wait(
            "Pod", name, lambda obj: obj.get("status", {}).get("phase") in ("Succeeded", "Failed"), namespace,
            timeout=timeout,
        )  # fmt: skip
        output = cluster.run("logs", "-n", namespace, name)
        assert over["status"]["phase"] == "Succeeded", output
        return output
    finally:
        cluster.delete("Pod", name, namespace, grace=0)


def operator_image(cluster: Cluster) -> str:
    """Return the image of the operator that is installed: small, and on every node that it ran on."""
    (deployment,) = cluster.list("Deployment", labels="app.kubernetes.io/name=tunesmith")
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def read_volume(cluster: Cluster, namespace: str, claim: str, command: str) -> str:
    """Return what a shell command prints in a pod that has a claim at /work."""
    return run_pod(cluster, pod_with_volume(namespace, claim, operator_image(cluster), command))


def wait_until(what: str, check: Any, timeout: float = 60) -> Any:
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
