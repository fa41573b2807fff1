"""The reconciler of InferenceWorkspaces."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from tunesmith_api.objects import InferenceWorkspaceSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.invalid import invalid_spec
from tunesmith_operator.engine.reconciler import Context, Decision, KubeObject, Store
from tunesmith_operator.inferenceworkspace.adapters.servers import Ask, ask_servers
from tunesmith_operator.inferenceworkspace.decide import decide, refuse
from tunesmith_operator.inferenceworkspace.observe import observe
from tunesmith_operator.inferenceworkspace.source import adapter_name, matches, name_of


class InferenceWorkspaceReconciler:
    """Runs the servers of an InferenceWorkspace as a Deployment.

    Args:
        settings: Images and the like.
        ask: Asks servers for their adapters.
    """

    kind = "InferenceWorkspace"

    def __init__(self, settings: OperatorSettings, ask: Ask = ask_servers) -> None:
        self._settings = settings
        self._ask = ask

    async def reconcile(self, obj: KubeObject, context: Context) -> Decision:
        """Return the decision about a workspace that exists."""
        try:
            spec = InferenceWorkspaceSpec.model_validate(obj["spec"])
        except ValidationError as error:
            return refuse(obj, invalid_spec(error))
        return decide(await observe(obj, spec, context, self._ask), self._settings)

    def map_to_names(self, kind: str, obj: KubeObject, store: Store) -> list[str]:
        """Return the names of the workspaces that name, follow or serve a FineTuneJob."""
        if kind != "FineTuneJob":
            return []
        workspaces = store.all("InferenceWorkspace", obj["metadata"]["namespace"])
        return [name_of(workspace) for workspace in workspaces if _concerns(obj, workspace)]


def _concerns(job: KubeObject, workspace: KubeObject) -> bool:
    model: dict[str, Any] = workspace["spec"].get("model") or {}
    draft: dict[str, Any] = (workspace["spec"].get("runtime") or {}).get("draftModel") or {}
    name = name_of(job)
    if name in (model.get("fineTuneJob"), draft.get("fineTuneJob")):
        return True
    resolved = (workspace.get("status") or {}).get("resolved") or {}
    served_jobs = (resolved.get(which) or {} for which in ("model", "draftModel"))
    if any((item.get("value") or {}).get("fineTuneJob") == name for item in served_jobs):
        return True
    if any(adapter.get("fineTuneJob") == name for adapter in workspace["spec"].get("adapters") or ()):
        return True
    # A job that has lost its label, or has another name for its adapter now.
    served = {adapter["name"] for adapter in (workspace.get("status") or {}).get("adapters") or ()}
    if served & {name, adapter_name(job)}:
        return True
    selectors = (model.get("fineTuneJobSelector"), workspace["spec"].get("adapterSelector"))
    return any(matches(selector.get("matchLabels") or {}, job) for selector in selectors if selector)
