"""A training method of one's own, in one file: all that a new method takes."""

import json

import pytest
from safetensors.torch import load_file

from support.manifests import config_map, job
from tunesmith_api.methods import METHODS, MethodInfo, register_method
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.methods import registry
from tunesmith_trainer.methods.full import Full
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.train.distributed.topology import NodeTopology


class Norms(Full):
    """Trains the norms' weights only."""

    name = "norms"

    def make_trainable(self, model, spec, resolved, adapter_task_type, heads=()):
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "norm" in name
        return model


@pytest.fixture
def norms(monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    register_method(MethodInfo("norms", "norms are trained", trains_adapter=False, default_learning_rate=0.05))
    registry.register_method(Norms())
    yield
    del METHODS["norms"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_method_registered_here_trains_and_is_published(norms, tmp_path):
    (tmp_path / "rows.jsonl").write_text(config_map()["data"]["rows.jsonl"])
    dataset = {"sources": [{"uri": str(tmp_path / "rows.jsonl")}]}
    export = {"precisions": ["fp32"], "mergeWeights": True}
    spec = job(method="norms", dataset=dataset, export=export)["spec"]
    work = WorkFolder(tmp_path / "work")
    work.root.mkdir()
    work.config.write_text(json.dumps({"name": "toy", "spec": spec}))
    run_stage(Stage.PREPARE, prepare, work.root)
    run_train_stage(work, NodeTopology())
    marker = run_stage(Stage.PUBLISH, publish, work.root)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (work.prepared_model, work.artifact / "model")
    )
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved == {name for name in before if "norm" in name}
    assert marker["parity"]["fp32"]["maxLogitDifference"] < 1e-3
