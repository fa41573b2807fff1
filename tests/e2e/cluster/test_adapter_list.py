"""The kubelet mounts a new list of adapters when the annotation of a pod changes, and not at its next look."""

import asyncio
import json
import time

import pytest

from cluster.client import Cluster, condition
from cluster.requests import Object
from support.engine_process import child
from support.manifests import workspace
from support.operator import wait_until
from support.probe_pods import pod
from tunesmith_operator.engine.apply.children import ChildWriter
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import Annotation, ObjectRef
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.inferenceworkspace.adapters.lists import SYNCED, config_map
from tunesmith_operator.inferenceworkspace.model import Adapter, Adapters, Target

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

TARGET = Target("s3://bucket/base", "sha256:" + "f" * 64)
# A kubelet looks at a ConfigMap every 60 to 90 s by itself.
ROUNDS, LONG_BEFORE_IT_LOOKS = 4, 20


def lists(owner: Object, count: int) -> Object:
    adapters = tuple(Adapter(f"adapter-{number}", f"s3://bucket/{number}") for number in range(count))
    return config_map(owner, TARGET, Adapters(adapters), {})


def follower(owner: Object) -> Object:
    """A pod of the owner that mounts the list as servers do."""
    made = pod("follower", "serve", ":8080", "hello")
    items = [{"key": f"{TARGET.revision}.json", "path": "adapters.json"}]
    made["spec"]["volumes"] = [{"name": "list", "configMap": {"name": "base-adapters", "items": items}}]
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "list", "mountPath": "/list"}]
    made["metadata"] |= {"labels": child(owner, "v1", "Pod", "follower", {})["metadata"]["labels"]}
    return made


def mounted(cluster: Cluster, namespace: str) -> int:
    text = cluster.run("exec", "follower", "-n", namespace, "--", "/probe", "read", "/list/adapters.json")
    return len(json.loads(text)["adapters"])


async def write(cluster: Cluster, owner: Object, count: int, note: str) -> None:
    """Write the list and tell the kubelet, as the operator does."""
    client = await KubeClient.connect(Metrics().requests)
    store = ObjectStore()
    writer = ChildWriter(client, store, lambda owner, child: None)
    namespace = owner["metadata"]["namespace"]
    try:
        await writer.ensure(owner, lists(owner, count))
        if note:
            store.put({**cluster.get("Pod", "follower", namespace), "kind": "Pod"})
            assert await writer.annotate(owner, Annotation(ObjectRef("Pod", "follower"), SYNCED, note))
    finally:
        await client.close()


def test_a_new_list_is_mounted_at_once(cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    (owner,) = cluster.apply(workspace("base", model={"uri": TARGET.uri}, replicas=0), namespace)
    asyncio.run(write(cluster, owner, 0, ""))
    cluster.create(follower(owner), namespace)
    cluster.wait("Pod", "follower", lambda obj: condition(obj, "Ready").get("status") == "True", namespace)
    took = []
    for count in range(1, ROUNDS + 1):
        started = time.monotonic()
        asyncio.run(write(cluster, owner, count, f"{count}.0"))
        wait_until(
            "the list is mounted", lambda wanted=count: mounted(cluster, namespace) == wanted, LONG_BEFORE_IT_LOOKS
        )
        took.append(time.monotonic() - started)
    print("seconds from the write to the file:", ", ".join(f"{seconds:.2f}" for seconds in took))
