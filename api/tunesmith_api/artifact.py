"""The layout of an artifact folder and its digest: written by the trainer, verified by the server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

MANIFEST = "manifest.json"
"""Written last: an artifact is complete if and only if it is there."""
FORMAT_VERSION = 1
ONNX = "onnx"
"""Folder of the exported models, which has a folder for each precision."""
MODEL_FILES = ("model.onnx", "genai_config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of an exported language model that a server needs."""


NO_ONNX = (
    "holds no ONNX model (its job has export.precisions: []), so it cannot be served here; serve its adapter/ or "
    "model/ with another server, or remove precisions: [] from the job, and its task's default is exported"
)
"""What is wrong with an artifact that holds no exported model, for a server of ONNX models. Follows its name."""


LORA_BASE = "loraBase"
"""`kind` in the manifest of an exported base model whose graph takes LoRA adapters."""
ADAPTER = "adapter"
"""`kind` in the manifest of a LoRA adapter, which names its base; and the folder with its files, in peft's format."""
LORA = "lora.json"
"""File beside the graph of a LoRA base: `{modules: [{name, in, out}], maxRank}`; a name is `3.q_proj`."""


def lora_input(module: str, matrix: Literal["A", "B"]) -> str:
    """Return the name of the graph's input for a matrix of an adapter.

    `lora.3.q_proj.A` is float32 [rows, in, rank], `lora.3.q_proj.B` is float32 [rows, rank, out]: an adapter for each
    row of the batch, or one for all of them. B is multiplied by alpha / rank (alpha / sqrt(rank) with rsLoRA). Rank is
    any number from 0 to `maxRank`, the same for all rows. Each input has a default of rank 0: the base alone.

    Args:
        module: The linear layer, as `lora.json` names it.
        matrix: Which matrix.
    """
    return f"lora.{module}.{matrix}"


SMALLEST = "smallest"
"""Stands for the precision that a server takes which is not told one: the smallest that it can compute."""


def onnx_folder(precision: str) -> str:
    """Return the path of the exported model of a precision, in the artifact."""
    return f"{ONNX}/{precision}"


def checkpoint_uri(artifact: str, step: int | str) -> str:
    """Return where the artifact of a checkpoint is: beside that of its job.

    Args:
        artifact: Path or URI of the job's artifact.
        step: The checkpoint's step, or a pattern for it.
    """
    return f"{artifact.rstrip('/')}-step-{step}"


def held_precisions(paths: Iterable[str]) -> list[str]:
    """Return the precisions of the exported models that an artifact holds.

    Args:
        paths: Its files.
    """
    parts = (path.split("/") for path in paths)
    return sorted({part[1] for part in parts if part[0] == ONNX and len(part) > 2})


def digest_of_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the SHA-256 of a JSON value in canonical form, as `sha256:...`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def artifact_digest(files: Mapping[str, Any]) -> str:
    """Return the digest of an artifact: SHA-256 over its files' paths and digests.

    Args:
        files: The manifest's `files`: `{path: {"sha256": ..., "size": ...}}`. An entry without a digest counts as null.
    """
    return digest_of_json({p: entry.get("sha256") if isinstance(entry, dict) else None for p, entry in files.items()})
