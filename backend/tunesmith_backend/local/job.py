"""Runs one FineTuneJob on this machine: the stages as child processes, the status in a file."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api import status as state
from tunesmith_api.contract import KILLED, KILLED_FOR_MEMORY, is_final, reason_of
from tunesmith_api.failures import Reason
from tunesmith_api.local.files import read_json
from tunesmith_api.local.oom_kills import oom_kills
from tunesmith_api.objects import FineTuneJob
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.events import (
    Emit,
    Failed,
    Planned,
    Retryable,
    SecretsAreVariables,
    StageStarted,
    Succeeded,
    Suspended,
    ignore,
)
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local import children
from tunesmith_backend.local.changes import ConfigMaps
from tunesmith_backend.local.cluster_only import emit_cluster_only_fields
from tunesmith_backend.local.inputs import local_spec, write_inputs
from tunesmith_backend.local.planning import chooses_otherwise, estimated_plan, prepared_plan, with_plan
from tunesmith_backend.local.store import StatusFile, locked, object_folder

_KILLED = (-9, KILLED)


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        failure: FAILED or RETRY if a stage has failed; None if the job has completed or is suspended.
        artifact: URI of the artifact, if the job has completed.
    """

    failure: ErrorKind | None = None
    artifact: str | None = None


class StopRequestedError(Exception):
    """The stop flag of a job was set. Its stage was stopped, and can resume later."""


class LocalJob:
    """Runs one job. The next `run` resumes where the last one stopped."""

    def __init__(
        self,
        job: FineTuneJob,
        base: Path,
        root: Path,
        *,
        debug: bool = False,
        emit: Emit = ignore,
        stop: threading.Event | None = None,
        logs: Path | None = None,
    ) -> None:
        """Prepare to run `job`.

        Args:
            job: The object.
            base: Folder of the manifest, which relative paths are relative to.
            root: Folder of all work folders.
            debug: Let the stages show tracebacks.
            emit: Receives the events.
            stop: Stops the running stage when it is set.
            logs: Folder for the output of the stages, `STAGE.log`; by default they inherit our output.
        """
        namespace = job.metadata.namespace or "default"
        self.name = job.metadata.name
        self.work = WorkFolder(object_folder(root, namespace, self.name))
        self.spec = job.spec
        self.config = JobConfig(name=self.name, namespace=namespace, spec=local_spec(job.spec.training_spec(), base))
        self.file = StatusFile(self.work.root, "FineTuneJob")
        self.debug = debug
        self.ref = ref_of(job)
        self._emit = emit
        self._stop = stop or threading.Event()
        self._logs = logs
        self._estimate: dict[str, Any] | None = None

    def run(self, config_maps: ConfigMaps, *, restart: bool) -> JobResult:
        """Run the stages that are not complete, and return how the job ended.

        Raises:
            BackendError: The job cannot be run; nothing was run.
            StopRequestedError: The stop flag was set.
        """
        self._emit_notices()
        with locked(self.work.root):
            if self.spec.suspend:
                return self._suspended()
            write_inputs(self.config, config_maps, self.work, restart=restart)
            if restart:
                self.file.write({})
            if not self.file.status.get("conditions"):
                self.file.write(state.accepted(self.file.status))
            self._plan(config_maps)
            for stage in Stage:
                failure = self._run_stage(stage)
                if failure is not None:
                    return failure
            return self._completed()

    def _emit_notices(self) -> None:
        """Emit notices about fields that have an effect only in a cluster."""
        emit_cluster_only_fields(self.ref, self.spec, self._emit)
        dataset, output = self.spec.dataset, self.spec.output
        sources = (*dataset.sources, *(dataset.validation.sources or ()))
        references = [self.spec.model.secret_ref, *(source.secret_ref for source in sources)]
        references.append(output.secret_ref if output else None)
        secrets = sorted({reference.name for reference in references if reference is not None})
        if secrets:
            self._emit(SecretsAreVariables(self.ref, tuple(secrets)))

    def _suspended(self) -> JobResult:
        """Write to the status that the job is suspended."""
        status = self.file.status if self.file.status.get("conditions") else state.accepted(self.file.status)
        if not state.is_finished(status):
            self.file.write(state.suspended(status, "Suspended; set spec.suspend to false to go on"))
        self._emit(Suspended(self.ref))
        return JobResult()

    def _plan(self, config_maps: ConfigMaps) -> None:
        """Show what the job needs, before it runs."""
        if self._is_complete(Stage.PUBLISH):
            return
        if (plan := prepared_plan(self.work)) is not None:
            self._emit(Planned(self.ref, plan))
        elif (estimate := estimated_plan(self.config, config_maps)) is not None:
            self._estimate = estimate[0]
            self._emit(Planned(self.ref, *estimate))
        self.file.write(with_plan(self.file.status, self.work, self._estimate))

    def _run_stage(self, stage: Stage) -> JobResult | None:
        """Run one stage. Return the job's result if the stage has failed, else None."""
        if starts := not self._is_complete(stage):
            attempts = dict(self.file.status.get("attempts") or {})
            attempts[stage.value] = attempts.get(stage.value, 0) + 1
            self.file.write(state.running(self.file.status, stage, attempts=attempts))
            self._emit(StageStarted(self.ref, stage))
        try:
            code = self._run_process(stage)
        except (KeyboardInterrupt, StopRequestedError):
            self._update_progress()
            self.file.write(state.interrupted(self.file.status, stage))
            raise
        self._update_progress()
        self.file.write(with_plan(self.file.status, self.work, self._estimate))
        if code:
            return self._failed(stage, code)
        plan = prepared_plan(self.work)
        if stage is Stage.PREPARE and starts and plan is not None and chooses_otherwise(plan, self._estimate):
            self._emit(Planned(self.ref, plan))
        return None

    def _run_process(self, stage: Stage) -> int:
        """Run the process of a stage, and return its exit code.

        Training that the kernel has ended for its memory is started again: it lowers its micro-batch while it can.
        """
        log = self._logs / f"{stage.value}.log" if self._logs else None
        env: dict[str, str] = {}
        while True:
            before = oom_kills()
            process = children.start("tunesmith_trainer", self._arguments(stage), log=log, env=env)
            code = children.wait(process, self._tick)
            if stage is not Stage.TRAIN or code not in _KILLED or oom_kills() == before:
                return code
            kills = (read_json(self.work.adjusted) or {}).get("kills", 0)
            env = {KILLED_FOR_MEMORY: str(kills + 1)}

    def _tick(self) -> None:
        self._update_progress()
        if self._stop.is_set():
            raise StopRequestedError

    def _arguments(self, stage: Stage) -> list[str]:
        return [stage.value, "--work", str(self.work.root), *(["--debug"] if self.debug else [])]

    def _is_complete(self, stage: Stage) -> bool:
        return self.work.stage_marker(stage).exists()

    def _update_progress(self) -> None:
        """Copy the newest progress and the resolved values into the status."""
        progress: dict[str, Any] | None = read_json(self.work.progress)
        resolved = read_json(self.work.resolved)
        self.file.write(state.with_progress(self.file.status, progress, resolved))

    def _failed(self, stage: Stage, code: int) -> JobResult:
        outcome = read_json(self.work.outcome(stage)) or {}
        reason = reason_of(code)
        message = ". ".join(filter(None, (outcome.get("message"), outcome.get("remedy"))))
        if reason is None or outcome.get("reason") != reason.value:
            reason = Reason.OUT_OF_MEMORY if code in _KILLED else Reason.INTERNAL_ERROR
            message = _unexplained(stage, code)
        if not is_final(reason):
            self.file.write(state.waiting(self.file.status, reason.value, message))
            self._emit(Retryable(self.ref, reason))
            return JobResult(failure=ErrorKind.RETRY)
        self.file.write(state.failed(self.file.status, reason.value, message))
        self._emit(Failed(self.ref, reason, self.file.path))
        return JobResult(failure=ErrorKind.FAILED)

    def _completed(self) -> JobResult:
        marker = read_json(self.work.stage_marker(Stage.PUBLISH)) or {}
        artifact, metrics = marker.get("artifact") or {}, marker.get("metrics") or {}
        if not artifact.get("uri"):
            raise BackendError(f"{self.work.stage_marker(Stage.PUBLISH)} names no artifact; run again with --restart")
        self.file.write(state.completed(self.file.status, artifact=artifact, metrics=metrics))
        status = self.file.status
        planned, measured = status.get("plan") or {}, status.get("measured") or {}
        self._emit(Succeeded(self.ref, str(artifact["uri"]), metrics, planned, measured))
        return JobResult(artifact=str(artifact["uri"]))


def _unexplained(stage: Stage, code: int) -> str:
    """Return the message for a process that ended without an outcome."""
    if code in _KILLED:
        return (
            f"{stage.value} was killed (exit code {code}), most likely because memory ran out. Lower "
            "training.microBatchSize or training.maxLength, or set training.gradientCheckpointing: true"
        )
    return f"{stage.value} ended with exit code {code} and gave no reason. Run the same command with --debug"
