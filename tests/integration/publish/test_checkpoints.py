"""Checkpoints before the last are published as the result is: each an artifact, proven to be of its step's weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.tiny_models import build_model
from support.trained_jobs import make_job, trained
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.storage.files import digest_of_tree

FP32 = {"precisions": ["fp32"], "parity": {"rows": 2}}
SEEDS = {4: 11, 6: 12, 8: 1}
"""The seed that the weights of a step are drawn with."""
Json = dict[str, Any]


def run(work: Path) -> Json:
    return run_stage(Stage.PUBLISH, publish, work)


def manifest_of(folder: Path) -> Json:
    return dict(json.loads((folder / "manifest.json").read_bytes()))


def with_epochs(work: Path) -> Path:
    """Do what train does with training.checkpoint.publish: leave weights of steps 4 and 6 beside those of step 8."""
    train = work / "train"
    for step, seed in SEEDS.items():
        trained(work, seed=seed)
        if step != 8:
            (train / "epochs").mkdir(exist_ok=True)
            (train / "final").rename(train / "epochs" / f"step-{step}")
    (train / "training_log.jsonl").write_text(
        "".join(json.dumps({"step": step, "loss": 9.0 - step, "tokens": step}) + "\n" for step in range(1, 9))
    )
    ends = {str(step): digest_of_tree(train / "epochs" / f"step-{step}") for step in (4, 6)}
    about = {"steps": 8, "epochs": 4.0, "publishedStep": 8, "epochEnds": ends, "final": digest_of_tree(train / "final")}
    marker = json.loads((train / "stage.json").read_bytes())
    (train / "stage.json").write_text(json.dumps({**marker, **about}))
    return work


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def place(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job in `job`, and its result and two checkpoints published in `out`. Not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    gates = {"gates": [{"metric": "evalLoss", "max": 100}]}
    output = {"uri": str(folder / "out" / "model")}
    run(with_epochs(make_job(folder / "job", base=base, export=FP32, output=output, evaluation=gates)))
    return folder


def test_each_is_an_artifact_of_its_steps_weights(place: Path, base: Path, tmp_path: Path) -> None:
    marker = json.loads((place / "job" / "publish" / "stage.json").read_bytes())
    out = place / "out"
    assert sorted(path.name for path in out.iterdir()) == ["model", "model-step-4", "model-step-6"]
    assert marker["artifact"] == {
        "uri": str(out / "model"),
        "digest": manifest_of(out / "model")["digest"],
        "step": 8,
        "checkpoints": [
            {"step": n, "uri": str(out / f"model-step-{n}"), "digest": manifest_of(out / f"model-step-{n}")["digest"]}
            for n in (4, 6)
        ],
    }
    for step in (4, 6):
        artifact = out / f"model-step-{step}"
        manifest = manifest_of(artifact)
        adapter = "adapter_model.safetensors"
        assert (artifact / "adapter" / adapter).read_bytes() == (
            place / "job" / "train" / "epochs" / f"step-{step}" / adapter
        ).read_bytes()
        assert manifest["training"]["publishedStep"] == manifest["training"]["steps"] == step
        assert (manifest["training"]["epochs"], manifest["training"]["tokens"]) == (step / 2, step)
        assert len((artifact / "training_log.jsonl").read_text().splitlines()) == step
        assert manifest["parity"]["fp32"]["maxLogitDifference"] < 1e-4 and "template" in manifest["parity"]
        assert "model.onnx" in open_artifact(artifact, "fp32").files
    logits = {path.name: OnnxModel(path / "onnx" / "fp32").logits([5, 80, 33]).tolist() for path in out.iterdir()}
    assert len({json.dumps(found) for found in logits.values()}) == 3
    # A job whose result are the weights of step 4 has the same export.
    other = make_job(tmp_path / "other", base=base, export=FP32)
    trained(other, seed=SEEDS[4])
    run(other)
    assert digest_of_tree(other / "artifact" / "onnx") == digest_of_tree(out / "model-step-4" / "onnx")


def test_a_second_run_writes_the_same(place: Path) -> None:
    before = json.loads((place / "job" / "publish" / "stage.json").read_bytes())["artifact"]
    shutil.rmtree(place / "job" / "publish")
    shutil.rmtree(place / "out" / "model-step-6")
    assert run(place / "job")["artifact"] == before


def test_weights_that_training_did_not_write_are_refused(place: Path, tmp_path: Path) -> None:
    work = tmp_path / "job"
    shutil.copytree(place / "job", work, ignore=shutil.ignore_patterns("checkpoints"))
    (work / "publish" / "stage.json").unlink()
    final, step = (work / "train" / name / "adapter_model.safetensors" for name in ("final", "epochs/step-6"))
    step.unlink()
    shutil.copy(final, step)
    with pytest.raises(StageError, match="are not those that this job's training wrote") as raised:
        run(work)
    assert raised.value.reason is Reason.PARITY_FAILED


def test_one_that_does_not_pass_is_left_out(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = tmp_path / "job"
    shutil.copytree(place / "job", work, ignore=shutil.ignore_patterns("step-4"))
    (work / "publish" / "stage.json").unlink()
    shutil.copytree(place / "job" / "train" / "epochs" / "step-4", work / "train" / "epochs" / "step-4")
    settings = work / "train" / "epochs" / "step-4" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "r": 3}))
    marker = json.loads((work / "train" / "stage.json").read_bytes())
    marker["epochEnds"]["4"] = digest_of_tree(settings.parent)
    (work / "train" / "stage.json").write_text(json.dumps(marker))
    (found,) = run(work)["artifact"]["checkpoints"]
    assert found["step"] == 6
    assert "step-4 is not published" in caplog.text


def test_checkpoints_of_adapters_share_the_base(base: Path, tmp_path: Path) -> None:
    export = {"adapterOnly": True, **FP32}
    work = with_epochs(
        make_job(tmp_path / "job", base=base, export=export, output={"uri": str(tmp_path / "out/model")})
    )
    artifact = run(work)["artifact"]
    (folder,) = (tmp_path / "out").glob("base-*")
    for checkpoint in artifact["checkpoints"]:
        manifest = manifest_of(Path(checkpoint["uri"]))
        assert (manifest["kind"], manifest["base"]["uri"]) == ("adapter", f"../{folder.name}")
        assert manifest["parity"]["fp32"]["maxLogitDifference"] < 2e-5
