"""`helm install --wait` on objects that the operator works on: never done before the end, never failed too early."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import binaries
from cluster.client import Cluster, condition
from support.fake_kubelet import finished, outcome, running
from support.manifests import config_map, job, workspace
from support.operator_process import operator

pytestmark = pytest.mark.integration

Object = dict[str, Any]
# It looks at the objects about every two seconds; one look more than that tells what it makes of a state.
LOOK = 2.5


def chart(folder: Path, *objects: Object) -> Path:
    """A chart that holds the objects and nothing else."""
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: job\nversion: 0.1.0\n")
    (folder / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))
    return folder


class Install:
    """A running `helm install --wait`."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        command = [str(binaries.helm()), "install", "job", str(folder), "-n", namespace, "--wait", "--timeout", "120s"]
        self._process = subprocess.Popen(
            command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def still_waits(self, state: str) -> None:
        """Give it time to look, and check that it goes on waiting."""
        time.sleep(LOOK)
        assert self._process.poll() is None, f"{state}: helm ended with {self._process.stdout.read()}"

    def ends(self, timeout: float = 300) -> tuple[int, str]:
        """Wait for its end; return the exit code and what it printed."""
        output, _ = self._process.communicate(timeout=timeout)
        return self._process.returncode, output


def stage_pod(cluster: Cluster, namespace: str, stage: str) -> Object:
    (pod,) = cluster.wait_all("Pod", lambda pods: len(pods) == 1, namespace, labels=f"tunesmith.dev/stage={stage}")
    return pod


def write(cluster: Cluster, namespace: str, pod: Object, status: Object) -> None:
    cluster.patch("Pod", pod["metadata"]["name"], {"status": status}, namespace, "status")


def phase_is(phase: str) -> Callable[[Object], bool]:
    return lambda obj: obj.get("status", {}).get("phase") == phase


def test_a_job_that_succeeds_is_waited_for_to_its_end(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    install = Install(cluster, namespace, chart(tmp_path / "chart", config_map(), job()))
    cluster.wait("FineTuneJob", "tiny", lambda obj: obj["status"]["observedGeneration"] == -1, namespace)
    install.still_waits("no operator has looked")
    with operator(cluster, namespace):
        for stage, phase in (("prepare", "Preparing"), ("train", "Training"), ("publish", "Publishing")):
            pod = stage_pod(cluster, namespace, stage)
            cluster.wait("FineTuneJob", "tiny", phase_is(phase), namespace)
            install.still_waits(f"{stage} pending")
            write(cluster, namespace, pod, running(pod))
            if stage == "train":
                install.still_waits("training runs")
            write(cluster, namespace, pod, finished(pod, message=outcome(stage)))
        code, output = install.ends()
        assert code == 0, output
        found = cluster.get("FineTuneJob", "tiny", namespace)
        assert condition(found, "Ready")["reason"] == "Completed"


def test_a_suspended_job_is_not_failed(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with operator(cluster, namespace):
        install = Install(cluster, namespace, chart(tmp_path / "chart", config_map(), job(suspend=True)))
        cluster.wait("FineTuneJob", "tiny", lambda obj: condition(obj, "Ready").get("reason") == "Suspended", namespace)
        install.still_waits("suspended")
        cluster.patch("FineTuneJob", "tiny", {"spec": {"suspend": False}}, namespace)
        for stage in ("prepare", "train", "publish"):
            pod = stage_pod(cluster, namespace, stage)
            write(cluster, namespace, pod, finished(pod, message=outcome(stage)))
        code, output = install.ends()
        assert code == 0, output


def test_a_final_failure_is_told_at_once(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    message = json.dumps({"reason": "InvalidDataset", "message": "rows.jsonl:3: no completion", "remedy": "Write one"})
    with operator(cluster, namespace):
        install = Install(cluster, namespace, chart(tmp_path / "chart", config_map(), job()))
        pod = stage_pod(cluster, namespace, "prepare")
        write(cluster, namespace, pod, finished(pod, exit_code=11, message=message))
        code, output = install.ends()
        assert code != 0
        assert "rows.jsonl:3" in output or "stalled" in output.lower() or "Failed" in output, output
        found = cluster.get("FineTuneJob", "tiny", namespace)
        assert condition(found, "Ready")["reason"] == "InvalidDataset"


def test_a_failure_that_can_still_succeed_is_waited_for(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    message = json.dumps({"reason": "SourceUnavailable", "message": "hub: timed out", "remedy": ""})
    with operator(cluster, namespace):
        install = Install(cluster, namespace, chart(tmp_path / "chart", config_map(), job()))
        pod = stage_pod(cluster, namespace, "prepare")
        write(cluster, namespace, pod, finished(pod, exit_code=65, message=message))
        install.still_waits("a retryable failure")
        again = cluster.wait_all(
            "Pod", lambda pods: any(p["metadata"]["uid"] != pod["metadata"]["uid"] for p in pods), namespace,
            labels="tunesmith.dev/stage=prepare",
        )  # fmt: skip
        second = next(p for p in again if p["metadata"]["uid"] != pod["metadata"]["uid"])
        write(cluster, namespace, second, finished(second, message=outcome("prepare")))
        for stage in ("train", "publish"):
            pod = stage_pod(cluster, namespace, stage)
            write(cluster, namespace, pod, finished(pod, message=outcome(stage)))
        code, output = install.ends()
        assert code == 0, output


def test_a_workspace_that_waits_for_its_job_is_in_progress(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with operator(cluster, namespace):
        install = Install(cluster, namespace, chart(tmp_path / "chart", workspace(model={"fineTuneJob": "tiny"})))
        cluster.wait(
            "InferenceWorkspace", "tiny", lambda obj: condition(obj, "Ready").get("status") == "Unknown", namespace
        )
        install.still_waits("its job does not exist")
        cluster.apply([config_map(), job()], namespace)
        for stage in ("prepare", "train", "publish"):
            pod = stage_pod(cluster, namespace, stage)
            write(cluster, namespace, pod, finished(pod, message=outcome(stage)))
        deployment = cluster.wait("Deployment", "tiny", lambda obj: True, namespace)
        install.still_waits("its servers are not ready")
        # What the Deployment controller would write once a kubelet had started the pod.
        pods = cluster.wait_all(
            "Pod", lambda found: len(found) == 1, namespace, labels="tunesmith.dev/owner-kind=InferenceWorkspace"
        )
        write(cluster, namespace, pods[0], running(pods[0]))
        assert deployment["spec"]["replicas"] == 1
        code, output = install.ends(60)
        assert code == 0, output
