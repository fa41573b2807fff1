"""The list of adapters that a server on this machine follows."""

import json

import pytest

from tunesmith_api.objects import InferenceWorkspace
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_backend.local.adapters import LocalAdapters
from tunesmith_backend.local.artifacts import local_artifact
from tunesmith_backend.local.objects import ObjectFolder, Stored
from tunesmith_backend.local.store import StatusFile

BASE, OTHER = "sha256:" + "f" * 64, "sha256:" + "e" * 64
LABELS = {"base": "support"}
FOLLOWING = {"matchLabels": LABELS}


def a_workspace(**spec):
    metadata = {"name": "faq", "namespace": "default"}
    return InferenceWorkspace.model_validate(
        {"kind": "InferenceWorkspace", "metadata": metadata, "spec": {"model": {"uri": "./base"}, **spec}}
    )


def run_job(root, name, base=BASE, *, phase="Succeeded", completed="2026-01-01T00:00:00Z", **metadata):
    """Leave what another command leaves that has run a job with export.adapterOnly (with a base)."""
    ref = ObjectRef("FineTuneJob", name)
    objects = ObjectFolder(root)
    spec = {"model": {"scratch": {}}, "method": "lora", "dataset": {"sources": [{"uri": "./rows.jsonl"}]}}
    manifest = {"kind": "FineTuneJob", "metadata": {"name": name, "namespace": "default", **metadata}, "spec": spec}
    objects.put(ref, Stored(root, manifest))
    artifact = {"uri": f"/out/{name}", "digest": f"sha256:{name}"}
    if base:
        artifact["base"] = {"uri": "/out/base", "digest": base}
    status = {"phase": phase, "completionTime": completed, **({"artifact": artifact} if phase == "Succeeded" else {})}
    StatusFile(objects.folder(ref), "FineTuneJob").write(status)
    marker = objects.folder(ref) / "publish" / "stage.json"
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(json.dumps({"artifact": artifact}))


def adapters_of(root, **spec):
    found = LocalAdapters.of(a_workspace(**spec), root, root, [])
    assert found is not None
    found.write(BASE)
    return found


def listed(found):
    return {item["name"]: item["path"] for item in json.loads(found.file.read_bytes())["adapters"]}


def test_without_adapters_there_is_no_list(tmp_path):
    run_job(tmp_path, "whole", base="")
    for model in ({"uri": "./base"}, {"fineTuneJob": "whole"}):
        assert LocalAdapters.of(a_workspace(model=model), tmp_path, tmp_path, []) is None
    assert listed(adapters_of(tmp_path, adapters=[])) == {}


def test_of_an_adapters_job_the_base_is_served_and_the_adapter_beside_it(tmp_path):
    run_job(tmp_path, "first")
    model = {"fineTuneJob": "first"}
    assert str(local_artifact(a_workspace(model=model), tmp_path, tmp_path, [])) == "/out/base"
    assert listed(adapters_of(tmp_path, model=model)) == {"first": "/out/first"}


def test_what_other_commands_run_comes_and_goes(tmp_path):
    listing = [{"name": "near", "uri": "./near"}, {"name": "far", "uri": "s3://bucket/far"}]
    found = adapters_of(tmp_path, adapters=listing, adapterSelector=FOLLOWING)
    given = {"far": "s3://bucket/far", "near": str(tmp_path / "near")}
    assert listed(found) == given
    version = json.loads(found.file.read_bytes())["version"]
    run_job(tmp_path, "second", labels=LABELS)
    run_job(tmp_path, "works", labels=LABELS, phase="Training")
    run_job(tmp_path, "unlabelled")
    run_job(tmp_path, "old", labels=LABELS, annotations={"tunesmith.dev/adapter-name": "billing"})
    run_job(
        tmp_path, "new", labels=LABELS, annotations={"tunesmith.dev/adapter-name": "billing"},
        completed="2026-02-01T00:00:00Z",
    )  # fmt: skip
    found.write()
    assert listed(found) == {**given, "second": "/out/second", "billing": "/out/new"}
    assert json.loads(found.file.read_bytes())["version"] != version
    ObjectFolder(tmp_path).delete(ObjectRef("FineTuneJob", "second"))
    found.write()
    assert "second" not in listed(found)


@pytest.mark.parametrize(
    ("base", "phase", "state", "said"),
    [
        (OTHER, "Succeeded", "Failed", "was trained on another base model (sha256:eeeeeeeeee) than the one that is"),
        ("", "Succeeded", "Failed", "is a whole model; train it with export: {adapterOnly: true}"),
        (BASE, "Training", "Pending", "FineTuneJob x is Training"),
        (BASE, "Failed", "Failed", "FineTuneJob x is Failed"),
        (None, "", "Pending", "FineTuneJob x has not been run here"),
    ],
)
def test_what_is_not_served_is_said(tmp_path, base, phase, state, said):
    if base is not None:
        run_job(tmp_path, "x", base, phase=phase)
    found = adapters_of(tmp_path, adapters=[{"name": "a", "fineTuneJob": "x"}])
    assert listed(found) == {}
    (item,) = found.states("http://127.0.0.1:9")
    assert (item["state"], said in item["message"]) == (state, True)


def test_a_job_with_the_workspaces_name_needs_another(tmp_path):
    run_job(tmp_path, "faq")
    found = adapters_of(tmp_path, model={"fineTuneJob": "faq"})
    assert listed(found) == {}
    assert "the name of the workspace" in found.states("http://127.0.0.1:9")[0]["message"]
