"""The weights of one adapter in the order of the graph's modules, still in their file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count

import numpy as np

from tunesmith_serving.engines.text_generation.adapters.config import MERGE, LoraConfig
from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError
from tunesmith_serving.engines.text_generation.adapters.modules import LoraModules
from tunesmith_serving.engines.text_generation.adapters.tensors import Matrix, TensorFile

# base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight
_NAME = re.compile(
    r"^(?:base_model\.model\.)?(?P<path>.*?\.(?P<layer>\d+)\.(?:.*\.)?(?P<part>\w+))\.lora_(?P<matrix>[AB])(?:\.\w+)?\.weight$"
)
_serials = count(1)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The tensors of a module."""

    down: str
    up: str
    rank: int
    scale: float


class AdapterWeights:
    """The matrices of an adapter.

    Attributes:
        rank: The largest rank of its modules.
        serial: A number that no other weights of this process have.
    """

    def __init__(self, file: TensorFile, config: LoraConfig, modules: LoraModules) -> None:
        """Match the tensors of a file with the modules of a graph.

        Raises:
            AdapterError: A tensor belongs to no module of the graph, has another shape than it needs, or is no number.
        """
        self._file = file
        found: dict[str, dict[str, tuple[str, str]]] = {}
        for name in file.tensors:
            match = _NAME.match(name)
            if match is None:
                raise AdapterError(f"its tensor {name} is none of LoRA's A and B of a decoder layer; {MERGE}")
            place = f"{match['layer']}.{match['part']}"
            if found.setdefault(place, {}).setdefault(match["matrix"], (name, match["path"]))[0] != name:
                raise AdapterError(f"it has two matrices {match['matrix']} for {place}; export the adapter again")
        known = {module.name for module in modules.modules}
        if foreign := sorted(set(found) - known):
            listed = ", ".join(sorted({name.partition(".")[2] for name in known}))
            raise AdapterError(
                f"it changes {', '.join(foreign[:5])}, for which the base takes no adapter; it takes them for {listed}"
            )
        self._pairs = [self._pair(found.get(m.name), config, m.name, m.inputs, m.outputs) for m in modules.modules]
        self.rank = max((pair.rank for pair in self._pairs if pair), default=0)
        if not self.rank:
            raise AdapterError("it has no matrices; export the adapter again")
        if self.rank > modules.max_rank:
            raise AdapterError(f"its rank is {self.rank}, and the base takes at most {modules.max_rank}")
        self.serial = next(_serials)

    def check_numbers(self) -> None:
        """Check every value: one that is no number would spoil other rows of a batch.

        Raises:
            AdapterError: A value is infinite or not a number.
        """
        for name in self._file.tensors:
            if not np.isfinite(self._file.read(name)).all():
                raise AdapterError(f"its tensor {name} has values that are not numbers; train the adapter again")

    def write(self, index: int, a: Matrix, b: Matrix) -> None:
        """Write the matrices of one module; what is beyond its rank becomes zero.

        Args:
            index: The module's position in the graph's.
            a: Gets A, shape [inputs, rank or more].
            b: Gets B times the scale, shape [rank or more, outputs].

        Raises:
            AdapterError: The file has changed or cannot be read.
        """
        pair = self._pairs[index]
        rank = pair.rank if pair else 0
        a[:, rank:] = 0
        b[rank:] = 0
        if pair:
            a[:, :rank] = self._file.read(pair.down).T
            np.multiply(self._file.read(pair.up).T, np.float32(pair.scale), out=b[:rank])

    def _pair(
        self, found: dict[str, tuple[str, str]] | None, config: LoraConfig, name: str, inputs: int, outputs: int
    ) -> _Pair | None:
        if found is None:
            return None
        if set(found) != {"A", "B"}:
            raise AdapterError(f"it has only one of the two matrices of {name}; export the adapter again")
        (down, path), (up, _) = found["A"], found["B"]
        rank = config.rank_of(path)
        for tensor, wanted in ((down, (rank, inputs)), (up, (outputs, rank))):
            shape = self._file.tensors[tensor].shape
            if shape != wanted:
                raise AdapterError(
                    f"its tensor {tensor} has the shape {list(shape)}, and the base needs {list(wanted)}; "
                    "it was trained on another base, or adapter_config.json is of another adapter"
                )
        return _Pair(down, up, rank, config.scale_of(path))


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that is loaded: verified, and ready to be bound.

    Attributes:
        name: What requests call it.
        digest: The digest of its artifact.
        source: Its folder or URI, as the list of adapters gives it.
        created: When it was loaded, in seconds since the epoch.
        weights: Its matrices.
    """

    name: str
    digest: str
    source: str
    created: int
    weights: AdapterWeights

    @property
    def key(self) -> str:
        """What keys of cached tokens contain: adapters with the same key compute the same."""
        return f"{self.name}@{self.digest or self.weights.serial}"
