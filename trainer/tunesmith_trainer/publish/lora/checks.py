"""The checks of an adapter as it is served: by its base's exports, with the adapter bound."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import ADAPTER, MANIFEST, ONNX, onnx_folder
from tunesmith_api.spec import Precision
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.publish.served import ServedChecks


class AdapterChecks(ServedChecks):
    """Checks an adapter beside the exports of its base.

    Its candidate is a folder with links to both, as which `OnnxModel` and the server's code open it.
    """

    _candidate: Path | None = None

    @contextmanager
    def beside(self, base: Path, work: WorkFolder) -> Iterator[None]:
        """Within the context there is a candidate.

        Args:
            base: The base's artifact, on this machine.
            work: The job's work folder.
        """
        folder = self._folder / f".candidate.{os.getpid()}.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            (folder / ONNX).mkdir(parents=True)
            links = {name: base / name for name in (MANIFEST, *(onnx_folder(p.value) for p in self._precisions))}
            for name, target in (links | {ADAPTER: work.final}).items():
                (folder / name).symlink_to(target.absolute())
            self._candidate = folder
            yield
        finally:
            self._candidate = None
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def candidate(self) -> Iterator[Path]:
        """Yield the candidate."""
        yield self._there()

    def _exported(self, precision: Precision) -> Path:
        return self._there() / onnx_folder(precision.value)

    def _layers(self, precision: Precision, tuned: Path) -> dict[str, Any] | None:
        """Return nothing: the base's layers were compared when it was exported, before it took adapters."""
        return None

    def _there(self) -> Path:
        if self._candidate is None:
            raise RuntimeError("the checks are used outside of their context")
        return self._candidate
