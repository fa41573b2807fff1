"""The smallest operator that one would write with kopf: one Job for each FineTuneJob, and nothing else.

What operator_burst.py compares with: no validation, no volume claim, no status, no watch of what it made.

    kopf run --standalone --namespace NAMESPACE tests/bench/bare_operator.py
"""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes.aio.client import ApiClient, BatchV1Api
from kubernetes.aio.config import load_kube_config

_clients: list[ApiClient] = []


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Connect to the API server, and let no log line become an Event."""
    settings.posting.enabled = False
    await load_kube_config()
    _clients.append(ApiClient())


@kopf.on.cleanup()
async def stop(**_: Any) -> None:
    """Close the connections."""
    for client in _clients:
        await client.close()


@kopf.on.create("tunesmith.dev", "v1alpha1", "finetunejobs")
async def create(name: str, namespace: str, **_: Any) -> None:
    """Make an object's Job."""
    container = {"name": "trainer", "image": "tunesmith-trainer", "command": ["python", "-m", "tunesmith_trainer"]}
    job = {
        "metadata": {"name": f"{name}-prepare-1"},
        "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}},
    }
    kopf.adopt(job)
    await BatchV1Api(_clients[0]).create_namespaced_job(namespace, job)
