"""The base URL in a workspace's status is the one that the clients of its task take."""

from pathlib import Path

import httpx
from huggingface_hub import InferenceClient

from support.one_pass_artifacts import make_one_pass_artifact
from support.ports import free_port
from tunesmith_api.objects import InferenceWorkspace
from tunesmith_backend.local.workspace import LocalWorkspace


def test_the_endpoint_of_a_classifier_is_that_of_its_clients(tmp_path: Path) -> None:
    artifact = make_one_pass_artifact(tmp_path / "artifact", "sequenceClassification")
    manifest = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "InferenceWorkspace",
        "metadata": {"name": "mood"},
        "spec": {"model": {"uri": str(artifact)}},
    }
    workspace = InferenceWorkspace.model_validate(manifest)
    local = LocalWorkspace(workspace, tmp_path / "work", "127.0.0.1", free_port(), log=tmp_path / "log")
    try:
        local.start(artifact)
        endpoint = local.file.status["endpoint"]
        assert {found.label for found in InferenceClient(model=endpoint).text_classification("fine")} == {
            "good",
            "bad",
            "so so",
        }
        answer = httpx.post(f"{endpoint}/predict", json={"inputs": [["fine"]]})
        assert answer.status_code == 200 and len(answer.json()[0]) == 3
    finally:
        local.stop()
