"""The service over a real API server, with the chart's rights: what it makes, and what it does when that is gone."""

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob
from sqlalchemy import select

from cluster.client import Cluster
from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving
from support.hosted_cluster import Link, Replica, Rights, replica, rights
from support.hosted_jobs import CHAT, lines
from support.operator import wait_until
from support.s3_server import BUCKET, s3_server
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import ApiKey, Outbox, Project, TunedModel

pytestmark = pytest.mark.integration

_TIME = "2026-01-01T00:00:00Z"


@dataclass
class Service:
    """A service with one replica, and its cluster.

    Attributes:
        hosted: The service.
        cluster: The cluster, with all rights.
        link: The replica's way to the cluster.
        replica: The replica.
        secrets: The folder of the Secrets that projects get.
        rights: The rights that it has.
    """

    hosted: Hosted
    cluster: Cluster
    link: Link
    replica: Replica
    secrets: Path
    rights: Rights

    def project(self, name: str) -> tuple[str, str]:
        """Make a project and a key, and return the project's namespace and the key."""
        client = self.hosted.client()
        made = client.post("/organization/projects", body={"name": name}, cast_to=dict)
        key = client.post(f"/organization/projects/{made['id']}/api_keys", body={"name": "a"}, cast_to=dict)
        return self.namespace(made["id"]), str(key["value"])

    def namespace(self, project_id: str) -> str:
        async def find() -> str:
            async with self.hosted.sessions() as session:
                return (await session.execute(select(Project.namespace).where(Project.id == project_id))).scalar_one()

        return str(self.hosted.run(find()))

    def job(self, key: str | None = None) -> tuple[FineTuningJob, str]:
        """Start a job, and return it and the name of its FineTuneJob."""
        client = self.hosted.client(key)
        file = client.files.create(file=("rows.jsonl", lines(CHAT)), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
        return job, f"ft-{job.id[6:].lower()}"

    def errors(self, kind: str) -> list[str]:
        """Return what the outbox says of what could not be done."""

        async def find() -> list[str]:
            async with self.hosted.sessions() as session:
                query = select(Outbox.error).where(Outbox.kind == kind, Outbox.error.is_not(None))
                return [str(error) for error in (await session.execute(query)).scalars()]

        found: list[str] = self.hosted.run(find())
        return found


@pytest.fixture(scope="module")
def service(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    secrets = folder / "secrets"
    (secrets / "store").mkdir(parents=True)
    (secrets / "store" / "AWS_ACCESS_KEY_ID").write_text("first")
    with (
        rights(api_cluster, folder) as given,
        s3_server(folder, "127.0.0.1") as store,
        pytest.MonkeyPatch.context() as m,
    ):
        for name, value in store.variables.items():
            m.setenv(name, value)
        settings = {
            "backend": "cluster", "files": f"s3://{BUCKET}/{given.prefix}", "namespace_prefix": given.prefix,
            "reconcile_seconds": 0.2,
            # What a watch does not tell is not found in time.
            "cluster": {**given.settings, "secrets": str(secrets), "resync_seconds": 3600},
            "bases": [{**BASE, "model": {"uri": "hf://a/b"}}],
        }  # fmt: skip
        link = Link(given.kubeconfig, folder)
        with serving(folder, FakeBackend(), **settings) as hosted, replica(hosted, link.kubeconfig) as running:
            yield Service(hosted, api_cluster, link, running, secrets, given)


def set_status(service: Service, namespace: str, name: str, kind: str = "FineTuneJob", **status: Any) -> None:
    """Write what the operator would."""
    body = {"apiVersion": "tunesmith.dev/v1alpha1", "status": status}
    service.cluster.patch(kind, name, body, namespace, "status")


def has_status(service: Service, key: str, job_id: str, status: str) -> Callable[[], bool]:
    return lambda: service.hosted.client(key).fine_tuning.jobs.retrieve(job_id).status == status


def test_a_project_has_a_namespace_of_its_own(service: Service) -> None:
    namespace, _ = service.project("first")
    cluster = service.cluster
    found = cluster.wait("Namespace", namespace, lambda obj: True)
    assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tunesmith-hosted"
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert found["metadata"]["labels"]["tunesmith.dev/project"].startswith("proj")
    secret = cluster.wait("Secret", "store", lambda obj: True, namespace)  # the last to be made
    assert base64.b64decode(secret["data"]["AWS_ACCESS_KEY_ID"]) == b"first"
    for kind, name in (
        ("ResourceQuota", "project"), ("LimitRange", "project"), ("NetworkPolicy", "default-deny"),
        ("NetworkPolicy", "project"), ("RoleBinding", service.rights.settings["binding"]),
    ):  # fmt: skip
        first = cluster.get(kind, name, namespace)["metadata"]["managedFields"][0]
        assert (first["manager"], first["operation"]) == ("tunesmith-hosted", "Apply")
    cluster.wait("Secret", "store", lambda obj: True, f"{service.rights.prefix}bases")
    assert service.replica.refused == 0


def test_what_was_changed_is_made_good(service: Service) -> None:
    namespace, _ = service.project("drift")
    service.cluster.wait("Secret", "store", lambda obj: True, namespace)
    changed = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    service.cluster.patch("Namespace", namespace, changed)
    (service.secrets / "store" / "AWS_ACCESS_KEY_ID").write_text("second")

    async def look() -> None:
        async with service.hosted.sessions.begin() as session:
            query = select(Project.id).where(Project.namespace == namespace)
            await ask_for(session, "project", (await session.execute(query)).scalar_one())

    service.hosted.run(look())
    rotated = base64.b64encode(b"second").decode()
    service.cluster.wait("Secret", "store", lambda obj: obj["data"]["AWS_ACCESS_KEY_ID"] == rotated, namespace)
    labels = service.cluster.get("Namespace", namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_job_is_made_and_its_status_comes_by_itself(service: Service) -> None:
    namespace, key = service.project("status")
    service.cluster.wait("Secret", "store", lambda obj: True, namespace)
    refused = service.replica.refused
    job, name = service.job(key)
    made = service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)
    (source,) = made["spec"]["dataset"]["sources"]
    assert source["uri"].startswith(f"s3://{BUCKET}/") and source["secretRef"] == {"name": "store"}
    assert made["spec"]["output"]["secretRef"] == {"name": "store"}
    assert [entry["manager"] for entry in made["metadata"]["managedFields"]] == ["tunesmith-hosted"]

    set_status(service, namespace, name, phase="Training", progress={"step": 1, "totalSteps": 9, "loss": 2.0})
    wait_until("running", has_status(service, key, job.id, "running"))
    asked = service.replica.requests["GET", 200]
    set_status(service, namespace, name, phase="Training", progress={"step": 2, "totalSteps": 9, "loss": 1.0})
    events = service.hosted.client(key).fine_tuning.jobs
    wait_until("an event", lambda: any("Step 2/9" in event.message for event in events.list_events(job.id)))
    assert service.replica.requests["GET", 200] - asked < 5, "it is asked for again and again"

    service.hosted.client(key).fine_tuning.jobs.pause(job.id)
    service.cluster.wait("FineTuneJob", name, lambda obj: obj["spec"].get("suspend"), namespace)
    ready = {"type": "Ready", "status": "Unknown", "reason": "Suspended", "message": "", "lastTransitionTime": _TIME}
    set_status(service, namespace, name, phase="Training", conditions=[ready])
    wait_until("paused", has_status(service, key, job.id, "paused"))
    service.hosted.client(key).fine_tuning.jobs.cancel(job.id)
    service.cluster.wait_gone("FineTuneJob", name, namespace)
    assert service.replica.refused == refused


def test_a_model_is_served_by_what_the_cluster_says(service: Service) -> None:
    namespace, key = service.project("model")
    service.cluster.wait("Secret", "store", lambda obj: True, namespace)
    job, name = service.job(key)
    service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)
    artifact = {"uri": f"{service.hosted.settings.files}/artifacts/a", "digest": f"sha256:{'0' * 64}"}
    set_status(service, namespace, name, phase="Succeeded", artifact=artifact)
    wait_until("succeeded", has_status(service, key, job.id, "succeeded"))
    model = service.hosted.client(key).fine_tuning.jobs.retrieve(job.id).fine_tuned_model

    async def wake() -> None:
        async with service.hosted.sessions.begin() as session:
            row = await session.get_one(TunedModel, model)
            row.wanted, row.last_used_at = "awake", int(time.time())
            await ask_for(session, "model", row.id)

    async def endpoint() -> str | None:
        async with service.hosted.sessions() as session:
            return (await session.get_one(TunedModel, model)).endpoint

    service.hosted.run(wake())
    made = service.cluster.wait("InferenceWorkspace", name, lambda obj: True, namespace)
    assert made["spec"]["model"] == {"uri": artifact["uri"], "secretRef": {"name": "store"}}
    set_status(service, namespace, name, "InferenceWorkspace", endpoint="http://model/v1", phase="Serving")
    wait_until("the endpoint", lambda: service.hosted.run(endpoint()) == "http://model/v1")


def test_a_namespace_that_was_deleted_comes_back_with_its_job(service: Service) -> None:
    namespace, key = service.project("deleted")
    _, name = service.job(key)
    service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)
    before = service.cluster.get("Namespace", namespace)["metadata"]["uid"]
    service.cluster.delete("Namespace", namespace)
    service.cluster.wait("Namespace", namespace, lambda obj: obj["metadata"]["uid"] != before)
    service.cluster.wait("FineTuneJob", name, lambda obj: "deletionTimestamp" not in obj["metadata"], namespace)


def test_rights_that_were_taken_away_are_taken_again(service: Service) -> None:
    namespace, key = service.project("forbidden")
    service.cluster.wait("Secret", "store", lambda obj: True, namespace)
    service.cluster.delete("RoleBinding", service.rights.settings["binding"], namespace)
    refused = service.replica.refused
    _, name = service.job(key)
    service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)
    assert service.replica.refused > refused
    assert service.cluster.get("RoleBinding", service.rights.settings["binding"], namespace)


def test_a_namespace_of_somebody_else_is_left_alone(service: Service) -> None:
    """Its name is random, so that nobody can have it by chance; still nothing of it is changed."""
    service.link.cut()  # until somebody else has taken the name
    try:
        namespace, _ = service.project("taken")
        service.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    finally:
        service.link.restore()
    wait_until("why", lambda: any("only in namespaces that it has made" in text for text in service.errors("project")))
    assert service.cluster.get("Namespace", namespace)["metadata"]["labels"].keys() == {"kubernetes.io/metadata.name"}
    service.cluster.delete("Namespace", namespace)
    service.cluster.wait("Secret", "store", lambda obj: True, namespace)


def test_an_api_server_that_is_away_is_waited_for(service: Service) -> None:
    namespace, key = service.project("away")
    job, name = service.job(key)
    service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)
    service.link.cut()
    try:
        _, second = service.job(key)
        set_status(service, namespace, name, phase="Training", progress={"step": 1, "totalSteps": 9, "loss": 2.0})
        wait_until("why", lambda: any("cannot be reached" in text for text in service.errors("job")))
        assert service.hosted.client(key).fine_tuning.jobs.retrieve(job.id).status == "queued"
    finally:
        service.link.restore()
    service.cluster.wait("FineTuneJob", second, lambda obj: True, namespace)
    wait_until("running", has_status(service, key, job.id, "running"))
    assert service.cluster.get("FineTuneJob", name, namespace)["metadata"]["generation"] == 1


def test_two_replicas_make_nothing_twice(service: Service) -> None:
    with replica(service.hosted, service.rights.kubeconfig) as second:
        namespace, key = service.project("replicas")
        made = [service.job(key)[1] for _ in range(3)]
        for name in made:
            service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)
            set_status(service, namespace, name, phase="Training", progress={"step": 1, "totalSteps": 9, "loss": 2.0})
        jobs = service.hosted.client(key).fine_tuning.jobs
        wait_until("running", lambda: {job.status for job in jobs.list()} == {"running"})
        for job in jobs.list():
            messages = [event.message for event in jobs.list_events(job.id)]
            assert len(set(messages)) == len(messages)
    assert {obj["metadata"]["generation"] for obj in service.cluster.list("FineTuneJob", namespace)} == {1}
    assert second.requests


def test_an_archived_project_ends_with_its_namespace(service: Service) -> None:
    namespace, key = service.project("archived")
    job, name = service.job(key)
    service.cluster.wait("FineTuneJob", name, lambda obj: True, namespace)

    async def project() -> str:
        async with service.hosted.sessions() as session:
            return (await session.execute(select(Project.id).where(Project.namespace == namespace))).scalar_one()

    service.hosted.client().post(f"/organization/projects/{service.hosted.run(project())}/archive", cast_to=dict)
    service.cluster.wait_gone("Namespace", namespace)

    async def left() -> int:
        async with service.hosted.sessions() as session:
            query = select(Outbox.number).where(Outbox.subject == job.id)
            return len((await session.execute(query)).all())

    wait_until("nothing left to do", lambda: service.hosted.run(left()) == 0)


def test_keys_are_nowhere_in_the_cluster(service: Service) -> None:
    async def keys() -> list[str]:
        async with service.hosted.sessions() as session:
            return list((await session.execute(select(ApiKey.hash))).scalars())

    text = service.cluster.run("get", "finetunejobs,secrets,configmaps", "-A", "-o", "yaml")
    assert not [key for key in (*service.hosted.run(keys()), service.hosted.key) if key in text]
