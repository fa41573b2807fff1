"""Why jobs fail and what they wait for: by what pods, Jobs and events say, in the words of Kubernetes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from support.job_facts import SETTINGS, World, container, scheduled, stamp
from tunesmith_operator.engine.reconciler import ObjectRef
from tunesmith_operator.finetunejob.decide import decide
from tunesmith_operator.finetunejob.failures import Failure, lacks_peers
from tunesmith_operator.finetunejob.pending import LOST_SECONDS, QUIET_SECONDS, look_again, needs_events

JOB = "tiny-prepare-1"
EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}


def outcome(reason: str, message: str, remedy: str = "") -> dict:
    return {"reason": reason, "message": message, "remedy": remedy, "result": {}}


def after(world: World) -> World:
    for _ in range(4):
        world.take(decide(world.observed(), SETTINGS))
    return world


@pytest.fixture
def world():
    return after(World())


@pytest.mark.parametrize(
    ("code", "said", "reason", "message"),
    [
        (10, outcome("InvalidSpec", "a is 3", "Write 4"), "InvalidSpec", "a is 3. Write 4"),
        (11, outcome("InvalidDataset", "rows.jsonl:3: no prompt.", "Add it"), "InvalidDataset", "no prompt. Add it"),
        (12, outcome("ModelNotFound", "hf://a/b: no such model"), "ModelNotFound", "hf://a/b: no such model"),
        (13, outcome("InvalidModel", "no safetensors"), "InvalidModel", "no safetensors"),
        (14, outcome("OutOfMemory", "out of memory: GPU 0", "Set zero3"), "OutOfMemory", "GPU 0. Set zero3"),
        (15, outcome("TrainingDiverged", "the loss is nan"), "TrainingDiverged", "nan"),
        (16, outcome("GateFailed", "exactMatch is 0.5"), "GateFailed", "0.5"),
        (17, outcome("ExportFailed", "parity"), "ExportFailed", "parity"),
        (11, "Traceback: something", "InvalidDataset", "Traceback: something"),
        (11, "", "InvalidDataset", "exit code 11"),
    ],
)
def test_what_a_stage_says_is_final(world, code, said, reason, message):
    world.ended(JOB, code, words=said)
    world.fail(JOB)
    after(world)
    assert (world.status["phase"], world.reason) == ("Failed", reason)
    assert message in world.message


def test_running_out_of_memory_says_what_to_do(world):
    world.ended(JOB, 137, reason="OOMKilled")
    world.fail(
        JOB, message="Container trainer for pod team/x failed with exit code 137 matching FailJob rule at index 2"
    )
    after(world)
    assert (world.status["phase"], world.reason) == ("Failed", "OutOfMemory")
    assert "stages.prepare.memory" in world.message
    assert list(world.jobs) == [JOB]


def test_a_pod_that_ends_its_job_is_not_said_to_be_replaced(world):
    world.ended(JOB, 137, reason="OOMKilled")
    after(world)
    assert (world.status["phase"], world.message) == ("Preparing", "The prepare stage is running")


def killed(world: World, attempt: int) -> None:
    world.ended(f"tiny-train-{attempt}", 137, reason="OOMKilled")
    world.fail(f"tiny-train-{attempt}")
    after(world)


def test_training_that_was_killed_for_its_memory_goes_on_with_less_as_often_as_it_can():
    world = after(World({"training": {"microBatchSize": 4}, "scheduling": {"maxRestarts": 9}}))
    world.complete(JOB)
    after(world)
    for attempt in (1, 2, 3, 4):
        job = world.jobs[f"tiny-train-{attempt}"]
        (trainer,) = job["spec"]["template"]["spec"]["containers"]
        said = [item["value"] for item in trainer["env"] if item["name"] == "TUNESMITH_KILLED_FOR_MEMORY"]
        assert said == ([str(attempt - 1)] if attempt > 1 else [])
        assert world.status["phase"] == "Training"
        killed(world, attempt)  # 4 rows, 2 rows, 1 row, and activations recomputed
    assert (world.status["phase"], world.reason) == ("Failed", "OutOfMemory")
    assert len(world.jobs) == 5


def test_restarts_that_were_not_allowed_are_not_made_for_memory_either():
    world = after(World({"scheduling": {"maxRestarts": 0}}))
    world.complete(JOB)
    after(world)
    killed(world, 1)
    assert (world.status["phase"], world.reason) == ("Failed", "OutOfMemory")


def test_what_training_changed_for_its_memory_is_in_the_message_and_an_event():
    world = after(World())
    world.complete(JOB)
    after(world)
    world.running("tiny-train-1")
    after(world)
    changed = "microBatchSize 4, halved from 8 after out of memory at step 12"
    world.status["progress"] = {"stage": "train", "step": 11, "adjusted": changed}
    decision = decide(world.observed(), SETTINGS)
    assert [(event.type, event.reason) for event in decision.events] == [("Warning", "MemoryLowered")]
    assert changed in decision.events[0].message
    world.take(decision)
    assert world.message == f"The train stage is running; {changed}"
    assert decide(world.observed(), SETTINGS).events == ()


def test_out_of_memory_in_training_names_the_ways_out():
    spec = {"resources": {"memory": "1Gi"}, "training": {"maxLength": 512}, "scheduling": {"maxRestarts": 0}}
    world = after(World(spec))
    world.complete(JOB)
    after(world)
    world.ended("tiny-train-1", 137, reason="OOMKilled")
    world.fail("tiny-train-1")
    after(world)
    for words in ("1Gi", "raise resources.memory", "microBatchSize: 1", "gradientCheckpointing", "now 512"):
        assert words.casefold() in world.message.casefold()


def test_out_of_memory_does_not_advise_what_the_plan_already_does():
    world = after(World())
    world.complete(JOB)
    after(world)
    world.status["plan"] = {"microBatchSize": 1, "gradientCheckpointing": True, "processes": 1}
    world.ended("tiny-train-1", 137, reason="OOMKilled")
    world.fail("tiny-train-1")
    after(world)
    assert "maxLength" in world.message
    assert "microBatchSize" not in world.message
    assert "gradientCheckpointing" not in world.message


def test_a_killed_container_is_started_again_as_often_as_restarts_are_allowed():
    world = after(World({"scheduling": {"maxRestarts": 2}}))
    for attempt in (1, 2, 3):
        job = f"tiny-prepare-{attempt}"
        assert world.status["attempts"] == {"prepare": attempt}
        world.ended(job, 137, reason="Error")
        world.fail(job)
        after(world)
    assert len(world.jobs) == 3
    assert (world.status["phase"], world.reason) == ("Failed", "Interrupted")
    assert "maxRestarts" in world.message


def test_restarts_that_are_used_up_end_with_the_last_reason(world):
    for _ in range(4):
        world.ended(JOB, 65, words=outcome("SourceUnavailable", "s3://b/x: cannot read now", "Check the network"))
        world.pass_time(10)
    world.fail(JOB, "BackoffLimitExceeded")
    after(world)
    assert (world.status["phase"], world.reason) == ("Failed", "SourceUnavailable")
    assert (
        world.message
        == "s3://b/x: cannot read now. Check the network; given up after 3 restarts (scheduling.maxRestarts)"
    )


def test_the_machine_that_failed_is_blamed_and_not_the_one_that_it_left_alone():
    world = after(World({"resources": {"nodes": 2}, "storage": {"accessMode": "ReadWriteMany"}}))
    world.complete(JOB)
    after(world)
    world.ended("tiny-train-1", 15, words=outcome("TrainingDiverged", "the loss of step 3 is nan"))
    world.pass_time(1)
    world.ended("tiny-train-1", 67, words=outcome("PeerLost", "another machine is gone"))
    world.fail("tiny-train-1")
    after(world)
    assert world.reason == "TrainingDiverged"


def test_pods_that_are_gone_leave_what_the_job_says(world):
    world.fail(
        JOB, message="Container trainer for pod team/x failed with exit code 12 matching FailJob rule at index 2"
    )
    after(world)
    assert (world.status["phase"], world.reason) == ("Failed", "ModelNotFound")
    assert "exit code 12" in world.message


def test_an_unknown_end_shows_where_to_look(world):
    world.ended(JOB, 1)
    world.fail(JOB, "BackoffLimitExceeded")
    after(world)
    assert world.reason == "InternalError"
    assert "kubectl logs tiny-prepare-1-0" in world.message


def test_an_eviction_is_no_failure_and_is_told(world):
    world.ended(JOB, 66, words=outcome("Interrupted", "told to stop"), conditions=[EVICTED])
    world.running(JOB)
    after(world)
    assert (world.status["phase"], world.reason) == ("Preparing", "Preparing")
    assert world.message.endswith("1 pod had to be replaced, the last one because of EvictionByEvictionAPI")
    assert world.status["attempts"] == {"prepare": 1}


def test_a_pod_that_was_evicted_before_it_ran_counts_too(world):
    world.pod(JOB, phase="Failed", reason="Evicted", message="The node was low on resource", conditions=[EVICTED])
    world.running(JOB)
    after(world)
    assert "EvictionByEvictionAPI" in world.message


UNSCHEDULABLE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (scheduled("False", "Unschedulable", UNSCHEDULABLE), "Unschedulable", "3 Insufficient nvidia.com/gpu"),
        (
            scheduled("False", "Unschedulable", 'persistentvolumeclaim "shared" not found'),
            "MissingReference",
            "PersistentVolumeClaim shared",
        ),
        (scheduled("False", "SchedulingGated", "Scheduling is blocked"), "SchedulingGated", "blocked"),
        *(
            (
                {**scheduled(), **container({"waiting": {"reason": reason, "message": words}})},
                expected,
                shown,
            )
            for reason, words, expected, shown in [
                ("ErrImagePull", "pull access denied", "ImagePullFailed", "pull access denied"),
                ("ImagePullBackOff", 'Back-off pulling image "x"', "ImagePullFailed", "tunesmith-trainer:0.1.0"),
                ("ErrImageNeverPull", "not present", "ImagePullFailed", "imagePullSecrets"),
                ("CreateContainerConfigError", 'secret "hub" not found', "MissingReference", "Secret hub"),
                ("CreateContainerConfigError", 'configmap "x" not found', "MissingReference", "ConfigMap x"),
                (
                    "CreateContainerConfigError",
                    "couldn't find key token in Secret team/hub",
                    "MissingReference",
                    "Secret hub has no key token",
                ),
                ("CreateContainerError", "no such device", "ContainerNotStarted", "no such device"),
            ]
        ),
    ],
)
def test_what_can_pass_is_waited_for(world, status, reason, words):
    world.pod(JOB, **status)
    after(world)
    assert (world.status["phase"], world.reason) == ("Preparing", reason)
    assert words in world.message
    world.pods.clear()
    world.running(JOB)
    after(world)
    assert world.reason == "Preparing"


@pytest.mark.parametrize(
    ("note", "reason", "words"),
    [
        ('MountVolume.SetUp failed for volume "config-map-0" : configmap "rows" not found', "MissingReference", "rows"),
        ("AttachVolume.Attach failed: disk is in use", "VolumeNotMounted", "disk is in use"),
    ],
)
def test_events_tell_why_a_pod_gets_no_container(world, note, reason, words):
    pod = world.pod(JOB, **scheduled(), **container({"waiting": {"reason": "ContainerCreating"}}))
    name = pod["metadata"]["name"]
    assert needs_events(world.observed(), world.jobs[JOB], world.now) == []
    assert look_again(world.observed(), world.jobs[JOB], world.now) == pytest.approx(QUIET_SECONDS)
    world.pass_time(QUIET_SECONDS)
    assert needs_events(world.observed(), world.jobs[JOB], world.now) == [("Pod", name)]
    world.events = {name: [{"type": "Warning", "reason": "FailedMount", "note": note}]}
    after(world)
    assert (world.reason, words in world.message) == (reason, True)


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ('Error creating: pods "x" is forbidden: exceeded quota: q, requested: pods=1', "QuotaExceeded"),
        ('Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"', "PodForbidden"),
    ],
)
def test_events_tell_why_a_job_gets_no_pod(world, note, reason):
    world.pass_time(QUIET_SECONDS)
    assert needs_events(world.observed(), world.jobs[JOB], world.now) == [("Job", JOB)]
    world.events = {JOB: [{"type": "Warning", "reason": "FailedCreate", "note": note}]}
    after(world)
    assert (world.reason, note[:30] in world.message) == (reason, True)


@pytest.mark.parametrize(("since", "reason"), [(0, "QuotaExceeded"), (-5, "Training")])
def test_events_tell_why_a_job_of_several_nodes_gets_no_further_pod(since, reason):
    """What was refused before the newest pod was made is over: the pod that is lacking now is one to be replaced."""
    world = after(World({"resources": {"nodes": 2}, "storage": {"accessMode": "ReadWriteMany"}}))
    world.complete(JOB)
    after(world)
    job = "tiny-train-1"
    world.running(job)
    assert needs_events(world.observed(), world.jobs[job], world.now) == []
    assert look_again(world.observed(), world.jobs[job], world.now) == pytest.approx(QUIET_SECONDS)
    seen = stamp(world.now + timedelta(seconds=since))
    world.pass_time(QUIET_SECONDS)
    assert needs_events(world.observed(), world.jobs[job], world.now) == [("Job", job)]
    note = 'Error creating: pods "x" is forbidden: exceeded quota: q, requested: pods=1'
    world.events = {job: [{"reason": "FailedCreate", "note": note, "deprecatedLastTimestamp": seen}]}
    after(world)
    assert (world.reason, note in world.message) == (reason, reason == "QuotaExceeded")
    world.running(job, 1)
    assert needs_events(world.observed(), world.jobs[job], world.now) == []
    after(world)
    assert world.reason == "Training"


def test_a_job_whose_deletion_failed_is_deleted_again():
    world = after(World({"scheduling": {"activeDeadlineSeconds": 60}}))
    world.running(JOB)
    world.pass_time(61)
    decision = decide(world.observed(), SETTINGS)
    assert decision.delete == (ObjectRef("Job", JOB),)
    world.take(replace(decision, delete=()))
    assert (world.status["phase"], list(world.jobs)) == ("Failed", [JOB])
    after(world)
    assert (world.status["phase"], world.reason, list(world.jobs)) == ("Failed", "DeadlineExceeded", [])
    assert decide(world.observed(), SETTINGS).delete == ()


def test_a_pod_that_does_not_end_names_its_node():
    """Nobody ends a pod on a node that is gone, and the Job makes no other one before it has ended."""
    world = after(World())
    pod = world.running(JOB)
    pod["spec"]["nodeName"] = "gpu-3"
    pod["metadata"]["deletionTimestamp"] = stamp(world.now + timedelta(seconds=20))  # with its grace period
    after(world)
    assert world.reason == "Preparing"
    assert look_again(world.observed(), world.jobs[JOB], world.now) == pytest.approx(20 + LOST_SECONDS)
    world.pass_time(20 + LOST_SECONDS)
    after(world)
    assert world.reason == "PodsEnding"
    assert "kubectl delete node gpu-3" in world.message
    assert look_again(world.observed(), world.jobs[JOB], world.now) is None
    del world.pods[pod["metadata"]["name"]]
    world.running(JOB)
    after(world)
    assert world.reason == "Preparing"


def test_a_pod_of_an_earlier_attempt_that_does_not_end_names_its_node():
    world = after(World())
    world.running(JOB)["spec"]["nodeName"] = "gpu-3"
    world.change_spec(suspend=True)
    after(world)
    world.change_spec(suspend=False)
    decision = decide(world.observed(), SETTINGS)
    assert decision.requeue_after is not None and decision.requeue_after >= LOST_SECONDS
    after(world)
    assert (world.reason, "delete node" in world.message) == ("PodsEnding", False)
    world.pass_time(decision.requeue_after)
    after(world)
    assert (world.reason, "kubectl delete node gpu-3" in world.message) == ("PodsEnding", True)


def test_what_is_waited_for_is_named_when_the_deadline_comes():
    world = after(World({"scheduling": {"activeDeadlineSeconds": 60}}))
    world.pod(JOB, **scheduled("False", "Unschedulable", UNSCHEDULABLE))
    after(world)
    world.pass_time(61)
    after(world)
    assert world.reason == "DeadlineExceeded"
    assert "3 Insufficient nvidia.com/gpu" in world.message


@pytest.mark.parametrize(("indexes", "lacks"), [((0,), True), ((0, 0), True), ((0, 1), False), ((), False)])
def test_pods_that_waited_for_a_peer_without_a_node_may_wait_again(indexes, lacks):
    pods = [
        {
            "metadata": {"name": f"p{number}", "labels": {"batch.kubernetes.io/job-completion-index": str(index)}},
            "status": {
                "phase": "Failed",
                "containerStatuses": [{"name": "trainer", "state": {"terminated": {"exitCode": 68}}}],
            },
        }
        for number, index in enumerate(indexes)
    ]
    assert lacks_peers(Failure("PeerUnreachable", "no answer"), pods, 2) == lacks
    assert not lacks_peers(Failure("OutOfMemory", "no answer"), pods, 2)
