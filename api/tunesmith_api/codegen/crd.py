"""The two CustomResourceDefinitions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tunesmith_api.codegen.schema import Schema, model_schema
from tunesmith_api.objects.finetunejob import CHANGEABLE, CHANGEABLE_UNTIL_SUCCEEDED, FineTuneJob
from tunesmith_api.objects.inferenceworkspace import InferenceWorkspace
from tunesmith_api.objects.metadata import GROUP, VERSION, ObjectMeta

Column = dict[str, Any]

# Flux and Helm take an object without a status for ready; this one shows that it has not been reconciled yet.
_STATUS_DEFAULT = {"observedGeneration": -1}


def _column(name: str, kind: str, path: str, description: str, *, wide: bool = False) -> Column:
    column: Column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


_REASON = _column(
    "Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why the object is ready, or is not."
)
_AGE = _column("Age", "date", ".metadata.creationTimestamp", "Time since the object was created.")
_PHASE = _column("Phase", "string", ".status.phase", "Where the object stands.")

_FINE_TUNE_JOB_COLUMNS = (
    _PHASE,
    _column("Step", "integer", ".status.progress.step", "Optimizer steps done."),
    _column("Steps", "integer", ".status.progress.totalSteps", "Optimizer steps in all."),
    _column("Loss", "number", ".status.progress.loss", "Newest training loss."),
    _REASON,
    _AGE,
    _column("Method", "string", ".spec.method", "How the weights are trained.", wide=True),
    _column("ETA", "number", ".status.progress.etaSeconds", "Estimated seconds until training is done.", wide=True),
    _column("Artifact", "string", ".status.artifact.uri", "Folder of the artifact.", wide=True),
)
_INFERENCE_WORKSPACE_COLUMNS = (
    _PHASE,
    _column("Ready", "integer", ".status.readyReplicas", "Servers that are ready."),
    _column("Replicas", "integer", ".spec.replicas", "Servers to run."),
    _column("Revision", "string", ".status.revision", "Revision that is being served."),
    _column("Endpoint", "string", ".status.endpoint", "Base URL for clients."),
    _REASON,
    _AGE,
    _column("Job", "string", ".spec.model.fineTuneJob", "FineTuneJob whose result is served.", wide=True),
)


def _root_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a whole object. Of its metadata, a CRD may describe the name only."""
    schema = model_schema(model)
    fields = schema["properties"]
    for name in ("apiVersion", "kind"):
        fields[name] = {key: fields[name][key] for key in ("description", "type")}
    fields["metadata"] = {"type": "object", "properties": {"name": model_schema(ObjectMeta)["properties"]["name"]}}
    status = fields["status"]
    fields["status"] = {
        "description": status.pop("description"),
        "type": "object",
        "default": _STATUS_DEFAULT,
        **status,
    }
    schema = {**schema, "required": ["spec"]}
    if model is FineTuneJob:
        _fix(fields["spec"])
        rules = schema.get("x-kubernetes-validations", [])
        schema["x-kubernetes-validations"] = [*rules, _fixed_after_success(fields["spec"])]
    return schema


def _fix(spec: Schema) -> None:
    """Make a job's fields immutable, in place. Only the API server can check that, as it knows the old object.

    Each field has a rule of its own. Rules of the whole spec would make up a sixth of what a write of the status costs
    the API server: they are evaluated at each write, and their cost grows with the size of the spec.
    """
    rules = spec.setdefault("x-kubernetes-validations", [])
    for name, field in spec["properties"].items():
        if name in CHANGEABLE | CHANGEABLE_UNTIL_SUCCEEDED:
            continue
        message = f"{name} does not change once the job is created; write a new FineTuneJob under another name"
        own = field.get("x-kubernetes-validations", [])
        field["x-kubernetes-validations"] = [*own, {"rule": "self == oldSelf", "message": message}]
        if "default" not in field and name not in spec.get("required", ()):
            # The rule of a field is not evaluated when the field is added or removed.
            rules.append({"rule": f"has(self.{name}) == has(oldSelf.{name})", "message": message})


def _fixed_after_success(spec: Schema) -> dict[str, str]:
    """Return the rule of a whole job that fixes what publish has read, once it has succeeded.

    The rule is evaluated at each write of the status, so it compares nothing before that.
    """
    names = sorted(CHANGEABLE_UNTIL_SUCCEEDED)
    equal = []
    for name in names:
        same = f"self.spec.{name} == oldSelf.spec.{name}"
        if "default" not in spec["properties"][name]:
            is_set = f"has(self.spec.{name})"
            same = f"{is_set} == has(oldSelf.spec.{name}) && (!{is_set} || {same})"
        equal.append(same)
    has_succeeded = "has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase == 'Succeeded'"
    message = (
        f"{', '.join(names[:-1])} and {names[-1]} do not change once the job has succeeded; "
        "write a new FineTuneJob under another name"
    )
    return {"rule": f"!({has_succeeded}) || ({' && '.join(equal)})", "message": message}


def _definition(
    model: type[BaseModel], plural: str, short: str, columns: tuple[Column, ...], subresources: dict[str, Any]
) -> dict[str, Any]:
    kind = model.__name__
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": [GROUP.split(".")[0]],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": list(columns),
        "subresources": subresources,
        "schema": {"openAPIV3Schema": _root_schema(model)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def custom_resource_definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of both kinds."""
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return [
        _definition(FineTuneJob, "finetunejobs", "ftj", _FINE_TUNE_JOB_COLUMNS, {"status": {}}),
        _definition(
            InferenceWorkspace,
            "inferenceworkspaces",
            "iw",
            _INFERENCE_WORKSPACE_COLUMNS,
            {"status": {}, "scale": scale},
        ),
    ]
