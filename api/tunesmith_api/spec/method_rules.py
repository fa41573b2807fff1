"""The rules about `spec.method`, and what goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunesmith_api.methods import (
    DEFAULT_METHOD,
    METHODS,
    MethodInfo,
    listed,
    low_rank_methods,
    methods_with,
    methods_without,
    whole_methods,
)
from tunesmith_api.spec.base import Rule
from tunesmith_api.tasks import DEFAULT_TASK, TASKS

_ADAPTER_ONLY = "has(self.export) && has(self.export.adapterOnly) && self.export.adapterOnly"
_NOT_LOW_RANK = "adds more to a weight than the product of two small matrices"
_MERGED = {
    "full": "changes all weights, so that nothing small is left to publish",
    "lora": "scales each row of the merged weight: that is no product of two small matrices",  # dora
    "ia3": "scales whole weights: that is no product of two small matrices",
    "vera": "has matrices of a high rank that all layers share, and as a LoRA would be many times as large",
    "oft": "rotates whole weights: that is no product of two small matrices",
    "loha": "multiplies two products element by element, whose rank is not low",
}
"""Why a method's result is merged, by its kind of adapter."""


def _weights_rule(method: str, is_default: bool) -> Rule:
    """Return the rule that something is published, of jobs with the default task or of all others."""
    tasks = [task for task in TASKS.values() if (task.name == DEFAULT_TASK) is is_default]
    exported = ", ".join(dict.fromkeys(name for task in tasks for name in task.default_precisions))
    other = "!=" if is_default else "=="
    return Rule(
        f"self.method != '{method}' || self.task {other} '{DEFAULT_TASK}' || "
        "!has(self.export) || !has(self.export.precisions) || self.export.precisions.size() > 0 || "
        "(has(self.export.mergeWeights) && self.export.mergeWeights)",
        f"export.precisions [] with method: {method} leaves no weights to publish; write "
        f"export: {{precisions: [], mergeWeights: true}}, or precisions: [{exported}]",
        lambda spec: (
            spec.method != method
            or (spec.task == DEFAULT_TASK) is not is_default
            or spec.export.precisions != ()
            or spec.export.merge_weights
        ),
    )


def _has_no_adapter(method: str) -> Callable[[Any], bool]:
    return lambda spec: spec.method != method or spec.adapter is None


def _adapter_only_rule(info: MethodInfo) -> Rule:
    """Return the rule that a method whose update does not stay low-rank is merged."""
    name = info.name
    because = _MERGED.get("full" if not info.trains_adapter else info.adapter_kind, _NOT_LOW_RANK)
    return Rule(
        f"self.method != '{name}' || !({_ADAPTER_ONLY})",
        f"export.adapterOnly: true does not go with method: {name}, which {because}; write export: "
        f"{{adapterOnly: false}}, which merges it into the base, or method: {listed(low_rank_methods())}",
        lambda spec: spec.method != name or not spec.export.adapter_only,
    )


def _partition_rule(name: str) -> Rule:
    """Return the rule that a method whose weights cannot be partitioned goes without ZeRO 3."""

    def check(spec: Any) -> bool:  # noqa: ANN401 - the whole job's spec, which has these rules
        given = spec.distributed
        asked = given.strategy == "zero3" or given.offload == "all" or given.nvme_path is not None
        return spec.method != name or not asked

    asked = (
        "(has(self.distributed.strategy) && self.distributed.strategy == 'zero3') || "
        "(has(self.distributed.offload) && self.distributed.offload == 'all') || has(self.distributed.nvmePath)"
    )
    return Rule(
        f"self.method != '{name}' || !has(self.distributed) || !({asked})",
        f"method: {name} does not go with zero3, nor with offload: all and nvmePath, which need it, as its layers read "
        f"whole weights; write strategy: zero2, or method: {DEFAULT_METHOD}",
        check,
    )


_ADAPTER_SETTINGS = (
    # Field, its name in the API, the value that means nothing in CEL, what a method that has it has.
    ("rank", "rank", "", "matrices of a rank"),
    ("alpha", "alpha", "", "an update that is scaled"),
    ("dropout", "dropout", "", "matrices that read the layer's input"),
    ("block_size", "blockSize", "", "a rotation in blocks"),
    ("use_rslora", "useRslora", "false", "LoRA's scale"),
    ("init_lora_weights", "initLoraWeights", "'default'", "base weights that are not quantized, and no magnitudes"),
    ("loraplus_lr_ratio", "loraplusLrRatio", "", "LoRA's matrix B"),
)


def _setting_rule(field: str, alias: str, neutral: str, what: str) -> Rule:
    """Return the rule that a field of `adapter` is set with the methods only in which it has a meaning."""
    without = methods_without(field)

    def check(spec: Any) -> bool:  # noqa: ANN401 - the whole job's spec, which has these rules
        value = getattr(spec.adapter, field, None)
        means_nothing = value is None or (neutral != "" and value in (0, "default"))
        info = METHODS[spec.method]
        return means_nothing or not info.trains_adapter or field in info.adapter_settings

    unset = f" || self.adapter.{alias} == {neutral}" if neutral else ""
    names = ", ".join(f"'{name}'" for name in without)
    return Rule(
        f"!(self.method in [{names}]) || !has(self.adapter) || !has(self.adapter.{alias}){unset}",
        f"adapter.{alias} has no meaning with method: {listed(without)}, as it needs {what}; "
        f"remove {alias}, or write method: {listed(methods_with(field))}",
        check,
    )


METHOD_RULES: tuple[Rule, ...] = (
    *(
        Rule(
            f"self.method != '{name}' || !has(self.adapter)",
            f"adapter has no meaning with method: {name}; remove adapter, or write method: {DEFAULT_METHOD}",
            _has_no_adapter(name),
        )
        for name in whole_methods()
    ),
    *(_setting_rule(*setting) for setting in _ADAPTER_SETTINGS if methods_without(setting[0])),
    *(_weights_rule(name, is_default) for name in whole_methods() for is_default in (True, False)),
    *(_partition_rule(name) for name, info in METHODS.items() if not info.partitions_weights),
    *(_adapter_only_rule(info) for info in METHODS.values() if not info.is_low_rank),
    Rule(
        f"self.task == '{DEFAULT_TASK}' || !({_ADAPTER_ONLY})",
        f"export.adapterOnly: true is for task: {DEFAULT_TASK}, whose server takes adapters; write export: "
        "{adapterOnly: false}, which merges the adapter into the base",
        lambda spec: spec.task == DEFAULT_TASK or not spec.export.adapter_only,
    ),
)
