"""OFT: rotates the inputs of a layer, in blocks."""

from __future__ import annotations

import math
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.methods import block_size
from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter_file import AdapterFile
from tunesmith_trainer.methods.kinds.base import AdapterKind, Sizes


class OftKind(AdapterKind):
    """Multiplies a weight with an orthogonal matrix of blocks on its inputs: W · Rᵀ (arXiv 2306.07280, 2506.19847).

    A block is the Cayley transform of a skew-symmetric matrix, R = (I - Q) · (I + Q)⁻¹, which is orthogonal whatever is
    trained. peft's default is a series in place of the inverse, which is orthogonal for small Q only.
    """

    peft_type = "OFT"
    parts = ("oft_R",)

    def check_layers(self, layers: Sizes, adapter: AdapterSettings) -> None:
        """Fail if the block size that the spec names does not divide the inputs of a layer."""
        if not adapter.exact_block_size:
            return
        wrong = next((name for name, (inputs, _) in layers.items() if inputs % adapter.block_size), None)
        if wrong is not None:
            common = math.gcd(*(inputs for inputs, _ in layers.values()))
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.adapter.blockSize: {adapter.block_size} does not divide the {layers[wrong][0]} inputs "
                f"of {wrong}",
                f"Write blockSize: {block_size(adapter.block_size, common)}, or leave it out",
            )

    def peft_config(self, adapter: AdapterSettings, targets: list[str], task_type: str | None) -> Any:  # noqa: ANN401
        """Return peft's configuration."""
        from peft import OFTConfig

        return OFTConfig(
            r=0,
            oft_block_size=adapter.block_size,
            use_cayley_neumann=False,
            target_modules=targets,
            bias="none",
            task_type=task_type,
        )

    def saved_settings(self, adapter: AdapterSettings) -> dict[str, Any]:
        """Return the block size, and that blocks are orthogonal, neither shared nor bounded."""
        return {
            "oft_block_size": adapter.block_size,
            "use_cayley_neumann": False,
            "coft": False,
            "block_share": False,
        }

    def problem(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that blocks are of another size."""
        blocks, elements = file.get(layer, "oft_R").shape
        size = _size(elements)
        wanted = block_size(adapter.block_size, blocks * size)
        return None if size == wanted else f"has blocks of {size}, the job asks for {wanted}"

    def unmoved(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that nothing is rotated."""
        return None if file.get(layer, "oft_R").any() else "its rotation is still none"

    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return W · Rᵀ block by block; peft multiplies with the whole matrix, which is mostly zeros."""
        vectors = file.get(layer, "oft_R").to(weight.device)
        size = _size(vectors.shape[1])
        rows, columns = torch.triu_indices(size, size, 1, device=weight.device)
        skew = vectors.new_zeros(len(vectors), size, size)
        skew[:, rows, columns] = vectors
        skew = skew - skew.transpose(-2, -1)
        identity = torch.eye(size, device=weight.device).expand_as(skew)
        rotations = torch.linalg.solve(identity + skew, identity - skew, left=False)
        blocks = weight.view(len(weight), -1, size).transpose(0, 1)  # [blocks, out, size]
        return torch.bmm(blocks, rotations.transpose(1, 2)).transpose(0, 1).reshape(weight.shape)

    @property
    def formula(self) -> str:
        """The base weight and the rotation."""
        return "the base weight times the rotation of its inputs"

    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return W · Rᵀ, with R = (I - Q) · (I + Q)⁻¹ in fp64.

        Raises:
            StageError: A block is not orthogonal.
        """
        size = block_size(adapter.block_size, weight.shape[1])
        above = torch.ones(size, size, dtype=torch.bool).triu(1)
        result, identity = torch.empty_like(weight), torch.eye(size, dtype=torch.float64)
        for number, vector in enumerate(file.get(layer, "oft_R")):
            upper = torch.zeros(size, size, dtype=torch.float64)
            upper[above] = vector.double()
            skew = upper - upper.T
            rotation = (identity - skew) @ torch.linalg.inv(identity + skew)
            part = slice(number * size, (number + 1) * size)
            result[:, part] = (weight[:, part].double() @ rotation.T).float()
        return result


def _size(elements: int) -> int:
    """Return the rows of a block by the number of its elements above the diagonal."""
    return (1 + math.isqrt(1 + 8 * elements)) // 2
