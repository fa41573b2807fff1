"""VeRA: trains two vectors for each layer; the matrices between them are random and the same for all layers."""

from __future__ import annotations

from typing import Any

import torch

from tunesmith_api.spec import AdapterSettings
from tunesmith_trainer.methods.adapter_file import AdapterFile
from tunesmith_trainer.methods.kinds.base import AdapterKind


class VeraKind(AdapterKind):
    """Adds diag(b) · B · diag(d) · A to a weight, with one random A and B for all layers (arXiv 2310.11454).

    A and B are as large as the largest layer; a layer takes their first columns and rows. They are saved with the
    adapter, as the same seed need not give the same numbers in another version of torch.
    """

    peft_type = "VERA"
    parts = ("vera_lambda_b", "vera_lambda_d")
    late = ("vera_lambda_d",)
    shared = ("vera_A", "vera_B")

    def peft_config(self, adapter: AdapterSettings, targets: list[str], task_type: str | None) -> Any:  # noqa: ANN401
        """Return peft's configuration."""
        from peft import VeraConfig

        return VeraConfig(
            r=adapter.rank,
            vera_dropout=adapter.dropout,
            target_modules=targets,
            save_projection=True,
            projection_prng_key=0,
            bias="none",
            task_type=task_type,
        )

    def prepare(self, model: Any) -> None:  # noqa: ANN401
        """Let the matrices have the dtype of the vectors: DeepSpeed's ZeRO 1 and 2 cast parameters, but no buffers."""
        vectors = [weight for name, weight in model.named_parameters() if ".vera_lambda_d." in name]
        matrices = [buffer for name, buffer in model.named_buffers() if any(f".{p}." in name for p in self.shared)]

        def cast(*_: Any) -> None:  # noqa: ANN401
            for matrix in matrices:
                matrix.data = matrix.data.to(vectors[0].dtype)

        model.register_forward_pre_hook(cast)

    def saved_settings(self, adapter: AdapterSettings) -> dict[str, Any]:
        """Return the rank, and that the matrices are saved."""
        return {"r": adapter.rank, "save_projection": True}

    def problem(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that a vector or a matrix is of another rank."""
        ranks = (file.get(layer, "vera_lambda_d").numel(), file.shared("vera_A").shape[0])
        wrong = next((rank for rank in ranks if rank != adapter.rank), None)
        return None if wrong is None else f"has rank {wrong}, the job asks for {adapter.rank}"

    def unmoved(self, file: AdapterFile, layer: str, adapter: AdapterSettings) -> str | None:
        """Return that b is zero."""
        return None if file.get(layer, "vera_lambda_b").any() else "its vector b is still zero"

    def merged(self, file: AdapterFile, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return W + (b · B) @ (d · A)."""
        outputs, inputs = weight.shape
        down = file.get(layer, "vera_lambda_d").unsqueeze(-1) * file.shared("vera_A")[:, :inputs]
        up = file.get(layer, "vera_lambda_b").unsqueeze(-1) * file.shared("vera_B")[:outputs]
        update = (up @ down).to(weight.device)
        update += weight
        return update

    @property
    def formula(self) -> str:
        """The base weight and the update."""
        return "the base weight plus diag(b) · B · diag(d) · A"

    def expected(self, file: AdapterFile, layer: str, weight: torch.Tensor, adapter: AdapterSettings) -> torch.Tensor:
        """Return W + diag(b) · B · diag(d) · A."""
        up, down = file.shared("vera_B")[: len(weight)], file.shared("vera_A")[:, : weight.shape[1]]
        inner = (up * file.get(layer, "vera_lambda_d")) @ down
        return torch.addcmul(weight, inner, file.get(layer, "vera_lambda_b").reshape(-1, 1))
