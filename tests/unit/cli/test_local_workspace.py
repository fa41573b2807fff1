"""What the fields of an InferenceWorkspace that speak of a cluster mean on one machine."""

import json

import pytest

from support.manifests import job, workspace
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local.artifacts import local_artifact, local_draft
from tunesmith_backend.local.cluster_only import emit_cluster_only_fields
from tunesmith_backend.local.workspace import LocalWorkspace
from tunesmith_cli.terminal.console import out
from tunesmith_cli.terminal.events import print_event


def a_workspace(**spec) -> InferenceWorkspace:
    return InferenceWorkspace.model_validate(workspace("served", **spec))


def a_job(root, name, labels, completed=None) -> FineTuneJob:
    """A job, and where it has completed what it leaves in its work folder."""
    manifest = job(name)
    manifest["metadata"]["labels"] = labels
    if completed:
        folder = root / "default" / name
        (folder / "publish").mkdir(parents=True)
        artifact = {"uri": str(folder / "artifact")}
        (folder / "publish" / "stage.json").write_text(json.dumps({"artifact": artifact}))
        status = {"phase": "Succeeded", "artifact": artifact, "completionTime": completed}
        (folder / "finetunejob-status.json").write_text(json.dumps(status))
    return FineTuneJob.model_validate(manifest)


SELECTOR = {"fineTuneJobSelector": {"matchLabels": {"app": "faq"}}}


def test_a_selector_takes_the_job_that_completed_last(tmp_path):
    jobs = [
        a_job(tmp_path, "old", {"app": "faq"}, "2026-01-01T00:00:00Z"),
        a_job(tmp_path, "new", {"app": "faq", "team": "x"}, "2026-01-02T00:00:00Z"),
        a_job(tmp_path, "running", {"app": "faq"}),
        a_job(tmp_path, "other", {"app": "other"}, "2026-01-03T00:00:00Z"),
    ]
    found = local_artifact(a_workspace(model=SELECTOR), tmp_path, tmp_path, jobs)
    assert found == tmp_path / "default" / "new" / "artifact"


def test_a_selector_without_a_completed_job_says_what_to_do(tmp_path):
    jobs = [a_job(tmp_path, "running", {"app": "faq"}), a_job(tmp_path, "other", {}, "2026-01-03T00:00:00Z")]
    with pytest.raises(
        BackendError, match=r"no FineTuneJob of these files with the labels app=faq has completed here; run"
    ):
        local_artifact(a_workspace(model=SELECTOR), tmp_path, tmp_path, jobs)


def test_a_draft_model_is_found_as_the_model_is(tmp_path):
    a_job(tmp_path, "small", {}, "2026-01-01T00:00:00Z")
    named = a_workspace(runtime={"draftModel": {"fineTuneJob": "small"}})
    assert local_draft(named, tmp_path, tmp_path) == tmp_path / "default" / "small" / "artifact"
    assert (
        local_draft(a_workspace(runtime={"draftModel": {"uri": "./small"}}), tmp_path, tmp_path) == tmp_path / "small"
    )
    assert local_draft(a_workspace(), tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        (
            {"fineTuneJob": "running"},
            "FineTuneJob running of spec.runtime.draftModel has no artifact yet; run",
        ),
        (
            {"fineTuneJob": "tuned"},
            "FineTuneJob tuned publishes an adapter, and a draft model is a whole one",
        ),
        ({"uri": "pvc://claim/a"}, "pvc://claim/a is a volume .* of the folder in spec.runtime.draftModel.uri"),
    ],
)
def test_a_draft_model_that_cannot_be_used_says_what_to_do(tmp_path, draft, said):
    a_job(tmp_path, "tuned", {}, "2026-01-01T00:00:00Z")
    marker = tmp_path / "default" / "tuned" / "publish" / "stage.json"
    marker.write_text(json.dumps({"artifact": {"uri": "./a", "base": {"uri": "./b"}}}))
    with pytest.raises(BackendError, match=said):
        local_draft(a_workspace(runtime={"draftModel": draft}), tmp_path, tmp_path)


def test_a_volume_is_refused(tmp_path):
    with pytest.raises(BackendError, match=r"pvc://claim/a is a volume of a cluster; on one machine write the path"):
        local_artifact(a_workspace(model={"uri": "pvc://claim/a"}), tmp_path, tmp_path, [])


def test_a_key_that_is_asked_for_is_never_left_out(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "manifest.json").write_text("{}")
    auth = {"apiKeySecretRef": {"name": "key", "key": "key"}}
    local = LocalWorkspace(a_workspace(auth=auth), tmp_path, "127.0.0.1", 1)
    with pytest.raises(BackendError, match=r"set TUNESMITH_API_KEY=KEY, or remove auth"):
        local.start(artifact)
    assert local.process is None


@pytest.mark.parametrize(
    ("precisions", "said"),
    [
        ([], r"artifact holds no ONNX model \(its job has export.precisions: \[\]\).*remove precisions: \[\] from"),
        (["fp32"], r"holds no int4 model, but fp32; write spec.runtime.precision: fp32"),
        (["bf16", "fp32"], r"holds no int4 model, but bf16 and fp32; write spec.runtime.precision: fp32"),
        (["bf16", "fp16"], r"holds only bf16 and fp16, which a server on the CPU cannot compute; add fp32, or"),
    ],
)
def test_an_artifact_without_the_precision_is_not_started(tmp_path, precisions, said):
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "manifest.json").write_text(json.dumps({"precisions": precisions}))
    local = LocalWorkspace(a_workspace(runtime={"precision": "int4"}), tmp_path, "127.0.0.1", 1)
    with pytest.raises(BackendError, match=said):
        local.start(artifact)
    assert local.process is None


@pytest.mark.parametrize(
    ("held", "wanted", "served"),
    [
        (["fp32", "int8"], None, "int8"),
        (["fp32", "int4", "int8"], None, "int4"),
        (["bf16", "fp32"], None, "fp32"),
        (["fp32", "int4"], "fp32", "fp32"),
        (None, None, None),
    ],
)
def test_without_a_precision_the_smallest_is_served(tmp_path, held, wanted, served):
    from tunesmith_api.spec.runtime import RuntimeSpec
    from tunesmith_backend.local.artifacts import require_precision

    manifest = {} if held is None else {"precisions": held}
    assert require_precision(manifest, RuntimeSpec(precision=wanted), tmp_path) == served


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, ""),
        ({"resources": {}, "rollout": {"drainSeconds": 5}}, ""),
        ({"resources": {"cpu": 2}}, "resources"),
        (
            {
                "model": {"uri": "s3://b/a", "secretRef": {"name": "s"}},
                "podTemplate": {"labels": {"a": "b"}},
                "rollout": {"drainSeconds": 9},
            },
            "model.secretRef, rollout, podTemplate",
        ),
    ],
)
def test_what_concerns_clusters_only_is_told_in_one_line(spec, said):
    with out.capture() as captured:
        emit_cluster_only_fields(ref_of(a_workspace()), a_workspace(**spec).spec, print_event)
    expected = f"InferenceWorkspace served  {said}: for clusters only, without effect here\n" if said else ""
    assert captured.get() == expected
