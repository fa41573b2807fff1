"""Why a pod does not serve, in whose words, and whether it will pass."""

import json

import pytest

from support.workspaces import DIGEST, a_job, a_pod, a_workspace, child, decided, ended, waiting
from tunesmith_operator.inferenceworkspace.failures import most_severe, problem_of

DEPLOYMENT = child(decided(a_workspace(), a_job("job-a", DIGEST["a"])), "Deployment")


def unschedulable(message):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition], "containerStatuses": []}


OUTCOME = json.dumps({"reason": "ModelNotFound", "message": "s3://b/a is not there", "remedy": "Check the URI"})
CASES = {
    "starting": ({"server": {"state": {"running": {}}}}, None, False, ""),
    "being made": ({"server": waiting("ContainerCreating"), "phase": "Pending"}, None, False, ""),
    "ended well": ({"server": ended(0, reason="Completed")}, None, False, ""),
    "no node": (unschedulable("0/2 nodes: 2 Insufficient memory"), "Unschedulable", False, "2 Insufficient memory"),
    "no claim": (
        unschedulable('persistentvolumeclaim "models" not found'), "ClaimNotFound", False,
        "no PersistentVolumeClaim models",
    ),
    "pull": ({"server": waiting("ErrImagePull", "401 Unauthorized")}, "ImagePullFailed", False, "401 Unauthorized"),
    "never pulled": ({"server": waiting("ErrImageNeverPull")}, "ImagePullFailed", True, "ErrImageNeverPull"),
    "pull of the fetching image": ({"fetch": waiting("ImagePullBackOff", "no")}, "ImagePullFailed", False, "no"),
    "secret": (
        {"server": waiting("CreateContainerConfigError", 'secret "keys" not found')}, "SecretNotFound", False,
        "no Secret keys",
    ),
    "key of a secret": (
        {"server": waiting("CreateContainerConfigError", "couldn't find key faq in Secret team/keys")},
        "SecretNotFound", False, "Secret keys has no key faq",
    ),
    "config map": (
        {"server": waiting("CreateContainerConfigError", 'configmap "x" not found')}, "ConfigMapNotFound", False,
        "no ConfigMap x",
    ),
    "other": ({"server": waiting("CreateContainerError", "subPath")}, "ContainerNotCreated", False, "subPath"),
    "first refusal": ({"server": ended(2, "tunesmith-serving: bad")}, "InvalidArtifact", False, "bad"),
    "second refusal": ({"server": ended(2, "tunesmith-serving: bad", restarts=1)}, "InvalidArtifact", True, "bad"),
    "first refusal, started again": (
        {"server": {**ended(2, "bad", restarts=1), "state": {"running": {}}}}, "InvalidArtifact", False, "bad",
    ),
    "second refusal, started again": (
        {"server": {**ended(2, "bad", restarts=2), "state": {"running": {}}}}, "InvalidArtifact", True, "bad",
    ),
    "just ended": (
        {"server": {"state": {"terminated": {"exitCode": 2, "message": "bad"}}, "restartCount": 1}},
        "InvalidArtifact", True, "bad",
    ),
    "memory": ({"server": ended(137, reason="OOMKilled", restarts=1)}, "OutOfMemory", True, "Raise spec"),
    "killed by others": ({"server": ended(137, restarts=1)}, "ServerFailed", False, "exit code 137"),
    "fetch, unknown URI": (
        {"fetch": ended(12, "INFO x\nModelNotFound: s3://b/a is not there", restarts=1)}, "ModelNotFound", True,
        "s3://b/a is not there",
    ),
    "fetch, an outcome": ({"fetch": ended(12, OUTCOME)}, "ModelNotFound", False, "is not there. Check the URI"),
    "fetch, no network": ({"fetch": ended(65, "x", restarts=9)}, "SourceUnavailable", False, "x"),
    "fetch, memory": ({"fetch": ended(137, reason="OOMKilled", restarts=1)}, "OutOfMemory", True, "memory"),
    "fetch, a code of the server": ({"fetch": ended(2, "usage", restarts=9)}, "FetchFailed", False, "usage"),
    "evicted": (
        {"phase": "Failed", "reason": "Evicted", "message": "disk pressure", "containerStatuses": []}, "Evicted", False,
        "disk pressure",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "reason", "is_final", "said"), CASES.values(), ids=CASES)
def test_trouble(facts, reason, is_final, said):
    trouble = problem_of(a_pod(DEPLOYMENT, **facts))
    if reason is None:
        assert trouble is None
        return
    assert (trouble.reason, trouble.final) == (reason, is_final)
    assert said in str(trouble)
    assert ".." not in str(trouble)


def test_a_ready_container_has_no_trouble_left():
    server = {**ended(137, reason="OOMKilled", restarts=7), "state": {"running": {}}, "ready": True}
    assert problem_of(a_pod(DEPLOYMENT, server=server)) is None


def test_words_are_short_and_on_one_line():
    trouble = problem_of(a_pod(DEPLOYMENT, server=ended(1, "line\n" * 100 + "x" * 2000)))
    assert "\n" not in str(trouble)
    assert len(str(trouble)) < 800


def test_what_is_final_is_told_first():
    pods = [
        a_pod(DEPLOYMENT, "one", server=waiting("ErrImagePull")),
        a_pod(DEPLOYMENT, "two", server=ended(2, "x", restarts=1)),
    ]
    assert most_severe(pods, {}).reason == most_severe(pods[::-1], {}).reason == "InvalidArtifact"
    assert most_severe([], {}) is None
