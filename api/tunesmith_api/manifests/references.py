"""References between objects: a ConfigMap must be among the manifests, a job need not be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tunesmith_api.manifests.findings import Finding, Ignored, Source
from tunesmith_api.manifests.nodes import path_of
from tunesmith_api.manifests.objects import LoadedFineTuneJob, LoadedInferenceWorkspace
from tunesmith_api.manifests.result import Manifests
from tunesmith_api.spec import ConfigMapKeyRef
from tunesmith_api.spec.execution_providers import CPU
from tunesmith_api.spec.runtime import servable, served_precision
from tunesmith_api.tasks import DEFAULT_TASK, TASKS

_SHOWN = 8


def check_references(manifests: Manifests, names: Mapping[tuple[str, str, str], Source]) -> None:
    """Report references to missing objects, in the findings and notes of `manifests`.

    Args:
        manifests: The objects.
        names: Every object in the manifests, valid or not: `{(kind, namespace, name): source}`.
    """
    for job in manifests.fine_tune_jobs:
        namespace = job.metadata.namespace or "default"
        for location, ref in _config_map_refs(job):
            contents = manifests.config_maps.get((namespace, ref.name))
            if contents is None and ("ConfigMap", namespace, ref.name) in names:
                continue  # It exists, and its own findings say what is wrong with it.
            if contents is None:
                there = [name for kind, space, name in names if kind == "ConfigMap" and space == namespace]
                location = (*location, "name")
                message = f"there is no ConfigMap {ref.name} in namespace {namespace} among these files"
                remedy = f"write one of {_listed(there)}" if there else "add its manifest to the folder"
            elif ref.key not in contents:
                location = (*location, "key")
                message = f"ConfigMap {ref.name} has no key {ref.key}"
                remedy = f"write one of {_listed(contents)}" if contents else "write the rows into its data"
            else:
                continue
            line = job.document.line_of(location)
            manifests.findings.append(Finding(job.source.file, line, path_of(location), message, remedy))
    for workspace in manifests.inference_workspaces:
        name = workspace.spec.model.fine_tune_job
        namespace = workspace.metadata.namespace or "default"
        if name is not None and ("FineTuneJob", namespace, name) not in names:
            line = workspace.document.line_of(("spec", "model", "fineTuneJob"))
            message = f"spec.model.fineTuneJob: {name} is not among these files; it must have been run before"
            manifests.notes.append(Ignored(workspace.source.file, line, message))
        _check_adapters(manifests, workspace, names)
        _check_draft(manifests, workspace, names)
    _check_precisions(manifests)


def _check_adapters(
    manifests: Manifests, workspace: LoadedInferenceWorkspace, names: Mapping[tuple[str, str, str], Source]
) -> None:
    """Report adapters of jobs that are not there, or that publish a whole model."""
    namespace = workspace.metadata.namespace or "default"
    jobs = {(job.metadata.namespace or "default", job.metadata.name): job for job in manifests.fine_tune_jobs}
    for index, adapter in enumerate(workspace.spec.adapters or ()):
        name = adapter.fine_tune_job
        if name is None:
            continue
        location = ("spec", "adapters", index, "fineTuneJob")
        line = workspace.document.line_of(location)
        job = jobs.get((namespace, name))
        if job is not None and not job.spec.export.adapter_only:
            message = f"FineTuneJob {name} publishes a whole model, not an adapter"
            remedy = "write export: {adapterOnly: true} in the job, or remove this adapter"
            _report(manifests, workspace, location, message, remedy)
        elif ("FineTuneJob", namespace, name) not in names:
            message = f"{path_of(location)}: {name} is not among these files; it must have been run before"
            manifests.notes.append(Ignored(workspace.source.file, line, message))


def _report_batch_precision(
    manifests: Manifests, workspace: LoadedInferenceWorkspace, job: str | None, wanted: str
) -> None:
    location = ("spec", "runtime", "batchPrecision")
    message = f"is {wanted}, which FineTuneJob {job} does not export"
    remedy = f"add {wanted} to its export.precisions, or remove batchPrecision"
    _report(manifests, workspace, location, message, remedy)


def _report_kv_cache(manifests: Manifests, workspace: LoadedInferenceWorkspace, job: str | None, provider: str) -> None:
    location = ("spec", "runtime", "executionProvider")
    message = f"is {provider}, which cannot keep keys and values in int8 as FineTuneJob {job} exports them"
    remedy = "write executionProvider: cpu, or remove export.kvCache from the job"
    _report(manifests, workspace, location, message, remedy)


def _report(
    manifests: Manifests,
    workspace: LoadedInferenceWorkspace,
    location: tuple[str | int, ...],
    message: str,
    remedy: str,
) -> None:
    line = workspace.document.line_of(location)
    manifests.findings.append(Finding(workspace.source.file, line, path_of(location), message, remedy))


def _check_draft(
    manifests: Manifests, workspace: LoadedInferenceWorkspace, names: Mapping[tuple[str, str, str], Source]
) -> None:
    """Report a draft model of a job that is not there, that publishes an adapter, or that has another task."""
    draft = workspace.spec.runtime.draft_model
    if draft is None or (name := draft.fine_tune_job) is None:
        return
    namespace = workspace.metadata.namespace or "default"
    location = ("spec", "runtime", "draftModel", "fineTuneJob")
    line = workspace.document.line_of(location)
    jobs = {(job.metadata.namespace or "default", job.metadata.name): job for job in manifests.fine_tune_jobs}
    job = jobs.get((namespace, name))
    if ("FineTuneJob", namespace, name) not in names:
        message = f"{path_of(location)}: {name} is not among these files; it must have been run before"
        manifests.notes.append(Ignored(workspace.source.file, line, message))
    if job is None:
        return
    message = remedy = ""
    if job.spec.export.adapter_only:
        message = f"FineTuneJob {name} publishes an adapter, and a draft model is a whole one"
        remedy = "write export: {adapterOnly: false} in the job, or remove draftModel"
    elif job.spec.task != DEFAULT_TASK:
        message = f"FineTuneJob {name} has the task {job.spec.task}, and a draft model generates text"
        remedy = "name a job with task: textGeneration, or remove draftModel"
    elif not servable(precision.value for precision in job.spec.precisions):
        message = f"FineTuneJob {name} exports nothing that a server on the CPU can compute"
        remedy = "write export.precisions: [int4] in the job, or remove draftModel"
    if message:
        _report(manifests, workspace, location, message, remedy)


def _check_precisions(manifests: Manifests) -> None:
    """Report workspaces that ask for a precision which the job that they name does not export, or for any of none."""
    jobs = {(job.metadata.namespace or "default", job.metadata.name): job for job in manifests.fine_tune_jobs}
    for workspace in manifests.inference_workspaces:
        name, wanted = workspace.spec.model.fine_tune_job, workspace.spec.runtime.precision
        job = jobs.get((workspace.metadata.namespace or "default", name or ""))
        if job is None:
            continue
        exported = [precision.value for precision in job.spec.precisions]
        provider = workspace.spec.runtime.execution_provider
        by, who = (provider, job.spec.task), "a server on the CPU" if provider == CPU else f"the provider {provider}"
        batch = workspace.spec.runtime.batch_precision
        if served_precision(exported, wanted, *by) in exported:
            if batch is not None and batch not in exported:
                _report_batch_precision(manifests, workspace, name, batch)
            if job.spec.export.kv_cache is not None and provider != CPU:
                _report_kv_cache(manifests, workspace, name, provider)
            continue
        location: tuple[str | int, ...] = ("spec", "runtime", "precision")
        if wanted is None:
            location = ("spec", "model", "fineTuneJob")
        found = f"(its export.precisions: [{', '.join(exported)}])"
        message = f"is {wanted}, which FineTuneJob {name} does not export {found}"
        if wanted is None:
            message = f"FineTuneJob {name} exports nothing that {who} can compute {found}"
        add: str = wanted or next(iter(servable(TASKS[job.spec.task].precisions, *by)), "fp32")
        if provider == CPU and wanted is None:
            add = TASKS[job.spec.task].default_precisions[0]
        served = servable(exported, *by)
        remedy = f"write precision: {served[0]}, or add {wanted} to export.precisions" if served else ""
        if exported and not served:
            remedy = f"add {add} to export.precisions; {who} cannot compute {' or '.join(exported)}"
        if not exported:
            location = ("spec", "model", "fineTuneJob")
            message = f"FineTuneJob {name} exports no ONNX model to serve (its export.precisions: [])"
            remedy = f"write export.precisions: [{add}] in the job, or remove this workspace"
        _report(manifests, workspace, location, message, remedy)


def _config_map_refs(job: LoadedFineTuneJob) -> Iterator[tuple[tuple[str | int, ...], ConfigMapKeyRef]]:
    """Yield the ConfigMap keys that a job reads, with their locations."""
    dataset = job.spec.dataset
    places = ((("spec", "dataset", "sources"), dataset.sources), (_VALIDATION, dataset.validation.sources or ()))
    for location, sources in places:
        for index, source in enumerate(sources):
            if source.config_map_key_ref is not None:
                yield (*location, index, "configMapKeyRef"), source.config_map_key_ref


_VALIDATION = ("spec", "dataset", "validation", "sources")


def _listed(words: Mapping[str, bytes] | list[str]) -> str:
    shown = sorted(words)
    more = f" (and {len(shown) - _SHOWN} more)" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
