"""Manifests of a tiny job that trains in seconds, of a workspace over it, and of its data."""

import json
from typing import Any

Object = dict[str, Any]

ROWS = [{"prompt": f"What is {a} and {b}?", "completion": f"It is {a}{b}."} for a in "abcdef" for b in "uvwxyz"]


def job(name: str = "tiny", **spec: Any) -> Object:
    """A FineTuneJob on a model of 0.1 million parameters; `spec` replaces whole sections."""
    sizes = {"hiddenSize": 64, "intermediateSize": 64, "numHiddenLayers": 2, "vocabSize": 320}
    heads = {"numAttentionHeads": 2, "numKeyValueHeads": 1, "maxPositionEmbeddings": 128}
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"scratch": {**sizes, **heads}},
            "method": "full",
            "dataset": {
                "sources": [{"configMapKeyRef": {"name": f"{name}-data", "key": "rows.jsonl"}}],
                "validation": {"fraction": 0.1},
            },
            "training": {"maxSteps": 12, "learningRate": 0.003, "globalBatchSize": 8, "maxLength": 128},
            "evaluation": {"maxRows": 4, "maxNewTokens": 16},
            # The int4 kernels are coarse on a model this small that has hardly learned.
            "export": {"precisions": ["fp32"]},
            **spec,
        },
    }


def workspace(name: str = "tiny", **spec: Any) -> Object:
    """An InferenceWorkspace that serves the job of the same name; `spec` replaces whole sections."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "InferenceWorkspace",
        "metadata": {"name": name},
        "spec": {
            "model": {"fineTuneJob": name},
            "runtime": {"precision": "fp32", "contextLength": 128, "maxBatchSize": 2},
            **spec,
        },
    }


def config_map(name: str = "tiny", rows: list[dict[str, str]] = ROWS) -> Object:
    """The ConfigMap that the job of this name reads."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-data"},
        "data": {"rows.jsonl": text},
    }
