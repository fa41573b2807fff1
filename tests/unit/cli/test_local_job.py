"""What the fields of a FineTuneJob that speak of a cluster mean on one machine."""

import json

import pytest

from support.manifests import job
from tunesmith_api.objects import FineTuneJob
from tunesmith_api.spec import TrainingJobSpec
from tunesmith_backend.local import children
from tunesmith_backend.local.job import LocalJob
from tunesmith_cli.terminal.console import Exit, out
from tunesmith_cli.terminal.events import exit_code, print_event


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """The stages that would have been started; each fails at once, in a way that can pass."""
    stages: list[str] = []

    def start(module, arguments, **_):
        stages.append(arguments[0])

    monkeypatch.setattr(children, "start", start)
    monkeypatch.setattr(children, "wait", lambda *_: 66)
    return stages


def run(tmp_path, **spec):
    """Run a job and return how it ended, what was said, and its folder."""
    local = LocalJob(FineTuneJob.model_validate(job(**spec)), tmp_path, tmp_path, emit=print_event)
    with out.capture() as captured:
        result = local.run({("default", "tiny-data"): {"rows.jsonl": b"{}"}}, restart=False)
    return exit_code(result.failure), captured.get(), tmp_path / "default" / "tiny"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"resources": {"nodes": 1, "gpusPerNode": 2}}, "resources"),
        ({"scheduling": {"maxRestarts": 9}, "storage": {"size": "9Gi"}}, "scheduling, storage"),
        ({"output": {"retain": False}, "ttlSecondsAfterFinished": 9}, "output.retain, ttlSecondsAfterFinished"),
        ({"podTemplate": {"labels": {"a": "b"}}}, "podTemplate"),
    ],
)
def test_what_has_no_effect_is_said_in_one_line(tmp_path, started, spec, named):
    _, said, _ = run(tmp_path, **spec)
    (line,) = [line for line in said.splitlines() if "for clusters only" in line]
    assert f" {named}: " in line
    assert started == ["prepare"]


def test_nothing_is_said_of_what_is_not_there(tmp_path, started):
    _, said, _ = run(tmp_path, resources={}, suspend=False)
    assert "clusters only" not in said
    assert "secretRef" not in said


def test_secrets_are_variables_here(tmp_path, started):
    spec = {"model": {"uri": "hf://a/b", "secretRef": {"name": "hub"}}, "method": "lora"}
    output = {"uri": "s3://b/a", "secretRef": {"name": "storage"}}
    _, said, folder = run(tmp_path, **spec, output=output)
    assert "set the variables that hub, storage would hold yourself" in said
    # The trainer is given what it reads, and no more.
    written = json.loads((folder / "config.json").read_text())["spec"]
    assert written["model"] == {"uri": "hf://a/b"}
    assert written["output"] == {"uri": "s3://b/a"}
    assert written.keys() <= TrainingJobSpec.model_fields.keys()


def test_a_suspended_job_is_not_run(tmp_path, started):
    code, said, folder = run(tmp_path, suspend=True)
    assert (code, started) == (Exit.OK, [])
    assert "suspend is true" in said
    status = json.loads((folder / "finetunejob-status.json").read_text())
    assert (status["phase"], {item["reason"] for item in status["conditions"]}) == ("Pending", {"Suspended"})
    # And goes on when it is not suspended any more.
    run(tmp_path)
    assert started == ["prepare"]


def test_relative_outputs_start_at_the_manifest(tmp_path, started):
    _, _, folder = run(tmp_path, output={"uri": "./artifacts/a"})
    written = json.loads((folder / "config.json").read_text())["spec"]
    assert written["output"] == {"uri": str(tmp_path / "artifacts" / "a")}
