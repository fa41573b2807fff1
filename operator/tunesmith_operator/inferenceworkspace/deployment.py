"""The Deployment of a workspace: one server a pod, new ones before old ones go."""

from __future__ import annotations

import hashlib
import json

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.inferenceworkspace.metadata import REVISION, TEMPLATE, labels_of, metadata_of, selector_of
from tunesmith_operator.inferenceworkspace.model import Target
from tunesmith_operator.inferenceworkspace.pod import pod_spec

MIN_READY_SECONDS = 1
_REVISIONS_KEPT = 3


def deployment(
    workspace: Object,
    spec: InferenceWorkspaceSpec,
    target: Target,
    settings: OperatorSettings,
    *,
    secret: str | None,
    one_node: bool,
) -> Object:
    """Return the Deployment.

    Args:
        workspace: The InferenceWorkspace.
        spec: Its spec.
        target: The artifact to serve.
        settings: Images and the like.
        secret: Secret with the variables that fetching the artifact takes.
        one_node: Whether the artifact's volume can be mounted on one node only.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata_of(workspace),
        "spec": {
            "replicas": spec.replicas,
            "minReadySeconds": MIN_READY_SECONDS,
            "progressDeadlineSeconds": spec.rollout.progress_deadline_seconds,
            "revisionHistoryLimit": _REVISIONS_KEPT,
            "selector": {"matchLabels": selector_of(workspace)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": _template(workspace, spec, target, settings, secret, one_node),
        },
    }


def template_of(obj: Object) -> str:
    """Return the hash of the template that a Deployment of ours has."""
    labels = obj["spec"]["template"]["metadata"].get("labels") or {}
    return str(labels.get(TEMPLATE, ""))


def _template(
    workspace: Object,
    spec: InferenceWorkspaceSpec,
    target: Target,
    settings: OperatorSettings,
    secret: str | None,
    one_node: bool,
) -> Object:
    added = spec.pod_template
    labels = {**(added.labels or {} if added else {}), **labels_of(workspace), REVISION: target.revision}
    metadata: Object = {"labels": labels, "annotations": {"kubectl.kubernetes.io/default-container": "server"}}
    if added and added.annotations:
        metadata["annotations"] |= added.annotations
    pod = pod_spec(workspace, spec, target, settings, secret=secret, one_node=one_node)
    content = json.dumps([metadata, pod], sort_keys=True)
    labels[TEMPLATE] = hashlib.sha256(content.encode()).hexdigest()[:10]
    return {"metadata": metadata, "spec": pod}
