"""The quickstart's manifests on a cluster: install the operator, apply them, watch, ask the served model.

On the embedded cluster by default (`make cluster-demo` starts it and builds the images); on another one where
TUNESMITH_E2E_CONTEXT names it. Ends with how long the cluster took from `kubectl apply` to the first training step, and
from the last step to Ready.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from cluster.client import Cluster, condition
from cluster_demo.install import connect, install
from cluster_demo.pods import POD_SECURITY, RESTRICTED, operator_image, read_volume, run_pod

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "quickstart"
NAMESPACE = "quickstart"
ASK = """
import json, sys, urllib.request
for question, expected in json.loads(sys.argv[2]):
    body = {"model": "quickstart", "messages": [{"role": "user", "content": question}], "temperature": 0}
    request = urllib.request.Request(sys.argv[1] + "/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer = json.load(reply)["choices"][0]["message"]["content"].strip()
    verdict = "as expected" if answer == expected.strip() else "expected: " + expected
    print("Q:", question, "\\nA:", answer, "\\n  ", verdict)
"""


def show(command: str) -> None:
    """Print a command as a person would type it."""
    print(f"\n$ {command}", flush=True)


def fresh_namespace(cluster: Cluster) -> None:
    """Make the namespace anew, with Pod Security `restricted` enforced."""
    cluster.delete("Namespace", NAMESPACE)
    cluster.wait_gone("Namespace", NAMESPACE, timeout=120)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    show(f"kubectl create namespace {NAMESPACE}; kubectl label namespace {NAMESPACE} {next(iter(labels))}=restricted")
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    cluster.wait("ServiceAccount", "default", lambda account: True, NAMESPACE)


class Watch:
    """`kubectl get -w` of both kinds, printed as it comes."""

    def __init__(self, cluster: Cluster) -> None:
        self._processes = []
        for kind in ("ftj", "iw"):
            command = [cluster.kubectl, "get", kind, "-n", NAMESPACE, "-w", *(["--no-headers"] if kind == "iw" else [])]
            process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._print, args=(process, kind), daemon=True).start()
            self._processes.append(process)

    @staticmethod
    def _print(process: subprocess.Popen[str], kind: str) -> None:
        for line in process.stdout or ():
            print(f"{time.strftime('%H:%M:%S')} {kind} {line}", end="", flush=True)

    def stop(self) -> None:
        """End them."""
        for process in self._processes:
            process.terminate()
            process.wait()


def ready(cluster: Cluster, kind: str, timeout: float) -> dict[str, Any]:
    """Wait until the object has ended, and return it; end the program when it has failed."""
    found = cluster.wait(
        kind, "quickstart",
        lambda obj: "True" in (condition(obj, "Ready").get("status"), condition(obj, "Stalled").get("status")),
        NAMESPACE, timeout=timeout,
    )  # fmt: skip
    if condition(found, "Ready")["status"] != "True":
        sys.exit(f"{kind} quickstart: {condition(found, 'Ready')}")
    return found


def step_times(cluster: Cluster) -> tuple[float, float]:
    """Return when the first and the last training step ended, in seconds since the epoch, from the training log."""
    log = read_volume(cluster, NAMESPACE, "quickstart-work", "cat /work/*/train/training_log.jsonl")
    times = [json.loads(line)["time"] for line in log.splitlines() if '"time"' in line]
    return datetime.fromisoformat(times[0]).timestamp(), datetime.fromisoformat(times[-1]).timestamp()


def questions(count: int = 5) -> list[tuple[str, str]]:
    """Return questions in phrasings that the model was not trained on, with their answers."""
    data = yaml.safe_load((EXAMPLE / "data.yaml").read_text())["data"]["validation.jsonl"]
    rows = [json.loads(line) for line in data.splitlines()]
    return [(row["prompt"], row["completion"]) for row in rows[:: len(rows) // count][:count]]


def ask(cluster: Cluster, endpoint: str) -> str:
    """Ask the served model from a pod, by the Service's DNS name, and return what was said."""
    container = {
        "name": "ask",
        "image": operator_image(cluster),
        "command": ["python", "-c", ASK, endpoint, json.dumps(questions())],
        "securityContext": RESTRICTED,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ask", "namespace": NAMESPACE}, "spec": spec}
    return run_pod(cluster, pod)


def main() -> int:
    """Run the demo and return the exit code."""
    cluster = connect()
    install(cluster, show)
    fresh_namespace(cluster)
    watch = Watch(cluster)
    show(f"kubectl apply -n {NAMESPACE} -f examples/quickstart/; kubectl get ftj,iw -n {NAMESPACE} -w")
    applied = time.time()
    print(cluster.run("apply", "-n", NAMESPACE, "-f", str(EXAMPLE)), end="")
    try:
        ready(cluster, "FineTuneJob", 1200)
        served = ready(cluster, "InferenceWorkspace", 300)
        ended = time.time()
    finally:
        watch.stop()
    show(f"kubectl get pods -n {NAMESPACE}")
    print(cluster.run("get", "pods", "-n", NAMESPACE), end="")
    endpoint = served["status"]["endpoint"]
    show(f"kubectl run ask ...   # a pod that asks {endpoint}")
    answers = ask(cluster, endpoint)
    print(answers, end="")
    first, last = step_times(cluster)
    print(f"\nFrom kubectl apply to the first training step {first - applied:.1f} s; {last - first:.1f} s of training;")
    print(f"from the last step to Ready of the InferenceWorkspace {ended - last:.1f} s.")
    print(json.dumps({"applyToFirstStep": first - applied, "lastStepToReady": ended - last}))
    return 0 if "expected:" not in answers else 1


if __name__ == "__main__":
    sys.exit(main())
