"""Which layers of a served graph take an adapter, from lora.json beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.artifact import LORA, lora_input
from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.runtime.errors import ArtifactError

_PREFIX = "lora."


@dataclass(frozen=True, slots=True)
class LoraModule:
    """A linear layer that adds `(x @ A) @ B` of its inputs.

    Attributes:
        name: Its place: `3.q_proj` is of layer 3.
        inputs: Features that go in.
        outputs: Features that come out.
    """

    name: str
    inputs: int
    outputs: int

    @property
    def input_names(self) -> tuple[str, str]:
        """The graph's inputs for A, shape [batch, inputs, rank], and B, shape [batch, rank, outputs]."""
        return lora_input(self.name, "A"), lora_input(self.name, "B")


@dataclass(frozen=True)
class LoraModules:
    """The layers that take an adapter; none if the base was exported without.

    Attributes:
        modules: The layers.
        max_rank: The largest rank that is taken.
    """

    modules: tuple[LoraModule, ...] = ()
    max_rank: int = 0

    @property
    def input_names(self) -> frozenset[str]:
        """The graph's inputs for adapters."""
        return frozenset(name for module in self.modules for name in module.input_names)

    def check_graph(self, artifact: Artifact, inputs: Mapping[str, Any]) -> None:
        """Check the graph's inputs, ONNX Runtime's nodes by name.

        Raises:
            ArtifactError: The graph has other inputs for adapters than lora.json says.
        """
        model = artifact.onnx / "model.onnx"
        graph = {name for name in inputs if name.startswith(_PREFIX)}
        if graph != self.input_names:
            wrong = sorted(graph ^ self.input_names)
            raise ArtifactError(f"{model} and {LORA} do not agree about {', '.join(wrong[:3])}; export the model again")
        for module in self.modules:
            a, b = (inputs[name] for name in module.input_names)
            if a.type != "tensor(float)" or b.type != "tensor(float)":
                raise ArtifactError(f"{model} takes adapters of {a.type}, not of fp32; export the model again")
            if (a.shape[1], b.shape[2]) != (module.inputs, module.outputs):
                raise ArtifactError(
                    f"{model} and {LORA} do not agree about the sizes of {module.name}; export the model again"
                )


def read_modules(artifact: Artifact) -> LoraModules:
    """Return the layers that take an adapter.

    Raises:
        ArtifactError: lora.json is not what it should be.
    """
    if LORA not in artifact.files:
        return LoraModules()
    content = artifact.read_json(LORA)
    try:
        modules = tuple(LoraModule(str(m["name"]), int(m["in"]), int(m["out"])) for m in content["modules"])
        return LoraModules(modules, int(content["maxRank"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{artifact.onnx / LORA} lacks a usable {error}; export the model again") from None
