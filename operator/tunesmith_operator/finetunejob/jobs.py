"""The batch/v1 Job of a stage, and the headless Service of training pods."""

from __future__ import annotations

from tunesmith_api.contract import FIRST_RETRYABLE_CODE, KILLED, KILLED_FOR_MEMORY, MASTER_PORT
from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.memory import KILLS
from tunesmith_operator.finetunejob.names import CONTAINER, job_name, labels, metadata, service_name
from tunesmith_operator.finetunejob.planning import Planned
from tunesmith_operator.finetunejob.pods import pod_template
from tunesmith_operator.finetunejob.publish_inputs import PUBLISH_INPUTS, publish_inputs
from tunesmith_operator.finetunejob.stage_resources import stage_resources

QUEUE = "kueue.x-k8s.io/queue-name"

_USAGE = 2
_TERMINATED = 143
_NOT_COUNTED = sorted({EXIT_CODES[Reason.INTERRUPTED], EXIT_CODES[Reason.PEER_LOST], _TERMINATED})
FINAL_CODES = sorted({_USAGE, KILLED, *(code for code in EXIT_CODES.values() if code < FIRST_RETRYABLE_CODE)})
"""Exit codes that fail a Job at once. The operator then decides: a container that was killed for its memory fails the
FineTuneJob, unless training can go on with less; one that was killed for another reason leads to another attempt."""


def stage_job(
    job: KubeObject,
    planned: Planned,
    stage: Stage,
    attempt: int,
    claim: str | None,
    settings: OperatorSettings,
    deadline: int | None,
    kills: int = 0,
) -> KubeObject:
    """Return the Job of one attempt at a stage. It is created once and never written again.

    Args:
        job: The FineTuneJob.
        planned: Its spec and plan.
        stage: The stage.
        attempt: Number of the attempt, from 1.
        claim: The claim of the work volume; None if the work is kept in an object store.
        settings: Images and the progress server.
        deadline: Seconds left until the FineTuneJob's own deadline; None if it has none.
        kills: How many containers of earlier attempts were killed for their memory.
    """
    spec = planned.spec
    about = metadata(job, job_name(job["metadata"]["name"], stage, attempt), stage, attempt)
    about["annotations"] = {PUBLISH_INPUTS: publish_inputs(spec)}
    resources = stage_resources(planned, stage, settings)
    wanted: KubeObject = {
        # Two pods with one index would write the same files.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _rules()},
        "template": pod_template(job, spec, stage, attempt, claim, resources, settings),
    }
    if kills:
        about["annotations"][KILLS] = str(kills)
        (container,) = wanted["template"]["spec"]["containers"]
        container["env"].append({"name": KILLED_FOR_MEMORY, "value": str(kills)})
    if stage is Stage.TRAIN:
        # Each node has its own restarts, and the first that has none left fails the Job: all nodes train, or none.
        wanted |= {
            "completionMode": "Indexed",
            "completions": resources.nodes,
            "parallelism": resources.nodes,
            "backoffLimitPerIndex": spec.scheduling.max_restarts,
            "maxFailedIndexes": 0,
        }
    else:
        wanted["backoffLimit"] = spec.scheduling.max_restarts
    if deadline is not None:
        wanted["activeDeadlineSeconds"] = deadline
    if spec.scheduling.queue_name:
        about["labels"][QUEUE] = spec.scheduling.queue_name
        wanted["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": wanted}


def train_service(job: KubeObject) -> KubeObject:
    """Return the headless Service that gives each training pod a DNS name, even before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, service_name(job["metadata"]["name"]), Stage.TRAIN),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {key: value for key, value in labels(job, Stage.TRAIN).items() if key.startswith("tunesmith.")},
            "ports": [{"name": "rendezvous", "port": MASTER_PORT}],
        },
    }


def _rules() -> list[KubeObject]:
    def on_codes(action: str, codes: list[int]) -> KubeObject:
        return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes}}

    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return [disrupted, on_codes("Ignore", _NOT_COUNTED), on_codes("FailJob", FINAL_CODES)]
