"""A task of one's own, in one file: all that a new task takes."""

import json
import shutil
from contextlib import nullcontext

import torch
from safetensors.torch import load_file, save_file

from support.manifests import config_map, job
from tunesmith_api.tasks import METRICS, TASKS, MetricInfo, TaskInfo
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.prepare.pipeline import prepare
from tunesmith_trainer.publish import publish
from tunesmith_trainer.stages.runner import run_stage
from tunesmith_trainer.stages.train import run_train_stage
from tunesmith_trainer.tasks import registry
from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.tasks.text_generation import TextGeneration
from tunesmith_trainer.train.distributed.topology import NodeTopology


class LastToken(TextGeneration):  # judged by a row's last target token, exported as plain weights
    name = "lastToken"
    has_replay = False
    compare_layers = Task.compare_layers

    def evaluate(self, model, data, spec, *, rows, examples, advance):
        cut = [(ids, mask.nonzero()[0][-1]) for ids, mask in (data.store[i] for i in range(rows))]
        found = [model(input_ids=torch.tensor(ids[:end].tolist())[None]).logits[0, -1].argmax() for ids, end in cut]
        hits = [int(token) == ids[end] for token, (ids, end) in zip(found, cut, strict=True)]
        return {"metrics": {"lastTokenAccuracy": sum(hits) / len(hits)}, "answers": []}

    def exporter(self, log_file, spec, facts):
        return nullcontext(self)

    def export(self, model, folder, precision):
        shutil.copytree(model, folder)

    def record_reference(self, model, data, bounds, folder):
        save_file(model.state_dict(), folder / "model.safetensors")

    def compare(self, exported, reference, bounds):
        weights, own = (load_file(folder / "model.safetensors") for folder in (exported, reference))
        return {"largest": max(float((weights[name] - own[name]).abs().max()) for name in weights)}

    def require_parity(self, precision, numbers, bounds):
        assert numbers == {"largest": 0.0}


def test_a_task_registered_here_is_trained_and_published(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "lastTokenAccuracy", metric := MetricInfo("lastTokenAccuracy"))
    info = TaskInfo("lastToken", ("promptCompletion",), (metric,), ("fp32",), ("fp32",), "toy")
    monkeypatch.setitem(TASKS, "lastToken", info)
    monkeypatch.setattr(registry, "_TASKS", {"lastToken": LastToken()})
    data, work = tmp_path / "rows.jsonl", WorkFolder(tmp_path)
    data.write_text(config_map()["data"][data.name])
    gates = {"gates": [{"metric": metric.name, "min": 0.9}]}
    training = {"maxSteps": 60, "learningRate": 0.01, "globalBatchSize": 8, "maxLength": 128}
    spec = job(task="lastToken", dataset={"sources": [{"uri": str(data)}]}, evaluation=gates, training=training)["spec"]
    work.config.write_text(json.dumps({"name": "toy", "spec": spec}))
    run_stage(Stage.PREPARE, prepare, work.root)
    run_train_stage(work, NodeTopology())
    metrics = run_stage(Stage.PUBLISH, publish, work.root)["metrics"]
    assert metrics["after"][metric.name] >= 0.9 > metrics["before"][metric.name]
    assert json.loads((work.artifact / "manifest.json").read_text())["task"] == "lastToken"
