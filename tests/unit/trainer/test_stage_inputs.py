"""What each stage depends on, and what publish keeps of an earlier attempt."""

import json
from pathlib import Path

import pytest

from tunesmith_api.failures import StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.stages.inputs import discard_outdated, publish_parts, stage_inputs

SPEC = {
    "model": {"scratch": {}},
    "method": "lora",
    "dataset": {"sources": [{"uri": "/data.jsonl"}]},
    "evaluation": {"maxRows": 4, "gates": [{"metric": "evalLoss", "max": 1}]},
    "export": {"precisions": ["fp32"], "parity": {"rows": 2}},
}
LEFT = (
    "merged/m", "adapter/a", "onnx/fp32/m", "export.log", "export-fp32.json", "evaluation.json",
    "evaluation-after.json", "predictions.jsonl", "reference/r", "parity-fp32.json", "served-fp32.json", "gates.json",
    "layers-fp32.json", "artifact/manifest.json", "something-new.json", "stage.json",
)  # fmt: skip
ALWAYS = {"merged", "adapter"}
EXPORT = {"onnx", "export.log", "export-fp32.json", "layers-fp32.json"}
EVALUATION = {"evaluation.json", "evaluation-after.json", "predictions.jsonl", "served-fp32.json"}
PARITY = {"parity-fp32.json", "reference"}


def config(**sections) -> JobConfig:
    return JobConfig.model_validate({"name": "tiny", "spec": {**SPEC, **sections}})


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    """A job that is prepared and trained."""
    work = WorkFolder(tmp_path)
    for stage in (Stage.PREPARE, Stage.TRAIN):
        work.stage(stage).mkdir()
        work.stage_marker(stage).write_text(json.dumps({"inputs": stage.value}))
    return work


@pytest.mark.parametrize(
    "change",
    [
        {"evaluation": {"maxRows": 5}},
        {"export": {"precisions": []}},
        {"output": {"uri": "/elsewhere"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_only_publish_depends_on_what_only_publish_reads(work, change):
    for stage in Stage:
        is_same = stage_inputs(stage, config(), work) == stage_inputs(stage, config(**change), work)
        assert is_same == (stage is not Stage.PUBLISH), stage


@pytest.mark.parametrize("change", [{"training": {"maxSteps": 9}}, {"method": "dora"}], ids=["training", "method"])
def test_every_stage_depends_on_all_else(work, change):
    for stage in Stage:
        assert stage_inputs(stage, config(), work) != stage_inputs(stage, config(**change), work), stage


def test_a_stage_depends_on_the_stages_before_it(work):
    before = stage_inputs(Stage.PUBLISH, config(), work)
    work.stage_marker(Stage.TRAIN).write_text("{}")
    assert stage_inputs(Stage.PUBLISH, config(), work) != before
    work.stage_marker(Stage.TRAIN).unlink()
    with pytest.raises(StageError, match="train is not complete"):
        stage_inputs(Stage.PUBLISH, config(), work)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"output": {"uri": "/elsewhere"}}, ALWAYS | EXPORT | EVALUATION | PARITY),
        ({"evaluation": {"maxRows": 4}}, ALWAYS | EXPORT | EVALUATION | PARITY),
        ({"export": {"precisions": ["fp32", "int4"], "parity": {"rows": 2}}}, ALWAYS | EXPORT | EVALUATION | PARITY),
        ({"export": {**SPEC["export"], "mergeWeights": True}}, ALWAYS | EXPORT | EVALUATION | PARITY),
        ({"export": {"precisions": ["fp32"], "parity": {"rows": 3}}}, ALWAYS | EXPORT | EVALUATION),
        ({"evaluation": {"maxRows": 5}}, ALWAYS | EXPORT),
        ({"adapter": {"rank": 2}}, set()),
    ],
    ids=["output", "gates", "precisions", "mergeWeights", "parity", "rows", "training"],
)
def test_publish_keeps_what_does_not_depend_on_the_change(work, change, kept):
    folder = work.stage(Stage.PUBLISH)
    for name in LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    inputs = {"inputs": stage_inputs(Stage.PUBLISH, config(), work), "parts": publish_parts(config(), work)}
    (folder / "inputs.json").write_text(json.dumps(inputs))
    everything = {path.name for path in folder.iterdir()}

    discard_outdated(Stage.PUBLISH, work, inputs["inputs"], inputs["parts"])
    assert {path.name for path in folder.iterdir()} == everything, "nothing has changed"

    new = config(**change)
    discard_outdated(Stage.PUBLISH, work, stage_inputs(Stage.PUBLISH, new, work), publish_parts(new, work))
    assert {path.name for path in folder.glob("*")} == kept


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (["int4", "int8"], ["int4"], False),
        (["int4"], ["int4", "int8"], False),
        (["int4", "int8"], ["int8"], True),
    ],
)
def test_an_int4_model_with_its_keys_in_int8_depends_on_what_computes_prompts(work, before, after, same):
    first, second = (
        publish_parts(config(export={"precisions": precisions, "kvCache": "int8"}), work)
        for precisions in (before, after)
    )
    assert (first["export"] == second["export"]) == same


def test_other_stages_begin_anew(work):
    discard_outdated(Stage.TRAIN, work, "others", {})
    assert not work.stage(Stage.TRAIN).exists()
    assert work.stage(Stage.PREPARE).exists()
