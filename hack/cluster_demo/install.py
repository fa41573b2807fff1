"""Tunesmith as people install it in a cluster: images built and loaded, the chart installed and waited for."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cluster import binaries
from cluster.client import Cluster
from cluster.errors import CannotRunError
from cluster.paths import Paths
from image_build.build import INPUTS, build
from image_build.choose import engine
from image_build.load import load
from image_build.project import IMAGES

ROOT = Path(__file__).resolve().parents[2]
RELEASE = NAMESPACE = "tunesmith-system"


def connect() -> Cluster:
    """Return the cluster that TUNESMITH_E2E_CONTEXT names, or the embedded one, which runs."""
    kubectl = str(binaries.kubernetes() / "kubectl")
    if context := os.environ.get("TUNESMITH_E2E_CONTEXT"):
        kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        return Cluster(Path(kubeconfig), shutil.which("kubectl") or kubectl, context, runs_pods=True)
    paths = Paths("full")
    if not paths.kubeconfig.exists():
        raise CannotRunError("The embedded cluster does not run; start it: make cluster-up")
    return Cluster(paths.kubeconfig, kubectl, name="full", runs_pods=True)


def bring_images(cluster: Cluster) -> str:
    """Build what has changed, load it into an embedded cluster, and return the operator image's inputs.

    A cluster of somebody's own pulls them from the registry that its values name, so they are neither built nor loaded.
    """
    if cluster.name is None:
        return ""
    builder = engine()
    build(builder, list(IMAGES), "", {})
    load(builder, cluster.name, list(IMAGES))
    return builder.label(IMAGES["operator"].reference, INPUTS)


def install(cluster: Cluster, show: Callable[[str], None] = lambda command: None) -> None:
    """Install the chart, or upgrade it to what this checkout has, and wait until the operator is ready.

    Args:
        cluster: The cluster.
        show: Told the command, for people.

    Raises:
        subprocess.CalledProcessError: helm failed; it has said why.
    """
    inputs = bring_images(cluster)
    context = [f"--kube-context={cluster.context}"] if cluster.context else []
    # The tag stays the same while the images change: the annotation is what replaces the pods.
    values = ["--set-string", f"podAnnotations.tunesmith\\.dev/image=v{inputs[-12:]}"] if inputs else []
    show(f"helm upgrade --install {RELEASE} helm/tunesmith -n {NAMESPACE} --create-namespace --wait")
    command = [
        str(binaries.helm()), "upgrade", "--install", RELEASE, str(ROOT / "helm" / "tunesmith"), "-n", NAMESPACE,
        "--create-namespace", "--wait", "--timeout", "180s", "--take-ownership", *context, *values,
    ]  # fmt: skip
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pods = cluster.run("get", "pods", "-n", NAMESPACE, "-o", "wide", check=False)
        logs = cluster.run("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=tunesmith", "--tail=40", check=False)
        raise AssertionError(f"helm:\n{done.stdout}{done.stderr}\n{pods}\n{logs}")
