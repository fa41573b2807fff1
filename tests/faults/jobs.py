"""Small real jobs for the corpus, run in this process, so that a fault can be put in anywhere."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.artifact import MANIFEST
from tunesmith_api.work_folder import Stage, WorkFolder

ROWS = [
    (word, f"What is {word}?", f"{word} is thing number {number} of the list.")
    for number, word in enumerate(
        ["tune", "smith", "rank", "alpha", "epoch", "batch", "loss", "gate", "slot", "token", "shard", "merge"]
        + ["anvil", "bellow", "coal", "forge", "tongs", "hammer"]
    )
]
FAMILIES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
)
# Random weights lose more to int4 than trained ones do.
PARITY = {"rows": 4, "minNextTokenAgreement": 0.1, "maxPerplexityIncrease": 3}


def write_base(
    folder: Path, architecture: str = "LlamaForCausalLM", *, seed: int = 0, dtype: str = "float32", **config: Any
) -> Path:
    """Save a random model of a family with a tokenizer and a chat template."""
    import transformers

    from support.tiny_models import train_tokenizer

    tokenizer = train_tokenizer([text for row in ROWS for text in row[1:]] * 2)
    settings = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **config,
    }
    made = getattr(transformers, architecture.replace("ForCausalLM", "Config"))(**settings)
    if architecture == "Phi3ForCausalLM" and "rope_parameters" not in config:
        made.original_max_position_embeddings = made.max_position_embeddings
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_job(work: Path, base: Path, method: str = "lora", *, system: bool = False, **spec: Any) -> Path:
    """Write the configuration of a job and its rows."""
    work.mkdir(parents=True, exist_ok=True)
    turns = [[{"role": "system", "content": "You know the list."}] if system else [] for _ in ROWS]
    rows = [
        {"messages": [*before, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for before, (_, question, answer) in zip(turns, ROWS, strict=True)
    ]
    data = work.parent / f"{work.name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job: dict[str, Any] = {
        "model": {"uri": str(base)},
        "method": method,
        "dataset": {"sources": [{"uri": str(data)}], "validation": {"fraction": 0.25}},
        "training": {
            "maxLength": 128,
            "maxSteps": 6,
            "globalBatchSize": 4,
            "learningRate": 0.003,
            "warmupRatio": 0,
            "checkpoint": {"everySteps": 2},
        },
        "evaluation": {"maxNewTokens": 8},
        "export": {"precisions": ["fp32", "int4"], "parity": PARITY},
        **spec,
    }
    if method != "full":
        job.setdefault("adapter", {"rank": 4, "alpha": 8})
    (work / "config.json").write_text(json.dumps({"name": "job", "spec": job}))
    return work


def run_stages(work: Path, *stages: Stage) -> None:
    """Run stages in this process; raises StageError as they do."""
    from tunesmith_trainer.prepare.pipeline import prepare
    from tunesmith_trainer.publish import publish
    from tunesmith_trainer.stages.runner import run_stage
    from tunesmith_trainer.stages.train import run_train_stage
    from tunesmith_trainer.train.distributed.topology import NodeTopology

    torch.set_num_threads(1)
    for stage in stages:
        if stage is Stage.TRAIN:
            run_train_stage(WorkFolder(work), NodeTopology())
        else:
            run_stage(stage, {Stage.PREPARE: prepare, Stage.PUBLISH: publish}[stage], work)


def open_served(work: Path) -> None:
    """Open each precision of the artifact as the server does when it starts."""
    from tunesmith_serving.artifact.opening import open_artifact

    manifest = json.loads((work / "artifact" / MANIFEST).read_text())
    for precision in manifest["precisions"]:
        open_artifact(work / "artifact", precision)


def copy_of(snapshot: Path, folder: Path) -> Path:
    """Return a copy of a work folder with its base model, which the copy's configuration names."""
    shutil.copytree(snapshot.parent, folder, symlinks=True)
    work = folder / snapshot.name
    for name in ("config.json", "prepare/stage.json"):
        path = work / name
        if path.exists():
            path.write_text(path.read_text().replace(str(snapshot.parent), str(folder)))
    return work


class Snapshots:
    """Work folders after a number of clean stages, each made once. Not to be changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    def after(self, stages: int, method: str = "lora", base: Any = None, job: Any = None) -> Path:
        """Return the work folder of a job after its first stages."""
        key = json.dumps([stages, method, base, job])
        if key not in self._made:
            target = self._folder / str(len(self._made))
            if stages == 0:
                model = write_base(target / "base", **(base or {}))
                self._made[key] = write_job(target / "work", model, method, **(job or {}))
            else:
                work = copy_of(self.after(stages - 1, method, base, job), self._folder / f"{stages}-{len(self._made)}")
                run_stages(work, list(Stage)[stages - 1])
                self._made[key] = work
        return self._made[key]


def keep_inputs(work: Path, stage: Stage) -> None:
    """Let what is in a stage's folder count as this job's own, as if the job's configuration had never been another."""
    from tunesmith_trainer.runtime.job_config import load_config
    from tunesmith_trainer.stages.runner import stage_inputs

    folder = WorkFolder(work)
    inputs = stage_inputs(stage, load_config(folder), folder)
    (work / stage.value / "inputs.json").write_text(json.dumps({"inputs": inputs}))


@contextlib.contextmanager
def edited_json(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of a JSON file, and write what it is then."""
    value = json.loads(path.read_text())
    yield value
    path.write_text(json.dumps(value, indent=2))
