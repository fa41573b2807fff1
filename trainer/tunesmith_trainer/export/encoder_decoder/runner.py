"""Runs an export as a server does, with NumPy and ONNX Runtime alone. It is written to be read, not to be fast."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass
class Batch:
    """What is kept of a batch between two steps.

    Attributes:
        mask: int64 [batch, source], 1 for the tokens of the sources.
        encoder: `encoder.{i}.key/value` by name, float32 [batch, heads, source, head_dim].
        past: `past.{i}.key/value` by name, float32 [batch, heads, past, head_dim].
    """

    mask: Ids
    encoder: dict[str, Floats]
    past: dict[str, Floats]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        self.mask = self.mask[rows]
        self.encoder = {name: value[rows] for name, value in self.encoder.items()}
        self.past = {name: value[rows] for name, value in self.past.items()}


class EncoderDecoder:
    """The export in a folder.

    Attributes:
        start: The tokens that each answer begins with, given to the decoder in its first run.
        forced: How many of these count as generated.
        stop: The tokens that end an answer.
        suppressed: Tokens that are never chosen.
        pad: The token that sources are padded with.
    """

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
            for name in ("encoder.onnx", "decoder.onnx")
        )
        self._caches = [out.name for out in self._encoder.get_outputs()]
        self._shape: Sequence[Any] = self._encoder.get_outputs()[0].shape
        settings: Mapping[str, Any] = json.loads((folder / "generation_config.json").read_bytes())
        forced, stop = settings.get("forced_bos_token_id"), settings["eos_token_id"]
        self.start = [int(settings["decoder_start_token_id"]), *([] if forced is None else [int(forced)])]
        self.forced = len(self.start) - 1
        self.stop = frozenset(stop if isinstance(stop, list) else [stop])
        self.suppressed = list(settings.get("suppress_tokens") or ())
        self.pad = int(settings["pad_token_id"])

    def encode(self, sources: Sequence[Sequence[int]]) -> Batch:
        """Return the beginning of a batch.

        Args:
            sources: Token ids of each source, as the tokenizer gives them.
        """
        width = max(len(source) for source in sources)
        ids = np.full((len(sources), width), self.pad, np.int64)
        mask = np.zeros((len(sources), width), np.int64)
        for row, source in enumerate(sources):
            ids[row, : len(source)] = source
            mask[row, : len(source)] = 1
        outputs = self._encoder.run(self._caches, {"input_ids": ids, "attention_mask": mask})
        encoder = dict(zip(self._caches, outputs, strict=True))
        _, heads, _, size = self._shape
        empty = np.zeros((len(sources), heads, 0, size), np.float32)
        return Batch(mask, encoder, {name.replace("encoder", "past", 1): empty for name in self._caches})

    def step(self, batch: Batch, ids: Ids) -> Floats:
        """Return the logits after the next tokens of all rows, and keep their keys and values in the batch.

        Args:
            batch: The batch.
            ids: int64 [batch, tokens].

        Returns:
            float32 [batch, tokens, vocabulary].
        """
        given = {"input_ids": ids, "encoder_attention_mask": batch.mask, **batch.encoder, **batch.past}
        logits, *present = self._decoder.run(None, given)
        batch.past = dict(zip(batch.past, present, strict=True))
        return np.asarray(logits, np.float32)

    def greedy(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> list[list[int]]:
        """Return the greedy answer to each source, without the start and stop tokens.

        Args:
            sources: Token ids of each source.
            limits: Most tokens of each answer, at least one; a forced first token is one of them.
        """
        answers = [self.start[len(self.start) - self.forced :] for _ in sources]
        batch = self.encode(sources)
        rows = list(range(len(sources)))
        ids = np.tile(np.array(self.start, np.int64), (len(sources), 1))
        while rows:
            logits = self.step(batch, ids)[:, -1]
            logits[:, self.suppressed] = -np.inf
            chosen = logits.argmax(-1)
            kept = []
            for slot, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
                if token in self.stop or len(answers[row]) >= limits[row]:
                    continue
                answers[row].append(token)
                if len(answers[row]) < limits[row]:
                    kept.append(slot)
            if len(kept) < len(rows):
                rows = [rows[slot] for slot in kept]
                batch.keep(kept)
            ids = chosen[kept][:, None]
        return answers
