"""What the operator does with a job, in every state that it can be in."""

import copy

import pytest

from support.job_facts import RESULT, SETTINGS, TRAINED, UID, World, later, scheduled
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import ApplyError, Decision, ObjectRef
from tunesmith_operator.finetunejob.decide import decide

PREPARE, TRAIN, PUBLISH = "tiny-prepare-1", "tiny-train-1", "tiny-publish-1"
WORKING, DONE, STALLED = ("Unknown", "True", "False"), ("True", "False", "False"), ("False", "False", "True")
PHASES = ["Pending", "Preparing", "Training", "Publishing", "Succeeded"]


@pytest.fixture
def make():
    return lambda **spec: World(spec)


def settle(world: World, limit: int = 8) -> Decision:
    """Decide until nothing changes any more, and return the last decision."""
    phases = [world.status.get("phase", "Pending")]
    for _ in range(limit):
        decision = decide(world.observed(), SETTINGS)
        assert decide(world.observed(), SETTINGS) == decision  # the same facts, the same decision
        changed = world.take(decision)
        phases.append(world.status["phase"])
        if not changed:
            assert decision.events == ()
            order = [PHASES.index(phase) for phase in phases if phase != "Failed"]
            assert order == sorted(order), phases
            assert_contract(world)
            return decision
    raise AssertionError(f"never at rest: {world.status}")


def assert_contract(world: World) -> None:
    """The GitOps contract: what may stand beside what."""
    status = world.status
    assert status["observedGeneration"] == world.job["metadata"]["generation"]
    assert all(item["observedGeneration"] == status["observedGeneration"] for item in status["conditions"])
    values = tuple(world.condition(kind)["status"] for kind in ("Ready", "Reconciling", "Stalled"))
    assert values == {"Succeeded": DONE, "Failed": STALLED}.get(status["phase"], WORKING)
    assert world.message


def begin(make, stage: Stage = Stage.PREPARE, **spec) -> World:
    """A world whose job is in a stage, the pod of which runs."""
    world = make(**spec)
    settle(world)
    for earlier, job, result in ((Stage.PREPARE, PREPARE, {}), (Stage.TRAIN, TRAIN, TRAINED)):
        if list(Stage).index(earlier) < list(Stage).index(stage):
            world.complete(job, result)
            settle(world)
    world.running(f"tiny-{stage.value}-1")
    settle(world)
    return world


def test_the_first_thing_said_is_that_the_job_was_seen(make):
    world = make()
    decision = decide(world.observed(), SETTINGS)
    assert decision.status["phase"] == "Pending"
    assert decision.status["observedGeneration"] == 1
    assert {item["status"] for item in decision.status["conditions"] if item["type"] == "Ready"} == {"Unknown"}
    assert [child["kind"] for child in (*decision.apply, *decision.create)] == ["PersistentVolumeClaim", "Job"]
    assert decision.events == ()


def test_a_job_from_its_first_stage_to_its_last(make):
    world = make()
    settle(world)
    assert (world.status["phase"], world.status["attempts"]) == ("Preparing", {"prepare": 1})
    world.complete(PREPARE)
    settle(world)
    assert (world.status["phase"], world.status["attempts"]) == ("Training", {"prepare": 1, "train": 1})
    world.complete(TRAIN, TRAINED)
    settle(world)
    assert world.status["phase"] == "Publishing"
    assert world.status["resolved"]["totalSteps"]["value"] == 12
    assert world.status["resolved"]["storage.claimName"]["value"] == "tiny-work"
    world.complete(PUBLISH, RESULT)
    settle(world)
    status = world.status
    assert (status["phase"], world.reason) == ("Succeeded", "Completed")
    assert status["artifact"] == {"uri": f"pvc://tiny-work/tiny-{UID[:8]}/artifact", "digest": "sha256:ab"}
    assert status["metrics"] == {"before": {"evalLoss": 7.0}, "after": {"evalLoss": 0.5}}
    assert status["progress"] == TRAINED["progress"]
    assert sorted(world.jobs) == [PREPARE, PUBLISH, TRAIN]


def test_the_volume_of_a_completed_job_is_let_go_of(make):
    world = begin(make, Stage.PUBLISH)
    assert world.claims["tiny-work"]["metadata"]["ownerReferences"][0]["uid"] == UID
    world.complete(PUBLISH, RESULT)
    settle(world)
    assert "ownerReferences" not in world.claims["tiny-work"]["metadata"]


def test_its_end_is_told_only_when_its_volume_does_not_go_with_it_any_more(make):
    world = begin(make, Stage.PUBLISH)
    world.complete(PUBLISH, RESULT)
    decision = decide(world.observed(), SETTINGS)
    (released,) = decision.apply
    assert "ownerReferences" not in released["metadata"]
    assert (decision.status["phase"], "artifact" in decision.status) == ("Publishing", False)
    world.errors = (ApplyError(ObjectRef("PersistentVolumeClaim", "tiny-work"), 403, "Forbidden", "no right to patch"),)
    refused = decide(world.observed(), SETTINGS)
    assert (refused.status["phase"], refused.apply) == ("Publishing", decision.apply)
    assert "no right to patch" in refused.status["conditions"][0]["message"]
    world.errors = ()
    world.take(decision)
    assert decide(world.observed(), SETTINGS).status["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("spec", "uri"), [({"output": {"retain": False}}, None), ({"output": {"uri": "s3://b/a"}}, "s3://b/a")]
)
def test_the_volume_goes_with_the_job_where_nothing_on_it_is_to_stay(make, spec, uri):
    world = begin(make, Stage.PUBLISH, **spec)
    result = {**RESULT, "artifact": {"uri": uri, "digest": "sha256:ab"}} if uri else RESULT
    world.complete(PUBLISH, result)
    settle(world)
    assert world.claims["tiny-work"]["metadata"]["ownerReferences"]
    assert world.status["artifact"]["uri"] == uri or uri is None


def test_a_given_claim_is_used_and_not_touched(make):
    world = make(storage={"claimName": "shared"}, output={"uri": "./artifacts/a"})
    world.given_claim = {"metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    settle(world)
    assert world.claims == {}
    volumes = world.jobs[PREPARE]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["persistentVolumeClaim"] == {"claimName": "shared"}
    world.complete(PREPARE)
    settle(world)
    world.complete(TRAIN)
    settle(world)
    world.complete(PUBLISH, {"artifact": {"uri": "/work/artifacts/a", "digest": "sha256:ab"}})
    settle(world)
    assert world.status["artifact"]["uri"] == "pvc://shared/artifacts/a"


def test_the_base_of_an_adapter_is_named_as_pods_reach_it(make):
    base = {"uri": "/work/bases/b", "digest": "sha256:cd"}
    world = make(storage={"claimName": "shared"}, output={"uri": "./artifacts/a"})
    world.given_claim = {"metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteMany"]}}
    settle(world)
    for job in (PREPARE, TRAIN):
        world.complete(job)
        settle(world)
    world.complete(PUBLISH, {"artifact": {"uri": "/work/artifacts/a", "digest": "sha256:ab", "base": base}})
    settle(world)
    assert world.status["artifact"]["base"] == {"uri": "pvc://shared/bases/b", "digest": "sha256:cd"}


@pytest.mark.parametrize("nodes", [1, 2])
def test_work_in_an_object_store_needs_no_volume(make, nodes):
    world = make(storage={"uri": "s3://bucket/work"}, resources={"nodes": nodes})
    settle(world)
    assert list(world.jobs) == [PREPARE]
    assert "storage.claimName" not in world.status["resolved"]
    folder = f"s3://bucket/work/tiny-{UID[:8]}"
    assert world.status["resolved"]["output.uri"]["value"] == f"{folder}/artifact"
    world.complete(PREPARE)
    settle(world)
    world.complete(TRAIN, TRAINED)
    settle(world)
    world.complete(PUBLISH, {"artifact": {"uri": f"{folder}/artifact", "digest": "sha256:ab"}})
    settle(world)
    assert (world.status["phase"], world.claims) == ("Succeeded", {})
    assert world.status["artifact"] == {"uri": f"{folder}/artifact", "digest": "sha256:ab"}


@pytest.mark.parametrize("stage", list(Stage))
def test_a_job_is_suspended_and_goes_on(make, stage):
    world = begin(make, stage)
    phase = world.status["phase"]
    world.change_spec(suspend=True)
    decision = decide(world.observed(), SETTINGS)
    assert decision.delete == (ObjectRef("Job", f"tiny-{stage.value}-1"),)
    settle(world)
    assert (world.status["phase"], world.reason) == (phase, "Suspended")
    assert f"tiny-{stage.value}-1" not in world.jobs
    # Told to go on before its pods have ended, it waits for them: two of them would write the same files.
    world.change_spec(suspend=False)
    settle(world)
    assert world.reason == "PodsEnding"
    world.remove_pods()
    settle(world)
    assert f"tiny-{stage.value}-2" in world.jobs
    assert world.status["attempts"][stage.value] == 2
    assert world.reason == phase


def test_suspending_uses_no_restart_up(make):
    world = begin(make, Stage.TRAIN, scheduling={"maxRestarts": 1})
    for attempt in (1, 2, 3):
        world.change_spec(suspend=True)
        settle(world)
        world.remove_pods()
        world.change_spec(suspend=False)
        settle(world)
        assert f"tiny-train-{attempt + 1}" in world.jobs
    for attempt, reason in ((4, "Training"), (5, "Interrupted")):
        world.ended(f"tiny-train-{attempt}", 137, reason="Error")
        world.fail(f"tiny-train-{attempt}")
        settle(world)
        assert world.reason == reason, attempt
    assert "given up after 2 attempts" in world.message


def test_a_job_that_is_created_suspended_makes_nothing(make):
    world = make(suspend=True)
    settle(world)
    assert (world.status["phase"], world.reason) == ("Pending", "Suspended")
    assert (world.jobs, world.claims) == ({}, {})
    world.change_spec(suspend=False)
    settle(world)
    assert list(world.jobs) == [PREPARE]


def test_suspending_between_two_stages_starts_no_other(make):
    world = begin(make)
    world.complete(PREPARE)
    world.pods.popitem()
    world.change_spec(suspend=True)
    world.remove_pods()
    world.pods.clear()
    settle(world)
    assert list(world.jobs) == [PREPARE]
    assert world.reason == "Suspended"


def test_a_queue_admits_each_stage(make):
    world = make(scheduling={"queueName": "gold"})
    settle(world)
    job = world.jobs[PREPARE]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gold"
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]
    assert (world.reason, "gold" in world.message) == ("Queued", True)
    job["spec"]["suspend"] = False  # Kueue
    settle(world)
    assert world.reason == "Preparing"
    job["spec"]["suspend"] = True  # preempted
    decision = settle(world)
    assert (world.reason, decision.delete) == ("Queued", ())
    assert (world.status["phase"], world.status["attempts"]) == ("Preparing", {"prepare": 1})


def test_somebody_else_suspends_a_stage(make):
    world = begin(make)
    world.jobs[PREPARE]["spec"]["suspend"] = True
    settle(world)
    assert (world.reason, PREPARE in world.message) == ("Suspended", True)


def test_the_deadline_ends_a_job(make):
    world = begin(make, Stage.TRAIN, scheduling={"activeDeadlineSeconds": 100})
    decision = settle(world)
    assert decision.requeue_after == pytest.approx(100)
    world.pass_time(101)
    decision = decide(world.observed(), SETTINGS)
    assert decision.delete == (ObjectRef("Job", TRAIN),)
    settle(world)
    assert (world.status["phase"], world.reason) == ("Failed", "DeadlineExceeded")
    assert "activeDeadlineSeconds" in world.message


def test_what_was_published_in_time_is_not_late(make):
    """The operator was away at the deadline."""
    world = begin(make, Stage.PUBLISH, scheduling={"activeDeadlineSeconds": 100})
    world.complete(PUBLISH, RESULT)
    world.pass_time(101)
    settle(world)
    assert (world.status["phase"], world.reason) == ("Succeeded", "Completed")


def test_time_that_a_job_is_suspended_does_not_count(make):
    world = begin(make, scheduling={"activeDeadlineSeconds": 100})
    world.pass_time(60)
    world.change_spec(suspend=True)
    assert settle(world).requeue_after is None
    world.remove_pods()
    world.pass_time(1000)
    settle(world)
    assert world.reason == "Suspended"
    world.change_spec(suspend=False)
    settle(world)
    assert world.reason == "Preparing"
    assert (world.status["pausedSeconds"], "pausedSince" in world.status) == (1000, False)
    assert world.jobs["tiny-prepare-2"]["spec"]["activeDeadlineSeconds"] == 40
    world.pass_time(41)
    settle(world)
    assert world.reason == "DeadlineExceeded"


def test_time_in_a_queue_does_not_count(make):
    world = make(scheduling={"activeDeadlineSeconds": 100, "queueName": "gold"})
    settle(world)
    world.pass_time(500)
    settle(world)
    assert world.reason == "Queued"
    world.jobs[PREPARE]["spec"]["suspend"] = False
    settle(world)
    assert (world.reason, world.status["pausedSeconds"]) == ("Preparing", 500)


def test_the_jobs_own_deadline_is_the_same_failure(make):
    world = begin(make, scheduling={"activeDeadlineSeconds": 100})
    world.fail(PREPARE, "DeadlineExceeded")
    settle(world)
    assert (world.status["phase"], world.reason) == ("Failed", "DeadlineExceeded")


def test_a_job_that_has_ended_is_deleted_in_its_time(make):
    world = begin(make, Stage.PUBLISH, ttlSecondsAfterFinished=60)
    world.complete(PUBLISH, RESULT)
    assert settle(world).requeue_after == pytest.approx(60)
    world.pass_time(61)
    settle(world)
    assert world.deleted
    assert "ownerReferences" not in world.claims["tiny-work"]["metadata"]


def test_the_volume_is_let_go_of_before_the_job_is_deleted(make):
    world = begin(make, Stage.PUBLISH, ttlSecondsAfterFinished=0)
    world.complete(PUBLISH, RESULT)
    decision = decide(world.observed(), SETTINGS)
    assert decision.delete == ()
    assert "ownerReferences" not in decision.apply[0]["metadata"]


def test_the_time_to_live_can_be_changed_at_the_end(make):
    world = begin(make, Stage.PUBLISH)
    world.complete(PUBLISH, RESULT)
    assert settle(world).requeue_after is None
    world.change_spec(ttlSecondsAfterFinished=10)
    assert settle(world).requeue_after == pytest.approx(10)
    assert (world.status["phase"], world.status["observedGeneration"]) == ("Succeeded", 2)


def test_nothing_is_done_for_a_job_that_is_being_deleted(make):
    world = begin(make, Stage.TRAIN)
    world.job["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert decide(world.observed(), SETTINGS) == Decision()


@pytest.mark.parametrize("stage", list(Stage))
def test_a_stages_job_that_somebody_deletes_is_made_anew(make, stage):
    world = begin(make, stage)
    del world.jobs[f"tiny-{stage.value}-1"]
    world.pods.clear()
    settle(world)
    assert f"tiny-{stage.value}-2" in world.jobs


def test_an_earlier_stages_job_that_is_gone_is_not_run_again(make):
    world = begin(make, Stage.TRAIN)
    del world.jobs[PREPARE]
    settle(world)
    assert list(world.jobs) == [TRAIN]


def test_an_operator_that_was_away_goes_on_from_what_is_there(make):
    """Whatever was written last, the same facts lead on: no attempt is made twice, none is skipped."""
    world = make()
    decision = decide(world.observed(), SETTINGS)
    # Killed between the status and the children.
    world.take(Decision(status=decision.status))
    settle(world)
    assert list(world.jobs) == [PREPARE]
    # Killed between the Job and the status that tells of it.
    world.job["status"] = {"observedGeneration": -1}
    settle(world)
    assert (list(world.jobs), world.status["attempts"]) == ([PREPARE], {"prepare": 1})
    # A whole stage has passed meanwhile.
    world.complete(PREPARE)
    world.job["status"] = {"observedGeneration": -1}
    settle(world)
    assert (world.status["phase"], world.status["attempts"]) == ("Training", {"prepare": 1, "train": 1})


def test_publish_is_run_again_when_its_words_are_lost(make):
    world = begin(make, Stage.PUBLISH)
    world.complete(PUBLISH, RESULT)
    world.pods.clear()
    settle(world)
    world.complete("tiny-publish-2", RESULT)
    settle(world)
    assert (world.status["phase"], world.status["attempts"]["publish"]) == ("Succeeded", 2)


def test_publish_that_never_says_a_word_is_given_up(make):
    world = begin(make, Stage.PUBLISH, scheduling={"maxRestarts": 1})
    for attempt in (1, 2, 3):
        world.pods.clear()
        world.complete(f"tiny-publish-{attempt}")
        settle(world)
    assert (world.status["phase"], world.reason) == ("Failed", "InternalError")


def test_a_job_that_has_ended_stays_so(make):
    world = begin(make, Stage.PUBLISH)
    world.complete(PUBLISH, RESULT)
    settle(world)
    before = copy.deepcopy(world.status)
    world.jobs.clear()
    world.pods.clear()
    world.change_spec(suspend=True)
    settle(world)
    assert world.jobs == {}
    assert {key: world.status[key] for key in ("phase", "artifact", "completionTime")} == {
        key: before[key] for key in ("phase", "artifact", "completionTime")
    }


def test_a_lost_volume_is_said_so(make):
    world = begin(make, Stage.TRAIN)
    world.claims.clear()
    settle(world)
    assert (world.status["phase"], world.reason) == ("Failed", "VolumeLost")


def test_a_claim_that_is_not_there_yet_is_waited_for(make):
    world = make(storage={"claimName": "shared"})
    decision = settle(world)
    assert (world.reason, world.jobs) == ("MissingReference", {})
    assert decision.requeue_after
    world.given_claim = {"metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    settle(world)
    assert (world.reason, list(world.jobs)) == ("Preparing", [PREPARE])


def test_a_claim_of_one_node_does_not_do_for_two(make):
    world = make(storage={"claimName": "shared"}, resources={"nodes": 2})
    world.given_claim = {"metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    settle(world)
    assert (world.status["phase"], world.reason, world.jobs) == ("Failed", "InvalidSpec", {})
    assert "ReadWriteMany" in world.message


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": "./model"}},
        {"dataset": {"sources": [{"uri": "rows.jsonl"}]}},
        {
            "dataset": {
                "sources": [{"uri": "s3://b/x.jsonl"}],
                "validation": {"sources": [{"uri": "../rows.jsonl"}]},
            }
        },
        {"model": {"uri": "./model"}, "storage": {"uri": "s3://bucket/work"}},
    ],
)
def test_files_of_this_machine_are_not_in_a_cluster(make, spec):
    world = make(**spec)
    settle(world)
    assert (world.status["phase"], world.reason, world.jobs) == ("Failed", "InvalidSpec", {})
    assert "storage: {claimName: NAME}" in world.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ApplyError(ObjectRef("Job", PREPARE), 403, "Forbidden", 'jobs "a" is forbidden: exceeded quota: q'),
            "QuotaExceeded",
        ),
        (ApplyError(ObjectRef("Job", PREPARE), 403, "Forbidden", "jobs is forbidden: User x cannot"), "Forbidden"),
        (ApplyError(ObjectRef("Job", PREPARE), 409, "AlreadyExists", "Job x exists and was not made for"), "NameTaken"),
        (ApplyError(ObjectRef("Job", PREPARE), 404, "NotFound", "namespaces team not found"), "ApiError"),
    ],
)
def test_what_the_api_server_refuses_is_waited_for(make, error, reason):
    world = make()
    world.take(Decision(status=decide(world.observed(), SETTINGS).status))
    world.errors = (error,)
    decision = decide(world.observed(), SETTINGS)
    assert [child["kind"] for child in decision.create] == ["Job"]  # tried again
    world.job["status"] = decision.status
    assert (world.status["phase"], world.reason) == ("Pending", reason)
    assert_contract(world)
    world.errors = ()
    settle(world)
    assert world.reason == "Preparing"


def test_what_the_api_server_calls_invalid_is_final(make):
    world = make()
    world.errors = (ApplyError(ObjectRef("Job", PREPARE), 422, "Invalid", "spec.template.spec.tolerations: no"),)
    settle(world)
    assert (world.status["phase"], world.reason) == ("Failed", "InvalidSpec")
    assert "tolerations" in world.message


def test_events_tell_of_changes_once(make):
    world = begin(make)
    world.pods.clear()
    world.pod(PREPARE, **scheduled("False", "Unschedulable", "0/3 nodes are available"))
    decision = decide(world.observed(), SETTINGS)
    assert [(note.type, note.reason) for note in decision.events] == [("Warning", "Unschedulable")]
    world.take(decision)
    assert decide(later(world.observed(), 5), SETTINGS).events == ()


def test_two_nodes_find_each_other_through_a_service(make):
    world = make(resources={"nodes": 2}, storage={"accessMode": "ReadWriteMany"})
    settle(world)
    assert world.services == {}
    world.complete(PREPARE)
    settle(world)
    service = world.services["tiny-train"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    labels = world.jobs[TRAIN]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    pod = world.jobs[TRAIN]["spec"]["template"]["spec"]
    assert pod["subdomain"] == "tiny-train"
    assert pod["containers"][0]["args"][-6:] == [
        *("--nnodes", "2", "--node-rank", "$(JOB_COMPLETION_INDEX)", "--master-addr", "tiny-train-1-0.tiny-train")
    ]
