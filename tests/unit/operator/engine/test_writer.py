"""What carrying out a decision asks of the API server, and what it does not."""

import copy
from typing import Any

import pytest

from support.fake_api import FakeClient
from tunesmith_operator.engine.apply.difference import APPLIED
from tunesmith_operator.engine.apply.events import EventPoster
from tunesmith_operator.engine.apply.writer import DecisionWriter, OutdatedError
from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import Annotation, Decision, EventSpec, ObjectRef
from tunesmith_operator.engine.watch.store import ObjectStore

pytestmark = pytest.mark.asyncio

KubeObject = dict[str, Any]
JOB = "/apis/tunesmith.dev/v1alpha1/namespaces/ns/finetunejobs/o"
JOBS = "/apis/batch/v1/namespaces/ns/jobs"
SERVICES = "/api/v1/namespaces/ns/services"
CONFIG_MAPS = "/api/v1/namespaces/ns/configmaps"
EVENTS = "/apis/events.k8s.io/v1/namespaces/ns/events"


class World:
    """A FineTuneJob `o`, a store and a writer."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.store = ObjectStore()
        events = EventPoster(self.client, "replica")  # type: ignore[arg-type]
        self.writer = DecisionWriter(
            self.client, self.store, Metrics(), events, lambda before, after: None, lambda owner, child: None  # type: ignore[arg-type]
        )  # fmt: skip
        metadata = {"name": "o", "namespace": "ns", "generation": 1}
        owner = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata}
        self.store.put(self.client.store(JOB, owner))

    @property
    def owner(self) -> KubeObject:
        obj = self.store.get("FineTuneJob", "ns", "o")
        assert obj is not None
        return obj

    def child(self, kind: str, name: str, **spec: Any) -> KubeObject:
        labels = {OWNER_UID: self.owner["metadata"]["uid"], OWNER_KIND: "FineTuneJob", OWNER_NAME: "o"}
        version = {"Job": "batch/v1", "Service": "v1", "ConfigMap": "v1"}[kind]
        metadata = {"name": name, "namespace": "ns", "labels": labels}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}

    async def apply(self, **decision: Any) -> Any:
        self.client.requests.clear()
        self.client.bodies.clear()
        return await self.writer.apply(self.owner, Decision(**decision))


@pytest.fixture
def world() -> World:
    return World()


async def test_the_status_comes_first_then_events_then_children(world: World) -> None:
    result = await world.apply(
        status={"phase": "Pending"},
        events=(EventSpec("Normal", "Accepted", "Seen"),),
        apply=(world.child("Service", "s", x=1),),
        create=(world.child("Job", "j", y=1),),
    )
    assert result.has_written
    assert world.client.requests == [
        ("PATCH", f"{JOB}/status"),
        ("POST", EVENTS),
        ("POST", SERVICES),
        ("POST", JOBS),
    ]
    assert world.owner["status"] == {"phase": "Pending"}
    assert [job["metadata"]["name"] for job in world.store.owned("Job", world.owner["metadata"]["uid"])] == ["j"]


async def test_nothing_is_written_when_all_is_as_decided(world: World) -> None:
    decision = {
        "status": {"phase": "Pending"},
        "events": (EventSpec("Normal", "Accepted", "Seen"),),
        "apply": (world.child("Service", "s", x=1),),
        "create": (world.child("Job", "j", y=1),),
    }
    await world.apply(**decision)
    result = await world.apply(**decision)
    assert (result.has_written, world.client.requests) == (False, [])


async def test_no_status_leaves_the_status(world: World) -> None:
    await world.apply()
    assert world.client.requests == []


async def test_progress_of_others_is_no_difference_and_is_not_taken_from_them(world: World) -> None:
    world.store.put(world.client.store(JOB, {**world.owner, "status": {"phase": "Training", "progress": {"step": 5}}}))
    await world.apply(status={"phase": "Training"})
    assert world.client.requests == []
    await world.apply(status={"phase": "Succeeded", "progress": {"step": 9}})
    assert [body["status"] for body in world.client.bodies] == [{"progress": {"step": 9}}, {"phase": "Succeeded"}]
    assert world.owner["status"] == {"phase": "Succeeded", "progress": {"step": 9}}


async def test_a_status_is_not_written_over_one_that_was_not_seen(world: World) -> None:
    world.client.store(JOB, {**world.owner, "status": {"phase": "Succeeded"}})  # The store does not know yet.
    with pytest.raises(OutdatedError):
        await world.apply(status={"phase": "Pending"}, create=(world.child("Job", "j"),))
    assert ("POST", JOBS) not in world.client.requests
    assert world.client.objects[JOB]["status"] == {"phase": "Succeeded"}
    assert world.owner["status"] == {"phase": "Succeeded"}


async def test_an_object_that_is_gone_leaves_the_store(world: World) -> None:
    del world.client.objects[JOB]
    with pytest.raises(OutdatedError):
        await world.apply(status={"phase": "Pending"}, create=(world.child("Job", "j"),))
    assert world.store.get("FineTuneJob", "ns", "o") is None


async def test_what_the_server_makes_of_a_status_is_not_written_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = world.client.request

    async def pruning(method: str, path: str, **rest: Any) -> KubeObject:
        rest["body"] = copy.deepcopy(rest.get("body"))
        if rest["body"] and "status" in rest["body"]:
            rest["body"]["status"].pop("unknown", None)
        return await request(method, path, **rest)

    monkeypatch.setattr(world.client, "request", pruning)
    await world.apply(status={"phase": "Pending", "unknown": 1})
    assert len(world.client.requests) == 1
    await world.apply(status={"phase": "Pending", "unknown": 1})
    assert world.client.requests == []
    await world.apply(status={"phase": "Training", "unknown": 1})
    assert len(world.client.requests) == 1


async def test_drift_is_repaired_and_defaults_are_not_drift(world: World) -> None:
    service = world.child("Service", "s", x=1)
    await world.apply(apply=(service,))
    held = world.client.objects[f"{SERVICES}/s"]
    world.store.put(world.client.store(f"{SERVICES}/s", {**held, "spec": {"x": 1, "default": True}}))
    await world.apply(apply=(service,))
    assert world.client.requests == []
    world.store.put(world.client.store(f"{SERVICES}/s", {**held, "spec": {"x": 2}}))
    await world.apply(apply=(service,))
    assert world.client.requests == [("PATCH", f"{SERVICES}/s")]


async def test_a_field_that_is_no_longer_wanted_is_applied_away(world: World) -> None:
    service = world.child("Service", "s", x=1)
    service["metadata"]["ownerReferences"] = [{"uid": world.owner["metadata"]["uid"]}]
    await world.apply(apply=(service,))
    await world.apply(apply=(world.child("Service", "s", x=1),))
    # It is read first, since what it owns by creating it has to count as applied.
    assert world.client.requests == [("GET", f"{SERVICES}/s"), ("PATCH", f"{SERVICES}/s")]


async def test_one_that_is_there_but_was_not_seen_is_repaired(world: World) -> None:
    drifted = world.child("Service", "s", x=2)
    world.client.store(f"{SERVICES}/s", drifted)
    assert (await world.apply(apply=(world.child("Service", "s", x=1),))).has_written
    assert (await world.apply(apply=(world.child("Service", "s", x=1),))).has_written
    assert world.client.objects[f"{SERVICES}/s"]["spec"] == {"x": 1}


async def test_a_value_that_the_server_writes_its_own_way_is_applied_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = world.client.request

    async def normalising(method: str, path: str, **rest: Any) -> KubeObject:
        if method in ("PATCH", "POST"):
            rest["body"] = copy.deepcopy(rest["body"])
            rest["body"]["spec"]["cpu"] = "1"
        return await request(method, path, **rest)

    monkeypatch.setattr(world.client, "request", normalising)
    service = world.child("Service", "s", cpu="1000m")
    await world.apply(apply=(service,))
    await world.apply(apply=(world.child("Service", "s", cpu="1000m"),))
    assert world.client.requests == []
    held = world.client.objects[f"{SERVICES}/s"]
    world.store.put(world.client.store(f"{SERVICES}/s", {**held, "spec": {"cpu": "3"}}))
    await world.apply(apply=(world.child("Service", "s", cpu="1000m"),))
    assert len(world.client.requests) == 1


async def test_a_job_that_is_there_already_is_taken_in_not_made_again(world: World) -> None:
    made = world.client.store(f"{JOBS}/j", world.child("Job", "j", made="before"))
    result = await world.apply(create=(world.child("Job", "j", made="now"),))
    assert result.errors == []
    assert world.client.requests == [("POST", JOBS), ("GET", f"{JOBS}/j")]
    assert world.store.get("Job", "ns", "j")["spec"] == made["spec"] == {"made": "before"}  # type: ignore[index]


@pytest.mark.parametrize("way", ["apply", "create"])
async def test_what_is_somebody_elses_is_left_alone(world: World, way: str) -> None:
    kind, path = ("Service", SERVICES) if way == "apply" else ("Job", JOBS)
    foreign = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x", "namespace": "ns"}, "spec": {"theirs": 1}}
    world.client.store(f"{path}/x", foreign)
    result = await world.apply(**{way: (world.child(kind, "x", ours=1),)})
    assert [(error.ref, error.status) for error in result.errors] == [(ObjectRef(kind, "x"), 409)]
    assert "was not made for this object" in result.errors[0].message
    assert world.client.objects[f"{path}/x"]["spec"] == {"theirs": 1}


async def test_a_refusal_is_told_and_the_other_children_are_made(world: World) -> None:
    world.client.refuse[("POST", JOBS)] = ApiError(403, "Forbidden", "exceeded quota")
    result = await world.apply(create=(world.child("Job", "j"),), apply=(world.child("Service", "s"),))
    assert [(error.ref, error.status, error.message) for error in result.errors] == [
        (ObjectRef("Job", "j"), 403, "exceeded quota")
    ]
    assert f"{SERVICES}/s" in world.client.objects


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (400, "", 'admission webhook "x" denied the request: no'),
        (422, "Invalid", "Job j is invalid: : ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
        (403, "Forbidden", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
    ],
)
async def test_what_a_policy_denies_is_forbidden_and_not_wrong(
    world: World, status: int, reason: str, message: str
) -> None:
    """So it is waited for: the policy may change, and the object is right."""
    world.client.refuse[("POST", JOBS)] = ApiError(status, reason, message)
    result = await world.apply(create=(world.child("Job", "j"),))
    assert [(error.status, error.reason, error.message) for error in result.errors] == [(403, "Forbidden", message)]


async def test_what_needs_a_refused_child_is_not_made(world: World) -> None:
    """A Job without its volume claim or its Service would fail for good; both are tried again together."""
    world.client.refuse[("POST", SERVICES)] = ApiError(403, "Forbidden", "exceeded quota")
    result = await world.apply(create=(world.child("Job", "j"),), apply=(world.child("Service", "s"),))
    assert [error.ref for error in result.errors] == [ObjectRef("Service", "s")]
    assert f"{JOBS}/j" not in world.client.objects


async def test_what_is_transient_is_no_refusal(world: World) -> None:
    world.client.refuse[("POST", JOBS)] = ApiError(503, "", "later")
    with pytest.raises(ApiError):
        await world.apply(create=(world.child("Job", "j"),))


async def test_an_object_that_is_being_deleted_gets_no_new_children(world: World) -> None:
    going = {**world.owner, "metadata": {**world.owner["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    world.store.put(world.client.store(JOB, going))
    await world.apply(apply=(world.child("Service", "s"),), create=(world.child("Job", "j"),))
    assert world.client.requests == []


async def test_deletion_of_what_is_there_with_its_uid(world: World) -> None:
    await world.apply(create=(world.child("Job", "j"),))
    uid = world.client.objects[f"{JOBS}/j"]["metadata"]["uid"]
    await world.apply(delete=(ObjectRef("Job", "j"), ObjectRef("Job", "absent")))
    assert world.client.requests == [("DELETE", f"{JOBS}/j")]
    assert world.client.bodies[0]["preconditions"] == {"uid": uid}
    assert world.client.bodies[0]["propagationPolicy"] == "Background"
    assert world.store.get("Job", "ns", "j") is None


async def test_the_object_itself_may_be_deleted_at_its_end(world: World) -> None:
    await world.apply(delete=(ObjectRef("FineTuneJob", "o"),))
    assert world.client.requests == [("DELETE", JOB)]


async def test_the_digest_is_on_what_is_kept_only(world: World) -> None:
    await world.apply(apply=(world.child("Service", "s"),), create=(world.child("Job", "j"),))
    assert APPLIED in world.client.objects[f"{SERVICES}/s"]["metadata"]["annotations"]
    assert "annotations" not in world.client.objects[f"{JOBS}/j"]["metadata"]


async def test_what_is_not_watched_is_read_before_it_is_written(world: World) -> None:
    decision = {"apply": (world.child("ConfigMap", "c", x=1),)}
    await world.apply(**decision)
    assert world.client.requests == [("GET", f"{CONFIG_MAPS}/c"), ("POST", CONFIG_MAPS)]
    assert world.store.get("ConfigMap", "ns", "c") is None, "nothing would tell when it changes"
    assert not (await world.apply(**decision)).has_written
    assert world.client.requests == [("GET", f"{CONFIG_MAPS}/c")]
    del world.client.objects[f"{CONFIG_MAPS}/c"]
    assert (await world.apply(**decision)).has_written
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d", "namespace": "ns"}}
    world.client.store(f"{CONFIG_MAPS}/d", theirs)
    result = await world.apply(apply=(world.child("ConfigMap", "d", x=1),))
    assert [error.reason for error in result.errors] == ["AlreadyExists"]


async def test_a_child_is_annotated_once_and_not_after_a_refusal(world: World) -> None:
    await world.apply(create=(world.child("Job", "j", y=1),))
    note = Annotation(ObjectRef("Job", "j"), "list", "1")
    config_map = world.child("ConfigMap", "c", x=1)
    world.client.refuse["POST", CONFIG_MAPS] = ApiError(403, "Forbidden", "no")
    await world.apply(apply=(config_map,), annotate=(note,))
    assert ("PATCH", f"{JOBS}/j") not in world.client.requests, "it would be told of a list that is not there"
    world.client.refuse.clear()
    result = await world.apply(apply=(config_map,), annotate=(note, Annotation(ObjectRef("Job", "gone"), "list", "1")))
    assert result.has_written
    assert world.client.requests[-1] == ("PATCH", f"{JOBS}/j")
    assert world.client.bodies[-1]["metadata"]["annotations"] == {"list": "1"}
