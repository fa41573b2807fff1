"""Ways in which a served model is silently not the trained one, each put into the pipeline where it would arise."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from faults.jobs import edited_json, keep_inputs, write_base
from tunesmith_api.work_folder import Stage

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """A seeded fault.

    Attributes:
        name: What is wrong, for the table.
        before: The first stage that runs with the fault in place; None if only the server opens the artifact.
        inject: Puts it in: given the work folder and a monkeypatch.
        says: Regular expression that the failure's message matches.
        reason: The failure's reason; empty for the server.
        method: The job's method.
        base: Options of the base model; see `write_base`.
        job: Options of the job; see `write_job`.
    """

    name: str
    before: Stage | None
    inject: Callable[[Path, Patch], None]
    says: str
    reason: str = "ParityFailed"
    method: str = "lora"
    base: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)


def base_of(work: Path) -> Path:
    return Path(json.loads((work / "config.json").read_text())["spec"]["model"]["uri"])


def change_base(work: Path) -> None:
    other = write_base(work.parent / "other", seed=1)
    shutil.copyfile(other / "model.safetensors", base_of(work) / "model.safetensors")


def swap_tokens(path: Path) -> None:
    """Exchange the ids of two letters in a tokenizer.json."""
    with edited_json(path) as tokenizer:
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["a"], vocabulary["i"] = vocabulary["i"], vocabulary["a"]


def append_newline(path: Path) -> None:
    """Let a chat template write one more newline before the answer."""
    path.write_text(path.read_text() + "{{- '\\n' -}}")


def edit_tensors(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = dict(load_file(path))
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def mask_of(change: Callable[[list[int]], list[int]]) -> Callable[[Path, Patch], None]:
    """Return what changes each loss mask as it is made."""

    def inject(work: Path, patch: Patch) -> None:
        from tunesmith_trainer.data.encode import Encoder

        right = Encoder._mask
        patch.setattr(Encoder, "_mask", lambda self, *given: change(right(self, *given)))

    return inject


def without_last_targets(mask: list[int]) -> list[int]:
    return [int(target and following) for target, following in zip(mask, [*mask[1:], 0], strict=True)]


def double_bos(work: Path, patch: Patch) -> None:
    from tunesmith_trainer.data.encode import Encoder

    class Twice:
        """An encoding with two BOS tokens before it."""

        def __init__(self, encoding: Any, bos: int) -> None:
            self._encoding, self.ids = encoding, [bos, bos, *encoding.ids]

        def __len__(self) -> int:
            return len(self.ids)

        def token_to_chars(self, index: int) -> tuple[int, int]:
            return self._encoding.token_to_chars(index - 2) if index > 1 else (0, 0)

    right = Encoder._tokenize

    def twice(self: Any, *given: Any, **options: Any) -> Any:
        return [Twice(encoding, self.tokenizer.bos_token_id) for encoding in right(self, *given, **options)]

    with edited_json(base_of(work) / "tokenizer_config.json") as settings:
        settings["bos_token"] = "<|endoftext|>"
    patch.setattr(Encoder, "_tokenize", twice)


def end_left_out(work: Path, patch: Patch) -> None:
    path = base_of(work) / "chat_template.jinja"
    path.write_text(
        path.read_text().replace("message['content'] + '<|im_end|>' -}}{%- endgen", "message['content'] -}}{%- endgen")
    )


def validation_is_training(work: Path, patch: Patch) -> None:
    with edited_json(work / "config.json") as config:
        dataset = config["spec"]["dataset"]
        dataset["validation"] = {"sources": dataset["sources"]}


def more_tokens(work: Path, patch: Patch) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_of(work))
    tokenizer.add_tokens([f"<extra-{number}>" for number in range(600)])
    tokenizer.save_pretrained(base_of(work))


def drop_tensor(work: Path, patch: Patch) -> None:
    edit_tensors(base_of(work) / "model.safetensors", lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))


def make_nan(work: Path, patch: Patch) -> None:
    def edit(tensors: dict[str, Any]) -> None:
        tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] = float("nan")

    edit_tensors(base_of(work) / "model.safetensors", edit)


def trainable(change: Callable[[Any, Any], Any]) -> Callable[[Path, Patch], None]:
    """Return what changes how a model is made trainable: `change(make, arguments)`."""

    def inject(work: Path, patch: Patch) -> None:
        from tunesmith_trainer.methods.adapter_method import AdapterMethod

        right = AdapterMethod.make_trainable
        patch.setattr(AdapterMethod, "make_trainable", lambda self, *given: change(lambda *g: right(self, *g), given))

    return inject


def frozen_magnitudes(make: Any, given: Any) -> Any:
    model = make(*given)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and "magnitude" not in name)
    return model


def other_adapter(**fields: Any) -> Callable[[Any, Any], Any]:
    def change(make: Any, given: Any) -> Any:
        from dataclasses import replace

        model, spec, resolved, *rest = given
        return make(model, spec, replace(resolved, adapter=replace(resolved.adapter, **fields)), *rest)

    return change


def saved(change: Callable[[Path], None]) -> Callable[[Path, Patch], None]:
    """Return what changes the trained weights just after they were saved."""

    def inject(work: Path, patch: Patch) -> None:
        from tunesmith_trainer.methods.adapter_method import AdapterMethod
        from tunesmith_trainer.methods.full import Full

        for kind in (AdapterMethod, Full):
            right = kind.save

            def save(self: Any, model: Any, weights: Any, base: Path, folder: Path, right: Any = right) -> None:
                right(self, model, weights, base, folder)
                change(folder)

            patch.setattr(kind, "save", save)

    return inject


def double_alpha(folder: Path) -> None:
    with edited_json(folder / "adapter_config.json") as settings:
        settings["lora_alpha"] *= 2


def half_precision(folder: Path) -> None:
    import torch

    edit_tensors(
        folder / "adapter_model.safetensors",
        lambda tensors: tensors.update({name: value.to(torch.float16) for name, value in tensors.items()}),
    )


def untied(folder: Path) -> None:
    def edit(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] * 1.5

    edit_tensors(folder / "model.safetensors", edit)


def another_jobs_weights(work: Path, patch: Patch) -> None:
    edit_tensors(
        work / "train" / "final" / "adapter_model.safetensors",
        lambda tensors: tensors.update({name: value * 1.1 for name, value in tensors.items()}),
    )


def unmerged(work: Path, patch: Patch) -> None:
    from tunesmith_trainer.methods.adapter import AdapterWeights

    patch.setattr(AdapterWeights, "merged", lambda self, layer, weight: weight.clone())


def base_instead(work: Path, patch: Patch) -> None:
    from tunesmith_trainer.methods import merge

    def link(base: Path, adapter: Any, names: Any, folder: Path) -> dict[str, Any]:
        shutil.copyfile(base / "model.safetensors", folder / "model.safetensors")
        return {"weights": "float32"}

    patch.setattr(merge, "merge_files", link)


def wrong_scaling(work: Path, patch: Patch) -> None:
    from tunesmith_trainer.methods import merge_check
    from tunesmith_trainer.methods.kinds import lora

    right = lora.scaling
    patch.setattr(lora, "scaling", lambda file, layer: 2 * right(file, layer))
    # The comparison of logits is put out of action, so that the weights have to show it.
    patch.setattr(merge_check, "TOLERANCE", 1e9)


def exported(change: Callable[[Path], None], precision: str = "") -> Callable[[Path, Patch], None]:
    """Return what changes an export just after it was made; with a precision only that one."""

    def inject(work: Path, patch: Patch) -> None:
        from tunesmith_trainer.export.exporter import Exporter

        right = Exporter.export

        def export(self: Any, model: Path, folder: Path, kind: Any) -> None:
            right(self, model, folder, kind)
            if precision in ("", kind.value):
                change(folder)

        patch.setattr(Exporter, "export", export)

    return inject


def exported_with(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Patch], None]:
    """Return what gives the exporter another config.json than the trained model's."""

    def inject(work: Path, patch: Patch) -> None:
        from tunesmith_trainer.export.exporter import Exporter

        right = Exporter.export

        def export(self: Any, model: Path, folder: Path, kind: Any) -> None:
            other = Path(shutil.copytree(model, work.parent / f"other-{kind.value}"))
            with edited_json(other / "config.json") as config:
                change(config)
            right(self, other, folder, kind)

        patch.setattr(Exporter, "export", export)

    return inject


def without_window(config: dict[str, Any]) -> None:
    config["sliding_window"] = None
    config.pop("layer_types", None)


def without_rope_scaling(config: dict[str, Any]) -> None:
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}


def edit_graph(folder: Path, edit: Callable[[Any], None]) -> None:
    import onnx

    model = onnx.load(str(folder / "model.onnx"), load_external_data=True)
    edit(model)
    for name in ("model.onnx", "model.onnx.data"):
        (folder / name).unlink()
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data")


def break_a_layer(folder: Path) -> None:
    def edit(model: Any) -> None:
        from onnx import numpy_helper

        node = next(node for node in model.graph.node if node.op_type == "MatMulNBits" and "layers.1" in node.name)
        scales = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
        scales.CopyFrom(numpy_helper.from_array(-3 * numpy_helper.to_array(scales), scales.name))

    edit_graph(folder, edit)


def swap_gate_and_up(folder: Path) -> None:
    def edit(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Split" and "layers.1/mlp" in node.name)
        node.output[:] = reversed(node.output)

    edit_graph(folder, edit)


def swap_heads(folder: Path) -> None:
    """Let the first layer's two key heads change places in the cache."""

    def edit(model: Any) -> None:
        from numpy import array
        from onnx import helper, numpy_helper

        name = "past_key_values.0.key"
        for node in model.graph.node:
            node.input[:] = ["swapped.key" if value == name else value for value in node.input]
        model.graph.initializer.append(numpy_helper.from_array(array([1, 0]), "swapped.order"))
        model.graph.node.insert(0, helper.make_node("Gather", [name, "swapped.order"], ["swapped.key"], axis=1))

    edit_graph(folder, edit)


def without_system(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(
        "{%- set messages = messages | rejectattr('role', 'equalto', 'system') | list -%}" + path.read_text()
    )


def stale_export(work: Path, patch: Patch) -> None:
    """Leave the exports of an earlier run beside a tuned model that has changed."""
    publish = work / "publish"
    keep_inputs(work, Stage.PUBLISH)
    for name in ("stage.json", "evaluation.json", "evaluation-after.json"):
        (publish / name).unlink()
    shutil.rmtree(publish / "artifact")
    shutil.rmtree(work / "artifact")
    edit_tensors(
        publish / "merged" / "model.safetensors",
        lambda tensors: tensors.update({name: value * 1.1 for name, value in tensors.items() if "q_proj" in name}),
    )


def truncated(work: Path, patch: Patch) -> None:
    path = work / "artifact" / "onnx" / "int4" / "model.onnx.data"
    path.write_bytes(path.read_bytes()[:-512])


def other_digest(work: Path, patch: Patch) -> None:
    with edited_json(work / "artifact" / "manifest.json") as manifest:
        manifest["digest"] = "sha256:" + "0" * 64


def retemplated(work: Path, patch: Patch) -> None:
    append_newline(work / "artifact" / "onnx" / "int4" / "chat_template.jinja")


OPEN = {"rows": 4, "minNextTokenAgreement": 0, "maxPerplexityIncrease": 100}
_BASE = "is not the one that the data was prepared for"
_TOKENS = "the server makes other tokens of the request than training saw"

FAULTS = (
    Fault(
        "mask all ones", Stage.PREPARE, mask_of(lambda mask: [1] * len(mask)), "is learned as an answer", "InvalidModel"
    ),
    Fault(
        "mask off by one",
        Stage.PREPARE,
        mask_of(lambda mask: [0, *mask[:-1]]),
        "is not learned in full",
        "InvalidModel",
    ),
    Fault(
        "EOS masked out",
        Stage.PREPARE,
        mask_of(without_last_targets),
        "that ends the assistant's turn is not learned",
        "InvalidModel",
    ),
    Fault("EOS not in the answers", Stage.PREPARE, end_left_out, "EOS|end", "InvalidModel"),
    Fault("double BOS", Stage.PREPARE, double_bos, "twice", "InvalidModel"),
    Fault(
        "validation rows in training",
        Stage.PREPARE,
        validation_is_training,
        "validation rows are also training rows",
        "InvalidDataset",
    ),
    Fault("vocabulary resized", Stage.PREPARE, more_tokens, "token", "InvalidModel"),
    Fault("a tensor of the base model missing", Stage.PREPARE, drop_tensor, "up_proj", "InvalidModel"),
    Fault("NaN in the base model", Stage.PREPARE, make_nan, "q_proj", "InvalidModel"),
    Fault("base revision swapped", Stage.PUBLISH, lambda work, _: change_base(work), _BASE, "InvalidModel"),
    Fault(
        "tokenizer swapped",
        Stage.TRAIN,
        lambda work, _: swap_tokens(base_of(work) / "tokenizer.json"),
        _BASE,
        "InvalidModel",
    ),
    Fault(
        "template changed by one newline",
        Stage.TRAIN,
        lambda work, _: append_newline(base_of(work) / "chat_template.jinja"),
        _BASE,
        "InvalidModel",
    ),
    Fault(
        "DoRA magnitudes frozen",
        Stage.TRAIN,
        trainable(frozen_magnitudes),
        "did not change .*magnitude",
        "NotTrained",
        "dora",
    ),
    Fault(
        "adapter never moved",
        Stage.PREPARE,
        lambda work, _: None,
        "did not change",
        "NotTrained",
        job={"training": {"maxLength": 128, "maxSteps": 1, "globalBatchSize": 4, "warmupRatio": 0.99}},
    ),
    Fault("rank of another size", Stage.TRAIN, trainable(other_adapter(rank=2)), "saved with r 2, the job asks for 4"),
    Fault("alpha of another size", Stage.TRAIN, saved(double_alpha), "saved with lora_alpha 16, the job asks for 8"),
    Fault(
        "LoRA on fewer modules than asked",
        Stage.TRAIN,
        trainable(other_adapter(target_modules=("q_proj",))),
        "has none for",
    ),
    Fault("adapter saved in half precision", Stage.TRAIN, saved(half_precision), "is float16, not float32"),
    Fault(
        "tied weights untied",
        Stage.TRAIN,
        saved(untied),
        "tie_word_embeddings is set",
        method="full",
        base={"tie_word_embeddings": True},
    ),
    Fault(
        "weights of another job", Stage.PUBLISH, another_jobs_weights, "are not those that this job's training wrote"
    ),
    Fault("adapter not merged", Stage.PUBLISH, unmerged, "merging the adapter changes the model", "ExportFailed"),
    Fault("base model published in place of the merged", Stage.PUBLISH, base_instead, "equals the base model"),
    Fault("merged with twice the scaling", Stage.PUBLISH, wrong_scaling, "are not the base weight plus"),
    Fault(
        "training lost in rounding to bf16",
        Stage.PREPARE,
        lambda work, _: None,
        "rounding to it leaves .* of what was trained",
        base={"dtype": "bfloat16"},
        job={"training": {"maxLength": 128, "maxSteps": 2, "globalBatchSize": 4, "learningRate": 1e-7}},
    ),
    Fault(
        "sliding window lost",
        Stage.PUBLISH,
        exported_with(without_window),
        "layer 0 on a row beyond token 64 differs from torch",
        base={"architecture": "MistralForCausalLM", "sliding_window": 64},
    ),
    Fault(
        "rope scaling lost",
        Stage.PUBLISH,
        exported_with(without_rope_scaling),
        "layer 0 (on a row beyond token 64 )?differs from torch",
        base={
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    Fault(
        "one int4 layer broken, bounds open",
        Stage.PUBLISH,
        exported(break_a_layer, "int4"),
        r"weight /model/layers\.1/attn/qkv_proj/MatMul_Q4 is not the trained one in int4",
        job={"export": {"precisions": ["int4"], "parity": OPEN}},
    ),
    Fault(
        "gate and up exchanged in one int4 layer, bounds open",
        Stage.PUBLISH,
        exported(swap_gate_and_up, "int4"),
        "the int4 export is not the trained model: layer 1 differs from torch by",
        job={"export": {"precisions": ["int4"], "parity": OPEN}},
    ),
    Fault(
        "one int4 layer broken",
        Stage.PUBLISH,
        exported(break_a_layer, "int4"),
        "the int4 export is not the trained model",
        method="full",
        # Trained until it knows the rows: then the usual bounds hold for int4.
        job={
            "training": {"maxLength": 128, "maxSteps": 150, "globalBatchSize": 4, "learningRate": 0.003},
            "export": {"precisions": ["int4"]},
        },
    ),
    Fault(
        "heads of the key cache swapped",
        Stage.PUBLISH,
        exported(swap_heads),
        "the fp32 export is not the trained model",
    ),
    Fault(
        "tokenizer of the export swapped",
        Stage.PUBLISH,
        exported(lambda folder: swap_tokens(folder / "tokenizer.json")),
        _TOKENS,
    ),
    Fault(
        "template of the export changed by one newline",
        Stage.PUBLISH,
        exported(lambda folder: append_newline(folder / "chat_template.jinja")),
        _TOKENS,
    ),
    Fault("system turn dropped in serving", Stage.PUBLISH, exported(without_system), _TOKENS, job={"system": True}),
    Fault(
        "old export beside new weights", Stage.PUBLISH, stale_export, "is not of the model in", job={"published": True}
    ),
    Fault("artifact truncated", None, truncated, "model.onnx.data", ""),
    Fault("artifact of another digest", None, other_digest, "digest", ""),
    Fault("template changed in the artifact", None, retemplated, "chat_template.jinja", ""),
)
