"""The checks of what will be served: parity of logits and of tokens, and the metrics on the served bits."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import FORMAT_VERSION, onnx_folder
from tunesmith_api.failures import StageError
from tunesmith_api.spec import JobConfig, Precision
from tunesmith_api.spec.runtime import servable
from tunesmith_trainer.evaluate.validation import evaluated_rows
from tunesmith_trainer.publish.artifact import assemble
from tunesmith_trainer.publish.evaluations import format_numbers
from tunesmith_trainer.publish.exports import discard_export
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.registry import task_for

log = logging.getLogger(__name__)

_NOT_SERVED = frozenset(Precision) - frozenset(map(Precision, servable(Precision)))
_NOTES = {
    "computed": "in fp32 on the CPU, from the export's own bits: ONNX Runtime has no kernels in 16 bits there",
    "servedMetrics": "left out: the server computes on the CPU, and not in 16 bits",
}
"""What the manifest says of these precisions."""


class ServedChecks:
    """Checks the exports of a job. Each check writes a file when it is done, and is not repeated."""

    def __init__(self, config: JobConfig, folder: Path, data: Callable[[], ValidationSet], progress: Progress) -> None:
        """Prepare the checks.

        Args:
            config: The job.
            folder: The stage's folder, with the exports in `onnx/PRECISION`.
            data: Returns the validation rows and prompts.
            progress: Where progress is shown.
        """
        self._config = config
        self._folder = folder
        self._data = data
        self._progress = progress
        self._task = task_for(config.spec)
        self._precisions = config.spec.precisions
        self._reference = folder / "reference"

    def record_reference(self, model: Callable[[], Any]) -> None:
        """Write what the parity checks need of the tuned model, unless they are done."""
        if self._reference.is_dir() or all(self._parity_file(precision).is_file() for precision in self._precisions):
            return
        self._progress.step("computing the reference for the exports")
        temporary = self._folder / f".reference.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self._task.record_reference(model(), self._data(), self._config.spec.export.parity, temporary)
        temporary.replace(self._reference)

    def parity(self, tuned: Path) -> dict[str, Any]:
        """Compare every export with the tuned model.

        Args:
            tuned: The tuned model in the transformers layout.

        Returns:
            The numbers of each precision, and under `layers` those of each precision layer by layer.

        Raises:
            StageError: PARITY_FAILED.
        """
        found: dict[str, Any] = {}
        bounds = self._config.spec.export.parity
        layers = {
            precision.value: numbers for precision in self._precisions if (numbers := self._layers(precision, tuned))
        }
        for precision in self._precisions:
            path = self._parity_file(precision)
            numbers = read_json(path)
            if numbers is None:
                self._progress.step(f"checking {precision.value}")
                numbers = dict(self._task.compare(self._exported(precision), self._reference, bounds))
                write_json(path, numbers)
                log.info("%s: %s", precision.value, format_numbers(numbers))
            self._require_parity(precision, numbers)
            found[precision.value] = {**numbers, **_NOTES} if precision in _NOT_SERVED else numbers
        if layers:
            found["layers"] = layers
        shutil.rmtree(self._reference, ignore_errors=True)
        return found

    def _require_parity(self, precision: Precision, numbers: Mapping[str, Any]) -> None:
        """Fail if an export differs too much; the remedy names what was asked for that rounds more."""
        export = self._config.spec.export
        try:
            self._task.require_parity(precision, numbers, export.parity)
        except StageError as error:
            if not (asked := export.coarser(precision)):
                raise
            remedy = f"Remove {' or '.join(f'export.{name}' for name in asked)}, or widen the bound in export.parity"
            raise StageError(error.reason, error.message, remedy) from error

    def _layers(self, precision: Precision, tuned: Path) -> dict[str, Any] | None:
        """Compare an export with the tuned model layer by layer; one that fails is removed, to be made anew."""
        path = self._folder / f"layers-{precision.value}.json"
        numbers: dict[str, Any] | None = read_json(path)
        if numbers is None:
            self._progress.step(f"checking the layers of {precision.value}")
            try:
                result = self._task.compare_layers(self._exported(precision), tuned, precision, self._data())
            except StageError:
                discard_export(self._folder, precision)
                raise
            if result is None:
                return None
            numbers = dict(result)
            write_json(path, numbers)
            log.info(
                "%s, layers: largest difference %.3g of what %s adds, largest error of a weight %.3g half steps",
                precision.value,
                numbers["largestDifference"],
                numbers["layer"],
                numbers["largestWeightError"],
            )
        return numbers

    @property
    def has_replay(self) -> bool:
        """Whether there is an export, and the server's code can be asked for its tokens and answers."""
        return self._task.has_replay and bool(self._precisions)

    def template(self, candidate: Path) -> dict[str, Any]:
        """Compare the server's tokens of requests with those of the validation rows, for every export.

        Args:
            candidate: The folder of `candidate`.

        Raises:
            StageError: PARITY_FAILED.
        """
        path = self._folder / "parity-template.json"
        numbers = read_json(path)
        if numbers is None:
            self._progress.step("comparing the server's tokens with those of training")
            for precision in self._precisions:
                numbers = dict(self._task.compare_rendering(candidate, precision, self._data()))
            write_json(path, numbers)
            log.info("template: %s", format_numbers(numbers))
        return dict(numbers or {})

    def evaluate(self, candidate: Path) -> dict[str, dict[str, Any]]:
        """Return `{metrics, answers}` of each export as it is served; none of those that no server here computes."""
        found = {}
        for precision in self._precisions:
            if precision in _NOT_SERVED:
                log.info("served %s: no metrics; %s", precision.value, _NOTES["servedMetrics"])
                continue
            path = self._folder / f"served-{precision.value}.json"
            result = read_json(path)
            if result is None:
                data = self._data()
                rows = evaluated_rows(self._config, data.store)
                with self._progress.track(f"evaluating served {precision.value}", rows + len(data.prompts)) as advance:
                    result = self._task.evaluate_served(
                        candidate, precision, data, self._config.spec, rows=rows, advance=advance
                    )
                write_json(path, result)
                log.info("served %s: %s", precision.value, format_numbers(result["metrics"]))
            found[precision.value] = result
        return found

    @contextmanager
    def candidate(self) -> Iterator[Path]:
        """Yield an artifact folder with the exports alone, which the server's code can open; removed afterwards."""
        folder = self._folder / f".candidate.{os.getpid()}.tmp"
        parts = {onnx_folder(p.value): self._folder / "onnx" / p.value for p in self._precisions}
        try:
            assemble(folder, parts, {"formatVersion": FORMAT_VERSION, "task": self._config.spec.task})
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _exported(self, precision: Precision) -> Path:
        """Return the folder of an export."""
        return self._folder / "onnx" / precision.value

    def _parity_file(self, precision: Precision) -> Path:
        return self._folder / f"parity-{precision.value}.json"
