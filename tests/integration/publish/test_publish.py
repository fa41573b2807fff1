"""The whole stage on tiny models: what comes out, what is not repeated, and where it stops."""

import gc
import hashlib
import json
import shutil
import weakref
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from support.precisions import exported_here
from support.tiny_models import build_model
from support.trained_jobs import ROWS, make_job, write_config
from tunesmith_api.artifact import artifact_digest
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.registry import load_engine
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.inputs import PUBLISH_STEPS
from tunesmith_trainer.stages.runner import run_stage

FP32 = {"precisions": ["fp32"], "parity": {"rows": 2}}
# int8 needs VNNI.
SERVED = [precision.value for precision in exported_here(("fp32", "int4", "int8"))]


def run(work: Path) -> dict[str, Any]:
    return run_stage(Stage.PUBLISH, publish, work)


def store_as(folder: Path, dtype: str) -> None:
    """Store a model's weights in another number format."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published LoRA job in the precisions that CPUs serve. Not to be changed."""
    parity = {"rows": 4, "minNextTokenAgreement": 0.3, "maxPerplexityIncrease": 5}
    work = make_job(tmp_path_factory.mktemp("lora") / "job", export={"precisions": SERVED, "parity": parity})
    run(work)
    return work


def test_the_artifact_is_complete(lora: Path) -> None:
    artifact = lora / "artifact"
    manifest = json.loads((artifact / "manifest.json").read_text())
    found = files_of(artifact)
    del found["manifest.json"]
    assert found == {name: entry["sha256"] for name, entry in manifest["files"].items()}
    assert {name.rsplit("/", 1)[0] for name in found if "/" in name} == {"adapter", *(f"onnx/{p}" for p in SERVED)}
    assert {"evaluation.json", "predictions.jsonl", "training_log.jsonl", "adapter/adapter_model.safetensors"} <= set(
        found
    )
    assert manifest["digest"] == artifact_digest(manifest["files"])
    assert manifest["precisions"] == SERVED
    assert manifest["parity"]["fp32"]["maxLogitDifference"] < 1e-4
    assert manifest["parity"]["int4"]["maxLogitDifference"] > 1e-2
    layers = manifest["parity"]["layers"]
    assert (layers["fp32"]["largestWeightError"], layers["fp32"]["layers"]) == (0, 2)
    assert 0.9 < layers["int4"]["largestWeightError"] <= 1.001
    assert max(layers[name]["largestDifference"] for name in SERVED) < 1e-5
    expected = {"evalLoss", "perplexity", "tokenAccuracy", "exactMatch", "rougeL", "chrf"}
    assert set(manifest["metrics"]["after"]) == expected
    assert manifest["metrics"]["before"] != manifest["metrics"]["after"]
    assert set(manifest["measured"]["publish"]) == {"memory", "seconds"}
    assert manifest["training"] == {"seconds": 1.5, "steps": 1, "trainedParameters": 1, "totalParameters": 2}


def test_the_stage_tells_its_result(lora: Path) -> None:
    marker = json.loads((lora / "publish" / "stage.json").read_text())
    manifest = json.loads((lora / "artifact" / "manifest.json").read_text())
    assert marker["artifact"] == {"uri": str(lora / "artifact"), "digest": manifest["digest"]}
    assert {name: marker[name] for name in ("metrics", "gates", "parity")} == {
        name: manifest[name] for name in ("metrics", "gates", "parity")
    }
    progress = json.loads((lora / "progress.json").read_text())
    assert progress["stage"] == "publish"
    assert progress["detail"]


def test_no_path_of_this_machine_is_in_the_artifact(lora: Path) -> None:
    for path in (lora / "artifact").rglob("*"):
        assert not path.is_file() or str(lora).encode() not in path.read_bytes(), path


def test_the_evaluation_shows_answers(lora: Path) -> None:
    evaluation = json.loads((lora / "artifact" / "evaluation.json").read_text())
    assert evaluation["rows"] == evaluation["questions"] == len(evaluation["examples"]) == 12
    assert evaluation["examples"][0]["reference"] == "tune is thing number 0."
    assert "What is tune?" in evaluation["examples"][0]["prompt"]
    assert any(example["before"] != example["after"] for example in evaluation["examples"])


def test_the_served_models_are_measured_and_every_answer_is_kept(lora: Path) -> None:
    manifest = json.loads((lora / "artifact" / "manifest.json").read_text())
    assert manifest["parity"]["template"] == {
        "rows": 12,
        "tokens": manifest["parity"]["template"]["tokens"],
        "boundaryRows": 0,
    }
    assert manifest["parity"]["template"]["tokens"] > 12 * 5
    after, served = manifest["metrics"]["after"], manifest["metrics"]["served"]
    assert set(served) == set(SERVED)
    assert served["fp32"]["evalLoss"] == pytest.approx(after["evalLoss"], rel=1e-4)
    assert abs(served["int4"]["evalLoss"] - after["evalLoss"]) > 1e-2, "int4 that differs in nothing is no int4"
    lines = [json.loads(line) for line in (lora / "artifact" / "predictions.jsonl").read_text().splitlines()]
    assert [line["location"] for line in lines] == [f"rows.jsonl:{number}" for number in range(1, 13)]
    assert all(line["served"]["fp32"] == line["after"] for line in lines)
    assert any(line["served"]["int4"] != line["after"] for line in lines)
    assert all(line["cut"] == [] for line in lines)
    evaluation = json.loads((lora / "artifact" / "evaluation.json").read_text())
    assert [line["before"] for line in lines] == [example["before"] for example in evaluation["examples"]]


def test_every_step_declares_what_it_depends_on(lora: Path) -> None:
    """A file that no step declares is made again after any change of the spec: so are only these."""
    declared = [pattern for pattern, _ in PUBLISH_STEPS]
    names = {path.name for path in (lora / "publish").iterdir()}
    others = {name for name in names if not any(fnmatch(name, pattern) for pattern in declared)}
    assert others == {"artifact", "gates.json", "inputs.json", "measured.json", "stage.json"}


def test_serving_can_open_it(lora: Path) -> None:
    from tunesmith_serving.artifact.opening import open_artifact

    for precision in SERVED:
        assert open_artifact(lora / "artifact", precision).name == "tiny"


def test_a_lost_marker_costs_nothing_but_the_delivery(lora: Path, tmp_path: Path) -> None:
    work = shutil.copytree(lora, tmp_path / "job")
    marker = json.loads((work / "publish" / "stage.json").read_text())
    (work / "publish" / "stage.json").unlink()
    shutil.rmtree(work / "artifact")
    shutil.rmtree(work / "prepare" / "model")  # nothing that needs a model is done again
    assert run(work) == {**marker, "artifact": {**marker["artifact"], "uri": str(work / "artifact")}}
    assert files_of(work / "artifact") == files_of(lora / "artifact")


def test_only_what_is_missing_is_made_again(lora: Path, tmp_path: Path) -> None:
    work = shutil.copytree(lora, tmp_path / "job", copy_function=shutil.copy2)
    for name in (
        "stage.json",
        "artifact/manifest.json",
        "parity-int4.json",
        "evaluation.json",
        "evaluation-after.json",
    ):
        (work / "publish" / name).unlink()
    shutil.rmtree(work / "publish" / "onnx" / "int4")
    shutil.rmtree(work / "artifact")
    kept = ["merged/model.safetensors", "onnx/fp32/model.onnx.data", "evaluation-before.json", "parity-fp32.json"]
    before = {name: (work / "publish" / name).stat().st_mtime_ns for name in kept}
    run(work)
    assert {name: (work / "publish" / name).stat().st_mtime_ns for name in kept} == before
    manifests = [json.loads((job / "artifact" / "manifest.json").read_text()) for job in (work, lora)]
    assert manifests[0]["files"] == manifests[1]["files"]
    assert manifests[0]["parity"] == manifests[1]["parity"]


@pytest.mark.parametrize("method", ["dora", "qlora", "full"])
def test_other_methods(method: str, tmp_path: Path) -> None:
    export = {**FP32, "mergeWeights": True}
    work = make_job(tmp_path / "job", "qwen2", method, export=export)
    final = files_of(work / "train" / "final")
    manifest = json.loads((Path(run(work)["artifact"]["uri"]) / "manifest.json").read_text())
    assert manifest["parity"]["fp32"]["maxLogitDifference"] < 1e-4
    folders = {name.split("/")[0] for name in manifest["files"] if "/" in name}
    assert folders == {"onnx", "model", "adapter"} - ({"adapter"} if method == "full" else set())
    assert {"model/config.json", "model/model.safetensors", "model/tokenizer.json"} <= set(manifest["files"])
    assert files_of(work / "train" / "final") == final, "what train left is changed"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_quantized_job_publishes_the_model_that_was_trained(dtype: str, tmp_path: Path) -> None:
    base = build_model(tmp_path / "base")
    if dtype == "bfloat16":
        store_as(base, dtype)
    work = make_job(tmp_path / "job", method="qdora", base=base, export={"precisions": [], "mergeWeights": True})
    artifact = Path(run(work)["artifact"]["uri"])
    merge = json.loads((artifact / "manifest.json").read_text())["parity"]["merge"]
    assert merge["reference"] == "the base model with its linear weights dequantized from nf4"
    assert merge["weights"] == dtype
    assert merge["trainedLogitDifference"] < 1e-4
    assert merge["mergedPerplexity"] == pytest.approx(
        merge["trainedPerplexity"], rel=1e-4 if dtype == "float32" else 0.02
    )
    evaluation = json.loads((artifact / "evaluation.json").read_text())
    assert evaluation["asTrained"]["perplexity"] == merge["trainedPerplexity"]
    assert evaluation["after"]["perplexity"] == merge["mergedPerplexity"]
    assert {path.name for path in (artifact / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "quantization.json",
    }
    assert not list((work / "publish").glob("*nf4*")) and not list((work / "publish").glob(".*nf4*"))


def test_other_quantized_weights_than_those_of_training_are_refused(tmp_path: Path) -> None:
    work = make_job(tmp_path / "job", method="qlora", export=FP32)
    (work / "train" / "final" / "quantization.json").write_text('{"digest": "sha256:other"}')
    with pytest.raises(StageError, match="the base model's weights are not those that training used") as caught:
        run(work)
    assert caught.value.reason is Reason.PARITY_FAILED


def test_an_adapter_of_quantized_weights_merged_into_the_original_ones_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another model than the one that was trained."""

    def write_original(model: Any, base: Path, folder: Path) -> None:
        shutil.copytree(base, folder)

    monkeypatch.setattr("tunesmith_trainer.models.nf4_files.write_dequantized", write_original)
    work = make_job(tmp_path / "job", method="qlora", export=FP32)
    with pytest.raises(
        StageError, match="dequantizing the base weights changes the model: a logit is off by"
    ) as caught:
        run(work)
    assert caught.value.reason is Reason.EXPORT_FAILED


def test_a_failed_gate_leaves_no_artifact_and_shows_why(tmp_path: Path) -> None:
    gates = [{"metric": "exactMatch", "min": 0.9}, {"metric": "evalLoss", "max": 100}]
    work = make_job(tmp_path / "job", evaluation={"gates": gates}, export=FP32)
    with pytest.raises(StageError, match="1 of 2 gates failed: exactMatch is 0, the gate needs at least 0.9") as caught:
        run(work)
    assert caught.value.reason is Reason.GATE_FAILED
    assert not (work / "artifact").exists()
    assert not (work / "publish" / "artifact").exists()
    assert not (work / "publish" / "onnx").exists()
    assert not (work / "publish" / "stage.json").exists()
    assert json.loads((work / "publish" / "evaluation.json").read_text())["after"]["exactMatch"] == 0
    assert [gate["passed"] for gate in json.loads((work / "publish" / "gates.json").read_text())] == [False, True]
    assert json.loads((work / "publish-outcome.json").read_text())["reason"] == "GateFailed"
    assert (work / "train" / "final" / "adapter_model.safetensors").exists()


def test_an_export_out_of_bounds_leaves_no_artifact(tmp_path: Path) -> None:
    export = {"precisions": ["int4"], "parity": {"rows": 2, "minNextTokenAgreement": 1.0}}
    work = make_job(tmp_path / "job", export=export)
    with pytest.raises(StageError, match="the int4 export is not the trained model: nextTokenAgreement is 0") as caught:
        run(work)
    assert caught.value.reason is Reason.PARITY_FAILED
    assert not (work / "artifact").exists()
    assert json.loads((work / "publish" / "parity-int4.json").read_text())["nextTokenAgreement"] < 1


def test_a_gate_that_only_the_served_model_fails_leaves_no_artifact(lora: Path, tmp_path: Path) -> None:
    metrics = json.loads((lora / "artifact" / "manifest.json").read_text())["metrics"]
    between = (metrics["after"]["evalLoss"] + metrics["served"]["int4"]["evalLoss"]) / 2
    bound = "max" if metrics["served"]["int4"]["evalLoss"] > between else "min"
    gates = {"gates": [{"metric": "evalLoss", bound: between}]}
    work = shutil.copytree(lora, tmp_path / "job")
    shutil.rmtree(work / "publish")
    shutil.rmtree(work / "artifact")
    export = json.loads((work / "config.json").read_text())["spec"]["export"]
    write_config(work, evaluation=gates, export=export)
    with pytest.raises(StageError, match=rf"1 of {1 + len(SERVED)} gates failed: served int4: evalLoss is") as caught:
        run(work)
    assert caught.value.reason is Reason.GATE_FAILED
    assert not (work / "artifact").exists()
    assert len((work / "publish" / "predictions.jsonl").read_text().splitlines()) == 12
    gates = json.loads((work / "publish" / "gates.json").read_text())
    assert [gate.get("served") for gate in gates] == [None, *SERVED]


@pytest.mark.parametrize("old", ["<|im_start|>assistant\\n' -}}{%- endif", "message['role'] + '\\n'"])
def test_a_template_that_changed_after_training_leaves_no_artifact(tmp_path: Path, old: str) -> None:
    """By one newline: in the generation prompt, or in an earlier turn."""
    work = make_job(tmp_path / "job", export=FP32)
    template = work / "prepare" / "model" / "chat_template.jinja"
    assert template.read_text().count(old) == 1
    template.write_text(template.read_text().replace(old, old.replace("\\n", "\\n\\n")))
    with pytest.raises(StageError, match=r"rows.jsonl:1 \(validation row 0\): the server makes other tokens") as caught:
        run(work)
    assert caught.value.reason is Reason.PARITY_FAILED
    assert not (work / "artifact").exists()


def test_a_template_that_writes_the_date_is_rendered_as_of_its_preparation(tmp_path: Path) -> None:
    work = make_job(tmp_path / "job", export=FP32)
    template = work / "prepare" / "model" / "chat_template.jinja"
    template.write_text("{{- strftime_now('%d %b %Y') -}}\n" + template.read_text())
    rows = work / "prepare" / "data" / "evaluation.jsonl"
    moment = datetime(2020, 2, 29, 12)
    store = TokenStore.open(work / "prepare" / "data" / "validation")
    ids = load_tokenizer(work / "prepare" / "model").encode("29 Feb 2020", add_special_tokens=False)
    pairs = [store[index] for index in range(len(store))]
    TokenStore.write(
        work / "prepare" / "data" / "validation",
        [([*ids, *tokens.tolist()], [0] * len(ids) + mask.tolist()) for tokens, mask in pairs],
    )
    rows.with_name("rendering-time.json").write_text(json.dumps({"seconds": moment.timestamp()}))
    run(work)
    assert json.loads((work / "artifact" / "manifest.json").read_text())["parity"]["template"]["rows"] == 12


@pytest.mark.parametrize("method", ["lora", "full"])
def test_one_model_is_in_memory_at_a_time(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of torch's when another is loaded, and when the exporter and ONNX Runtime work."""
    from tunesmith_trainer.export import exporter, onnx_runner
    from tunesmith_trainer.models import loading

    models: list[weakref.ref[Any]] = []
    seen: dict[str, list[int]] = {"load": [], "export": [], "run": []}

    def alive() -> int:
        gc.collect()
        return sum(model() is not None for model in models)

    def watch(owner: Any, name: str, step: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            seen[step].append(alive())
            result = original(*arguments, **options)
            if step == "load":
                models.append(weakref.ref(result))
            return result

        monkeypatch.setattr(owner, name, call)

    watch(loading, "load_model", "load")
    watch(exporter.Exporter, "export", "export")
    watch(onnx_runner.OnnxModel, "_open", "run")
    run(make_job(tmp_path / "job", method=method, export=FP32))
    assert len(seen["load"]) == (4 if method == "lora" else 2)
    assert set(seen["load"]) == {0}
    assert seen["export"] == [0]
    assert set(seen["run"]) == {0}


def test_plain_text_rows_have_no_exact_match(tmp_path: Path) -> None:
    work = make_job(tmp_path / "job", export=FP32)
    data = work / "prepare" / "data"
    tokenizer = load_tokenizer(work / "prepare" / "model")
    texts = [f"{question} {answer}" for question, answer in ROWS]
    rows = [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts]
    TokenStore.write(data / "validation", [(ids, [1] * len(ids)) for ids in rows])
    lines = [{"row": row, "location": f"x:{row + 1}", "text": text} for row, text in enumerate(texts)]
    (data / "evaluation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(work)
    assert result["metrics"]["after"]["exactMatch"] is None
    assert result["metrics"]["served"]["fp32"]["evalLoss"] == pytest.approx(result["metrics"]["after"]["evalLoss"])
    assert result["parity"]["template"]["rows"] == len(ROWS)
    assert not (work / "artifact" / "predictions.jsonl").exists()


def test_an_output_with_another_artifact_is_kept(lora: Path, tmp_path: Path) -> None:
    taken = shutil.copytree(lora / "artifact", tmp_path / "taken")
    manifest = json.loads((taken / "manifest.json").read_text())
    (taken / "manifest.json").write_text(json.dumps({**manifest, "digest": "sha256:another"}))
    before = files_of(taken)
    work = shutil.copytree(lora, tmp_path / "job")
    (work / "publish" / "stage.json").unlink()
    config = json.loads((work / "config.json").read_text())["spec"]
    write_config(work, export=config["export"], output={"uri": str(taken)})
    # Another output is another job to the stage: let it go on from here all the same.
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.stages.inputs import stage_inputs

    inputs = stage_inputs(Stage.PUBLISH, load_config(WorkFolder(work)), WorkFolder(work))
    (work / "publish" / "inputs.json").write_text(json.dumps({"inputs": inputs}))
    with pytest.raises(StageError, match="holds another artifact") as caught:
        run(work)
    assert caught.value.reason is Reason.OUTPUT_FAILED
    assert files_of(taken) == before
    shutil.rmtree(taken)
    assert run(work)["artifact"]["uri"] == str(taken)


def test_exports_for_gpus_are_checked_but_not_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = make_job(
        tmp_path / "job",
        export={
            "precisions": ["fp16", "int4"],
            "parity": {**FP32["parity"], "minNextTokenAgreement": 0.3, "maxPerplexityIncrease": 5},
        },
    )
    with caplog.at_level("INFO"):
        run(work)
    manifest = json.loads((work / "artifact" / "manifest.json").read_text())
    assert manifest["precisions"] == ["fp16", "int4"]
    parity = manifest["parity"]
    assert 1e-4 < parity["fp16"]["maxLogitDifference"] < 0.1
    assert parity["fp16"]["computed"].startswith("in fp32 on the CPU, from the export's own bits")
    assert "computed" not in parity["int4"]
    assert parity["layers"]["fp16"]["largestWeightError"] == 0
    assert set(manifest["metrics"]["served"]) == {"int4"}
    assert parity["fp16"]["servedMetrics"] in caplog.text
    sizes = {name: (work / "artifact" / "onnx" / name / "model.onnx.data").stat().st_size for name in ("fp16", "int4")}
    assert sizes["fp16"] > sizes["int4"]
    with pytest.raises(
        ArtifactError, match="the execution provider cpu cannot compute fp16 of the task textGeneration; serve int4"
    ):
        load_engine(open_artifact(work / "artifact", "fp16"), ServingConfig(precision="fp16"))
