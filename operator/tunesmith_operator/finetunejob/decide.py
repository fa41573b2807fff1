"""Computes a job's desired state from its observed state: a pure function that returns a decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tunesmith_api import status as state
from tunesmith_api.failures import Reason
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Decision, KubeObject, ObjectRef
from tunesmith_operator.finetunejob import pending
from tunesmith_operator.finetunejob.clock import paused, reopened, resumed, seconds_left, seconds_until_deletion
from tunesmith_operator.finetunejob.containers import result_of, without_nulls
from tunesmith_operator.finetunejob.details import running_detail
from tunesmith_operator.finetunejob.events import events_of
from tunesmith_operator.finetunejob.failures import Failure, deadline_exceeded, failure_of, lacks_peers
from tunesmith_operator.finetunejob.jobs import stage_job, train_service
from tunesmith_operator.finetunejob.measured import with_measured
from tunesmith_operator.finetunejob.memory import can_lower, kills_of, was_killed_for_memory
from tunesmith_operator.finetunejob.names import KIND
from tunesmith_operator.finetunejob.observed import Observed, has_ended
from tunesmith_operator.finetunejob.planning import planned, unplanned
from tunesmith_operator.finetunejob.publish_inputs import ended_jobs, hint, must_publish_again
from tunesmith_operator.finetunejob.refusals import refusal_of
from tunesmith_operator.finetunejob.resolved import resolved
from tunesmith_operator.finetunejob.volume import artifact_of, claim, is_released
from tunesmith_operator.pods.facts import condition, holds

Status = dict[str, Any]

_ATTEMPTS_A_RESTART = 4
"""Attempts at a stage for each of its restarts, suspended ones among them, after which it is not begun again."""
_READING_SECONDS = 0.5
"""Time until it is looked again whether a model's configuration has been read."""


def decide(observed: Observed, settings: OperatorSettings) -> Decision:
    """Return the decision about a job.

    Args:
        observed: The observed state.
        settings: Images and the progress server.
    """
    about = observed.job["metadata"]
    if "deletionTimestamp" in about:
        return Decision()  # Its children are deleted with it.
    generation = int(about.get("generation", 1))
    before = {key: value for key, value in observed.status.items() if key != "progress"}
    status = state.observed(before, generation) if before else state.accepted({}, generation)
    if not state.is_finished(before):
        decision = _Job(observed, settings, status).decide()
    elif before["phase"] == state.Phase.FAILED and must_publish_again(observed):
        decision = _Job(observed, settings, state.publish_restarted(reopened(status, observed.now))).decide()
    else:
        decision = _after_the_end(observed, _with_hint(status, hint(observed)))
    return replace(decision, events=events_of(observed.status, decision.status or {}))


def _after_the_end(observed: Observed, status: Status) -> Decision:
    """Return the decision about a finished job: release its volume if it holds the artifact, delete it in time.

    Jobs that are still there when it has failed are those whose deletion failed then.
    """
    if status["phase"] == state.Phase.FAILED and (active := observed.active_jobs()):
        return Decision(status=status, delete=active)
    left = seconds_until_deletion(observed.spec, status, observed.now)
    keep: tuple[KubeObject, ...] = ()
    name = observed.own_claim_name
    if name is not None and observed.claim is not None and _is_kept(observed, status, name):
        keep = (claim(observed.job, observed.spec, name, observed.claim, release=True),)
        if not is_released(observed.claim):
            return Decision(status=status, apply=keep, requeue_after=left if left is None or left > 0 else 1.0)
    if left is not None and left <= 0:
        return Decision(status=status, delete=(ObjectRef(KIND, observed.name),))
    return Decision(status=status, apply=keep, requeue_after=left)


def _with_hint(status: Status, text: str) -> Status:
    """Return the status of a failed job with a hint at the end of its message, once."""
    ready = condition({"status": status}, "Ready")
    if not text or ready["message"].endswith(text):
        return status
    return state.failed(status, ready["reason"], ready["message"].rstrip(".") + text)


def _is_kept(observed: Observed, status: Status, claim_name: str) -> bool:
    """Return whether the job's own volume holds an artifact that must outlive the job."""
    output = observed.spec.output
    on_volume = str((status.get("artifact") or {}).get("uri", "")).startswith(f"pvc://{claim_name}/")
    return on_volume and (output is None or output.retain)


class _Job:
    """Decides about a job that has not ended."""

    def __init__(self, observed: Observed, settings: OperatorSettings, status: Status) -> None:
        given, self.planned = observed, planned(observed, settings)
        # From here on, a spec that names a machine says what the machine has.
        self.observed = observed = replace(observed, spec=self.planned.spec)
        self.spec = observed.spec
        self.settings = settings
        self.attempts = observed.attempts()
        chosen = resolved(given, self.planned, settings, status.get("resolved") or {})
        status = {**status, "resolved": chosen, **({"plan": self.planned.plan} if self.planned.plan else {})}
        self.status: Status = {**status, "attempts": self.attempts} if self.attempts else status
        self.stage = Stage(list(self.attempts)[-1]) if self.attempts else Stage.PREPARE
        self.attempt = self.attempts.get(self.stage.value, 0)
        self.job = observed.job_of(self.stage, self.attempt)
        self.kills = kills_of(self.job) if self.stage is Stage.TRAIN else 0

    def decide(self) -> Decision:
        left = seconds_left(self.spec, self.status, self.observed.now)
        problem = refusal_of(self.observed) or self.planned.refusal
        if problem is None and self.planned.missing and not self.attempts:
            problem = Failure(Reason.INVALID_SPEC.value, self.planned.missing)
        if problem is not None:
            return self._fail(problem)
        is_published = self.stage is Stage.PUBLISH and self.job is not None and holds(self.job, "Complete")
        if left is not None and left <= 0 and not is_published:
            return self._fail(deadline_exceeded(self.spec, self._standstill()))
        if self.observed.claim is None and self.attempts and self.observed.own_claim_name is not None:
            return self._fail(self._volume_lost())
        decision = self._go_on()
        if left is None or self.status.get("pausedSince") or state.is_finished(decision.status or {}):
            return decision
        return replace(decision, requeue_after=min(left, decision.requeue_after or left))

    def _go_on(self) -> Decision:
        if self.job is None:
            return self._begin(self.stage, self.attempt + 1)
        if must_publish_again(self.observed):
            return self._publish_again(self.job)
        if holds(self.job, "Complete"):
            return self._completed(self.job)
        if holds(self.job, "Failed"):
            return self._failed(self.job)
        return self._running(self.job)

    def _publish_again(self, job: KubeObject) -> Decision:
        """Return the decision about a job whose publish Job was created for another evaluation, export or output."""
        if has_ended(job):
            return self._begin(self.stage, self.attempt + 1)
        # The next attempt begins when the pods of this one have ended.
        status = state.publish_restarted(self.status)
        return Decision(status=status, apply=self._claim(), delete=(ObjectRef("Job", job["metadata"]["name"]),))

    def _begin(self, stage: Stage, attempt: int) -> Decision:
        """Return the decision to start a stage, as soon as no other pod can write to the work folder."""
        observed = self.observed
        if self.spec.suspend:
            return self._suspended(self.job)
        if observed.is_reading_model:
            return Decision(status=self.status, requeue_after=_READING_SECONDS)
        if self.planned.missing:
            return self._held(pending.PendingReason(OperatorReason.MISSING_REFERENCE, self.planned.missing))
        if stage is not Stage.PREPARE and self.spec.resources.machine is not None:
            return self._fail(unplanned(self.spec, self.settings.machines))
        if observed.claim is None and self.spec.storage.claim_name is not None:
            return self._held(pending.missing("PersistentVolumeClaim", self.spec.storage.claim_name))
        if (pod := next(observed.living_pods(), None)) is not None:
            return self._held(pending.ending(pod, observed.now, f" before {stage.value} goes on"))
        status = resumed(self.status, observed.now)
        left = seconds_left(self.spec, status, observed.now)
        deadline = None if left is None else max(1, round(left))
        kills = self.kills if stage is Stage.TRAIN else 0
        name, settings = observed.claim_name, self.settings
        job = stage_job(observed.job, self.planned, stage, attempt, name, settings, deadline, kills)
        is_shared = stage is Stage.TRAIN and self.spec.resources.nodes > 1
        children = (train_service(observed.job), job) if is_shared else (job,)
        if observed.errors:
            wait = pending.refusal(observed.errors[0])
            return replace(self._held(wait), apply=self._claim(), create=children)
        return Decision(status=status, apply=self._claim(), create=children)

    def _running(self, job: KubeObject) -> Decision:
        observed = self.observed
        if self.spec.suspend:
            return self._suspended(job)
        if (job.get("spec") or {}).get("suspend"):
            queue = self.spec.scheduling.queue_name
            status = paused(self.status, observed.now)
            if queue:
                return Decision(status=state.queued(status, queue), apply=self._claim())
            message = f"Somebody has suspended Job {job['metadata']['name']}; set its spec.suspend to false"
            return Decision(status=state.suspended(status, message), apply=self._claim())
        if observed.errors:
            return replace(self._held(pending.refusal(observed.errors[0])), apply=self._claim())
        if (wait := pending.pending_reason(observed, job)) is not None:
            return replace(self._held(wait), apply=self._claim())
        status = resumed(self.status, observed.now)
        status = state.running(status, self.stage, self.attempts, running_detail(observed, job, self.stage))
        again = pending.look_again(observed, job, observed.now)
        return Decision(status=status, apply=self._claim(), requeue_after=again)

    def _suspended(self, job: KubeObject | None) -> Decision:
        """Return the decision about a suspended job: its pods save a checkpoint and are deleted."""
        status = paused(self.status, self.observed.now)
        what = "before its first stage" if not self.attempts else f"during {self.stage.value}"
        message = f"Suspended {what}; set spec.suspend to false to go on"
        delete = () if job is None or has_ended(job) else (ObjectRef("Job", job["metadata"]["name"]),)
        apply = self._claim() if self.attempts else ()
        return Decision(status=state.suspended(status, message), apply=apply, delete=delete)

    def _failed(self, job: KubeObject) -> Decision:
        plan, pods = self.status.get("plan"), self.observed.pods_of(job)
        failure = failure_of(job, pods, self.stage, self.spec, self._standstill(), plan)
        lowers = self.stage is Stage.TRAIN and was_killed_for_memory(pods) and can_lower(self.spec, plan, self.kills)
        if failure.is_final and not lowers and not lacks_peers(failure, pods, self.spec.resources.nodes):
            return self._fail(failure)
        self.kills += lowers
        # Attempts that were suspended do not count. Failed Jobs can be removed by others, so there is another end.
        failures, most = ended_jobs(self.observed, self.stage, "Failed"), self.spec.scheduling.max_restarts
        if failures > most or self.attempt > _ATTEMPTS_A_RESTART * (most + 1):
            tried = f"given up after {failures} attempts (scheduling.maxRestarts)"
            return self._fail(Failure(failure.reason, f"{failure.message}; {tried}"))
        return self._begin(self.stage, self.attempt + 1)

    def _completed(self, job: KubeObject) -> Decision:
        stages = list(Stage)
        self.status = with_measured(self.status, self.stage, result_of(self.observed.pods_of(job)))
        if self.stage is Stage.PUBLISH:
            return self._published(job)
        if self.stage is Stage.TRAIN:
            result = without_nulls(result_of(self.observed.pods_of(job)))
            self.status["resolved"] = {**self.status["resolved"], **(result.get("resolved") or {})}
            decision = self._begin(Stage.PUBLISH, 1)
            return _with_progress(decision, result.get("progress"))
        is_unplanned = self.spec.resources.machine is not None and not result_of(self.observed.pods_of(job))
        if is_unplanned and self.attempt <= self.spec.scheduling.max_restarts:
            # Its pod was removed before it was read. Another run finds the work done and reports the same plan.
            return self._begin(self.stage, self.attempt + 1)
        return self._begin(stages[stages.index(self.stage) + 1], 1)

    def _published(self, job: KubeObject) -> Decision:
        """Return the decision about a job whose last stage is complete."""
        observed = self.observed
        result = without_nulls(result_of(observed.pods_of(job)))
        artifact = result.get("artifact") or {}
        if not artifact.get("uri"):
            if ended_jobs(observed, Stage.PUBLISH, "Complete") > self.spec.scheduling.max_restarts + 1:
                message = "publish is complete, but its pod is gone and with it where the artifact is"
                return self._fail(Failure(Reason.INTERNAL_ERROR.value, message))
            # Its pod was removed before it was read. Another run finds the work done and reports the same result.
            return self._begin(Stage.PUBLISH, self.attempt + 1)
        self.status["resolved"] = {**self.status["resolved"], **(result.get("resolved") or {})}
        status = resumed(self.status, observed.now)
        found = artifact_of(artifact, observed.claim_name)
        status = state.completed(status, artifact=found, metrics=result.get("metrics") or {})
        trained = observed.job_of(Stage.TRAIN, self.attempts.get(Stage.TRAIN.value, 0))
        progress = without_nulls(result_of(observed.pods_of(trained))).get("progress") if trained else None
        ended = _after_the_end(observed, status)
        if ended.apply and observed.claim is not None and not is_released(observed.claim):
            # Users may delete a job as soon as it says Succeeded, and the artifact must not be deleted with it.
            waiting = (
                self._held(pending.refusal(observed.errors[0])) if observed.errors else Decision(status=self.status)
            )
            return replace(waiting, apply=ended.apply)
        return _with_progress(ended, progress)

    def _fail(self, failure: Failure) -> Decision:
        status = resumed(self.status, self.observed.now)
        status = state.failed(status, failure.reason, failure.message)
        return Decision(status=status, delete=self.observed.active_jobs())

    def _held(self, wait: pending.PendingReason) -> Decision:
        status = resumed(self.status, self.observed.now)
        return Decision(status=state.held(status, wait.reason, wait.message), requeue_after=wait.look_again)

    def _claim(self) -> tuple[KubeObject, ...]:
        observed = self.observed
        if (name := observed.own_claim_name) is None:
            return ()
        return (claim(observed.job, self.spec, name, observed.claim, release=False),)

    def _standstill(self) -> str:
        """Return the job's stage, and what it waits for there, if anything."""
        ready = condition({"status": self.status}, "Ready")
        is_held = ready.get("reason") not in (*(phase.value for phase in state.Phase), "Accepted", None)
        return f"during {self.stage.value}" + (f", while {ready['reason']}: {ready['message']}" if is_held else "")

    def _volume_lost(self) -> Failure:
        message = f"the volume claim {self.observed.claim_name} was deleted, and with it what the job had done"
        return Failure(OperatorReason.VOLUME_LOST, f"{message}. Create the FineTuneJob anew")


def _with_progress(decision: Decision, progress: object) -> Decision:
    """Return a decision that also sets the final progress of a stage."""
    if not isinstance(progress, dict) or not progress or decision.status is None:
        return decision
    return replace(decision, status={**decision.status, "progress": progress})
