"""Adapters of a workspace on a real API server: the list, what kubelets are told, what (played) servers say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from cluster.client import Cluster, condition
from support.kstatus import CURRENT, kstatus
from support.workspace_operator import Around, workspace_operator

pytestmark = pytest.mark.integration

BASE = "sha256:" + "f" * 64
F = "f" * 10
DIGEST = {letter: "sha256:" + letter * 64 for letter in "abcd"}
FOLLOWING = {"matchLabels": {"base": "support"}}
LABELS = {"base": "support"}
ADDRESS, PORT = "127.0.8.17", 8080


class PlayedServer:
    """A server that loads what the ConfigMap says, as a kubelet would mount it.

    Attributes:
        states: State and message of adapters that are not just loaded, by name.
    """

    def __init__(self, around: Around) -> None:
        self.around = around
        self.states: dict[str, tuple[str, str]] = {}

    def answer(self) -> dict[str, Any]:
        content = listed(self.around)
        adapters = []
        for entry in content["adapters"]:
            state, message = self.states.get(entry["name"], ("Loaded", None))
            adapters.append({**entry, "state": state, "message": message})
        return {"version": content["version"], "adapters": adapters}

    @contextmanager
    def serving(self) -> Iterator["PlayedServer"]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(owner.answer()).encode()
                self.send_response(200 if self.path == "/adapters" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((ADDRESS, PORT), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture
def around(cluster: Cluster, namespace: str) -> Iterator[Around]:
    with workspace_operator(cluster, namespace):
        yield Around(cluster, namespace)


def listed(around: Around, revision: str = F) -> dict[str, Any]:
    found = around.cluster.get("ConfigMap", "faq-adapters", around.namespace)
    return json.loads(found["data"][f"{revision}.json"])


def told(around: Around, timeout: float = 300, **wanted: str) -> dict[str, Any]:
    """Wait until the workspace has these adapters in these states, and return it."""

    def is_there(obj: dict[str, Any]) -> bool:
        found = {item["name"]: item["state"] for item in obj["status"].get("adapters") or ()}
        return found == wanted

    return around.cluster.wait("InferenceWorkspace", "faq", is_there, around.namespace, timeout=timeout)


def test_adapters_come_and_go_while_the_servers_run(around: Around) -> None:
    around.job("first", DIGEST["a"], base=BASE, labels=LABELS)
    around.workspace(model={"fineTuneJob": "first"}, adapterSelector=FOLLOWING)
    with PlayedServer(around).serving() as server:
        around.make_ready(1, F, podIP=ADDRESS, podIPs=[{"ip": ADDRESS}])
        # Servers answer before their Deployment says that they are available.
        around.status("Serving", revision=F)
        found = told(around, first="Loaded")
        assert condition(found, "AdaptersReady")["status"] == "True"
        (pod,) = around.pods(1, F)
        assert pod["metadata"]["annotations"]["tunesmith.dev/adapters"].startswith(listed(around)["version"])
        config_map = around.cluster.get("ConfigMap", "faq-adapters", around.namespace)
        assert config_map["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
        deployment = around.cluster.get("Deployment", "faq", around.namespace)

        # One comes, and one that no server can load: the workspace stays ready.
        server.states["third"] = ("Failed", "rank 99 is above maxRank 64")
        around.job("second", DIGEST["b"], base=BASE, labels=LABELS)
        around.job("third", DIGEST["c"], base=BASE, labels=LABELS)
        around.job("other", DIGEST["d"], base=DIGEST["d"], labels=LABELS)
        found = told(around, first="Loaded", second="Loaded", third="Failed", other="Failed")
        assert condition(found, "AdaptersReady")["reason"] == "AdapterFailed"
        assert "third: rank 99 is above maxRank 64" in condition(found, "AdaptersReady")["message"]
        assert condition(found, "Ready")["reason"] == "Serving"
        assert kstatus(found) == CURRENT
        assert [entry["name"] for entry in listed(around)["adapters"]] == ["first", "second", "third"]
        around.cluster.wait_all(
            "Event",
            lambda events: any((event["reason"], event["type"]) == ("AdapterFailed", "Warning") for event in events),
            around.namespace,
        )
        (same,) = around.pods(1, F)
        assert same["metadata"]["uid"] == pod["metadata"]["uid"]
        assert same["metadata"]["annotations"]["tunesmith.dev/adapters"].startswith(listed(around)["version"])

        # They go with their jobs, or when they lose their label. That of the workspace's own job stays.
        around.cluster.delete("FineTuneJob", "second", around.namespace)
        for name in ("third", "other"):
            around.cluster.patch("FineTuneJob", name, {"metadata": {"labels": {"base": None}}}, around.namespace)
        around.cluster.delete("FineTuneJob", "first", around.namespace)
        found = told(around, first="Loaded")
        assert condition(found, "AdaptersReady")["status"] == "True"
        assert [entry["name"] for entry in listed(around)["adapters"]] == ["first"]
        now = around.cluster.get("Deployment", "faq", around.namespace)
        assert now["metadata"]["generation"] == deployment["metadata"]["generation"]


def test_what_others_do_to_the_list_is_undone(around: Around) -> None:
    around.job("first", DIGEST["a"], base=BASE)
    around.workspace(model={"fineTuneJob": "first"})
    around.make_ready(1, F)
    around.status("Serving", revision=F)
    around.cluster.delete("ConfigMap", "faq-adapters", around.namespace)
    around.job("first", DIGEST["b"], base=BASE)
    around.cluster.wait("ConfigMap", "faq-adapters", lambda obj: True, around.namespace)
    body = {"data": {f"{F}.json": "{}"}}
    around.cluster.patch("ConfigMap", "faq-adapters", body, around.namespace)
    around.job("first", DIGEST["c"], base=BASE)
    around.cluster.wait(
        "ConfigMap", "faq-adapters", lambda obj: DIGEST["c"] in obj["data"][f"{F}.json"], around.namespace
    )


@pytest.mark.parametrize(
    ("adapters", "said"),
    [
        ([{"name": "a", "uri": "s3://b/a"}, {"name": "a", "uri": "s3://b/b"}], "adapters must not have one name twice"),
        ([{"name": "faq", "uri": "s3://b/a"}], "spec.adapters must not name one as the workspace"),
        ([{"name": "a"}], "exactly one of fineTuneJob and uri must be set"),
    ],
)
def test_the_api_server_refuses(cluster: Cluster, namespace: str, adapters: list[Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        Around(cluster, namespace).workspace(model={"uri": "s3://b/base"}, adapters=adapters)
