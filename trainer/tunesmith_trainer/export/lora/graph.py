"""Adds inputs for LoRA adapters to an exported decoder. Relies on the names that the builder gives to nodes.

Beside each product with a matrix, or with a quantised one, comes a branch in fp32: `y = base(x) + (x @ A) @ B`. A and B
are inputs with a row for each row of the batch, and have a default of rank 0. The builder can join several linear
layers into one product, and split one into several, so the branches are joined and split in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tunesmith_api.artifact import lora_input
from tunesmith_trainer.export.graph import MODEL
from tunesmith_trainer.export.lora.modules import LoraModule, write_modules
from tunesmith_trainer.export.ragged import RAGGED, write_ragged
from tunesmith_trainer.export.wide import NARROW

_PRODUCT = re.compile(r"^/model/layers\.(?P<layer>\d+)/(?:attn|mlp)/(?P<part>\w+_proj)/MatMul(?:_Q\w+)?$")
_PRODUCTS = ("MatMul", "MatMulNBits")
# What reads the same input; a joined product's outputs are in this order.
_GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
_JOINED = {"qkv_proj": _GROUPS[0], "gate_up_proj": _GROUPS[2]}


def add_lora_inputs(folder: Path, modules: Sequence[LoraModule]) -> None:
    """Let an export take LoRA adapters, in place, and write lora.json beside it.

    Args:
        folder: The export.
        modules: The linear layers that can have an adapter.

    Raises:
        ValueError: The graph has no product for a module, or one of another width.
    """
    path = folder / MODEL
    model = onnx.load(str(path), load_external_data=False)
    add_branches(model.graph, modules)
    temporary = path.with_name(f".{path.name}.tmp")
    onnx.save(model, str(temporary))
    temporary.replace(path)
    if (folder / RAGGED).exists():
        write_ragged(folder)
    write_modules(folder, list(modules))


def add_branches(graph: GraphProto, modules: Sequence[LoraModule]) -> None:
    """Add a branch for each module to a graph; see `add_lora_inputs`."""
    narrow = next((weight.data_type for weight in graph.initializer if weight.data_type in NARROW), None)
    found = _products(graph)
    after: dict[str, list[NodeProto]] = {}
    for layer in sorted({module.layer for module in modules}):
        own = {module.part: module for module in modules if module.layer == layer}
        for group in _GROUPS:
            adapted = [module for module in own.values() if set(_parts(module.part)) <= set(group)]
            if not adapted:
                continue
            products = [node for part, node in found.get(layer, {}).items() if set(_parts(part)) <= set(group)]
            branch = _Branch(f"/model/layers.{layer}/lora/{'_'.join(part[:-5] for part in group)}", narrow)
            branch.add(graph, adapted, products, group)
            after[products[-1].name] = branch.nodes
    unknown = [module.name for module in modules if not any(set(_parts(module.part)) <= set(g) for g in _GROUPS)]
    if unknown:
        raise ValueError(f"the exported graph has no product for {unknown[0]}")
    nodes = [node for given in graph.node for node in (given, *after.get(given.name, ()))]
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _parts(part: str) -> tuple[str, ...]:
    """Return the linear layers that one holds: several if they are joined."""
    return _JOINED.get(part, (part,))


def _products(graph: GraphProto) -> dict[int, dict[str, NodeProto]]:
    """Return the products by layer and name, in the order of the graph."""
    found: dict[int, dict[str, NodeProto]] = {}
    for node in graph.node:
        match = _PRODUCT.match(node.name)
        if match and node.op_type in _PRODUCTS:
            found.setdefault(int(match["layer"]), {})[match["part"]] = node
    return found


@dataclass
class _Branch:
    """The nodes that compute the updates of what reads the same input.

    Attributes:
        prefix: How the names of its nodes begin.
        narrow: The graph's number format, if it is one of 16 bits. The branch is fp32.
        is_exact: Whether the products beside it are not quantised.
        nodes: Its nodes, in order.
    """

    prefix: str
    narrow: int | None
    is_exact: bool = False
    nodes: list[NodeProto] = field(default_factory=list)

    def add(
        self, graph: GraphProto, modules: list[LoraModule], products: list[NodeProto], group: tuple[str, ...]
    ) -> None:
        """Add the modules' updates to the products' outputs."""
        held = [part for node in products for part in _parts(_part_of(node))]
        named = [part for module in modules for part in _parts(module.part)]
        if held != list(group) or sorted(named, key=group.index) != list(group):
            raise ValueError(f"{self.prefix}: the graph computes {held or 'nothing'}, the model has {named}")
        source = products[0].input[0]
        if any(node.input[0] != source for node in products):
            raise ValueError(f"{self.prefix}: the graph's products read different inputs")
        if self.narrow:
            (source,) = self._node("Cast", [source], to=TensorProto.FLOAT)
        self.is_exact = self.narrow is None and all(node.op_type == "MatMul" for node in products)
        modules = sorted(modules, key=lambda module: group.index(_parts(module.part)[0]))
        updates = [self._update(graph, source, module) for module in modules]
        updates = self._shared_out(graph, updates, modules, products)
        for node, update in zip(products, updates, strict=True):
            if self.narrow:
                (update,) = self._node("Cast", [update], to=self.narrow)
            result = node.output[0]
            node.output[0] = f"{result}/base"
            self._node("Add", [node.output[0], update], outputs=[result])

    def _update(self, graph: GraphProto, source: str, module: LoraModule) -> str:
        """Return the update of a module, [rows, tokens, outputs]."""
        value, sizes = source, (module.inputs, 0, module.outputs)
        for matrix, rows, columns in (("A", *sizes[:2]), ("B", *sizes[1:])):
            name = lora_input(module.name, "A" if matrix == "A" else "B")
            rank = f"{module.name}.rank"
            shape = [f"{name}.rows", rows or rank, columns or rank]
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            graph.initializer.append(numpy_helper.from_array(np.zeros((1, rows, columns), np.float32), name))
            (value,) = self._product(value, name, 2.0 if matrix == "A" else 0.5)
        return value

    def _product(self, value: str, matrix: str, factor: float) -> list[str]:
        """Return the product of a value and a matrix; of an fp32 graph times a factor, which makes up for the other's.

        In fp32 a row must not depend on the number of rows and tokens. ONNX Runtime rounds one row by itself in another
        way than several, unless there is a factor. Doubling and halving are exact.
        """
        if not self.is_exact:
            return self._node("MatMul", [value, matrix])
        return self._node("FusedMatMul", [value, matrix], domain="com.microsoft", alpha=factor)

    def _shared_out(
        self, graph: GraphProto, updates: list[str], modules: list[LoraModule], products: list[NodeProto]
    ) -> list[str]:
        """Return an update for each product: joined or split if the graph has fewer or more products than modules."""
        if len(updates) == len(products):
            return updates
        if len(products) == 1:
            return self._node("Concat", updates, axis=-1)
        if len(updates) > 1:
            raise ValueError(f"{self.prefix}: {len(products)} products stand for {len(updates)} linear layers")
        widths = [_width(graph, node) for node in products]
        if sum(widths) != modules[0].outputs:
            raise ValueError(f"{self.prefix}: the products are {widths} wide, {modules[0].outputs} in all are expected")
        name = f"{self.prefix}/widths"
        graph.initializer.append(numpy_helper.from_array(np.asarray(widths, np.int64), name))
        outputs = [f"{self.prefix}/Split/output_{index}" for index in range(len(widths))]
        return self._node("Split", [updates[0], name], outputs=outputs, axis=-1)

    def _node(
        self, kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: float | str
    ) -> list[str]:
        """Add a node and return its outputs."""
        name = f"{self.prefix}/{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, outputs or [f"{name}/output_0"], name, **attributes)
        self.nodes.append(node)
        return list(node.output)


def _part_of(node: NodeProto) -> str:
    found = _PRODUCT.match(node.name)
    return found["part"] if found else node.name


def _width(graph: GraphProto, node: NodeProto) -> int:
    """Return the number of a product's outputs."""
    for attribute in node.attribute:
        if attribute.name == "N":
            return int(attribute.i)
    return next(int(weight.dims[-1]) for weight in graph.initializer if weight.name == node.input[1])
