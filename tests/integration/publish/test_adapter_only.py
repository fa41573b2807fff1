"""A job with export.adapterOnly publishes a small adapter, and its base once for all jobs that share it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.manifests import config_map, job
from support.tiny_models import build_model
from support.trained_jobs import make_job, trained, write_config
from tunesmith_api.artifact import ADAPTER, LORA_BASE, artifact_digest
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_trainer.export.lora.inputs import lora_inputs
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.storage.filesystems import open_source, put_folder
from tunesmith_trainer.train.distributed.topology import NodeTopology

PARITY = {"rows": 2, "minNextTokenAgreement": 0.3, "maxPerplexityIncrease": 5}
EXPORT = {"adapterOnly": True, "precisions": ["fp32", "int4"], "parity": PARITY}
Json = dict[str, Any]


def run(work: Path) -> Json:
    return run_stage(Stage.PUBLISH, publish, work)


def manifest_of(folder: Path) -> Json:
    return json.loads((folder / "manifest.json").read_bytes())


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, and the adapters of two jobs on it in `out`; `marker-first.json` is the first one's result."""
    folder = tmp_path_factory.mktemp("adapters")
    base = build_model(folder / "model")
    for name in ("first", "second"):
        gates = [{"metric": "evalLoss", "max": 100}]
        sections: Json = {"output": {"uri": str(folder / "out" / name)}, "evaluation": {"gates": gates}}
        make_job(folder / name, base=base, export=EXPORT, name=name, **sections)
    trained(folder / "second", seed=7)
    for name in ("first", "second"):
        (folder / f"marker-{name}.json").write_text(json.dumps(run(folder / name)))
    return folder


def test_two_jobs_share_a_base(place: Path) -> None:
    found = sorted(path.name for path in (place / "out").iterdir())
    (base,) = (name for name in found if name.startswith("base-fp32-int4-"))
    assert found == [base, "first", "second"]
    manifest = manifest_of(place / "out" / base)
    assert manifest["kind"] == LORA_BASE
    assert manifest["digest"] == artifact_digest(manifest["files"])
    assert set(manifest["parity"]["layers"]) == {"fp32", "int4"}
    for name in ("first", "second"):
        adapter = manifest_of(place / "out" / name)
        assert adapter["kind"] == ADAPTER
        assert adapter["base"] == {
            "uri": f"../{base}",
            "digest": manifest["digest"],
            "precisions": ["fp32", "int4"],
        }
        assert adapter["chatTemplate"] == manifest["chatTemplate"]
        assert adapter["chatTemplate"].startswith("sha256:")
        assert not [path for path in adapter["files"] if path.startswith(("onnx/", "model/"))]
        assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"} <= set(adapter["files"])
        marker = json.loads((place / f"marker-{name}.json").read_bytes())
        assert marker["artifact"]["base"] == {"uri": str(place / "out" / base), "digest": manifest["digest"]}
    assert not (place / "second" / "publish" / "base" / "export.log").exists()  # it exported nothing
    assert not list((place / "out").glob(".*"))


def test_the_base_alone_can_be_served(place: Path) -> None:
    (base,) = (place / "out").glob("base-*")
    for precision in ("fp32", "int4"):
        assert {"lora.json", "model.onnx", "tokenizer.json"} <= open_artifact(base, precision).files


def test_parity_and_gates_are_those_of_the_adapter_on_its_base(place: Path) -> None:
    (base,) = (place / "out").glob("base-*")
    found = {name: manifest_of(place / "out" / name) for name in ("first", "second")}
    for name, manifest in found.items():
        assert manifest["parity"]["fp32"]["maxLogitDifference"] < 2e-5
        assert manifest["parity"]["fp32"]["greedyAgreement"] == 1
        assert manifest["metrics"]["served"]["fp32"]["evalLoss"] == pytest.approx(
            manifest["metrics"]["after"]["evalLoss"], abs=1e-4
        )
        assert {gate.get("served") for gate in manifest["gates"]} == {None, "fp32", "int4"}
        lines = [json.loads(line) for line in (place / "out" / name / "predictions.jsonl").read_text().splitlines()]
        assert all(line["served"]["fp32"] == line["after"] for line in lines)
        assert any(line["after"] != line["before"] for line in lines)
    # The adapters differ, and so does what was measured.
    assert found["first"]["metrics"]["served"]["int4"] != found["second"]["metrics"]["served"]["int4"]
    alone = OnnxModel(base / "onnx" / "fp32").logits([5, 80, 33])
    assert not np.allclose(alone, 0)
    assert lora_inputs(place / "out" / "first" / "adapter", base / "onnx" / "fp32")


def test_the_adapter_is_small(place: Path) -> None:
    (base,) = (place / "out").glob("base-*")
    assert size_of(place / "out" / "first" / "adapter") < size_of(base) / 5


def test_a_second_run_writes_the_same(place: Path) -> None:
    before = manifest_of(place / "out" / "second")["digest"]
    shutil.rmtree(place / "second" / "publish")
    shutil.rmtree(place / "out" / "second")
    assert run(place / "second")["artifact"]["digest"] == before


def test_a_base_of_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    (base,) = (place / "out").glob("base-*")
    other = make_job(tmp_path / "job", export={**EXPORT, "baseUri": str(base), "precisions": ["fp32"]})
    marker = json.loads((other / "prepare" / "stage.json").read_bytes())
    marker["model"]["digest"] = "sha256:other"
    (other / "prepare" / "stage.json").write_text(json.dumps(marker))
    with pytest.raises(StageError, match="is of another base model") as raised:
        run(other)
    assert raised.value.reason is Reason.OUTPUT_FAILED
    assert "export.baseUri" in raised.value.remedy


def test_a_damaged_base_is_not_used(place: Path, tmp_path: Path) -> None:
    (base,) = (place / "out").glob("base-*")
    damaged = tmp_path / "out" / base.name
    shutil.copytree(base, damaged)
    with (damaged / "onnx" / "fp32" / "model.onnx.data").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff")
    work = tmp_path / "job"
    shutil.copytree(place / "first", work, ignore=shutil.ignore_patterns("publish"))
    write_config(work, name="first", export={**EXPORT, "baseUri": str(damaged)})
    with pytest.raises(StageError, match=r"is damaged: onnx/fp32/model.onnx.data has other content"):
        run(work)


def test_a_quantized_jobs_base_has_the_weights_that_training_computed_with(tmp_path: Path) -> None:
    export = {**EXPORT, "precisions": ["fp32"]}
    work = make_job(tmp_path / "job", method="qlora", export=export, output={"uri": str(tmp_path / "out" / "adapter")})
    run(work)
    manifest = manifest_of(tmp_path / "out" / "adapter")
    (base,) = (tmp_path / "out").glob("base-nf4-fp32-*")
    assert manifest["base"]["uri"] == f"../{base.name}"
    assert manifest_of(base)["quantization"].startswith("sha256:")
    assert manifest["parity"]["fp32"]["maxLogitDifference"] < 2e-5
    numbers = manifest["parity"]["base"]
    assert numbers["servedPerplexity"] == pytest.approx(numbers["trainedPerplexity"], rel=1e-4)


@pytest.mark.slow
def test_a_trained_adapter_is_served_as_it_was_trained(tmp_path: Path) -> None:
    """PiSSA's adapter is one of twice the rank for the base as it is; rsLoRA has another scale."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(config_map()["data"]["rows.jsonl"])
    spec = job(
        method="lora",
        model={"uri": str(build_model(tmp_path / "base", layers=1))},
        adapter={"rank": 4, "alpha": 8, "initLoraWeights": "pissa", "useRslora": True},
        dataset={"sources": [{"uri": str(rows)}], "validation": {"fraction": 0.1}},
        training={"maxSteps": 20, "learningRate": 0.005, "globalBatchSize": 4, "maxLength": 128},
        evaluation={"maxNewTokens": 8},
        export={**EXPORT, "precisions": ["fp32"]},
    )["spec"]
    work = WorkFolder(tmp_path / "work")
    work.root.mkdir()
    work.config.write_text(json.dumps({"name": "job", "spec": spec}))
    run_stage(Stage.PREPARE, prepare, work.root)
    run_train_stage(work, NodeTopology())
    marker = run(work.root)
    assert marker["metrics"]["served"]["fp32"]["evalLoss"] < marker["metrics"]["before"]["evalLoss"] - 0.3
    assert marker["parity"]["fp32"]["maxLogitDifference"] < 2e-5
    settings = json.loads((work.artifact / "adapter" / "adapter_config.json").read_bytes())
    assert (settings["r"], settings["use_rslora"]) == (8, True)
    assert manifest_of(work.artifact)["base"]["uri"] == f"../{Path(marker['artifact']['base']['uri']).name}"


def test_a_base_in_a_store_is_shared(place: Path, tmp_path: Path) -> None:
    """The second job fetches it. A process that was killed while it wrote need not wait for its own claim."""
    (base,) = (place / "out").glob("base-*")
    store = f"memory://adapters-{tmp_path.name}"
    put_folder(base, f"{store}/{base.name}")
    work = tmp_path / "first"
    shutil.copytree(place / "first", work, ignore=shutil.ignore_patterns("artifact", "stage.json"))
    shutil.copy(place / "first" / "prepare" / "stage.json", work / "prepare")
    shutil.copy(place / "first" / "train" / "stage.json", work / "train")
    shutil.rmtree(work / "publish")
    write_config(work, name="first", export=EXPORT, output={"uri": f"{store}/first"})
    marker = run(work)
    assert marker["artifact"]["base"]["uri"] == f"{store}/{base.name}"
    with open_source(f"{store}/first/manifest.json") as file:
        assert json.load(file)["base"]["uri"] == f"../{base.name}"
    assert not (work / "publish" / "base" / "export.log").exists()
