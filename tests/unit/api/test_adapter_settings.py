"""Which of an adapter's settings go with which method, their defaults, and the size that follows from them."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith_api.methods import METHODS, adapter_methods, block_size
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import AdapterSpec, TrainingJobSpec, adapter_settings


def spec(method: str, **adapter: object) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(
        {"model": {"uri": "./m"}, "method": method, "dataset": {"sources": [{"uri": "./d"}]}, "adapter": adapter}
    )


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("ia3", {"alpha": 4}, "adapter.alpha has no meaning with method: ia3, vera or oft"),
        ("oft", {"rank": 4}, "adapter.rank has no meaning with method: ia3 or oft"),
        ("lora", {"blockSize": 4}, "remove blockSize, or write method: oft"),
        ("vera", {"useRslora": True}, "adapter.useRslora has no meaning"),
        ("dora", {"initLoraWeights": "pissa"}, "adapter.initLoraWeights has no meaning with method: qlora, dora"),
        ("loha", {"dropout": 0.1}, "adapter.dropout has no meaning"),
        ("ia3", {"loraplusLrRatio": 4}, "adapter.loraplusLrRatio has no meaning"),
    ],
)
def test_a_setting_without_a_meaning_is_refused(method: str, setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(method, **setting)


def test_what_means_nothing_may_be_written() -> None:
    assert spec("vera", useRslora=False, initLoraWeights="default", rank=8).adapter_settings is not None


def test_defaults_are_the_methods() -> None:
    ranks = {name: getattr(adapter_settings(name, None), "rank", None) for name in METHODS}
    assert (ranks["lora"], ranks["vera"], ranks["loha"], ranks["full"]) == (16, 256, 8, None)
    vera = adapter_settings("vera", AdapterSpec(dropout=0.5))
    assert vera is not None
    assert (vera.rank, vera.dropout, vera.exact_block_size) == (256, 0.5, False)
    rates = {name: resolve(spec(name), 1, 10, has_bf16=False).learning_rate for name in adapter_methods()}
    assert rates["lora"] < rates["ia3"] <= rates["vera"]


def test_what_is_shown_has_a_meaning() -> None:
    def shown(method: str, **adapter: object) -> dict[str, object]:
        status = resolve(spec(method, **adapter), 1, 10, has_bf16=False).to_status()
        return {name.removeprefix("adapter."): entry for name, entry in status.items() if name.startswith("adapter.")}

    assert set(shown("ia3")) == {"targetModules"}
    assert shown("oft")["blockSize"] == {"value": 32, "reason": "default of oft"}
    assert set(shown("lora")) == {"rank", "alpha", "targetModules"}
    assert shown("lora", initLoraWeights="olora")["initLoraWeights"] == {"value": "olora", "reason": "set in the spec"}


@dataclass
class Layer:
    name: str
    inputs: int
    outputs: int


def test_the_trained_parameters_of_a_layer() -> None:
    def count(method: str, layer: Layer, **adapter: object) -> int:
        settings = spec(method, **adapter).adapter_settings
        assert settings is not None
        return METHODS[method].layer_parameters(settings, layer)

    layer = Layer("q_proj", 48, 20)
    assert count("lora", layer, rank=2) == 2 * 68
    assert count("dora", layer, rank=2) == 2 * 68 + 20
    assert count("loha", layer, rank=2) == 4 * 68
    assert count("vera", layer) == 256 + 20
    assert count("ia3", layer) == 20
    assert count("ia3", Layer("down_proj", 48, 20)) == 48
    assert count("oft", layer) == 2 * (24 * 23 // 2), "32 does not divide 48; 24 is nearer than 48"
    assert [block_size(32, inputs) for inputs in (64, 48, 33, 7, 40)] == [32, 24, 33, 7, 40]


def export(method: str = "lora", task: str = "textGeneration", **fields: object) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate(
        {
            "model": {"uri": "./m"},
            "task": task,
            "method": method,
            "dataset": {"sources": [{"uri": "./d"}]},
            "export": {"adapterOnly": True, **fields},
        }
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_method_whose_update_is_not_low_rank_is_merged(method: str) -> None:
    if method in ("lora", "qlora"):
        assert export(method).export.adapter_only
        return
    remedy = r"write export: \{adapterOnly: false\}, which merges it into the base, or method: lora or qlora"
    with pytest.raises(ValidationError, match=rf"does not go with method: {method}, which \w+ .+; {remedy}"):
        export(method)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "translation"}, "adapterOnly: true is for task: textGeneration"),
        ({"mergeWeights": True}, "mergeWeights: true asks for the merged model"),
        ({"precisions": []}, "leaves no base to serve the adapter on"),
        ({"precisions": ["int4", "int8"]}, r"is not exported in int8; write precisions: \[int4\]"),
        ({"adapterOnly": False, "baseUri": "./b"}, "baseUri has no meaning without adapterOnly"),
    ],
)
def test_what_contradicts_an_adapter_alone_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        export(**fields)
