"""The Deployment of a workspace: one server per pod, new pods before old ones are removed."""

from __future__ import annotations

import hashlib
import json

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.draft import add_draft_model
from tunesmith_operator.inferenceworkspace.metadata import (
    REVISION,
    TEMPLATE,
    claim_label,
    labels_of,
    metadata_of,
    selector_of,
)
from tunesmith_operator.inferenceworkspace.model import Target
from tunesmith_operator.inferenceworkspace.pod import SERVER, pod_spec
from tunesmith_operator.pods.base import template_metadata

MIN_READY_SECONDS = 1
_REVISIONS_KEPT = 3


def deployment(
    workspace: KubeObject,
    spec: InferenceWorkspaceSpec,
    target: Target,
    settings: OperatorSettings,
    *,
    secret: str | None,
    one_node: str | None,
    draft: Target | None = None,
) -> KubeObject:
    """Return the Deployment.

    Args:
        workspace: The InferenceWorkspace.
        spec: Its spec.
        target: The artifact to serve.
        settings: Images and the like.
        secret: Secret with the variables that fetching the artifact takes.
        one_node: The claim of an artifact that can be mounted on one node only, if there is one.
        draft: The artifact of the draft model, if there is one.
    """
    pod = pod_spec(workspace, spec, target, settings, secret=secret, one_node=one_node)
    if draft is not None:
        add_draft_model(pod, spec, target, draft, settings)
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
            "template": _template(workspace, spec, target, pod, one_node),
        },
    }


def template_of(obj: KubeObject) -> str:
    """Return the template hash of a workspace's Deployment."""
    labels = obj["spec"]["template"]["metadata"].get("labels") or {}
    return str(labels.get(TEMPLATE, ""))


def _template(
    workspace: KubeObject, spec: InferenceWorkspaceSpec, target: Target, pod: KubeObject, one_node: str | None
) -> KubeObject:
    labels = {**labels_of(workspace), REVISION: target.revision, **(claim_label(one_node) if one_node else {})}
    annotations = {"kubectl.kubernetes.io/default-container": SERVER}
    metadata = template_metadata(spec.pod_template, labels, annotations)
    content = json.dumps([metadata, pod], sort_keys=True)
    metadata["labels"][TEMPLATE] = hashlib.sha256(content.encode()).hexdigest()[:10]
    return {"metadata": metadata, "spec": pod}
