"""What a server's pod has for its draft model."""

from __future__ import annotations

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.model import Target
from tunesmith_operator.inferenceworkspace.pod import fetcher

FETCH_DRAFT = "fetch-draft"
MOUNT = "/draft"
_VOLUME = "draft"


def add_draft_model(
    pod: KubeObject, spec: InferenceWorkspaceSpec, target: Target, draft: Target, settings: OperatorSettings
) -> None:
    """Add to a pod what its server needs to load a draft model, in place.

    Args:
        pod: The pod's spec.
        spec: The workspace's spec.
        target: The artifact that is served.
        draft: That of the draft model.
        settings: Images and the like.
    """
    server = pod["containers"][0]
    server["args"] += ["--draft-model", MOUNT, *(("--draft-digest", draft.digest) if draft.digest else ())]
    volume, mount = _volume(target, draft)
    pod["volumes"] += volume
    server["volumeMounts"].append(mount)
    if draft.claim is None:
        given = spec.runtime.draft_model.secret_ref if spec.runtime.draft_model else None
        container = fetcher(
            FETCH_DRAFT, spec, draft.uri, MOUNT, given.name if given else draft.secret, settings, _VOLUME
        )
        # Before the container that fetches adapters, which runs beside the server.
        pod["initContainers"] = [container, *pod.get("initContainers", ())]


def _volume(target: Target, draft: Target) -> tuple[list[KubeObject], KubeObject]:
    """Return the volume of the draft model, unless the pod has it already, and the server's mount."""
    mount: KubeObject = {"name": _VOLUME, "mountPath": MOUNT, "readOnly": True}
    if draft.claim is None:
        return [{"name": _VOLUME, "emptyDir": {}}], mount
    claim, path = draft.claim
    if path:
        mount["subPath"] = path
    if target.claim is not None and target.claim[0] == claim:
        return [], {**mount, "name": "artifact"}
    return [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}], mount
