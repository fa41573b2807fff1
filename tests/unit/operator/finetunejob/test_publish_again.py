"""A change of evaluation, export or output before a job has succeeded: only publish starts again."""

import pytest

from support.job_facts import RESULT, SETTINGS, TRAINED, World, scheduled
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.reconciler import ObjectRef
from tunesmith_operator.finetunejob.decide import decide
from tunesmith_operator.finetunejob.publish_inputs import publish_inputs

PREPARE, TRAIN, PUBLISH, AGAIN = "tiny-prepare-1", "tiny-train-1", "tiny-publish-1", "tiny-publish-2"
CHANGES = {
    "evaluation": {"gates": [{"metric": "evalLoss", "max": 9}]},
    "export": {"parity": {"maxLogitDifference": 1}},
    "output": {"uri": "s3://bucket/artifact"},
    "stages": {"publish": {"memory": "9Gi"}},
}
CHANGE = {"evaluation": CHANGES["evaluation"]}
WORKING, STALLED = ("Unknown", "True", "False"), ("False", "False", "True")


def settle(world: World, limit: int = 8) -> None:
    """Decide until nothing changes any more."""
    for _ in range(limit):
        decision = decide(world.observed(), SETTINGS)
        assert decide(world.observed(), SETTINGS) == decision  # the same facts, the same decision
        if not world.take(decision):
            assert world.status["observedGeneration"] == world.job["metadata"]["generation"]
            return
    raise AssertionError(f"never at rest: {world.status}")


def conditions(world: World) -> tuple[str, ...]:
    return tuple(world.condition(kind)["status"] for kind in ("Ready", "Reconciling", "Stalled"))


def begun(stage: Stage = Stage.PUBLISH, **spec) -> World:
    """A world whose job is in a stage, the pod of which runs."""
    world = World(spec)
    settle(world)
    for earlier, job, result in ((Stage.PREPARE, PREPARE, {}), (Stage.TRAIN, TRAIN, TRAINED)):
        if list(Stage).index(earlier) < list(Stage).index(stage):
            world.complete(job, result)
            settle(world)
    world.running(f"tiny-{stage.value}-1")
    settle(world)
    return world


def end(world: World, job: str, code: int = 16, reason: str = "GateFailed") -> None:
    """Let the last pod of a Job fail, and with it the Job."""
    world.pods.popitem()
    world.ended(job, code, words={"reason": reason, "message": "evalLoss is 3"})
    world.fail(job, message=f"exit code {code}")
    settle(world)


def failed(stage: Stage = Stage.PUBLISH, code: int = 16, reason: str = "GateFailed", **spec) -> World:
    """A world whose job has failed for good in a stage."""
    world = begun(stage, **spec)
    end(world, f"tiny-{stage.value}-1", code, reason)
    assert (world.status["phase"], world.reason, conditions(world)) == ("Failed", reason, STALLED)
    return world


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize(
    ("code", "reason"),
    [(16, "GateFailed"), (17, "ExportFailed"), (20, "OutputFailed"), (14, "OutOfMemory"), (70, "InternalError")],
)
def test_a_job_that_failed_in_publish_goes_on_there(field, code, reason):
    world = failed(code=code, reason=reason)
    before = {name: world.jobs[name] for name in (PREPARE, TRAIN, PUBLISH)}
    world.change_spec(**{field: CHANGES[field]})
    first = decide(world.observed(), SETTINGS)
    world.take(first)
    # Said with the first write, and with it the Job is created.
    assert (world.status["phase"], world.reason, conditions(world)) == ("Publishing", "Publishing", WORKING)
    assert world.status["observedGeneration"] == 2
    assert "completionTime" not in world.status
    assert [event.reason for event in first.events] == ["Publishing"]
    settle(world)
    assert world.jobs.items() >= before.items()
    assert sorted(world.jobs) == [PREPARE, PUBLISH, AGAIN, TRAIN]
    assert world.status["attempts"] == {"prepare": 1, "train": 1, "publish": 2}
    world.complete(AGAIN, RESULT)
    settle(world)
    assert (world.status["phase"], world.status["attempts"]["train"]) == ("Succeeded", 1)


def test_the_new_job_gets_the_new_spec():
    world = failed(output={"uri": "s3://b/a", "secretRef": {"name": "old"}})
    world.change_spec(export={"precisions": ["fp32"]}, output={"uri": "s3://b/c", "secretRef": {"name": "new"}})
    settle(world)
    old, new = (world.jobs[name]["spec"]["template"]["spec"]["containers"][0] for name in (PUBLISH, AGAIN))
    assert (old["envFrom"], new["envFrom"]) == ([{"secretRef": {"name": "old"}}], [{"secretRef": {"name": "new"}}])
    (config,) = (item["value"] for item in new["env"] if item["name"] == "TUNESMITH_JOB_CONFIG")
    assert '"precisions":["fp32"]' in config
    assert '"uri":"s3://b/c"' in config


def test_a_second_change_leads_to_a_third_job_and_a_failure_in_between_stays():
    world = failed()
    world.change_spec(evaluation={"gates": [{"metric": "evalLoss", "max": 2}]})
    settle(world)
    world.running(AGAIN)
    end(world, AGAIN)
    assert (world.status["phase"], conditions(world)) == ("Failed", STALLED)
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], "tiny-publish-3" in world.jobs) == ("Publishing", True)


def test_the_old_spec_again_is_a_change_too():
    world = failed()
    world.change_spec(**CHANGE)
    settle(world)
    world.running(AGAIN)
    end(world, AGAIN)
    world.change_spec(evaluation={})
    settle(world)
    assert (world.status["phase"], "tiny-publish-3" in world.jobs) == ("Publishing", True)


@pytest.mark.parametrize("change", [{"ttlSecondsAfterFinished": 600}, {"suspend": True}, {"output": {"retain": False}}])
def test_what_publish_does_not_read_revives_nothing(change):
    world = failed()
    message = world.message
    world.change_spec(**change)
    settle(world)
    assert (world.status["phase"], conditions(world), world.message) == ("Failed", STALLED, message)
    assert AGAIN not in world.jobs


def test_without_the_failed_job_any_change_counts():
    world = failed()
    world.jobs.clear()
    world.pods.clear()
    settle(world)
    assert world.status["phase"] == "Failed"
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], list(world.jobs)) == ("Publishing", [AGAIN])


@pytest.mark.parametrize(
    ("stage", "code", "reason"), [(Stage.PREPARE, 11, "InvalidDataset"), (Stage.TRAIN, 15, "TrainingDiverged")]
)
def test_a_job_that_failed_before_is_not_revived_and_says_what_to_do(stage, code, reason):
    world = failed(stage, code, reason)
    before, message, completed = sorted(world.jobs), world.message, world.status["completionTime"]
    world.pass_time(60)
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], world.reason, conditions(world)) == ("Failed", reason, STALLED)
    assert (sorted(world.jobs), world.status["completionTime"]) == (before, completed)
    assert world.message.startswith(f"{message}. A change of evaluation, export, output or stages")
    assert f"this one failed in {stage.value}. Delete it and apply it again" in world.message
    world.change_spec(ttlSecondsAfterFinished=600)
    settle(world)
    assert world.message.count("Delete it and apply it again") == 1


def test_a_change_while_publish_runs_stops_it_and_starts_it_again():
    world = begun()
    world.change_spec(**CHANGE)
    decision = decide(world.observed(), SETTINGS)
    assert decision.delete == (ObjectRef("Job", PUBLISH),)
    settle(world)
    # Two pods would write the same files.
    assert (world.status["phase"], world.reason, AGAIN in world.jobs) == ("Publishing", "PodsEnding", False)
    assert conditions(world) == WORKING
    world.remove_pods()
    settle(world)
    assert (world.reason, sorted(world.jobs)) == ("Publishing", [PREPARE, AGAIN, TRAIN])
    world.complete(AGAIN, RESULT)
    settle(world)
    assert world.status["phase"] == "Succeeded"


def test_a_change_while_publish_waits_for_a_node_starts_it_again():
    world = begun()
    world.pods.popitem()
    world.pod(PUBLISH, **scheduled("False", "Unschedulable", "0/3 nodes are available"))
    settle(world)
    assert world.reason == "Unschedulable"
    world.change_spec(**CHANGE)
    settle(world)
    world.remove_pods()
    settle(world)
    assert AGAIN in world.jobs


def test_a_change_and_a_suspension_at_once():
    world = begun()
    world.change_spec(**CHANGE, suspend=True)
    settle(world)
    world.remove_pods()
    assert (world.reason, PUBLISH in world.jobs, AGAIN in world.jobs) == ("Suspended", False, False)
    world.change_spec(suspend=False)
    settle(world)
    assert AGAIN in world.jobs


@pytest.mark.parametrize("ending", ["complete", "fail"])
def test_a_change_that_is_seen_when_publish_has_ended_starts_it_again(ending):
    world = begun()
    world.pods.popitem()
    if ending == "complete":
        world.complete(PUBLISH, RESULT)
    else:
        world.ended(PUBLISH, 16, words={"reason": "GateFailed", "message": "x"})
        world.fail(PUBLISH)
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], AGAIN in world.jobs) == ("Publishing", True)


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.TRAIN])
def test_a_change_before_publish_is_read_by_publish_and_disturbs_nothing(stage):
    world = begun(stage)
    phase = world.status["phase"]
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], world.status["observedGeneration"]) == (phase, 2)
    assert sorted(world.jobs) == [PREPARE, TRAIN][: list(Stage).index(stage) + 1]
    world.pods.popitem()
    if stage is Stage.PREPARE:
        world.complete(PREPARE)
        settle(world)
    world.complete(TRAIN, TRAINED)
    settle(world)
    assert sorted(world.jobs) == [PREPARE, PUBLISH, TRAIN]
    (config,) = (
        item["value"]
        for item in world.jobs[PUBLISH]["spec"]["template"]["spec"]["containers"][0]["env"]
        if item["name"] == "TUNESMITH_JOB_CONFIG"
    )
    assert '"evalLoss"' in config


def test_the_time_since_the_failure_does_not_count_for_the_deadline():
    world = failed(scheduling={"activeDeadlineSeconds": 100})
    world.pass_time(1000)
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], world.status["pausedSeconds"]) == ("Publishing", 1000)
    assert world.jobs[AGAIN]["spec"]["activeDeadlineSeconds"] == 100


def test_a_deadline_that_has_passed_stays_passed():
    world = begun(scheduling={"activeDeadlineSeconds": 100})
    world.pass_time(101)
    settle(world)
    world.remove_pods()
    world.change_spec(**CHANGE)
    settle(world)
    assert (world.status["phase"], world.reason, AGAIN in world.jobs) == ("Failed", "DeadlineExceeded", False)


def test_each_set_of_inputs_has_its_own_restarts():
    world = failed(scheduling={"maxRestarts": 1})
    for number in (2, 3):
        world.change_spec(evaluation={"maxRows": number})
        settle(world)
        world.running(f"tiny-publish-{number}")
        end(world, f"tiny-publish-{number}")
    world.change_spec(**CHANGE)
    settle(world)
    # Killed before it could save anything, it is tried again although it is the fourth attempt.
    world.ended("tiny-publish-4", 137)
    world.fail("tiny-publish-4", message="exit code 137")
    settle(world)
    assert "tiny-publish-5" in world.jobs
    world.ended("tiny-publish-5", 137)
    world.fail("tiny-publish-5", message="exit code 137")
    settle(world)
    assert (world.status["phase"], "given up after 2 attempts" in world.message) == ("Failed", True)


def test_an_output_that_was_chosen_is_not_shown_beside_one_that_is_given():
    world = failed(storage={"uri": "s3://bucket/work"})
    assert "output.uri" in world.status["resolved"]
    world.change_spec(output={"uri": "s3://bucket/artifact"})
    settle(world)
    assert "output.uri" not in world.status["resolved"]
    assert "totalSteps" in world.status["resolved"]


def test_a_default_that_is_written_out_is_no_change():
    spec = FineTuneJobSpec.model_validate(World().job["spec"])
    written = spec.model_validate({**World().job["spec"], "export": {"precisions": ["int4"]}, "output": {}})
    assert publish_inputs(written) == publish_inputs(spec)
    digests = {publish_inputs(spec.model_validate({**World().job["spec"], name: CHANGES[name]})) for name in CHANGES}
    assert len(digests | {publish_inputs(spec)}) == len(CHANGES) + 1
