"""Runs an exported model on ONNX Runtime: logits of whole rows, and of tokens decoded one by one with a cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.export.graph import MODEL, with_all_logits
from tunesmith_trainer.export.lora.inputs import adapter_beside, lora_inputs
from tunesmith_trainer.export.wide import NARROW, widen

Logits = npt.NDArray[np.float32]
_Values = dict[str, npt.NDArray[Any]]

_CACHE_TYPES: dict[str, npt.DTypeLike] = {"tensor(float)": np.float32, "tensor(int8)": np.int8}
_CHUNK = 512  # tokens computed in one go, which bounds the memory of their logits and attention


class OnnxModel:
    """A decoder exported with inputs `input_ids`, `attention_mask` and `past_key_values.*`, on the CPU.

    An export in 16 bits is computed in fp32 from its own bits: ONNX Runtime's CPU kernels lack these types. The export
    of a LoRA base is computed with the adapter that is in the same artifact folder, if there is one.
    """

    def __init__(self, folder: Path) -> None:
        import onnx

        self._folder = folder
        self._session: Any = None
        self._is_whole: bool | None = None
        weights = onnx.load(str(folder / MODEL), load_external_data=False).graph.initializer
        self._is_narrow = any(weight.data_type in NARROW for weight in weights)
        self._is_quantised = any(weight.data_type == onnx.TensorProto.UINT8 for weight in weights)
        session = self._open(whole=True)
        inputs = {value.name: value for value in session.get_inputs()}
        self._outputs = [value.name for value in session.get_outputs()]
        self._takes_positions = "position_ids" in inputs
        adapter = adapter_beside(folder)
        self._adapter: _Values = dict(lora_inputs(adapter, folder)) if adapter else {}
        self._empty: _Values = {}
        for name, value in inputs.items():
            if name.startswith("past_key_values."):
                heads, size = value.shape[1], self._head_size(value.shape[3], folder)
                self._empty[name] = np.zeros((1, heads, 0, size), _CACHE_TYPES[value.type])
        self._keeps_int8 = any(value.dtype == np.int8 for value in self._empty.values())

    def _open(self, whole: bool) -> Any:  # noqa: ANN401
        """Return the session. Only one exists at a time, as each has the weights in memory.

        Args:
            whole: Whether to compute the logits of every token. The export itself computes only the last token's.
        """
        if self._is_whole is whole:
            return self._session
        import onnx
        import onnxruntime

        self._session = None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # torch computes in between, and spinning threads would take its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not self._is_quantised:
            # The weights stay pages of their file. Reordered for faster kernels, they would be in memory as a copy.
            options.add_session_config_entry("session.disable_prepacking", "1")
        model: str | bytes = str(self._folder / MODEL)
        if whole or self._is_narrow:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self._folder))
            graph = onnx.load(model, load_external_data=False)
            widen(graph)
            model = (with_all_logits(graph) if whole else graph).SerializeToString()
        # A weight that is cast up is not kept: it is cast anew each time.
        disabled = ["ConstantFolding"] if self._is_narrow else []
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        self._is_whole = whole
        return self._session

    @staticmethod
    def _head_size(declared: int | str, folder: Path) -> int:
        """Return the size of a head. In the graph it can be a symbolic dimension."""
        if isinstance(declared, int):
            return declared
        return int(json.loads((folder / "genai_config.json").read_bytes())["model"]["decoder"]["head_size"])

    def logits(self, ids: Sequence[int]) -> Logits:
        """Return float32 [tokens, vocabulary] of a row."""
        return self.logits_at(ids, range(len(ids)))

    def logits_at(self, ids: Sequence[int], positions: Sequence[int]) -> Logits:
        """Return float32 [positions, vocabulary] of a row.

        Args:
            ids: The row's token ids.
            positions: Which of its positions, ascending.
        """
        return np.concatenate([logits for _, logits in self.chunks(ids, positions)])

    def chunks(self, ids: Sequence[int], positions: Sequence[int]) -> Iterator[tuple[npt.NDArray[np.int64], Logits]]:
        """Yield some of a row's positions with their logits, float32 [positions, vocabulary], until all are done.

        Args:
            ids: The row's token ids.
            positions: Which of its positions, ascending.
        """
        wanted = np.asarray(positions, np.int64)
        end = int(wanted[-1]) + 1 if len(wanted) else 0
        past = self._cache_of(end)
        for start in range(0, end, _CHUNK):
            chunk = ids[start : min(start + _CHUNK, end)]
            logits, past = self._run(chunk, start, past, whole=True)
            here = wanted[(wanted >= start) & (wanted < start + len(chunk))]
            yield here, logits[here - start]

    def cache(self, ids: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """Return the keys and values of a row, [1, heads, tokens, head size], by the names of the inputs."""
        return self._read(ids, len(ids))[1]

    def decode(self, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        """Return the logits that choose each token of an answer, with the answer fed token by token over the cache.

        Returns:
            float32 [answer tokens, vocabulary]; row i is computed from the prompt and `answer[:i]`.
        """
        if self._is_narrow:
            return self._decode_at_once(prompt, answer)
        step, past = self._read(prompt, len(prompt) + len(answer))
        rows = [step[-1]]
        for index, token in enumerate(answer[:-1]):
            step, past = self._run([token], len(prompt) + index, past)
            rows.append(step[-1])
        return np.stack(rows)

    def _decode_at_once(self, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        """As `decode`, but with the answer fed in one go: casting all weights up for each token would take too long."""
        first, past = self._read(prompt, len(prompt) + len(answer), whole=True)
        if len(answer) == 1:
            return first[-1:]
        rest, _ = self._run(answer[:-1], len(prompt), past, whole=True)
        return np.concatenate([first[-1:], rest])

    def _cache_of(self, tokens: int) -> _Values:
        """Return a cache without keys and values. In int8 it has room for so many tokens, as a server's has."""
        if not self._keeps_int8:
            return self._empty
        shapes = {name: (*values.shape[:2], tokens, values.shape[3]) for name, values in self._empty.items()}
        return {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}

    def _read(self, ids: Sequence[int], room: int, whole: bool = False) -> tuple[Logits, _Values]:
        """Return the logits of a row's last chunk, and the keys and values of the whole row."""
        past = self._cache_of(room)
        for start in range(0, len(ids), _CHUNK):
            logits, past = self._run(ids[start : start + _CHUNK], start, past, whole)
        return logits, past

    def _run(self, ids: Sequence[int], before: int, past: _Values, whole: bool = False) -> tuple[Logits, _Values]:
        feeds: _Values = {
            "input_ids": np.asarray([ids], np.int64),
            "attention_mask": np.ones((1, before + len(ids)), np.int64),
            **past,
            **self._adapter,
        }
        if self._takes_positions:
            feeds["position_ids"] = np.arange(before, before + len(ids), dtype=np.int64)[None]
        values = dict(zip(self._outputs, self._open(whole).run(None, feeds), strict=True))
        present = {name: values[name.replace("past_key_values.", "present.")] for name in past}
        return values["logits"][0].astype(np.float32, copy=False), present
