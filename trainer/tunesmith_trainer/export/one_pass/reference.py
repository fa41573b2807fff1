"""The torch model's side of the comparison. It is kept on disk, so that only one model is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.one_pass import Rows, outputs_of
from tunesmith_trainer.models.families import is_decoder
from tunesmith_trainer.models.loading import without_adapter

MAX_ROWS = 256
"""Most rows whose predictions are compared; those of the store from the first."""

Inputs = Callable[[Rows], Mapping[str, Any]]
"""Given token ids of rows, returns a model's inputs, int64 [rows, width]."""


class TorchReference:
    """What the torch model computes, read from a folder.

    Args:
        folder: The folder of `record`.

    Attributes:
        names: Names of the outputs.
        per_token: Whether they have a value for each token.
        either_side: Whether rows may be padded on the left too.
        kind: What the outputs mean, as `problem_type` in config.json; None if each is a class.
        padding: What a row is padded with, by the name of the input.
        rows: The inputs of each row by name, a list of numbers each.
    """

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
        self.names: list[str] = facts["names"]
        self.per_token: bool = facts["perToken"]
        self.either_side: bool = facts["eitherSide"]
        self.kind: str | None = facts["kind"]
        self.padding: dict[str, int] = facts["padding"]
        self.rows: list[dict[str, list[int]]] = facts["rows"]
        self._folder = folder

    def outputs(self, name: str) -> list[npt.NDArray[np.float32]]:
        """Return an output of each row, float32 [labels] or [tokens, ...]."""
        values = np.load(self._folder / f"{name}.npy", allow_pickle=False)
        if not self.per_token:
            return list(values)
        ends = np.cumsum([len(row["input_ids"]) for row in self.rows])
        return np.split(values, ends[:-1])

    def batch(self, indices: Sequence[int], *, left: bool = False) -> dict[str, npt.NDArray[np.int64]]:
        """Return the inputs of rows, padded to the longest, int64 [rows, width].

        Args:
            indices: The rows.
            left: Whether they are padded on the left.
        """
        width = max(len(self.rows[index]["input_ids"]) for index in indices)
        found = {name: np.full((len(indices), width), value, np.int64) for name, value in self.padding.items()}
        for name, array in found.items():
            for place, index in enumerate(indices):
                values = self.rows[index][name]
                array[place, slice(width - len(values), None) if left else slice(len(values))] = values
        return found

    @staticmethod
    def record(
        model: Any,  # noqa: ANN401
        store: TokenStore,
        rows: int,
        inputs: Inputs,
        names: Sequence[str],
        folder: Path,
        *,
        per_token: bool,
    ) -> None:
        """Compute the reference, each row alone, and write it to a folder.

        Args:
            model: The torch model.
            store: The validation rows.
            rows: Rows to compare, from the first; more if there are, up to `MAX_ROWS`.
            inputs: Returns the model's inputs for rows.
            names: Names of its outputs.
            folder: The folder to create.
            per_token: Whether these have a value for each token.
        """
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [store[index][0].tolist() for index in range(min(len(store), max(rows, MAX_ROWS)))]
        found = dict(outputs_of(model, chosen, inputs, names, per_token=per_token, most=1))
        for place, name in enumerate(names):
            values = [found[index][place] for index in range(len(chosen))]
            np.save(folder / f"{name}.npy", np.concatenate(values) if per_token else np.stack(values))
        pad = getattr(model.config, "pad_token_id", None) or 0
        given = [{name: value[0].tolist() for name, value in inputs([row]).items()} for row in chosen]
        facts = {
            "names": list(names),
            "perToken": per_token,
            "eitherSide": is_decoder(type(without_adapter(model)).__name__),
            "kind": getattr(model.config, "problem_type", None),
            "padding": {name: pad if name == "input_ids" else 0 for name in given[0]},
            "rows": given,
        }
        (folder / "reference.json").write_text(json.dumps(facts), encoding="utf-8")
